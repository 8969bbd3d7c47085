//! May this target take the assignment that it is offered? Pure.
//!
//! In two steps, as it travels: [`offer`] looks at the signed list alone, before any body is asked
//! for; [`bodies`] looks at the bodies once they are there.
//!
//! *Guarantees:* nothing unsigned, nothing meant for another target, nothing older than the highest
//! number ever taken here, and never two contents under one number.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_certs::identity::Identity;
use holdfast_protocol::assignment::{Assignment, Held, SignedAssignment, WORKLOADS_MAX};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::message::Refusal;

use crate::desired::{Bodies, Intent};

/// The farthest that a number may be ahead of the highest one taken. A larger leap is a fault or an
/// attempt to make every later assignment look old.
pub const LEAP_MAX: u64 = 1 << 32;

/// Tells whether an assignment is signed by a key of this target's environment.
pub type Verify<'a> = &'a dyn Fn(&SignedAssignment) -> bool;

/// An assignment that may be taken once its bodies are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it says.
    pub assignment: Assignment,
    /// Its number and digest.
    pub held: Held,
}

/// Looks at an offered assignment; `highest` is the highest number ever taken here, with its digest.
///
/// # Errors
/// The reason to refuse it.
pub fn offer(
    signed: &SignedAssignment,
    identity: &Identity,
    highest: Option<Held>,
    verify: Verify<'_>,
) -> Result<Offer, Refusal> {
    let offer = signed_for(signed, identity, verify)?;
    if let Some(highest) = highest {
        follows(offer.held, highest)?;
    } else if offer.held.generation.number > LEAP_MAX {
        return Err(leaps(offer.held));
    }
    Ok(offer)
}

/// Looks at an assignment whatever its number: what is on disk was taken before.
///
/// # Errors
/// The reason not to use it.
pub fn signed_for(
    signed: &SignedAssignment,
    identity: &Identity,
    verify: Verify<'_>,
) -> Result<Offer, Refusal> {
    if !verify(signed) {
        return Err(Refusal::BadSignature);
    }
    let assignment = signed
        .open_unverified()
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    if assignment.environment != identity.environment || assignment.target != identity.target {
        return Err(Refusal::NotForMe);
    }
    well_formed(&assignment)?;
    let held = Held {
        generation: assignment.generation,
        digest: signed.digest(),
    };
    Ok(Offer { assignment, held })
}

/// Opens every body of an assignment; `raw` holds the bytes by digest.
///
/// # Errors
/// [`Refusal::BadBody`] for the first body that is missing or is not what its line says.
pub fn bodies(assignment: &Assignment, raw: &BTreeMap<Digest, Vec<u8>>) -> Result<Bodies, Refusal> {
    let mut opened = Bodies::new();
    for entry in &assignment.workloads {
        let bad = || Refusal::BadBody(entry.body);
        let bytes = raw.get(&entry.body).ok_or_else(bad)?;
        let intent = Intent::open(bytes).map_err(|_| bad())?;
        let fits = intent.body == entry.body
            && intent.workload.service == entry.service
            && intent.workload.environment == assignment.environment;
        if !fits {
            return Err(bad());
        }
        opened.insert(entry.body, Arc::new(intent));
    }
    Ok(opened)
}

fn follows(offered: Held, highest: Held) -> Result<(), Refusal> {
    if offered.generation < highest.generation {
        return Err(Refusal::Older {
            held: highest.generation,
        });
    }
    if offered.generation == highest.generation && offered.digest != highest.digest {
        return Err(Refusal::Equivocation);
    }
    let before = if offered.generation.epoch == highest.generation.epoch {
        highest.generation.number
    } else {
        0
    };
    if offered.generation.number - before > LEAP_MAX {
        return Err(leaps(offered));
    }
    Ok(())
}

fn leaps(offered: Held) -> Refusal {
    Refusal::Malformed(format!("number {} leaps too far ahead", offered.generation))
}

fn well_formed(assignment: &Assignment) -> Result<(), Refusal> {
    if assignment.generation.epoch == 0 || assignment.generation.number == 0 {
        return Err(Refusal::Malformed("its number is zero".to_owned()));
    }
    if assignment.workloads.len() > WORKLOADS_MAX {
        let count = assignment.workloads.len();
        return Err(Refusal::Malformed(format!(
            "{count} workloads are too many"
        )));
    }
    let out_of_order = assignment
        .workloads
        .windows(2)
        .find(|pair| pair[0].service >= pair[1].service);
    match out_of_order {
        Some(pair) => {
            let service = &pair[1].service;
            Err(Refusal::Malformed(format!(
                "{service} is named twice or out of order"
            )))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::assignment::{Entry, Generation};
    use holdfast_protocol::name::{EnvironmentName, ServiceName, TargetName};
    use holdfast_protocol::time::Timestamp;

    use crate::fixture::workload;

    fn me() -> Identity {
        Identity {
            environment: EnvironmentName::parse("staging").unwrap(),
            target: TargetName::parse("one").unwrap(),
        }
    }

    fn assignment(epoch: u64, number: u64, services: &[&str]) -> Assignment {
        let entry = |name: &&str| Entry {
            service: ServiceName::parse(name).unwrap(),
            body: workload(name, "1").seal().0,
        };
        Assignment {
            generation: Generation { epoch, number },
            environment: me().environment,
            target: me().target,
            workloads: services.iter().map(entry).collect(),
            issued_at: Timestamp::from_millis(1),
        }
    }

    /// A stand-in for Ed25519: the signature is the digest of what is signed.
    fn sign(assignment: &Assignment) -> SignedAssignment {
        let mut signed = SignedAssignment {
            bytes: assignment.encode(),
            signature: Vec::new(),
        };
        signed.signature = Digest::of(&signed.signed_bytes()).as_bytes().to_vec();
        signed
    }

    fn verify(signed: &SignedAssignment) -> bool {
        Digest::of(&signed.signed_bytes()).as_bytes() == signed.signature.as_slice()
    }

    fn offered(signed: &SignedAssignment, highest: Option<&Assignment>) -> Result<Held, Refusal> {
        let highest = highest.map(|a| Held {
            generation: a.generation,
            digest: sign(a).digest(),
        });
        offer(signed, &me(), highest, &verify).map(|offer| offer.held)
    }

    #[test]
    fn a_signed_newer_assignment_is_taken() {
        let old = assignment(1, 4, &["web"]);
        let new = sign(&assignment(1, 5, &["api", "web"]));
        assert!(offered(&new, None).is_ok());
        assert!(offered(&new, Some(&old)).is_ok());
        assert!(offered(&sign(&assignment(2, 1, &[])), Some(&old)).is_ok());
        assert!(offered(&sign(&old), Some(&old)).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let signed = sign(&assignment(1, 1, &["web"]));
        for at in 0..signed.bytes.len() {
            let mut bad = signed.clone();
            bad.bytes[at] ^= 1;
            assert_eq!(offered(&bad, None), Err(Refusal::BadSignature));
        }
    }

    #[test]
    fn an_older_number_or_other_content_under_the_same_is_refused() {
        let held = assignment(2, 7, &["web"]);
        let older = Err(Refusal::Older {
            held: held.generation,
        });
        assert_eq!(
            offered(&sign(&assignment(2, 6, &["web"])), Some(&held)),
            older
        );
        assert_eq!(
            offered(&sign(&assignment(1, 900, &["web"])), Some(&held)),
            older
        );
        let other = sign(&assignment(2, 7, &["api"]));
        assert_eq!(offered(&other, Some(&held)), Err(Refusal::Equivocation));
    }

    #[test]
    fn a_leap_to_the_last_number_is_refused() {
        let held = assignment(1, 7, &[]);
        for leap in [assignment(1, u64::MAX, &[]), assignment(2, u64::MAX, &[])] {
            let leap = sign(&leap);
            assert!(matches!(
                offered(&leap, Some(&held)),
                Err(Refusal::Malformed(_))
            ));
            assert!(matches!(offered(&leap, None), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn what_is_meant_for_another_is_refused() {
        let mut other_target = assignment(1, 1, &[]);
        other_target.target = TargetName::parse("two").unwrap();
        let mut other_environment = assignment(1, 1, &[]);
        other_environment.environment = EnvironmentName::parse("production").unwrap();
        for assignment in [other_target, other_environment] {
            assert_eq!(offered(&sign(&assignment), None), Err(Refusal::NotForMe));
        }
    }

    #[test]
    fn services_stand_once_and_in_order() {
        for services in [&["web", "api"][..], &["web", "web"]] {
            let refused = offered(&sign(&assignment(1, 1, services)), None);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_body_that_is_missing_or_says_another_service_is_refused() {
        let (digest, bytes) = workload("web", "1").seal();
        let raw = BTreeMap::from([(digest, bytes)]);
        let good = assignment(1, 1, &["web"]);
        assert_eq!(bodies(&good, &raw).unwrap().len(), 1);
        assert!(bodies(&good, &BTreeMap::new()).is_err());
        let mut swapped = assignment(1, 1, &["api"]);
        swapped.workloads[0].body = digest;
        assert_eq!(bodies(&swapped, &raw), Err(Refusal::BadBody(digest)));
        let mut foreign = good;
        foreign.environment = EnvironmentName::parse("production").unwrap();
        assert_eq!(bodies(&foreign, &raw), Err(Refusal::BadBody(digest)));
    }
}
