//! Whose something in AWS is, by its tag. Pure.

/// The tag.
pub(crate) const OWNER_TAG: &str = "holdfast:workload";

/// Whether `what`, which is tagged as of `owner`, is of `wanted`.
///
/// # Errors
/// Whose it is, and how it is handed over.
pub(crate) fn mine(what: &str, owner: Option<&str>, wanted: &str) -> Result<(), String> {
    match owner {
        Some(owner) if owner == wanted => Ok(()),
        Some(owner) => Err(format!(
            "{what} is there already and is of {owner}, by its tag {OWNER_TAG}; choose another \
             name, or hand it over by setting that tag to {wanted}"
        )),
        None => Err(format!(
            "{what} is there already and is not ours; choose another name, or hand it over by \
             tagging it {OWNER_TAG}={wanted}"
        )),
    }
}
