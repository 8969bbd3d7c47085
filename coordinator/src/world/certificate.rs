//! Certificates of targets: issued, renewed, made void.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_certs::certificate::Serial;
use holdfast_certs::csr::requested_key;
use holdfast_certs::key::PublicKey;
use holdfast_certs::registry::{Anchors, MAX_OFFLINE};
use holdfast_certs::verify::Peer;
use holdfast_certs::verify::renewal::verify_renewal;
use holdfast_protocol::api::Code;
use holdfast_protocol::join::{Joined, RenewRequest};
use holdfast_protocol::name::{EnvironmentName, TargetName};

use super::{After, Link, Round, Target};
use crate::event::Refused;
use crate::history::Entry;
use crate::link::CloseReason;
use crate::store::row;
use crate::store::write::Write;

/// How long a target's certificate is valid.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most certificates that one target may be given anew in an hour. Each is signed, recorded and kept
/// until it ends.
const RENEWALS_MAX: usize = 10;
/// The hour.
const RENEWALS_SPAN: Duration = Duration::from_secs(60 * 60);

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

    /// A new certificate for a target, recorded.
    pub(super) fn certify(
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

    /// Takes effect on connections that are yet to come with the registry, and on the live one by
    /// closing it.
    pub(super) fn void_certificates(&mut self, name: &TargetName) {
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
}
