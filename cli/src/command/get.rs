//! `get` and `where`: lists.

use holdfast_protocol::api::apply::Revision;
use holdfast_protocol::api::deployment::Deployment;
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::freeze::Freeze;
use holdfast_protocol::api::guardrail::{Notifier, Policy, Protection};
use holdfast_protocol::api::release::Release;
use holdfast_protocol::api::service::Service;
use holdfast_protocol::api::target::Target;
use holdfast_protocol::api::token::Token;
use holdfast_protocol::api::whereabouts::{Stay, Whereabouts};
use holdfast_protocol::name::EnvironmentName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Outcome, Session, watch};
use crate::args::observe::{Get, Kind, Where};
use crate::client::Client;
use crate::error::{Exit, Failure};
use crate::output::row::Row;

/// `get KIND [NAME]`.
///
/// # Errors
/// The coordinator does not answer, or what is named does not exist.
pub async fn run(session: &mut Session<'_>, args: &Get) -> Outcome {
    match args.kind {
        Kind::Environments => list::<Environment>(session, args, "environments").await,
        Kind::Services => list::<Service>(session, args, "services").await,
        Kind::Targets => list::<Target>(session, args, "targets").await,
        Kind::Releases => list::<Release>(session, args, "releases").await,
        Kind::Deployments => list::<Deployment>(session, args, "deployments").await,
        Kind::Tokens => list::<Token>(session, args, "tokens").await,
        Kind::Revisions => list::<Revision>(session, args, "revisions").await,
        Kind::Protections => list::<Protection>(session, args, "protections").await,
        Kind::Policies => list::<Policy>(session, args, "policies").await,
        Kind::Notifiers => list::<Notifier>(session, args, "notifiers").await,
        Kind::Freezes => list::<Freeze>(session, args, "freezes").await,
        Kind::Sources => Err(not_yet(args.kind)),
    }
}

/// `where SERVICE [--ever]`.
///
/// # Errors
/// The coordinator does not answer, or the service does not exist.
pub async fn whereabouts(session: &mut Session<'_>, args: &Where) -> Outcome {
    let query = [
        ("service", Some(args.service.to_string())),
        ("version", args.version.as_ref().map(ToString::to_string)),
    ];
    if args.ever {
        let items: Vec<Stay> = session.client.items(&["where", "ever"], &query).await?;
        let empty = format!("{} was never deployed", args.service);
        session.screen.list(&items, &empty)?;
        return Ok(Exit::Done);
    }
    let items: Vec<Whereabouts> = session.client.items(&["where"], &query).await?;
    let empty = format!("{} runs on no target", args.service);
    session.screen.list(&items, &empty)?;
    Ok(Exit::Done)
}

/// What `get` and `describe` say of the kinds that come later.
pub fn not_yet(kind: Kind) -> Failure {
    Failure::usage(format!(
        "{} arrive with a later release of Holdfast",
        format!("{kind:?}").to_lowercase()
    ))
}

async fn list<T>(session: &mut Session<'_>, args: &Get, kind: &'static str) -> Outcome
where
    T: Row + Listed + Serialize + DeserializeOwned + PartialEq,
{
    if args.watch {
        return watch::watch(session, async |client: &Client| {
            fetch::<T>(client, args, kind).await
        })
        .await;
    }
    let items = fetch::<T>(&session.client, args, kind).await?;
    session
        .screen
        .list(&items, &format!("there are no {kind}"))?;
    Ok(Exit::Done)
}

async fn fetch<T>(client: &Client, args: &Get, kind: &str) -> Result<Vec<T>, Failure>
where
    T: Row + Listed + DeserializeOwned,
{
    let name = args.name.as_deref();
    let mut path = vec![kind];
    let environment = args.environment.as_ref().filter(|_| T::BY_ENVIRONMENT);
    let mut query = vec![("environment", environment.map(ToString::to_string))];
    match T::ADDRESS {
        Address::Path => path.extend(name),
        Address::Query(key) => query.push((key, name.map(str::to_owned))),
        Address::None => {}
    }
    let mut items: Vec<T> = client.items(&path, &query).await?;
    items.retain(|item| {
        let named = match T::ADDRESS {
            Address::None => name.is_none_or(|name| item.name() == name),
            Address::Path | Address::Query(_) => true,
        };
        let inside = match (&args.environment, item.environment()) {
            (Some(wanted), Some(its)) => wanted == its,
            (None, _) | (_, None) => true,
        };
        named && inside
    });
    match name {
        Some(name) if items.is_empty() => Err(Failure::not_found(format!("{kind}: no {name:?}"))
            .help(format!("`holdfast get {kind}` lists what there is"))),
        Some(_) | None => Ok(items),
    }
}

/// How one object of a list is asked for.
trait Listed {
    const ADDRESS: Address;
    /// Whether the API itself can look in one environment alone.
    const BY_ENVIRONMENT: bool = false;
    /// The one environment that it belongs to.
    fn environment(&self) -> Option<&EnvironmentName> {
        None
    }
}

/// Where an object's name goes.
enum Address {
    /// Into the path.
    Path,
    /// Into the query, under this key.
    Query(&'static str),
    /// The API has no place for it; the list is searched here.
    None,
}

impl Listed for Environment {
    const ADDRESS: Address = Address::Path;

    fn environment(&self) -> Option<&EnvironmentName> {
        Some(&self.name)
    }
}

impl Listed for Service {
    const ADDRESS: Address = Address::Path;
}

impl Listed for Target {
    const ADDRESS: Address = Address::Path;
    const BY_ENVIRONMENT: bool = true;

    fn environment(&self) -> Option<&EnvironmentName> {
        Some(&self.environment)
    }
}

impl Listed for Release {
    const ADDRESS: Address = Address::Query("service");
}

impl Listed for Deployment {
    const ADDRESS: Address = Address::Path;
    const BY_ENVIRONMENT: bool = true;

    fn environment(&self) -> Option<&EnvironmentName> {
        Some(&self.environment)
    }
}

impl Listed for Token {
    const ADDRESS: Address = Address::None;

    fn environment(&self) -> Option<&EnvironmentName> {
        Some(&self.environment)
    }
}

impl Listed for Protection {
    const ADDRESS: Address = Address::None;
}

impl Listed for Policy {
    const ADDRESS: Address = Address::None;
}

impl Listed for Notifier {
    const ADDRESS: Address = Address::None;
}

impl Listed for Freeze {
    const ADDRESS: Address = Address::None;

    fn environment(&self) -> Option<&EnvironmentName> {
        self.environment.as_ref()
    }
}

impl Listed for Revision {
    const ADDRESS: Address = Address::None;
}
