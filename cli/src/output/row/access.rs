//! Rows of who may do what: users and roles.

use holdfast_protocol::api::role::{Permission, Role};
use holdfast_protocol::api::user::User;
use holdfast_protocol::time::Timestamp;

use super::{Cell, Row, Tone, or_dash, several};
use crate::output::text::{age, until};

impl Row for User {
    const HEADER: &'static [&'static str] = &["NAME", "ROLES", "TOKEN ENDS"];
    const WIDE: &'static [&'static str] = &["MADE BY", "MADE"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let end = match self.expires_at {
            _ if self.revoked => Cell::toned("revoked", Tone::Bad),
            Some(end) if end <= now => Cell::toned("passed", Tone::Bad),
            Some(end) => Cell::from(until(now, end)),
            None => Cell::from("never"),
        };
        vec![Cell::from(&self.name), several(&self.roles), end]
    }

    fn wide(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::from(&self.created_by),
            Cell::from(age(now, self.created_at)),
        ]
    }
}

impl Row for Role {
    const HEADER: &'static [&'static str] = &["NAME", "PERMISSIONS", "LIMITED TO", "USERS"];
    const WIDE: &'static [&'static str] = &["DECLARED BY"];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        let permissions = self.permissions.iter().copied().map(Permission::name);
        vec![
            Cell::from(&self.name),
            several(permissions),
            if self.scope.is_everything() {
                Cell::from("-")
            } else {
                Cell::from(&self.scope)
            },
            several(&self.users),
        ]
    }

    fn wide(&self, _now: Timestamp) -> Vec<Cell> {
        vec![or_dash(self.created_by.as_ref())]
    }
}
