//! `login`, `whoami`, `token`, `target`, `ca`: who may do what.

use std::io::{IsTerminal as _, Read as _};

use holdfast_protocol::api::access::{CaStatus, Whoami};
use holdfast_protocol::api::environment::Environment;
use holdfast_protocol::api::steer::Steer;
use holdfast_protocol::api::target::{LabelChange, Target as TargetObject};
use holdfast_protocol::api::token::{CreatedToken, NewToken, Token as TokenObject};
use holdfast_protocol::name::{EnvironmentName, TargetName};
use holdfast_protocol::time::friendly;
use reqwest::Method;

use super::{Outcome, Session};
use crate::args::Global;
use crate::args::access::{Login, Target, TargetLabel, Token, TokenCreate};
use crate::client::Client;
use crate::clock;
use crate::context::{self, Connection, Context, Surroundings};
use crate::error::{Exit, Failure};
use crate::output::row::Cell;
use crate::output::table::Table;
use crate::output::{Screen, text};

/// `login URL`: asks who the token belongs to, and remembers it only if the coordinator knows it.
///
/// # Errors
/// No token, a token that is not known, or a file that cannot be written.
pub async fn login(
    args: &Login,
    global: &Global,
    surroundings: &Surroundings,
    screen: &mut Screen,
) -> Outcome {
    let path = surroundings.config.clone().ok_or_else(|| {
        Failure::usage("this user has no home directory to remember a login in").help(
            "set HOME or XDG_CONFIG_HOME, or use HOLDFAST_SERVER, HOLDFAST_TOKEN and HOLDFAST_CA",
        )
    })?;
    let server = context::address(&args.url)?;
    let token = match context::token(global, surroundings)? {
        Some(token) => token,
        None => typed_token(screen).await?,
    };
    let ca = match &global.ca {
        Some(file) => Some(context::read(file, "the certificate")?),
        None => None,
    };
    let client = Client::new(Connection {
        server: server.clone(),
        token: Some(token.clone()),
        ca: ca.clone(),
    })?;
    let whoami: Whoami = client.fetch(&["whoami"], &[]).await?;
    let mut config = context::config(&path)?;
    config.contexts.insert(
        args.name.clone(),
        Context {
            server: server.to_string(),
            token: Some(token),
            ca,
        },
    );
    config.current = Some(args.name.clone());
    context::save(&path, &config)?;
    screen.object(&whoami, |_| {
        format!("logged in to {server} as {}\n", whoami.user)
    })?;
    screen.note(&format!(
        "remembered as context {:?} in {}",
        args.name,
        path.display()
    ));
    Ok(Exit::Done)
}

/// The token from standard input: its first line.
async fn typed_token(screen: &mut Screen) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        screen.note(
            "token (admin.token in the coordinator's data directory), then Enter and Ctrl-D:",
        );
    }
    // On a thread of its own: Ctrl-C must end the program while it reads standard input.
    let reading = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        let input = std::io::stdin().lock();
        input.take(TOKEN_MAX_BYTES).read_to_string(&mut text)?;
        Ok::<String, std::io::Error>(text)
    });
    let text = reading
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| Failure::usage(format!("cannot read the token: {error}")))?;
    let token = text.lines().next().unwrap_or_default().trim().to_owned();
    if token.is_empty() {
        return Err(Failure::usage("no token was given")
            .help("use --token-file FILE, HOLDFAST_TOKEN, or standard input"));
    }
    Ok(token)
}

/// `whoami`.
///
/// # Errors
/// The coordinator does not answer, or does not know the token.
pub async fn whoami(session: &mut Session<'_>) -> Outcome {
    let whoami: Whoami = session.client.fetch(&["whoami"], &[]).await?;
    let limited = whoami
        .grants
        .iter()
        .filter(|one| !one.scope.is_everything());
    let limits: Vec<String> = limited
        .map(|one| format!("{}: {}", one.role, one.scope))
        .collect();
    session.screen.object(&whoami, |_| {
        text::fields(&[
            ("user", whoami.user.clone()),
            ("roles", listed(&whoami.roles)),
            (
                "limited to",
                if limits.is_empty() {
                    "nothing".to_owned()
                } else {
                    limits.join("; ")
                },
            ),
            ("permissions", listed(&whoami.permissions)),
            (
                "token ends",
                whoami
                    .expires_at
                    .map_or_else(|| "never".to_owned(), |end| end.to_string()),
            ),
            ("trust domain", whoami.trust_domain.clone()),
            ("coordinator", whoami.coordinator_version.clone()),
        ])
    })?;
    Ok(Exit::Done)
}

fn listed<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// `ca status`.
///
/// # Errors
/// The coordinator does not answer.
pub async fn ca(session: &mut Session<'_>) -> Outcome {
    let ca: CaStatus = session.client.fetch(&["ca"], &[]).await?;
    let (now, width) = (clock::now(), session.screen.limit());
    session.screen.object(&ca, |colour| {
        let rows = ca
            .environments
            .iter()
            .map(|item| {
                let names = |list: &[TargetName]| {
                    let names: Vec<&str> = list.iter().map(|name| name.as_str()).collect();
                    Cell::from(if names.is_empty() {
                        "-".to_owned()
                    } else {
                        names.join(", ")
                    })
                };
                vec![
                    Cell::from(&item.environment),
                    Cell::from(text::until(now, item.authority.not_after)),
                    Cell::from(&item.certificates),
                    names(&item.expired),
                    names(&item.revoked),
                ]
            })
            .collect();
        let header = vec!["ENVIRONMENT", "ENDS", "CERTIFICATES", "EXPIRED", "REVOKED"];
        format!(
            "{}\n{}",
            text::fields(&[
                ("trust domain", ca.trust_domain.clone()),
                ("root", ca.root.fingerprint.clone()),
                ("root ends", text::until(now, ca.root.not_after)),
            ]),
            Table::new(header, rows).text(width, colour)
        )
    })?;
    Ok(Exit::Done)
}

/// `token create`, `token list`, `token revoke`.
///
/// # Errors
/// The coordinator refuses.
pub async fn token(session: &mut Session<'_>, args: &Token) -> Outcome {
    match args {
        Token::Create(args) => create(session, args).await,
        Token::List => {
            let tokens: Vec<TokenObject> = session.client.items(&["tokens"], &[]).await?;
            session.screen.list(&tokens, "there are no join tokens")?;
            Ok(Exit::Done)
        }
        Token::Revoke(args) => {
            session.client.delete(&["tokens", &args.id]).await?;
            session.screen.note(&format!(
                "token {} is revoked; what joined with it stays",
                args.id
            ));
            Ok(Exit::Done)
        }
    }
}

async fn create(session: &mut Session<'_>, args: &TokenCreate) -> Outcome {
    let new = NewToken {
        environment: args.environment.clone(),
        ttl: friendly(args.ttl),
        uses: args.uses,
        labels: args
            .label
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
    };
    let created: CreatedToken = session.client.post(&["tokens"], &new).await?;
    session
        .screen
        .object(&created, |_| format!("{}\n", created.token))?;
    let about = &created.about;
    session.screen.note(&format!(
        "join token {} for {}: usable {} until {}; it is shown only now\n\
         use it on a target: holdfast-agent run --coordinator HOST:7443 --token TOKEN",
        about.id,
        about.environment,
        if about.uses == 1 {
            "once".to_owned()
        } else {
            format!("{} times", about.uses)
        },
        about.expires_at
    ));
    warn_undeclared(session, &created.about.environment).await?;
    Ok(Exit::Done)
}

/// Targets may join an environment before it is declared; more often its name was mistyped.
async fn warn_undeclared(session: &mut Session<'_>, name: &EnvironmentName) -> Result<(), Failure> {
    let declared: Vec<Environment> = session.client.items(&["environments"], &[]).await?;
    if declared.iter().all(|environment| environment.name != *name) {
        session.screen.note(&format!(
            "note: no environment {name} is declared yet: apply its manifest, or revoke the token \
             if the name is wrong"
        ));
    }
    Ok(())
}

/// `target revoke` and `target label`.
///
/// # Errors
/// The coordinator refuses.
pub async fn target(session: &mut Session<'_>, args: &Target) -> Outcome {
    let changed = match args {
        Target::Revoke(args) => person(session, &args.name, "revoke", args.reason.as_ref()).await?,
        Target::Resume(args) => person(session, &args.name, "resume", args.reason.as_ref()).await?,
        Target::Label(args) => label(session, args).await?,
    };
    session.screen.list(&[changed], "")?;
    Ok(Exit::Done)
}

/// What a person asks of one target, with a reason.
async fn person(
    session: &Session<'_>,
    name: &TargetName,
    verb: &str,
    reason: Option<&String>,
) -> Result<TargetObject, Failure> {
    let steer = Steer {
        reason: reason.cloned(),
        ..Steer::default()
    };
    let path = ["targets", name.as_str(), verb];
    session.client.post(&path, &steer).await
}

async fn label(session: &Session<'_>, args: &TargetLabel) -> Result<TargetObject, Failure> {
    let change = LabelChange {
        labels: args
            .labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.as_ref().map(ToString::to_string)))
            .collect(),
    };
    session
        .client
        .send_json(
            Method::PATCH,
            &["targets", args.name.as_str(), "labels"],
            &change,
        )
        .await
}

/// Longest token that is read from standard input, in bytes.
const TOKEN_MAX_BYTES: u64 = 16 * 1024;
