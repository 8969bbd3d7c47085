//! `pin` and `unpin`: one version and nothing else, for as long as a person wants it.

use holdfast_protocol::name::Version;

use super::{Granted, Person, Refusal, declared};
use crate::compiled::TrackSpec;
use crate::step::Turn;
use crate::track::Pinned;
use crate::wanted;

/// Pins the track. The version need not exist yet; it goes through all gates, also where it is older
/// than what is stable.
pub(super) fn pin(
    turn: &mut Turn<'_>,
    version: &Version,
    person: &Person<'_>,
) -> Result<Granted, Refusal> {
    declared(turn)?;
    let name = turn.track.name.clone();
    let before = turn.track.pinned.as_ref();
    if let Some(pinned) = before.filter(|pinned| pinned.version == *version) {
        let message = format!("{name} is pinned to {version} by {} already", pinned.by);
        return Ok(Granted::Already(message));
    }
    turn.track.pinned = Some(Pinned {
        version: version.clone(),
        by: person.by.to_owned(),
        reason: person.reason.unwrap_or_default().to_owned(),
        since: turn.now,
    });
    // It is a newer wish than what was asked for once.
    turn.track.asked = None;
    let text = format!("{name} {}", person.did(&format!("pinned to {version}")));
    turn.record("track.pinned", text, Some(person.by.to_owned()));
    Ok(Granted::Changed(format!("{name} is pinned to {version}")))
}

/// Refuses to go back to anything but what is pinned: the pin would leave it again at once.
pub(super) fn lets_go_to(
    turn: &Turn<'_>,
    spec: &TrackSpec,
    version: &Version,
) -> Result<(), Refusal> {
    let pinned = wanted::pin(&turn.track, spec);
    let Some(pinned) = pinned.filter(|pinned| *pinned != version) else {
        return Ok(());
    };
    let name = &turn.track.name;
    let verb = match turn.track.pinned {
        Some(_) => format!("unpin {} -e {}", name.service, name.environment),
        None => format!("pin {} -e {} {version}", name.service, name.environment),
    };
    Err(Refusal {
        message: format!("{name} is pinned to {pinned}"),
        help: format!("holdfast {verb}"),
    })
}

/// Lets the rules of the manifest decide again.
pub(super) fn unpin(turn: &mut Turn<'_>, person: &Person<'_>) -> Granted {
    let name = turn.track.name.clone();
    let Some(pinned) = turn.track.pinned.take() else {
        return Granted::Already(format!("{name} is not pinned by a person"));
    };
    let text = format!("{name} {}", person.did("unpinned"));
    turn.record("track.unpinned", text, Some(person.by.to_owned()));
    Granted::Changed(format!("{name} is pinned to {} no more", pinned.version))
}
