//! Forgetting what nobody needs any more, so that neither memory nor disk grows with time alone.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_certs::registry::MAX_OFFLINE;
use holdfast_protocol::digest::Digest;

use super::Round;
use super::enrol::JOIN_REPEAT;
use crate::store::write::Write;

/// How often.
pub const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long a token is listed after it has expired.
const TOKEN_LISTED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Round<'_> {
    /// Forgets workload bodies that no target runs or may ask for, joins that cannot be repeated any
    /// more, tokens that expired long ago, certificates that nobody could renew, and users whose tokens
    /// are void.
    pub fn forget(&mut self) {
        self.forget_bodies();
        self.forget_joins();
        self.forget_tokens();
        self.forget_certificates();
        self.forget_users();
    }

    fn forget_bodies(&mut self) {
        let targets = || self.world.targets.values();
        let placed = targets().flat_map(|target| target.placed.values());
        let mut needed: BTreeSet<Digest> = placed
            .filter_map(|placed| placed.body.as_ref().ok().copied())
            .collect();
        needed.extend(targets().flat_map(super::Target::entitled).copied());
        let unneeded: Vec<Digest> = self
            .world
            .bodies
            .keys()
            .filter(|digest| !needed.contains(digest))
            .copied()
            .collect();
        for digest in unneeded {
            self.world.bodies.remove(&digest);
            self.writes.push(Write::DropBody(digest));
        }
    }

    fn forget_joins(&mut self) {
        let now = self.now;
        let writes = &mut self.writes;
        self.world.joins.retain(|_, join| {
            let keep = now.since(join.at) <= JOIN_REPEAT;
            if !keep {
                writes.push(Write::DropJoin {
                    token: join.token.clone(),
                    public_key: join.public_key,
                });
            }
            keep
        });
    }

    fn forget_tokens(&mut self) {
        let now = self.now;
        let writes = &mut self.writes;
        self.world.tokens.retain(|id, token| {
            let keep = now.since(token.about.expires_at) <= TOKEN_LISTED;
            if !keep {
                writes.push(Write::DropToken(id.clone()));
            }
            keep
        });
    }

    /// A revoked certificate is remembered for as long as it could otherwise be renewed.
    fn forget_certificates(&mut self) {
        let now = self.now;
        let writes = &mut self.writes;
        self.world.certificates.retain(|serial, certificate| {
            let keep = now.since(certificate.not_after) <= MAX_OFFLINE;
            if !keep {
                writes.push(Write::DropCertificate(serial.to_string()));
            }
            keep
        });
        let known: BTreeSet<_> = self.world.certificates.keys().copied().collect();
        self.world.trust.registry.rcu(|registry| {
            let mut registry = (**registry).clone();
            registry.revoked.retain(|serial| known.contains(serial));
            registry
        });
    }
}
