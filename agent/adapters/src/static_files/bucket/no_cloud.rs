//! In place of clouds' object storage, in a build without the feature `object-store`: says so.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::failure::Failure;
use crate::static_files::bucket::connect::Options;
use crate::static_files::destination::Destination;

const WHY: &str = "this agent is built without object storage of clouds (its feature object-store)";

/// There is none.
pub(super) fn store(
    destination: &Destination,
    _options: Options,
) -> Result<Arc<dyn ObjectStore>, Failure> {
    let home = destination.home();
    Err(Failure::Permanent(format!("{home} cannot be used: {WHY}")))
}

/// There are no options.
///
/// # Errors
/// Why, for people.
pub(super) fn check_known(_scheme: &str, _key: &str) -> Result<(), String> {
    Err(WHY.to_owned())
}
