//! Rows of secrets: everything but their values.

use holdfast_protocol::api::secret::Secret;
use holdfast_protocol::time::Timestamp;

use super::{Cell, Row, several};
use crate::output::text::age;

impl Row for Secret {
    const HEADER: &'static [&'static str] =
        &["NAME", "ENVIRONMENT", "VERSION", "USED BY", "UPDATED"];
    const WIDE: &'static [&'static str] = &["UPDATED BY", "KEPT"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.name),
            Cell::from(&self.environment),
            Cell::from(self.version.to_string()),
            several(&self.used_by),
            Cell::from(age(now, self.updated_at)),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![Cell::from(&self.updated_by), several(&self.kept)]
    }
}
