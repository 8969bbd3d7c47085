//! Targets come and go: joining, certificates, revocation, labels.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::certificate::Serial;
use holdfast_certs::csr::requested_key;
use holdfast_certs::key::PublicKey;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE};
use holdfast_certs::token::secret_matches;
use holdfast_certs::verify::Peer;
use holdfast_certs::verify::renewal::verify_renewal;
use holdfast_protocol::api::Code;
use holdfast_protocol::join::{JoinRequest, Joined, RenewRequest};
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, TargetName};
use holdfast_protocol::observed::Labels;

use super::{After, Link, Round, Target};
use crate::event::Refused;
use crate::history::Entry;
use crate::link::CloseReason;
use crate::store::{Write, row};

/// How long a target's certificate is valid.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a repeated join with the same key is answered with the same certificate.
pub(super) const JOIN_REPEAT: Duration = Duration::from_secs(10 * 60);
/// Most certificates that one target may be given anew in an hour. Each is signed, recorded and kept
/// until it ends.
const RENEWALS_MAX: usize = 10;
/// The hour.
const RENEWALS_SPAN: Duration = Duration::from_secs(60 * 60);
/// Most labels that a target may carry besides its facts.
const LABELS_MAX: usize = 64;
/// What a caller without a right is told.
const JOIN_REFUSED: &str = "join refused; the reason is in the coordinator's history";

impl Round<'_> {
    /// Makes sure that an environment has an authority and a signing key.
    ///
    /// # Errors
    /// [`Refused`] when the key files cannot be written or read.
    pub fn ensure_environment(&mut self, name: &EnvironmentName) -> Result<(), Refused> {
        let trust = &mut self.world.trust;
        if trust.environments.contains_key(name) {
            return Ok(());
        }
        let made = trust
            .authorities
            .environment(&trust.root, name, self.now)
            .map_err(|error| {
                Refused::new(Code::Internal, crate::chain(&error))
                    .help("free space, or mend the files")
            })?;
        let anchors = Anchors {
            authorities: vec![made.authority.certificate().clone()],
            max_offline: MAX_OFFLINE,
        };
        trust.registry.rcu(|registry| {
            let mut registry = (**registry).clone();
            registry.environments.insert(name.clone(), anchors.clone());
            registry
        });
        trust.environments.insert(name.clone(), made);
        self.record(Entry {
            kind: "environment.authority",
            message: format!("made the certificate authority of {name}"),
            environment: Some(name.clone()),
            ..Entry::default()
        });
        Ok(())
    }

    /// Lets a new target in.
    ///
    /// # Errors
    /// [`Refused`] as the caller may know it; the reason goes into the history.
    pub fn join(&mut self, request: &JoinRequest, from: SocketAddr) -> Result<Joined, Refused> {
        let admitted = self
            .admit(request)
            .and_then(|(token, key)| self.enrol(request, token, &key).map_err(JoinRefusal::Told));
        admitted.map_err(|refusal| {
            let (reason, told) = match refusal {
                JoinRefusal::Silent(reason) => (reason, JOIN_REFUSED.to_owned()),
                JoinRefusal::Told(refused) => (refused.detail.clone(), refused.detail),
            };
            self.offence(
                "join.refused",
                None,
                format!("a join from {from} was refused: {reason}"),
            );
            Refused::new(Code::Forbidden, told)
        })
    }

    /// The token and key of a request that may join.
    fn admit(&self, request: &JoinRequest) -> Result<(row::Token, PublicKey), JoinRefusal> {
        let silent = |reason: String| JoinRefusal::Silent(reason);
        let id = &request.token_id;
        let token = self
            .world
            .tokens
            .get(id)
            .ok_or_else(|| silent("unknown token".to_owned()))?;
        if !secret_matches(&request.secret, &token.secret_hash) {
            return Err(silent(format!("wrong secret for token {id}")));
        }
        let key = requested_key(&request.request).map_err(|error| silent(error.to_string()))?;
        if self.repeated(request, &key).is_some() {
            return Ok((token.clone(), key));
        }
        if token.about.revoked {
            return Err(silent(format!("token {id} was revoked")));
        }
        if token.about.expires_at <= self.now {
            return Err(silent(format!(
                "token {id} expired at {}",
                token.about.expires_at
            )));
        }
        if token.about.used >= token.about.uses {
            return Err(silent(format!(
                "token {id} has been used {} times",
                token.about.used
            )));
        }
        Ok((token.clone(), key))
    }

    /// A join with this token, key and name that happened a moment ago.
    fn repeated(&self, request: &JoinRequest, key: &PublicKey) -> Option<&row::Join> {
        let join = self
            .world
            .joins
            .get(&(request.token_id.clone(), key.digest()))?;
        let fresh = self.now.since(join.at) <= JOIN_REPEAT && join.target == request.name;
        fresh.then_some(join)
    }

    fn enrol(
        &mut self,
        request: &JoinRequest,
        mut token: row::Token,
        key: &PublicKey,
    ) -> Result<Joined, Refused> {
        let environment = token.about.environment.clone();
        if let Some(join) = self.repeated(request, key) {
            let chain = join.chain.clone();
            return self.welcome_pack(&environment, &request.name, chain);
        }
        self.make_room(request, &environment)?;
        let chain = self.certify(&environment, &request.name, key)?;
        token.about.used += 1;
        let id = token.about.id.clone();
        let given = given_labels(&request.labels, &token);
        self.keep_token(token);
        self.keep_join(row::Join {
            token: id.clone(),
            public_key: key.digest(),
            target: request.name.clone(),
            chain: chain.clone(),
            at: self.now,
        });
        self.add_target(request, &environment, given);
        self.record(Entry {
            kind: "target.joined",
            actor: Some(format!("target/{}", request.name)),
            message: format!("{} joined {environment} with token {id}", request.name),
            environment: Some(environment.clone()),
            target: Some(request.name.clone()),
            ..Entry::default()
        });
        self.environment_moved(&environment);
        self.welcome_pack(&environment, &request.name, chain)
    }

    /// Refuses a name that is taken, or shuts its holder out where the newcomer shall replace it.
    fn make_room(
        &mut self,
        request: &JoinRequest,
        environment: &EnvironmentName,
    ) -> Result<(), Refused> {
        let name = &request.name;
        let Some(there) = self.world.targets.get(name) else {
            return Ok(());
        };
        if there.kept.environment != *environment {
            return Err(Refused::new(
                Code::Conflict,
                format!("the name {name} is taken: choose another"),
            ));
        }
        if !request.replace {
            return Err(Refused::new(
                Code::Conflict,
                format!("the name {name} is taken: choose another, or join with --replace"),
            ));
        }
        self.void_certificates(name);
        Ok(())
    }

    fn add_target(&mut self, request: &JoinRequest, environment: &EnvironmentName, given: Labels) {
        let kept = row::Target {
            name: request.name.clone(),
            environment: environment.clone(),
            given,
            facts: super::link::plain_facts(request.facts.clone()),
            joined_at: self.now,
            agent_version: String::new(),
            certificate_expires: self.now.after(CERTIFICATE_VALIDITY),
            conditions: Vec::new(),
            since: self.now,
            revoked_at: None,
            converged: None,
        };
        let labels = Target::merge_labels(&kept);
        let replaced = self.world.targets.remove(&request.name);
        let target = match replaced {
            // What is placed there stays, and so does the assignment's number, which only grows.
            Some(old) => Target {
                kept,
                labels,
                link: Link::Down,
                ..old
            },
            None => Target {
                kept,
                labels,
                link: Link::Down,
                assigned: None,
                outdated: std::collections::VecDeque::new(),
                placed: std::collections::BTreeMap::new(),
                observed: std::collections::BTreeMap::new(),
            },
        };
        self.world.targets.insert(request.name.clone(), target);
        self.keep_target(&request.name);
    }

    fn keep_join(&mut self, join: row::Join) {
        self.writes.push(Write::Join(join.clone()));
        self.world
            .joins
            .insert((join.token.clone(), join.public_key), join);
    }

    /// A new certificate for a target, recorded.
    fn certify(
        &mut self,
        environment: &EnvironmentName,
        target: &TargetName,
        key: &PublicKey,
    ) -> Result<Vec<Vec<u8>>, Refused> {
        let internal = |error: &dyn std::error::Error| {
            Refused::new(
                Code::Internal,
                format!("no certificate could be made: {error}"),
            )
        };
        let serial = Serial::generate().map_err(|error| internal(&error))?;
        let authority = self
            .world
            .trust
            .environments
            .get(environment)
            .ok_or_else(|| {
                Refused::new(
                    Code::NotFound,
                    format!("{environment} has no certificate authority"),
                )
            })?;
        let issued = authority
            .authority
            .issue(target, key, serial, self.now, CERTIFICATE_VALIDITY)
            .map_err(|error| internal(&error))?;
        let certificate = row::Certificate {
            serial: serial.to_string(),
            target: target.clone(),
            environment: environment.clone(),
            not_after: issued.certificate.not_after,
            revoked_at: None,
        };
        if let Some(there) = self.world.targets.get_mut(target) {
            there.kept.certificate_expires = certificate.not_after;
            self.keep_target(target);
        }
        self.writes.push(Write::Certificate(certificate.clone()));
        self.world.certificates.insert(serial, certificate);
        Ok(issued.chain.iter().map(|der| der.to_vec()).collect())
    }

    fn welcome_pack(
        &self,
        environment: &EnvironmentName,
        target: &TargetName,
        chain: Vec<Vec<u8>>,
    ) -> Result<Joined, Refused> {
        let trust = &self.world.trust;
        let there = trust.environments.get(environment).ok_or_else(|| {
            Refused::new(
                Code::NotFound,
                format!("{environment} has no certificate authority"),
            )
        })?;
        Ok(Joined {
            environment: environment.clone(),
            target: target.clone(),
            chain,
            roots: vec![trust.root.certificate().to_vec()],
            signing_keys: vec![there.signing.verifier().as_bytes().to_vec()],
        })
    }

    /// A new certificate for a target on its live connection.
    ///
    /// # Errors
    /// [`Refused`] when the target is not known any more or the request holds no usable key.
    pub fn renew(&mut self, peer: &Peer, request: &[u8]) -> Result<Vec<Vec<u8>>, Refused> {
        let key = requested_key(request)
            .map_err(|error| Refused::new(Code::BadRequest, error.to_string()))?;
        self.still_member(peer)?;
        let (environment, target) = (&peer.identity.environment, &peer.identity.target);
        self.not_too_often(target)?;
        let chain = self.certify(environment, target, &key)?;
        self.record(Entry {
            kind: "certificate.renewed",
            message: format!("{target} has a new certificate"),
            environment: Some(environment.clone()),
            target: Some(target.clone()),
            ..Entry::default()
        });
        Ok(chain)
    }

    /// A new certificate for a target whose old one expired while it was away.
    ///
    /// # Errors
    /// [`Refused`] as the caller may know it; the reason goes into the history.
    pub fn renew_expired(
        &mut self,
        request: &RenewRequest,
        exporter: &[u8],
        from: SocketAddr,
    ) -> Result<Joined, Refused> {
        let registry = Arc::clone(&self.world.trust.registry.load());
        let renewed = verify_renewal(request, exporter, &registry, self.now)
            .map_err(|error| crate::chain(&error))
            .and_then(|renewal| {
                self.still_member(&renewal.peer)
                    .and_then(|()| self.not_too_often(&renewal.peer.identity.target))
                    .map_err(|refused| refused.detail)?;
                Ok(renewal)
            });
        let renewal = renewed.map_err(|reason| {
            let message = format!("a renewal from {from} was refused: {reason}");
            self.offence("renewal.refused", None, message);
            Refused::new(
                Code::Forbidden,
                "renewal refused; the reason is in the history",
            )
        })?;
        let identity = renewal.peer.identity;
        let chain = self.certify(&identity.environment, &identity.target, &renewal.key)?;
        self.record(Entry {
            kind: "certificate.renewed",
            message: format!(
                "{} came back with an expired certificate and has a new one",
                identity.target
            ),
            environment: Some(identity.environment.clone()),
            target: Some(identity.target.clone()),
            ..Entry::default()
        });
        self.welcome_pack(&identity.environment, &identity.target, chain)
    }

    /// Refuses a target that has been given many certificates lately.
    fn not_too_often(&self, target: &TargetName) -> Result<(), Refused> {
        let young = self
            .now
            .after(CERTIFICATE_VALIDITY.saturating_sub(RENEWALS_SPAN));
        let certificates = self.world.certificates.values();
        let lately = certificates.filter(|c| c.target == *target && c.not_after > young);
        if lately.count() < RENEWALS_MAX {
            return Ok(());
        }
        Err(Refused::new(
            Code::Forbidden,
            format!("{target} was given {RENEWALS_MAX} certificates within an hour"),
        ))
    }

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

    /// Takes effect on connections that are yet to come with the registry, and on the live one by
    /// closing it.
    fn void_certificates(&mut self, name: &TargetName) {
        let now = self.now;
        let mut revoked = Vec::new();
        for (serial, certificate) in &mut self.world.certificates {
            if certificate.target == *name && certificate.revoked_at.is_none() {
                certificate.revoked_at = Some(now);
                revoked.push(*serial);
            }
        }
        self.world.trust.registry.rcu(|registry| {
            let mut registry = (**registry).clone();
            registry.revoked.extend(revoked.iter().copied());
            registry
        });
        self.writes.push(Write::RevokeCertificates {
            target: name.clone(),
            at: now,
        });
        let connection = self
            .world
            .targets
            .get(name)
            .and_then(Target::connection)
            .cloned();
        if let Some(connection) = connection {
            self.after.push(After::Close {
                connection,
                reason: CloseReason::Revoked,
            });
        }
        if let Some(there) = self.world.targets.get_mut(name) {
            there.link = Link::Down;
        }
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

/// A join that is not let in.
enum JoinRefusal {
    /// The caller learns nothing.
    Silent(String),
    /// The token was right, so the caller may know what to change.
    Told(Refused),
}

/// Labels that the newcomer asked for, overlaid by those of its token.
fn given_labels(asked: &Labels, token: &row::Token) -> Labels {
    let mut given: Labels = asked
        .iter()
        .take(LABELS_MAX)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let fixed = token.about.labels.iter().filter_map(|(key, value)| {
        Some((LabelKey::parse(key).ok()?, LabelValue::parse(value).ok()?))
    });
    given.extend(fixed);
    given
}
