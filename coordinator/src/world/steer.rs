//! What people ask of tracks.

use holdfast_engine::steer::{self as engine, Wish};
use holdfast_engine::track::TrackName;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::steer::{Steer, Steered};
use holdfast_protocol::name::Version;

use super::Round;
use crate::event::{Refused, Verb};
use crate::history::Entry;
use crate::store::write::Write;

impl Round<'_> {
    /// Carries out a person's wish for one track, and everything that follows from it.
    ///
    /// # Errors
    /// [`Refused`] when there is no such track or it cannot be done now.
    pub fn steer(
        &mut self,
        name: &TrackName,
        verb: Verb,
        wish: Steer,
        by: &str,
    ) -> Result<Steered, Refused> {
        let track = self
            .world
            .tracks
            .get(name)
            .ok_or_else(|| unknown_track(name))?;
        if let Some(version) = &wish.version {
            self.world.check_complete(&name.service, version)?;
        }
        let reason = wish.reason.unwrap_or_default();
        let wish = match verb {
            Verb::Deploy => Wish::Deploy {
                version: demand_version(verb, wish.version)?,
                hotfix: wish.hotfix,
            },
            Verb::Promote => Wish::Promote {
                version: wish.version,
            },
            Verb::Pin => Wish::Pin {
                version: demand_version(verb, wish.version)?,
            },
            Verb::Unpin => Wish::Unpin,
            Verb::Rollback => Wish::Rollback { to: wish.version },
            Verb::Retry => Wish::Retry,
            Verb::Halt => Wish::Halt,
            Verb::Pause => Wish::Pause,
            Verb::Resume => Wish::Resume,
        };
        let mut context = self.world.context(name);
        let inputs = context.inputs();
        let granted = engine::steer(track, &wish, by, &reason, &inputs, self.now);
        drop(context);
        self.grant(name, granted)
    }

    /// Lets removals happen that waited for a person.
    ///
    /// # Errors
    /// [`Refused`] when no removal of that revision waits or has happened.
    pub fn confirm_removals(
        &mut self,
        revision: u64,
        by: &str,
        reason: Option<&str>,
    ) -> Result<Steered, Refused> {
        let of_revision: Vec<TrackName> = self
            .world
            .removals
            .iter()
            .filter(|(_, removal)| removal.revision == revision)
            .map(|(name, _)| name.clone())
            .collect();
        let mut confirmed = 0;
        for name in &of_revision {
            let Some(removal) = self.world.removals.get_mut(name) else {
                continue;
            };
            if removal.confirmed {
                continue;
            }
            removal.confirmed = true;
            confirmed += 1;
            self.writes
                .push(Write::Removal(name.clone(), Some(*removal)));
            self.moved.insert(name.clone());
        }
        if confirmed == 0 {
            if of_revision.is_empty() && revision > self.world.revision {
                return Err(Refused::new(
                    Code::NotFound,
                    format!("no revision {revision}"),
                ));
            }
            return Ok(Steered {
                message: format!("no removal of revision {revision} waits"),
                changed: false,
                deployment: None,
            });
        }
        self.record(Entry {
            kind: "removal.confirmed",
            actor: Some(by.to_owned()),
            message: format!(
                "{confirmed} removals of revision {revision} may happen: {}",
                reason.unwrap_or("no reason given")
            ),
            ..Entry::default()
        });
        Ok(Steered {
            message: format!("{confirmed} removals of revision {revision} are under way"),
            changed: true,
            deployment: None,
        })
    }
}

fn demand_version(verb: Verb, version: Option<Version>) -> Result<Version, Refused> {
    version.ok_or_else(|| {
        Refused::new(Code::BadRequest, "`version` is missing")
            .help(format!("say which release to {verb:?}").to_lowercase())
    })
}

/// The refusal for a track that does not exist.
pub fn unknown_track(name: &TrackName) -> Refused {
    Refused::new(
        Code::NotFound,
        format!("{} does not run in {}", name.service, name.environment),
    )
    .help("see what runs where: holdfast status")
}
