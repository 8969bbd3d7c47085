//! The cases.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Bench, Case, Subject, with_artifacts_at};
use crate::failure::Failure;
use crate::run::{Live, LogRequest};

pub(super) type Check = for<'a> fn(Bench<'a>) -> BoxFuture<'a, Result<(), String>>;

/// Every case: what it shows, and how. Each works on a service of its own.
pub(super) const ALL: &[Case] = &[
    ("what was created runs", |b| Box::pin(create(b))),
    ("the same again changes nothing", |b| {
        Box::pin(same_again(b))
    }),
    ("an update replaces, and back again", |b| {
        Box::pin(update_and_back(b))
    }),
    ("killed behind its back, it is repaired", |b| {
        Box::pin(killed(b))
    }),
    ("a foreign edit is reported and repaired", |b| {
        Box::pin(edited(b))
    }),
    ("removed, it leaves nothing", |b| Box::pin(remove(b))),
    ("removing it again is no error", |b| {
        Box::pin(remove_again(b))
    }),
    ("a bad specification is refused and harms nothing", |b| {
        Box::pin(bad(b))
    }),
    ("a missing artifact harms nothing", |b| Box::pin(missing(b))),
    ("a wrong artifact is refused and harms nothing", |b| {
        Box::pin(wrong(b))
    }),
    ("given up after a time limit, it converges later", |b| {
        Box::pin(time_limit(b))
    }),
    ("cancelled in the middle, it converges later", |b| {
        Box::pin(cancelled(b))
    }),
    ("an agent started again finds it running", |b| {
        Box::pin(restarted(b))
    }),
    ("an agent killed in the middle converges later", |b| {
        Box::pin(agent_killed(b))
    }),
    ("two workloads do not disturb each other", |b| {
        Box::pin(two(b))
    }),
    ("its output can be read", |b| Box::pin(logs(b))),
];

/// Runs one case.
pub(super) async fn one(subject: &dyn Subject, check: Check, i: usize) -> Result<(), String> {
    let bench = Bench::open(subject, &format!("case-{i}"))?;
    let service = bench.service.clone();
    let result = check(bench).await;
    let left = subject
        .open()?
        .remove(&service)
        .await
        .map_err(|failure| failure.to_string());
    result.and(left)
}

async fn create(bench: Bench<'_>) -> Result<(), String> {
    bench.gone().await?;
    bench.converge(1).await?;
    bench.runs(1).await.map(drop)
}

async fn same_again(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let before = bench.runs(1).await?;
    bench.converge(1).await?;
    let after = bench.runs(1).await?;
    equal(&before, &after)
}

async fn update_and_back(bench: Bench<'_>) -> Result<(), String> {
    for release in [1, 2, 1, 3, 2] {
        bench.converge(release).await?;
        bench.runs(release).await?;
    }
    Ok(())
}

async fn killed(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    bench.runs(1).await?;
    bench.subject.kill(&bench.service)?;
    bench.alive(&[]).await?;
    let seen = bench.observe().await?.ok_or("it is no longer observed")?;
    let ended = |live: &Live| !matches!(live, Live::Running { .. } | Live::Unready { .. });
    let seen = bench.until(seen, &ended).await?;
    if matches!(seen.live, Live::Running { .. }) || seen.body != Some(bench.wanted(1).body) {
        return Err(format!("{seen:?} is observed of a killed workload"));
    }
    bench.converge(1).await?;
    bench.runs(1).await.map(drop)
}

async fn edited(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    bench.runs(1).await?;
    bench.subject.edit(&bench.service)?;
    let seen = bench.observe().await?.ok_or("it is no longer observed")?;
    let altered = |live: &Live| matches!(live, Live::Altered { .. });
    let seen = bench.until(seen, &altered).await?;
    let Live::Altered { what } = &seen.live else {
        return Err(format!("{:?} is observed of an edited workload", seen.live));
    };
    if what.is_empty() {
        return Err("it is not said what differs".to_owned());
    }
    bench.converge(1).await?;
    bench.runs(1).await.map(drop)
}

async fn remove(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    bench.converge(2).await?;
    bench.remove().await?;
    bench.gone().await
}

async fn remove_again(bench: Bench<'_>) -> Result<(), String> {
    bench.remove().await?;
    bench.converge(1).await?;
    bench.remove().await?;
    bench.remove().await?;
    bench.gone().await?;
    bench.converge(1).await?;
    bench.runs(1).await.map(drop)
}

async fn bad(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let before = bench.runs(1).await?;
    let wanted = bench.subject.bad(&bench.service);
    match bench.try_converge(&wanted, &CancellationToken::new()).await {
        Err(Failure::Permanent(why)) if !why.is_empty() => {}
        other => return Err(format!("{other:?} instead of a permanent failure")),
    }
    equal(&before, &bench.runs(1).await?)
}

async fn missing(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let before = bench.runs(1).await?;
    let nowhere = with_artifacts_at(bench.wanted(2), Path::new("/nonexistent/artifact"));
    refused(&bench, &nowhere).await?;
    let mut none = bench.wanted(2);
    none.artifacts.clear();
    refused(&bench, &none).await?;
    equal(&before, &bench.runs(1).await?)?;
    bench.converge(2).await?;
    bench.runs(2).await.map(drop)
}

async fn wrong(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let before = bench.runs(1).await?;
    let first = bench
        .wanted(1)
        .artifacts
        .into_values()
        .next()
        .ok_or("it has no artifact")?;
    refused(&bench, &with_artifacts_at(bench.wanted(2), &first)).await?;
    equal(&before, &bench.runs(1).await?)
}

async fn time_limit(bench: Bench<'_>) -> Result<(), String> {
    for (i, millis) in [0, 1, 3, 10, 30].into_iter().enumerate() {
        let release = 1 + u32::from(i % 2 == 1);
        let converging = bench.converge(release);
        // Dropped when the time is over; it may also have been done before.
        let _ = tokio::time::timeout(Duration::from_millis(millis), converging).await;
        bench.converge(release).await?;
        bench.runs(release).await?;
    }
    Ok(())
}

async fn cancelled(bench: Bench<'_>) -> Result<(), String> {
    for (i, millis) in [0, 1, 3, 10, 30].into_iter().enumerate() {
        let release = 1 + u32::from(i % 2 == 1);
        let cancel = CancellationToken::new();
        let wanted = bench.wanted(release);
        let later = async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(bench.try_converge(&wanted, &cancel), later);
        if !matches!(result, Ok(()) | Err(Failure::Cancelled)) {
            return Err(format!("cancelled after {millis} ms: {result:?}"));
        }
        bench.converge(release).await?;
        bench.runs(release).await?;
    }
    Ok(())
}

async fn restarted(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let before = bench.runs(1).await?;
    let bench = bench.reopen()?;
    equal(&before, &bench.runs(1).await?)?;
    bench.converge(1).await?;
    equal(&before, &bench.runs(1).await?)?;
    bench.subject.kill(&bench.service)?;
    bench.converge(1).await?;
    bench.runs(1).await.map(drop)
}

async fn agent_killed(bench: Bench<'_>) -> Result<(), String> {
    let mut bench = bench;
    for (i, millis) in [0, 2, 5, 10, 20, 40].into_iter().enumerate() {
        let release = 1 + u32::from(i % 2 == 1);
        let converging = bench.converge(release);
        let _ = tokio::time::timeout(Duration::from_millis(millis), converging).await;
        bench = bench.reopen()?;
        bench.converge(release).await?;
        bench.runs(release).await?;
    }
    Ok(())
}

async fn two(bench: Bench<'_>) -> Result<(), String> {
    // One name begins with the other: neither may be taken for the other.
    let other = Bench::open(bench.subject, &format!("{}-b", bench.service))?;
    let result = two_benches(&bench, &other).await;
    result.and(other.remove().await)
}

async fn two_benches(bench: &Bench<'_>, other: &Bench<'_>) -> Result<(), String> {
    let (first, second) = tokio::join!(bench.converge(1), other.converge(2));
    first.and(second)?;
    let before = other.runs(2).await?;
    bench.converge(2).await?;
    bench.subject.kill(&bench.service)?;
    bench.converge(2).await?;
    bench.subject.edit(&bench.service)?;
    bench.remove().await?;
    bench.gone().await?;
    equal(&before, &other.runs(2).await?)
}

async fn logs(bench: Bench<'_>) -> Result<(), String> {
    bench.converge(1).await?;
    let request = LogRequest {
        since: None,
        tail: 10,
        follow: false,
    };
    if !bench.subject.has_output() {
        return match bench.adapter.logs(&bench.service, request).await {
            Err(Failure::Permanent(_)) => Ok(()),
            other => Err(format!("{other:?} instead of a permanent failure")),
        };
    }
    bench.line(request, "release 1").await?;
    bench.converge(2).await?;
    bench.line(request, "release 2").await?;
    let last = LogRequest { tail: 1, ..request };
    let lines = bench.line(last, "release 2").await?;
    if lines.len() != 1 {
        return Err(format!("one line was asked for, and {} came", lines.len()));
    }
    let follow = LogRequest {
        follow: true,
        ..last
    };
    let mut receiver = bench
        .adapter
        .logs(&bench.service, follow)
        .await
        .map_err(|failure| failure.to_string())?;
    bench.converge(1).await?;
    let begun = super::now();
    while super::now().duration_since(begun) < FOLLOW_LIMIT {
        let line = tokio::time::timeout(FOLLOW_LIMIT, receiver.recv()).await;
        match line.map_err(|_| "following shows nothing new")? {
            Some(line) if line.text.contains("release 1") => return Ok(()),
            Some(_) => {}
            None => return Err("following ended by itself".to_owned()),
        }
    }
    Err("following does not show the new line".to_owned())
}

/// Demands that a workload is refused, in whatever way.
async fn refused(bench: &Bench<'_>, wanted: &crate::run::Wanted) -> Result<(), String> {
    match bench.try_converge(wanted, &CancellationToken::new()).await {
        Err(Failure::Permanent(_) | Failure::Retryable(_)) => Ok(()),
        other => Err(format!("{other:?} instead of a failure")),
    }
}

pub(super) fn equal<T: PartialEq + std::fmt::Debug>(before: &T, after: &T) -> Result<(), String> {
    if before == after {
        Ok(())
    } else {
        Err(format!("{before:?} became {after:?}"))
    }
}

/// Time that a new line has to come; some runtimes look for output only every few seconds.
const FOLLOW_LIMIT: Duration = Duration::from_secs(30);
