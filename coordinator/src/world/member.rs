//! Belonging: who is a target still, who was shut out, who left, and under which labels.

use holdfast_certs::verify::Peer;
use holdfast_protocol::api::Code;
use holdfast_protocol::name::{LabelKey, LabelValue, TargetName};

use super::{Link, Round, Target};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::write::Write;

/// Most labels that a target may carry besides its facts.
pub(super) const LABELS_MAX: usize = 64;

impl Round<'_> {
    /// Whether a proven peer is a target that is known and welcome.
    ///
    /// # Errors
    /// [`Refused`] when it has left, was revoked, or belongs to another environment now.
    pub fn still_member(&self, peer: &Peer) -> Result<(), Refused> {
        let name = &peer.identity.target;
        let no = |detail: String| Refused::new(Code::Forbidden, detail);
        let there = self
            .world
            .targets
            .get(name)
            .ok_or_else(|| no(format!("{name} is not known")))?;
        if there.kept.environment != peer.identity.environment {
            return Err(no(format!("{name} belongs to another environment")));
        }
        if there.kept.revoked_at.is_some() {
            return Err(no(format!("{name} was revoked")));
        }
        let serial = self.world.certificates.get(&peer.serial);
        match serial {
            Some(certificate) if certificate.revoked_at.is_none() => Ok(()),
            Some(_) => Err(no(format!("the certificate {} was revoked", peer.serial))),
            None => Err(no(format!(
                "the certificate {} is not on record",
                peer.serial
            ))),
        }
    }

    /// Makes every certificate of a target void and closes its connection.
    ///
    /// # Errors
    /// [`Refused`] when there is no such target.
    pub fn revoke_target(
        &mut self,
        name: &TargetName,
        by: &str,
        reason: Option<&str>,
    ) -> Result<(), Refused> {
        let now = self.now;
        let there = self.target_mut(name)?;
        if there.kept.revoked_at.is_some() {
            return Ok(());
        }
        there.kept.revoked_at = Some(now);
        let environment = there.kept.environment.clone();
        self.keep_target(name);
        self.void_certificates(name);
        self.record(Entry {
            kind: "target.revoked",
            actor: Some(by.to_owned()),
            message: format!(
                "{name} is shut out: {}",
                reason.unwrap_or("no reason given")
            ),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
        Ok(())
    }

    /// Lets a target go on that holds an assignment which is not known here: what is placed on it now
    /// is sent to it in a new epoch, and what it holds is given up.
    ///
    /// # Errors
    /// [`Refused`] when there is no such target.
    pub fn resume_target(
        &mut self,
        name: &TargetName,
        by: &str,
        reason: Option<&str>,
    ) -> Result<(), Refused> {
        let there = self.target_mut(name)?;
        let Some(ahead) = there.kept.ahead.take() else {
            return Ok(());
        };
        let known = there
            .assigned
            .as_ref()
            .map_or(0, |a| a.assignment.generation.epoch);
        let environment = there.kept.environment.clone();
        self.keep_target(name);
        self.begin_epoch(name, ahead.epoch.max(known));
        self.record(Entry {
            kind: "target.resumed",
            actor: Some(by.to_owned()),
            message: format!(
                "{name} gives up assignment {ahead} and goes on in a new epoch: {}",
                reason.unwrap_or("no reason given")
            ),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
        Ok(())
    }

    /// Forgets a target that leaves for good.
    pub fn leave(&mut self, name: &TargetName, session: super::SessionId) {
        let Some(there) = self
            .world
            .targets
            .get(name)
            .filter(|there| there.is_session(session))
        else {
            return;
        };
        let environment = there.kept.environment.clone();
        if let Some(there) = self.world.targets.get_mut(name) {
            // The connection's task closes it after it has said farewell.
            there.link = Link::Down;
        }
        self.void_certificates(name);
        self.world.targets.remove(name);
        for (track, state) in &mut self.world.tracks {
            if state.placements.remove(name).is_some() {
                self.moved.insert(track.clone());
            }
        }
        self.writes.push(Write::DropTarget(name.clone()));
        self.record(Entry {
            kind: "target.left",
            actor: Some(format!("target/{name}")),
            message: format!("{name} left {environment}"),
            environment: Some(environment.clone()),
            target: Some(name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
    }

    /// Changes the labels that people gave a target.
    ///
    /// # Errors
    /// [`Refused`] when there is no such target or it would carry too many.
    pub fn label(
        &mut self,
        name: &TargetName,
        change: Vec<(LabelKey, Option<LabelValue>)>,
        by: &str,
    ) -> Result<(), Refused> {
        let there = self.target_mut(name)?;
        let mut given = there.kept.given.clone();
        for (key, value) in change {
            match value {
                Some(value) => given.insert(key, value),
                None => given.remove(&key),
            };
        }
        if given.len() > LABELS_MAX {
            return Err(Refused::new(
                Code::TooLarge,
                format!("a target carries at most {LABELS_MAX} labels"),
            ));
        }
        if given == there.kept.given {
            return Ok(());
        }
        there.kept.given = given;
        let environment = there.kept.environment.clone();
        self.relabel(name);
        self.keep_target(name);
        self.record(Entry {
            kind: "target.labelled",
            actor: Some(by.to_owned()),
            message: format!("the labels of {name} were changed"),
            environment: Some(environment),
            target: Some(name.clone()),
            ..Entry::default()
        });
        Ok(())
    }

    /// Puts changed labels into force: who is selected, and what was rendered from them.
    pub(super) fn relabel(&mut self, name: &TargetName) {
        let Some(there) = self.world.targets.get_mut(name) else {
            return;
        };
        let labels = Target::merge_labels(&there.kept);
        if labels == there.labels {
            return;
        }
        there.labels = labels;
        let environment = there.kept.environment.clone();
        self.render_again(name);
        self.environment_moved(&environment);
    }

    pub(super) fn target_mut(&mut self, name: &TargetName) -> Result<&mut Target, Refused> {
        self.world.targets.get_mut(name).ok_or_else(|| {
            Refused::new(Code::NotFound, format!("no target {name}"))
                .help("list them: holdfast get targets")
        })
    }
}
