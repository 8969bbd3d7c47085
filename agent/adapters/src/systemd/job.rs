//! Jobs: units that systemd starts only when it is told to, and keeps when they have ended.
//!
//! *Expected flow:* a record says that an attempt is about to begin; systemd starts the unit; its main
//! process ends, and the unit stays as `exited` or `failed`, which is its result. *Guarantees:* no unit
//! of a job is started at boot; an attempt that was begun is never begun again by whoever looks; a
//! result that was seen once is on disk, and outlives a reboot, and systemd's own memory of the unit.
//! *Assumption:* a result that nobody saw before the host went down is unknown.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;

use crate::failure::Failure;
use crate::process::table;
use crate::run::{Exit, Live, Observed};
use crate::systemd::bus::{Line, Loaded, SERVICE, UNIT};
use crate::systemd::mark::Mark;
use crate::systemd::place::{Begun, Ended, Place, Record};
use crate::systemd::sight::{self, File, Listing, Run, gone_is};
use crate::systemd::unit;

/// Whether what lies there, or what was last written, is the unit of a job.
pub(super) fn is_one(main: &str, record: Option<&Record>, found: &File) -> bool {
    let written = record.and_then(|record| record.units.get(main));
    match (written, found) {
        (Some(text), _) | (None, File::Text(text)) => unit::is_job(text),
        (None, File::Absent | File::Masked) => false,
    }
}

/// Whether a body runs as a job, or has succeeded, so that there is nothing to begin.
pub(super) fn is_done(
    service: &ServiceName,
    place: &Place,
    body: Digest,
    listing: &Listing,
    line: &Line,
) -> Result<bool, Failure> {
    let seen = sight::observe(service.clone(), place, listing, line)?;
    let done = match seen.live {
        Live::Running { .. } | Live::Unready { .. } => true,
        Live::Ended { exit, .. } => exit == Exit::Code(0),
        Live::Altered { .. } => false,
    };
    Ok(done && seen.body == Some(body))
}

/// Looks at one job. What was begun is judged by its run alone; what was not has no body yet.
pub(super) fn observe(
    service: ServiceName,
    place: &Place,
    (record, mark): (Option<&Record>, Option<Mark>),
    listing: &Listing,
    line: &Line,
) -> Result<Observed, Failure> {
    let begun = record.and_then(|record| record.begun.as_ref());
    let loaded = listing.get(&unit::service_unit(&service));
    let run = match loaded {
        // Where all was forgotten here, whatever systemd knows of the unit is its job.
        Some(loaded) if begun.is_some() || record.is_none() => {
            attempt(loaded, begun.map_or(0, |begun| begun.micros), line)?
        }
        Some(_) | None => None,
    };
    let live = match (run, begun) {
        (Some(live), begun) => {
            note(place, begun, &live);
            Some(live)
        }
        (None, Some(begun)) => lost(place, begun, record.and_then(|record| record.settled)),
        (None, None) => None,
    };
    let body = record
        .map(|record| record.body)
        .or(mark.map(|mark| mark.body));
    let not_begun = || Live::Altered {
        what: "it was not begun".to_owned(),
    };
    Ok(Observed {
        service,
        body: body.filter(|_| live.is_some()),
        live: live.unwrap_or_else(not_begun),
    })
}

/// The run that began at `since_micros` or later, if there is one.
fn attempt(listed: &Loaded, since_micros: u64, line: &Line) -> Result<Option<Live>, Failure> {
    let began = line.property(&listed.path, SERVICE, "ExecMainStartTimestampMonotonic");
    let began: u64 = gone_is(0, began)?;
    if began == 0 || began < since_micros {
        return Ok(None);
    }
    let state = |name| {
        gone_is(
            String::new(),
            line.property::<String>(&listed.path, UNIT, name),
        )
    };
    // Both before the run: what has ended then stays as it is.
    let loaded = Loaded {
        active: state("ActiveState")?,
        sub: state("SubState")?,
        ..listed.clone()
    };
    let run = Run::ask(&loaded, line)?;
    Ok(Some(match (loaded.active.as_str(), loaded.sub.as_str()) {
        ("active", "exited") | ("failed" | "inactive", _) => Live::Ended {
            exit: run.exit,
            at: run.ended,
        },
        ("active" | "reloading", _) => run.running(),
        ("", _) => return Ok(None),
        _ => run.unready("systemd is still starting or stopping it"),
    }))
}

/// Keeps how an attempt ended. What cannot be kept is known for as long as systemd knows it.
fn note(place: &Place, begun: Option<&Begun>, live: &Live) {
    let (Some(begun), Live::Ended { exit, at }) = (begun, live) else {
        return;
    };
    let ended = Ended {
        begun: begun.clone(),
        exit: *exit,
        at: *at,
    };
    if place.ended(begun).as_ref() != Some(&ended)
        && let Err(error) = place.write_ended(&ended)
    {
        tracing::warn!(%error, "how a job ended cannot be kept");
    }
}

/// What is known of an attempt that systemd does not know. In the boot that it was to begin in, it was
/// not begun, or somebody stopped it: both may be made up for. In a later one it may have been at work.
fn lost(place: &Place, begun: &Begun, settled: Option<Timestamp>) -> Option<Live> {
    if let Some(ended) = place.ended(begun) {
        return Some(Live::Ended {
            exit: ended.exit,
            at: ended.at,
        });
    }
    (begun.boot != table::boot()).then(|| Live::Ended {
        exit: Exit::Unknown,
        at: settled.unwrap_or_default(),
    })
}
