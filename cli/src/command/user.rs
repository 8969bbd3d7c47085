//! `user`: who may use the API.

use holdfast_protocol::api::user::{CreatedUser, NewRoles, NewUser, Rotate, User as UserObject};
use holdfast_protocol::time::friendly;
use reqwest::Method;

use super::{Outcome, Session};
use crate::args::user::{User, UserAssign, UserCreate, UserRotate};
use crate::error::{Exit, Failure};

/// `user create`, `list`, `assign`, `rotate`, `revoke`.
///
/// # Errors
/// The coordinator refuses.
pub async fn run(session: &mut Session<'_>, args: &User) -> Outcome {
    match args {
        User::Create(args) => create(session, args).await?,
        User::List => {
            let users: Vec<UserObject> = session.client.items(&["users"], &[]).await?;
            session.screen.list(&users, "there are no users")?;
        }
        User::Assign(args) => {
            let user = assign(session, args).await?;
            session.screen.list(&[user], "")?;
        }
        User::Rotate(args) => rotate(session, args).await?,
        User::Revoke(args) => {
            let name = &args.name;
            session.client.delete(&["users", name.as_str()]).await?;
            session
                .screen
                .note(&format!("the token of user {name} is void"));
        }
    }
    Ok(Exit::Done)
}

async fn create(session: &mut Session<'_>, args: &UserCreate) -> Result<(), Failure> {
    let new = NewUser {
        name: args.name.clone(),
        roles: args.role.clone(),
        ttl: args.ttl.map(friendly),
    };
    let created: CreatedUser = session.client.post(&["users"], &new).await?;
    print(session, &created)
}

async fn rotate(session: &mut Session<'_>, args: &UserRotate) -> Result<(), Failure> {
    let path = ["users", args.name.as_str(), "rotate"];
    let wish = Rotate {
        ttl: args.ttl.map(friendly),
    };
    let created: CreatedUser = session.client.post(&path, &wish).await?;
    print(session, &created)
}

async fn assign(session: &Session<'_>, args: &UserAssign) -> Result<UserObject, Failure> {
    let path = ["users", args.name.as_str(), "roles"];
    let wish = NewRoles {
        roles: args.role.clone(),
    };
    session.client.send_json(Method::PUT, &path, &wish).await
}

/// The token alone; everything else beside it.
fn print(session: &mut Session<'_>, created: &CreatedUser) -> Result<(), Failure> {
    session.screen.object(created, |_| {
        let token = created.token.iter();
        token.map(|token| format!("{token}\n")).collect()
    })?;
    let (name, roles) = (&created.about.name, &created.about.roles);
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let note = if created.token.is_some() {
        let end = created.about.expires_at;
        let end = end.map_or_else(|| "without end".to_owned(), |end| format!("until {end}"));
        format!(
            "token of user {name} ({}), valid {end}; it is shown only now\n\
             use it: holdfast login https://HOST:7443 --ca ca.pem --token-file FILE",
            roles.join(", ")
        )
    } else {
        format!(
            "user {name} ({}) is there already; its token was shown when it was made\n\
             for a new one: holdfast user rotate {name}",
            roles.join(", ")
        )
    };
    session.screen.note(&note);
    Ok(())
}
