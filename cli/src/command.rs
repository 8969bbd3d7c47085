//! One module a command. Each takes what the command line says and speaks to one coordinator.

pub mod access;
pub mod apply;
pub mod compare;
pub mod create;
pub mod demo;
pub mod describe;
pub mod get;
pub mod history;
pub mod judge;
pub mod logs;
pub mod manifest;
pub mod offline;
pub mod patch;
pub mod plan;
pub mod role;
pub mod secret;
pub mod simulate;
pub mod status;
pub mod steer;
pub mod user;
pub mod wait;
pub mod watch;

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Cli, Command, access as access_args, release};
use crate::client::Client;
use crate::context::{Surroundings, connection};
use crate::error::{Exit, Failure};
use crate::output::{Format, Screen};

/// One coordinator, and where to print.
pub struct Session<'a> {
    /// The coordinator.
    pub client: Client,
    /// Where to print.
    pub screen: &'a mut Screen,
}

/// How a command ends.
pub type Outcome = Result<Exit, Failure>;

/// Runs one command until it ends or a person interrupts it.
///
/// # Errors
/// Whatever kept the command from doing what it was asked to.
pub async fn run(cli: Cli, screen: &mut Screen, surroundings: &Surroundings) -> Outcome {
    if screen.format == Format::Patch && !matches!(cli.command, Command::Diff(_)) {
        return Err(Failure::usage("only `holdfast diff` has a patch to print"));
    }
    match &cli.command {
        Command::Completion(args) => offline::completion(args, screen),
        Command::Schema(_) => offline::schema(screen),
        Command::Validate(args) => interruptible(offline::validate(args, screen)).await,
        Command::Login(args) => {
            interruptible(access::login(args, &cli.global, surroundings, screen)).await
        }
        // What it started has to be ended first, so it attends to interruption itself.
        Command::Demo(args) => demo::run(args, screen).await,
        _ => {
            let client = Client::new(connection(&cli.global, surroundings)?)?;
            interruptible(online(&cli.command, Session { client, screen })).await
        }
    }
}

/// The commands that ask a coordinator.
async fn online(command: &Command, mut session: Session<'_>) -> Outcome {
    let session = &mut session;
    match command {
        Command::Apply(args) => apply::run(session, args).await,
        Command::Plan(args) => plan::run(session, args).await,
        Command::Get(args) => get::run(session, args).await,
        Command::Describe(args) => describe::run(session, args).await,
        Command::Status(args) => status::run(session, args).await,
        Command::Why(args) => status::why(session, args).await,
        Command::Explain(args) => describe::explain(session, args).await,
        Command::Where(args) => get::whereabouts(session, args).await,
        Command::History(args) => history::run(session, args).await,
        Command::Show(args) => history::show(session, args).await,
        Command::Diff(args) => compare::run(session, args).await,
        Command::Simulate(args) => simulate::run(session, args).await,
        Command::Repeat(args) => judge::repeat(session, args).await,
        Command::Approve(args) => judge::approve(session, args).await,
        Command::Reject(args) => judge::reject(session, args).await,
        Command::Skip(args) => judge::skip(session, args).await,
        Command::Freeze(args) => judge::freeze(session, args).await,
        Command::Unfreeze(args) => judge::unfreeze(session, args).await,
        Command::Deploy(args) => steer::deploy(session, args).await,
        Command::Promote(args) => steer::promote(session, args).await,
        Command::Pin(args) => steer::pin(session, args).await,
        Command::Unpin(args) => steer::plain(session, "unpin", &args.track).await,
        Command::Rollback(args) => steer::rollback(session, args).await,
        Command::Retry(args) => steer::retry(session, args).await,
        Command::Halt(args) => steer::plain(session, "halt", &args.track).await,
        Command::Pause(args) => steer::plain(session, "pause", &args.track).await,
        Command::Resume(args) => steer::plain(session, "resume", &args.track).await,
        Command::Confirm(args) => steer::confirm(session, args).await,
        Command::Release(release::Release::Create(args)) => create::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Events(args) => history::events(session, args).await,
        Command::Audit(args) => history::audit(session, args).await,
        Command::Token(args) => access::token(session, args).await,
        Command::Target(args) => access::target(session, args).await,
        Command::User(args) => user::run(session, args).await,
        Command::Secret(args) => secret::run(session, args).await,
        Command::Role(args) => role::run(session, args).await,
        Command::Whoami(_) => access::whoami(session).await,
        Command::Ca(access_args::Ca::Status) => access::ca(session).await,
        Command::Demo(_)
        | Command::Login(_)
        | Command::Validate(_)
        | Command::Schema(_)
        | Command::Completion(_) => {
            unreachable!("these ask no coordinator and were run before")
        }
    }
}

/// The outcome, or that a person pressed Ctrl-C first.
async fn interruptible(work: impl Future<Output = Outcome>) -> Outcome {
    // Listened for before the work begins, or Ctrl-C in its first moment would kill the program.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err(Failure::interrupted()),
        outcome = work => outcome,
    }
}
