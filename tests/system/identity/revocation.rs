//! A certificate that is taken back is worth nothing from that moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_protocol::api::target::Target;
use holdfast_protocol::message::{ToAgent, ToCoordinator};
use holdfast_protocol::version::ALPN_CONTROL;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls_pki_types::ServerName;

use super::client::{Heard, Net, hello, tls};
use super::credential::{certificates, join};
use super::{ENVIRONMENTS, REVOCATION_MAX, assert_never_disconnected, recorded};

fn revoke(fleet: &Fleet, name: &str) {
    let path = format!("/v1/targets/{name}/revoke");
    let revoked: Target = fleet.api.post(&path, &serde_json::json!({})).unwrap();
    assert!(revoked.revoked);
}

#[test]
fn a_revocation_ends_the_live_connection_within_a_second_and_for_good() {
    let mut fleet = Fleet::start();
    fleet.apply(&[ENVIRONMENTS, &holdfast_tests::manifest::sleeper("web")].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.join("production-1", "production", &[]);
    fleet.release("web", "1.0.0", &[]);
    fleet.wait_converged("staging-1");
    fleet.wait_converged("production-1");
    let workload = fleet.agent("staging-1").one("web");
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-2");
    let credential = member.credential();
    let configuration = || tls(&member.roots(), Some(&credential), ALPN_CONTROL);
    let link = net.dial(configuration()).unwrap();
    let _control = link.introduce();

    let began = Instant::now();
    revoke(&fleet, "staging-2");
    let why = link
        .closed(REVOCATION_MAX)
        .expect("the live connection ends");
    println!("revoked and cut off after {:?}: {why}", began.elapsed());
    assert_eq!(super::client::closing_code(&why), Some(2), "{why}");
    net.fails_to_shake_hands(configuration());
    recorded(&fleet, "security.refused", "Revoked");

    // A real agent is shut out, and its workload runs on.
    let began = Instant::now();
    revoke(&fleet, "staging-1");
    fleet.wait_connected("staging-1", false);
    println!("the agent was cut off after {:?}", began.elapsed());
    assert!(began.elapsed() < REVOCATION_MAX);
    fleet.coordinator.restart();
    wait_for("the coordinator is back", PATIENCE, || {
        expect(
            fleet.target("production-1").is_ok_and(|t| t.connected),
            "not yet",
        )
    });
    assert!(!fleet.target("staging-1").unwrap().connected);
    net.fails_to_shake_hands(configuration());
    assert!(workload.lives());
}

/// Counts the tickets that a server sends.
#[derive(Debug)]
struct Counting {
    kept: ClientSessionMemoryCache,
    tickets: AtomicUsize,
    taken: Mutex<usize>,
}

impl ClientSessionStore for Counting {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(name, group);
    }
    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }
    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(name, value);
    }
    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(name)
    }
    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.kept.remove_tls12_session(name);
    }
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::SeqCst);
        self.kept.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.kept.take_tls13_ticket(name);
        *self.taken.lock().unwrap() += usize::from(ticket.is_some());
        ticket
    }
}

#[test]
fn a_client_that_remembers_its_session_is_refused_after_a_revocation_all_the_same() {
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    let memory = Arc::new(Counting {
        kept: ClientSessionMemoryCache::new(64),
        tickets: AtomicUsize::new(0),
        taken: Mutex::new(0),
    });
    let credential = member.credential();
    let mut remembering = tls(&member.roots(), Some(&credential), ALPN_CONTROL);
    remembering.resumption = Resumption::store(Arc::clone(&memory) as Arc<dyn ClientSessionStore>);
    remembering.enable_early_data = true;
    for _ in 0..3 {
        let link = net.dial(remembering.clone()).unwrap();
        let mut control = link.introduce();
        // Tickets come after the handshake: the conversation goes on for a while.
        assert!(!matches!(
            control.hear_within::<ToAgent>(Duration::from_millis(200)),
            Heard::Broken(_)
        ));
        link.connection.close(0u32.into(), b"");
    }
    assert_eq!(
        memory.tickets.load(Ordering::SeqCst),
        0,
        "the server sends no ticket"
    );
    assert_eq!(
        *memory.taken.lock().unwrap(),
        0,
        "so no session was ever resumed"
    );
    revoke(&fleet, "staging-1");
    net.fails_to_shake_hands(remembering);
}

#[test]
fn a_newer_connection_of_a_target_takes_the_place_of_the_older() {
    let fleet = Fleet::start();
    fleet.apply(ENVIRONMENTS);
    let net = Net::to(fleet.address());
    let member = join(&net, &fleet.token("staging", &[]), "staging-1");
    let credential = member.credential();
    let configuration = || tls(&member.roots(), Some(&credential), ALPN_CONTROL);
    let older = net.dial(configuration()).unwrap();
    let mut control = older.introduce();
    let newer = net.dial(configuration()).unwrap();
    let _newer = newer.introduce();
    older.is_closed_with(1);
    control.say(&ToCoordinator::Hello(hello()));
    assert!(newer.closed(Duration::from_millis(200)).is_none());
    assert_never_disconnected(&fleet, "staging-1");
    assert_eq!(certificates(&member.joined.roots).len(), 1);
}
