//! What is read back after every kind of damage.

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

type Raw = BTreeMap<Digest, Vec<u8>>;

fn numbered(number: u64) -> (SignedAssignment, Held, Raw) {
    let (body, bytes) = workload("web", &number.to_string()).seal();
    let assignment = Assignment {
        generation: Generation { epoch: 1, number },
        environment: me().environment,
        target: me().target,
        workloads: vec![Entry {
            service: ServiceName::parse("web").unwrap(),
            body,
        }],
        issued_at: Timestamp::from_millis(number),
    };
    let signed = SignedAssignment {
        bytes: assignment.encode(),
        signature: vec![7; 64],
    };
    let held = Held {
        generation: assignment.generation,
        digest: signed.digest(),
    };
    (signed, held, Raw::from([(body, bytes)]))
}

fn cache_with(numbers: &[u64]) -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    for number in numbers {
        let (signed, held, raw) = numbered(*number);
        cache.store(&signed, held, &raw).unwrap();
    }
    (directory, cache)
}

fn load(cache: &Cache) -> Loaded {
    cache.load(&me(), &|signed| signed.signature == [7; 64])
}

fn number(loaded: &Loaded) -> Option<u64> {
    loaded.desired.held().map(|held| held.generation.number)
}

#[test]
fn the_newest_assignment_is_in_force_and_the_one_before_it_is_kept() {
    let (_directory, cache) = cache_with(&[1, 2, 3]);
    let loaded = load(&cache);
    assert_eq!(number(&loaded), Some(3));
    assert_eq!(loaded.bodies.len(), 2);
    assert_eq!(loaded.damage, None);
    assert_eq!(loaded.highest, Some(numbered(3).1));
}

#[test]
fn an_empty_cache_knows_nothing_and_is_not_damaged() {
    let (_directory, cache) = cache_with(&[]);
    let loaded = load(&cache);
    assert_eq!(loaded.desired, Desired::Unknown);
    assert_eq!(loaded.damage, None);
}

#[test]
fn a_newest_record_cut_anywhere_or_flipped_anywhere_gives_way_to_the_one_before_it() {
    let (directory, cache) = cache_with(&[1, 2]);
    let path = directory.path().join("current");
    let whole = fs::read(&path).unwrap();
    let cuts = (0..whole.len()).map(|length| whole[..length].to_vec());
    let flips = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    });
    for bad in cuts.chain(flips) {
        fs::write(&path, bad).unwrap();
        let loaded = load(&cache);
        assert_eq!(number(&loaded), Some(1));
        assert!(loaded.damage.unwrap().contains("current"));
        assert_eq!(
            loaded.highest,
            Some(numbered(2).1),
            "the highest number survives"
        );
    }
}

#[test]
fn the_newest_one_can_be_stored_again_after_damage_and_the_good_one_is_kept_meanwhile() {
    let (directory, cache) = cache_with(&[1, 2]);
    fs::write(directory.path().join("current"), b"junk").unwrap();
    let highest = load(&cache).highest;
    let (signed, held, raw) = numbered(2);
    let verify = |_: &SignedAssignment| true;
    assert!(accept::offer(&signed, &me(), highest, &verify).is_ok());
    assert!(accept::offer(&numbered(1).0, &me(), highest, &verify).is_err());
    cache.store(&signed, held, &raw).unwrap();
    assert_eq!(number(&load(&cache)), Some(2));
    fs::write(directory.path().join("current"), b"junk").unwrap();
    assert_eq!(number(&load(&cache)), Some(1));
}

#[test]
fn with_both_records_damaged_what_is_wanted_is_unknown() {
    let (directory, cache) = cache_with(&[1, 2]);
    fs::write(directory.path().join("current"), b"junk").unwrap();
    fs::write(directory.path().join("previous"), b"").unwrap();
    let loaded = load(&cache);
    assert_eq!(loaded.desired, Desired::Unknown);
    assert!(loaded.damage.is_some());
}

#[test]
fn a_body_that_is_damaged_counts_like_a_damaged_record() {
    let (directory, cache) = cache_with(&[1, 2]);
    let (_, _, raw) = numbered(2);
    let path = directory
        .path()
        .join("bodies")
        .join(raw.keys().next().unwrap().hex());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(number(&load(&cache)), Some(1), "byte {at}");
    }
    let (signed, held, raw) = numbered(2);
    cache.store(&signed, held, &raw).unwrap();
    assert_eq!(number(&load(&cache)), Some(2));
}

#[test]
fn a_record_that_was_signed_by_nobody_is_not_used() {
    let (_directory, cache) = cache_with(&[1]);
    let loaded = cache.load(&me(), &|_| false);
    assert_eq!(loaded.desired, Desired::Unknown);
    assert!(loaded.damage.is_some());
}

#[test]
fn standings_are_remembered_with_the_bodies_that_they_name() {
    let (directory, cache) = cache_with(&[1, 2, 3]);
    let good = *numbered(1).2.keys().next().unwrap();
    let web = ServiceName::parse("web").unwrap();
    let standings = Standings::from([(
        web,
        Standing {
            good: Some(good),
            given_up: None,
        },
    )]);
    cache.remember(&standings).unwrap();
    let loaded = load(&cache);
    assert_eq!(loaded.standings, standings);
    assert!(loaded.bodies.contains_key(&good));
    fs::write(directory.path().join("standings"), b"junk").unwrap();
    let loaded = load(&cache);
    assert_eq!((number(&loaded), loaded.standings.len()), (Some(3), 0));
}

#[test]
fn what_became_ready_under_a_newest_record_that_is_damaged_stays_wanted() {
    let (directory, cache) = cache_with(&[1, 2]);
    let (one, two) = (numbered(1), numbered(2));
    let body = |raw: &Raw| *raw.keys().next().unwrap();
    let (added, bytes) = workload("added", "2").seal();
    record::replace_raw(&cache.body_path(added), &bytes).unwrap();
    let good = |body| Standing {
        good: Some(body),
        given_up: None,
    };
    let service = |name: &str| ServiceName::parse(name).unwrap();
    let remember = |standings: &[(&str, Digest)]| {
        let standings = standings
            .iter()
            .map(|(name, body)| (service(name), good(*body)));
        cache.remember(&standings.collect()).unwrap();
        match load(&cache).desired {
            Desired::Known { wanted, .. } => wanted,
            Desired::Unknown => panic!("it is known"),
        }
    };
    fs::write(directory.path().join("current"), b"junk").unwrap();
    let newest = [("web", body(&two.2)), ("added", added)];
    let wanted = newest.map(|(name, body)| (service(name), body));
    assert_eq!(remember(&newest), BTreeMap::from(wanted));
    // A body that is not here cannot be wanted; a service of which nothing is known was taken away.
    let absent = [("web", Digest::of(b"not here"))];
    assert_eq!(
        remember(&absent),
        BTreeMap::from([(service("web"), body(&one.2))])
    );
    assert_eq!(
        remember(&[("added", added)]),
        BTreeMap::from([(service("added"), added)])
    );
    // Once the newest can be read again, it alone counts.
    cache.store(&two.0, two.1, &two.2).unwrap();
    assert_eq!(
        remember(&absent),
        BTreeMap::from([(service("web"), body(&two.2))])
    );
}

#[test]
fn a_newest_record_that_has_vanished_is_missed() {
    let (directory, cache) = cache_with(&[1, 2]);
    fs::remove_file(directory.path().join("current")).unwrap();
    let loaded = load(&cache);
    assert_eq!(number(&loaded), Some(1));
    assert!(loaded.damage.unwrap().contains("not there"));
}

#[test]
fn only_what_is_needed_is_kept() {
    let (_directory, cache) = cache_with(&[1, 2, 3]);
    let keep = load(&cache).bodies.keys().copied().collect();
    cache.collect(&keep);
    let gone = *numbered(1).2.keys().next().unwrap();
    assert!(cache.body(gone).is_none());
    assert_eq!(load(&cache).bodies.len(), 2);
}

#[test]
fn what_another_environment_left_holds_back_nothing_of_this_one() {
    let (_directory, cache) = cache_with(&[7, 8]);
    let elsewhere = Identity {
        environment: EnvironmentName::parse("production").unwrap(),
        ..me()
    };
    let loaded = cache.load(&elsewhere, &|_| true);
    assert_eq!((loaded.desired, loaded.highest), (Desired::Unknown, None));
    assert_eq!(cache.load(&elsewhere, &|_| true).highest, None);
}
