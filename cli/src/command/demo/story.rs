//! The story, scene by scene. Each scene acts, waits until what it claims is so, and only then says it.

use std::time::Duration;

use holdfast_protocol::api::access::CaStatus;
use holdfast_protocol::api::apply::{Applied, ApplyRequest, default_set};
use holdfast_protocol::api::deployment::{Deployment, Phase};
use holdfast_protocol::api::status::Status;
use holdfast_protocol::api::token::{CreatedToken, NewToken};
use holdfast_protocol::api::wait::Wait;
use holdfast_protocol::time::{Timestamp, friendly, millis};
use serde_json::json;
use tokio::time::Instant;

use super::proof::{
    are_stable, connected, deployments, expect_version, kill, release, server_of, serving,
    verified, write,
};
use super::stage::{Stage, TARGETS};
use super::teller::{MARGIN, Teller};
use super::{ensure, eventually, example};
use crate::client::Client;
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::row::{Cell, Tone};
use crate::output::table::Table;
use crate::output::text;

/// Tells everything.
pub(super) async fn tell(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.plain("Holdfast demo: a coordinator and three agents on this machine, as programs of their own.\n")?;
    opening(stage, teller).await?;
    first_release(stage, teller).await?;
    let pids = cut(stage, teller).await?;
    reunion(stage, teller, pids).await?;
    broken_release(stage, teller).await?;
    closing(stage, teller).await
}

/// A coordinator out of nothing, two environments, three targets.
async fn opening(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Failure> {
    teller.scene(
        "A coordinator, two environments, three targets",
        &["holdfast-coordinator serve --data DIR"],
    )?;
    stage.start_coordinator().await?;
    teller.step(
        "coordinator",
        "The coordinator is up. Its folder was empty: it made its own certificate authority, \
         database and admin token.",
        &json!({"pid": stage.coordinator_pid()}),
    )?;
    let client = stage.client()?;

    teller.shown("\n$ holdfast apply -f examples/first/manifests")?;
    let request = ApplyRequest {
        set: default_set(),
        files: example::manifests(&stage.sites().display().to_string()),
        dry_run: false,
        confirm_removal: false,
        plan: None,
    };
    let applied: Applied = client.post(&["apply"], &request).await?;
    ensure(applied.changed && applied.revision == 1, || {
        "the apply made revision 1".to_owned()
    })?;
    teller.step(
        "applied",
        "Revision 1: environments staging and production (after staging), services site and web.",
        &json!({"revision": applied.revision}),
    )?;

    teller.shown("\n$ holdfast token create -e staging      (and twice -e production)\n$ holdfast-agent run --coordinator ADDR --token TOKEN --name staging-1")?;
    for ((name, environment), port) in TARGETS.iter().zip(stage.ports) {
        let new = NewToken {
            environment: environment
                .parse()
                .map_err(|_| Failure::failed("a wrong name"))?,
            ttl: friendly(TOKEN_TTL),
            uses: 1,
            labels: [("port".to_owned(), port.to_string())].into(),
        };
        let created: CreatedToken = client.post(&["tokens"], &new).await?;
        stage.start_agent(name, &created.token)?;
    }
    connected(&client, 3).await?;
    let ca: CaStatus = client.fetch(&["ca"], &[]).await?;
    for authority in &ca.environments {
        let inside = |(_, name): &&(&str, &str)| *name == authority.environment.as_str();
        let targets = TARGETS.iter().filter(inside).count();
        ensure(authority.certificates == targets as u64, || {
            format!(
                "{} has {targets} certificates: {authority:?}",
                authority.environment
            )
        })?;
    }
    teller.step(
        "joined",
        "Three agents joined, each with a token that works once: staging-1, production-1, \
         production-2. Each has a certificate of its own environment.",
        &json!({"targets": TARGETS.map(|(name, _)| name)}),
    )
}

/// The first release: staging, then production by itself.
async fn first_release(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Failure> {
    let client = stage.client()?;
    teller.scene(
        "A first release of both services",
        &[
            "holdfast release create web --version 1.0.0 --file server=holdfast-example-server",
            "holdfast release create site --version 1.0.0 --file site=site.tar.gz",
        ],
    )?;
    let site = stage.folder().join("site-1.0.0.tar.gz");
    write(&site, &example::site("1.0.0")?)?;
    let began = Instant::now();
    release(&client, "web", "1.0.0", "server", stage.server()).await?;
    release(&client, "site", "1.0.0", "site", &site).await?;
    let [staging, first, second] = stage.ports;

    eventually("staging is stable", ROLLOUT_TIMEOUT, async || {
        // Production is looked at first: had it begun before staging was stable, this would see it.
        let early = serving(stage, first).await || serving(stage, second).await;
        let stable = are_stable(&client, "staging", "1.0.0").await?;
        ensure(stable || !early, || {
            "production waits for staging".to_owned()
        })?;
        Ok(stable.then_some(()))
    })
    .await?;
    expect_version(stage, staging, "1.0.0").await?;
    teller.step(
        "staging",
        &format!(
            "Staging is stable after {}: staging-1 serves the site at http://127.0.0.1:{staging}/. \
             Until then production served nothing.",
            text::span(began.elapsed())
        ),
        &json!({"version": "1.0.0", "port": staging}),
    )?;

    let gap = production_follows(stage, &client).await?;
    expect_version(stage, first, "1.0.0").await?;
    expect_version(stage, second, "1.0.0").await?;
    teller.step(
        "production",
        &format!(
            "Production followed by itself and is stable after {}: one target first, the other {} \
             later (http://127.0.0.1:{first}/ and http://127.0.0.1:{second}/).",
            text::span(began.elapsed()),
            text::span(gap)
        ),
        &json!({"version": "1.0.0", "ports": [first, second], "gapMillis": millis(gap)}),
    )?;
    let status: Vec<Status> = client.items(&["status"], &[]).await?;
    teller.shown("\n$ holdfast status")?;
    teller.shown(&Table::of(&status, false).text(Some(SHOWN_CHARS), teller.colour()))
}

/// Waits until production is stable; tells how long the second target began after the first.
async fn production_follows(stage: &Stage, client: &Client) -> Result<Duration, Failure> {
    let [_, first, second] = stage.ports;
    let (mut earlier, mut later) = (None, None);
    eventually("production is stable", ROLLOUT_TIMEOUT, async || {
        let serving = (serving(stage, first).await, serving(stage, second).await);
        if serving.0 || serving.1 {
            earlier.get_or_insert_with(Instant::now);
        }
        if serving.0 && serving.1 {
            later.get_or_insert_with(Instant::now);
        }
        let stable = are_stable(client, "production", "1.0.0").await?;
        Ok((stable && later.is_some()).then_some(()))
    })
    .await?;
    let gap = earlier.zip(later).map(|(earlier, later)| later - earlier);
    let gap = gap.unwrap_or_default();
    ensure(gap >= WAVE_GAP_LEAST, || {
        format!("the second target waits until the first has held, not {gap:?}")
    })?;
    Ok(gap)
}

/// The coordinator is cut off; a workload is killed and is back. Gives the processes that serve.
async fn cut(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<[u32; 3], Failure> {
    let mut pids = [0; 3];
    for (pid, port) in pids.iter_mut().zip(stage.ports) {
        *pid = server_of(stage, port).await?;
    }
    let coordinator = stage.coordinator_pid().unwrap_or_default();
    let client = stage.client()?;
    teller.scene(
        "Now the coordinator is gone",
        &[&format!("kill -9 {coordinator}      # the coordinator")],
    )?;
    stage.kill_coordinator().await;
    let answer: Result<Vec<Status>, Failure> = client.items(&["status"], &[]).await;
    ensure(
        answer.is_err_and(|failure| failure.exit == Exit::Unreachable),
        || "the coordinator does not answer".to_owned(),
    )?;
    for port in stage.ports {
        expect_version(stage, port, "1.0.0").await?;
    }
    teller.step(
        "cut",
        "The coordinator is dead; all three sites go on serving.",
        &json!({"pid": coordinator}),
    )?;

    let [_, port, _] = stage.ports;
    let [_, victim, _] = pids;
    teller.shown(&format!(
        "\n$ kill -9 {victim}      # the web server on production-1"
    ))?;
    let killed = Instant::now();
    kill(victim)?;
    let (new, took) = eventually("production-1 serves again", REPAIR_TIMEOUT, async || {
        let Some(new) = stage.visitor.pid(port).await.filter(|pid| *pid != victim) else {
            return Ok(None);
        };
        let whole = stage.visitor.version(port).await.is_some();
        Ok(whole.then(|| (new, killed.elapsed())))
    })
    .await?;
    if let Some(pid) = pids.get_mut(1) {
        *pid = new;
    }
    teller.step(
        "repaired",
        &format!(
            "Its agent repaired it alone, from its own disk: process {new} serves in place of {victim}, \
             {} ms after the kill.",
            millis(took)
        ),
        &json!({"killed": victim, "pid": new, "millis": millis(took)}),
    )?;
    Ok(pids)
}

/// The coordinator is back, and nothing that runs is disturbed by it.
async fn reunion(
    stage: &mut Stage,
    teller: &mut Teller<'_>,
    pids: [u32; 3],
) -> Result<(), Failure> {
    teller.scene(
        "The coordinator comes back",
        &["holdfast-coordinator serve --data DIR"],
    )?;
    stage.start_coordinator().await?;
    let client = stage.client()?;
    connected(&client, 3).await?;
    for (pid, port) in pids.into_iter().zip(stage.ports) {
        let now = server_of(stage, port).await?;
        ensure(now == pid, || {
            format!("process {pid} still serves port {port}, not {now}")
        })?;
    }
    let audit = verified(&client).await?;
    teller.step(
        "returned",
        &format!(
            "It knows everything that it knew: all three agents have returned, no process was \
             restarted, and the hash chain of its {} recorded events holds.",
            audit.entries
        ),
        &json!({"pid": stage.coordinator_pid(), "pids": pids, "events": audit.entries}),
    )
}

/// A release that is broken never gets past staging.
async fn broken_release(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Failure> {
    let client = stage.client()?;
    teller.scene(
        "A second release of the site, packed without its start page",
        &["holdfast release create site --version 2.0.0 --file site=site.tar.gz"],
    )?;
    let [staging, first, second] = stage.ports;
    let site = stage.folder().join("site-2.0.0.tar.gz");
    write(&site, &example::broken_site("2.0.0")?)?;
    let began = Instant::now();
    release(&client, "site", "2.0.0", "site", &site).await?;

    let untouched = async || -> Result<(), Failure> {
        expect_version(stage, first, "1.0.0").await?;
        expect_version(stage, second, "1.0.0").await
    };
    let answer = eventually("staging shows the fault", ROLLOUT_TIMEOUT, async || {
        untouched().await?;
        let seen = stage.visitor.look(staging, "/healthz").await;
        Ok(seen.filter(|seen| seen.status == 500))
    })
    .await?;
    teller.step(
        "broken",
        &format!(
            "staging-1 has it, and it is broken: /healthz answers {} \"{}\".",
            answer.status,
            answer.body.trim()
        ),
        &json!({"status": answer.status}),
    )?;

    let failed = eventually(
        "the deployment is rolled back",
        ROLLOUT_TIMEOUT,
        async || {
            untouched().await?;
            let all = deployments(&client).await?;
            let broken = all
                .into_iter()
                .find(|item| item.version.as_str() == "2.0.0");
            Ok(broken.filter(|item| item.phase.is_final()))
        },
    )
    .await?;
    ensure(failed.phase == Phase::RolledBack, || {
        format!(
            "deployment {} is rolled back, not {:?}",
            failed.id, failed.phase
        )
    })?;
    expect_version(stage, staging, "1.0.0").await?;
    teller.step(
        "rolledBack",
        &format!(
            "It did not become ready in time. {} after the release, staging-1 serves 1.0.0 again, by \
             itself. Deployment {} says: \"{}\".",
            text::span(began.elapsed()),
            failed.id,
            failed.reason
        ),
        &json!({"deployment": failed.id, "phase": failed.phase, "reason": failed.reason}),
    )?;
    never_in_production(&client, teller).await?;
    why(&client, teller).await
}

async fn never_in_production(client: &Client, teller: &mut Teller<'_>) -> Result<(), Failure> {
    let all = deployments(client).await?;
    let there = all
        .iter()
        .any(|item| item.version.as_str() == "2.0.0" && item.environment.as_str() == "production");
    ensure(!there, || "production was never given 2.0.0".to_owned())?;
    teller.step(
        "untouched",
        "Production was never touched: it served 1.0.0 all the while, and was never given 2.0.0.",
        &json!({}),
    )
}

/// What keeps the site from moving.
async fn why(client: &Client, teller: &mut Teller<'_>) -> Result<(), Failure> {
    let query = [
        ("service", Some("site".to_owned())),
        ("environment", Some("staging".to_owned())),
    ];
    let waits: Vec<Wait> = client.items(&["why"], &query).await?;
    ensure(!waits.is_empty(), || {
        "the failed track says why it stands".to_owned()
    })?;
    teller.shown("\n$ holdfast why site -e staging")?;
    let now = clock::now();
    for wait in &waits {
        // In lines that the margin leaves room for, as `why` itself breaks them.
        teller.plain(&text::wait_at(wait, now, MARGIN.len()))?;
    }
    teller.step(
        "why",
        "Nobody has to remember any of this: the coordinator says what it waits for, and who can \
         end that.",
        &json!({"waits": waits}),
    )
}

/// Everything that happened.
async fn closing(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Failure> {
    let client = stage.client()?;
    let all = deployments(&client).await?;
    let count = |phase| all.iter().filter(|item| item.phase == phase).count();
    ensure(
        count(Phase::Stable) == 4 && count(Phase::RolledBack) == 1,
        || format!("the history has four stable deployments and one rolled back: {all:?}"),
    )?;
    let audit = verified(&client).await?;
    teller.scene("What happened", &["holdfast history"])?;
    teller.shown(&history(&all, teller.colour()))?;
    teller.step(
        "history",
        &format!(
            "{} events are on record, and their hash chain holds.",
            audit.entries
        ),
        &json!({"deployments": all.len(), "events": audit.entries}),
    )
}

/// The history in the few columns that matter here.
fn history(all: &[Deployment], colour: bool) -> String {
    let rows = all
        .iter()
        .map(|item| {
            let took = item
                .finished_at
                .unwrap_or(Timestamp::default())
                .since(item.started_at);
            vec![
                Cell::from(&item.id),
                Cell::from(&item.service),
                Cell::from(&item.environment),
                Cell::from(&item.version),
                Cell::toned(format!("{:?}", item.phase), text::tone(item.phase)),
                Cell::toned(text::span(took), Tone::Plain),
            ]
        })
        .collect();
    let header = vec!["ID", "SERVICE", "ENVIRONMENT", "VERSION", "PHASE", "TOOK"];
    Table::new(header, rows).text(Some(SHOWN_CHARS), colour)
}

/// How long the demo's join tokens may be used.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// Time for one environment to roll out.
const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(25);
/// Time for a killed workload to be back.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// The first target has to hold for a second before the second one begins; looking takes time, too.
const WAVE_GAP_LEAST: Duration = Duration::from_millis(800);
/// Width of the tables that are shown, in characters.
const SHOWN_CHARS: usize = 90;
