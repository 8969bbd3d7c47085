//! Joining: a token opens an environment for a new target.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_certs::csr::requested_key;
use holdfast_certs::key::PublicKey;
use holdfast_certs::token::secret_matches;
use holdfast_protocol::api::Code;
use holdfast_protocol::join::{JoinRequest, Joined};
use holdfast_protocol::name::{EnvironmentName, LabelKey, LabelValue, TargetName};
use holdfast_protocol::observed::Labels;

use super::certificate::CERTIFICATE_VALIDITY;
use super::member::LABELS_MAX;
use super::{Link, Round, Target};
use crate::event::Refused;
use crate::history::Entry;
use crate::store::row;
use crate::store::write::Write;

/// How long a repeated join with the same key is answered with the same certificate.
pub(super) const JOIN_REPEAT: Duration = Duration::from_secs(10 * 60);
/// What a caller without a right is told.
const JOIN_REFUSED: &str = "join refused; the reason is in the coordinator's history";

impl Round<'_> {
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
            ahead: None,
            sealing_key: None,
            hold: None,
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
                placed: BTreeMap::new(),
                observed: BTreeMap::new(),
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

    pub(super) fn welcome_pack(
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
