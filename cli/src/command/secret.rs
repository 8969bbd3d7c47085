//! `secret`: values are written and never read back.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_protocol::api::secret::{NewSecret, Secret as SecretObject};
use holdfast_protocol::api::steer::Steered;
use holdfast_protocol::name::{EnvironmentName, SecretName};
use holdfast_protocol::secret::VALUE_MAX_BYTES;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::{Outcome, Session};
use crate::args::secret::{Secret, SecretList};
use crate::error::{Exit, Failure};
use crate::output::Screen;

/// `secret set`, `list`, `rotate`, `delete`.
///
/// # Errors
/// There is no value, or the coordinator refuses.
pub async fn run(session: &mut Session<'_>, args: &Secret) -> Outcome {
    match args {
        Secret::Set(args) => {
            let of = (&args.name, &args.environment);
            set(session, of, args.exact, false).await?;
        }
        Secret::List(args) => list(session, args).await?,
        Secret::Rotate(args) => match (&args.name, &args.environment) {
            (Some(name), Some(environment)) => {
                set(session, (name, environment), args.exact, true).await?;
            }
            (Some(_) | None, Some(_) | None) => rekey(session).await?,
        },
        Secret::Delete(args) => {
            let (name, environment) = (&args.name, &args.environment);
            let path = ["secrets", environment.as_str(), name.as_str()];
            session.client.delete(&path).await?;
            session
                .screen
                .note(&format!("secret {name} of {environment} is forgotten"));
        }
    }
    Ok(Exit::Done)
}

async fn set(
    session: &mut Session<'_>,
    (name, environment): (&SecretName, &EnvironmentName),
    exact: bool,
    rotate: bool,
) -> Result<(), Failure> {
    let bytes = typed(session.screen, &format!("value of {name} in {environment}")).await?;
    let bytes = if exact {
        bytes
    } else {
        without_line_end(bytes)
    };
    if bytes.is_empty() || bytes.len() > VALUE_MAX_BYTES {
        let message = format!(
            "a secret has 1 to {VALUE_MAX_BYTES} bytes, not {}",
            bytes.len()
        );
        return Err(Failure::usage(message).help("pipe the value into this command"));
    }
    let (value, base64) = match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    let new = NewSecret {
        name: name.clone(),
        environment: environment.clone(),
        value,
        base64,
        rotate,
    };
    let secret: SecretObject = session.client.post(&["secrets"], &new).await?;
    session.screen.object(&secret, |_| {
        let SecretObject {
            name,
            environment,
            version,
            ..
        } = &secret;
        format!("secret {name} of {environment} has version {version}\n")
    })?;
    session.screen.note(&users(&secret));
    Ok(())
}

/// What follows from a new value.
fn users(secret: &SecretObject) -> String {
    let users: Vec<&str> = secret.used_by.iter().map(AsRef::as_ref).collect();
    let (users, environment) = (users.join(", "), &secret.environment);
    if users.is_empty() {
        return format!("no service in {environment} names it yet");
    }
    format!(
        "{users} in {environment} follow, as with any change, or where it is only fetched with, at the \
         next fetch: holdfast status -e {environment}"
    )
}

async fn list(session: &mut Session<'_>, args: &SecretList) -> Result<(), Failure> {
    let environment = args.environment.as_ref().map(ToString::to_string);
    let query = [("environment", environment)];
    let secrets: Vec<SecretObject> = session.client.items(&["secrets"], &query).await?;
    session.screen.list(&secrets, "there are no secrets")
}

async fn rekey(session: &mut Session<'_>) -> Result<(), Failure> {
    let done: Steered = session
        .client
        .post(&["secrets", "rekey"], &serde_json::json!({}))
        .await?;
    session
        .screen
        .object(&done, |_| format!("{}\n", done.message))
}

/// The value from standard input; from a terminal one line, which is not shown.
async fn typed(screen: &mut Screen, what: &str) -> Result<Vec<u8>, Failure> {
    let terminal = std::io::stdin().is_terminal();
    // Lives here and not on the thread: Ctrl-C ends this future, and the terminal shows again.
    let _hidden = terminal.then(Hidden::begin).transpose()?;
    if terminal {
        screen.note(&format!("{what}, then Enter (it is not shown):"));
    }
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let mut input = std::io::stdin().lock().take(VALUE_MAX_BYTES as u64 + 3);
        if terminal {
            input.read_until(b'\n', &mut bytes)?;
        } else {
            input.read_to_end(&mut bytes)?;
        }
        Ok::<Vec<u8>, std::io::Error>(bytes)
    });
    let read = reading.await.map_err(std::io::Error::other).flatten();
    read.map_err(|error| Failure::usage(format!("cannot read the value: {error}")))
}

/// Without the one line end that editors and `echo` put behind it.
fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Self, Failure> {
        let attempt = || {
            let before = termios::tcgetattr(std::io::stdin())?;
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden)?;
            Ok::<Self, rustix::io::Errno>(Self(before))
        };
        attempt().map_err(|error| {
            Failure::usage(format!("this terminal cannot hide what is typed: {error}"))
                .help("pipe the value into this command")
        })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_left_out_and_no_more() {
        let cut = |text: &str| String::from_utf8(without_line_end(text.into())).unwrap();
        assert_eq!(cut("a\n"), "a");
        assert_eq!(cut("a\r\n"), "a");
        assert_eq!(cut("a\n\n"), "a\n");
        assert_eq!(cut(" a "), " a ");
        assert_eq!(cut(""), "");
    }
}
