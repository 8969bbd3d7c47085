//! `role`: what users may do.

use std::collections::BTreeSet;

use holdfast_protocol::api::role::{NewRole, Permission, Role as RoleObject, Scope};

use super::{Outcome, Session};
use crate::args::user::{Role, RoleCreate};
use crate::error::{Exit, Failure};
use crate::output::text;

/// `role create`, `list`, `show`, `delete`.
///
/// # Errors
/// The coordinator refuses.
pub async fn run(session: &mut Session<'_>, args: &Role) -> Outcome {
    match args {
        Role::Create(args) => {
            let role: RoleObject = session.client.post(&["roles"], &wish(args)).await?;
            session.screen.list(&[role], "")?;
        }
        Role::List => {
            let roles: Vec<RoleObject> = session.client.items(&["roles"], &[]).await?;
            session.screen.list(&roles, "there are no roles")?;
        }
        Role::Show(args) => {
            let path = ["roles", args.name.as_str()];
            let role: RoleObject = session.client.fetch(&path, &[]).await?;
            show(session, &role)?;
        }
        Role::Delete(args) => {
            let name = &args.name;
            session.client.delete(&["roles", name.as_str()]).await?;
            session.screen.note(&format!("role {name} is gone"));
        }
    }
    Ok(Exit::Done)
}

fn wish(args: &RoleCreate) -> NewRole {
    let permissions: BTreeSet<Permission> = if args.permission.is_empty() {
        BTreeSet::from([Permission::Read])
    } else {
        args.permission.iter().copied().collect()
    };
    NewRole {
        name: args.name.clone(),
        permissions,
        scope: Scope {
            services: args.service.clone(),
            environments: args.environment.clone(),
            sets: args.set.clone(),
            kinds: args.kind.clone(),
        },
        replace: args.replace,
    }
}

fn show(session: &mut Session<'_>, role: &RoleObject) -> Result<(), Failure> {
    let permissions: Vec<&str> = role.permissions.iter().map(|p| p.name()).collect();
    let users: Vec<&str> = role.users.iter().map(|user| user.as_str()).collect();
    let or_dash = |names: Vec<&str>| {
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(", ")
        }
    };
    let declared = match (&role.created_by, role.created_at) {
        (Some(by), Some(at)) => format!("by {by} at {at}"),
        (None, _) | (_, None) => "built in".to_owned(),
    };
    session.screen.object(role, |_| {
        text::fields(&[
            ("role", role.name.to_string()),
            ("permissions", or_dash(permissions)),
            ("limited to", role.scope.to_string()),
            ("users", or_dash(users)),
            ("declared", declared),
        ])
    })
}
