//! How histories end: at rest, whatever the way there.

use std::collections::BTreeMap;

use holdfast_engine::track::{Point, Track, TrackName};
use holdfast_protocol::api::wait::{Wait, WaitKind};
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::{Timestamp, millis};

use super::event::Event;
use super::model::World;

/// Most spans of [`ROUND_MILLIS`] that a world may need until only time could move it further.
const ROUNDS_MAX: usize = 60;
/// Longer than the longest interval of a check, with the time that it may take.
const ROUND_MILLIS: u64 = 360_000;
/// Longer than the shortest approvals hold.
const LAPSE_MILLIS: u64 = 1_200_000;
/// Most windows and holds that are waited for.
const JUMPS_MAX: usize = 3;

/// Lets everything that was begun come to its end, beyond windows that are closed now. Whether it did:
/// what runs by a schedule never does.
pub(crate) fn finish(world: &mut World) -> bool {
    if world.jobs.values().any(|job| job.schedule.is_some()) {
        settle(world);
        return false;
    }
    for _ in 0..JUMPS_MAX {
        settle(world);
        let Some(next) = later(world) else {
            world.happen(&Event::Ahead {
                millis: LAPSE_MILLIS,
            });
            settle(world);
            return later(world).is_none();
        };
        let millis = millis(next.since(world.now));
        world.happen(&Event::Ahead { millis });
    }
    false
}

fn settle(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let before = world.moves;
        world.happen(&Event::Settle {
            millis: ROUND_MILLIS,
        });
        if world.moves == before {
            return;
        }
    }
    world.object("it never came to rest");
}

/// When the calendar, or a target's own site, lets something go on.
fn later(world: &World) -> Option<Timestamp> {
    let waits = world.tracks.values().flat_map(|track| &track.waits);
    let calendar = |wait: &&Wait| matches!(wait.kind, WaitKind::Window | WaitKind::Hold);
    let until = waits.filter(calendar).filter_map(|wait| wait.until);
    until.filter(|until| *until > world.now).min()
}

/// Nothing but checks is done any more, and nothing is worth a write.
pub(crate) fn is_silent(world: &mut World) -> Result<(), String> {
    let before = (world.moves, world.writes);
    world.tells = true;
    world.said.clear();
    world.everything();
    world.happen(&Event::Settle {
        millis: ROUND_MILLIS,
    });
    world.tells = false;
    // What stands for other reasons says so anew when a window opens or closes.
    let calendar = world.environments.values();
    let calendar = calendar
        .filter(|shape| !shape.gates.windows.is_empty())
        .count()
        > 0;
    let same_writes = calendar || world.writes == before.1;
    if world.moves == before.0 && same_writes {
        return Ok(());
    }
    Err(format!("still does something: {:?}", world.said))
}

/// How every track ended, without what depends on how long it took.
pub(crate) fn ends(world: &World) -> BTreeMap<TrackName, String> {
    let end = |track: &Track| {
        let point = |point: &Point| (point.sequence, point.configuration.short());
        let placed: Vec<_> = track
            .placements
            .iter()
            .map(|(name, placed)| (name.clone(), point(&placed.point)))
            .collect();
        let current = track.current.as_ref();
        let current = current.map(|current| (point(&current.point), current.phase.name()));
        let stable = track.stable.as_ref().map(point);
        let passed_over = &track.passed_over;
        format!("{stable:?} {current:?} {placed:?} {passed_over:?}")
    };
    world
        .tracks
        .iter()
        .map(|(name, track)| (name.clone(), end(track)))
        .collect()
}

/// Every track but those of `victim`, without numbers that are shared by all.
pub(crate) fn others(world: &World, victim: &ServiceName) -> Vec<Track> {
    let mut tracks: Vec<Track> = world
        .tracks
        .values()
        .filter(|track| track.name.service != *victim)
        .cloned()
        .collect();
    for track in &mut tracks {
        let points = track.stable.iter_mut().chain(&mut track.earlier);
        points.for_each(|point| point.revision = 0);
        let placed = track.placements.values_mut();
        placed.for_each(|placed| placed.point.revision = 0);
        if let Some(current) = &mut track.current {
            current.id = 0;
            current.point.revision = 0;
            // A change of configuration is told by the number of its revision.
            current.reason.clear();
            let previous = current.previous.iter_mut();
            previous.for_each(|point| point.revision = 0);
            // What was shown names the deployment by its number.
            let approvals = current.approvals.iter_mut();
            approvals.for_each(|given| given.shown = holdfast_protocol::digest::Digest::of(b""));
        }
        for wait in &mut track.waits {
            // When a check that is judged on the spot would be looked at again is as of the last look.
            wait.until.take_if(|_| wait.kind == WaitKind::Protection);
            // So are removals, and deployments that people are asked about.
            let numbered = ["confirm", "approve", "reject", "skip"];
            wait.ends_by
                .retain(|end| !numbered.iter().any(|verb| end.contains(verb)));
        }
    }
    tracks
}
