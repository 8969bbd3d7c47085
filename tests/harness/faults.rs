//! Faults that are made on purpose: a network that is cut, and chance that can be repeated.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// A stretch of network between one agent and the coordinator. It can be cut and mended: while it is
/// cut, nothing gets through, and both sides hear nothing at all.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A network to `coordinator` (`HOST:PORT`) for one agent.
    #[must_use]
    pub fn lay(coordinator: &str) -> Self {
        let front = Arc::new(bound());
        let address = front.local_addr().unwrap();
        let back = Arc::new(bound());
        back.connect(coordinator).unwrap();
        let (cut, ended) = (Arc::default(), Arc::default());
        let agent = Arc::new(std::sync::Mutex::new(None));
        let there = Way {
            cut: Arc::clone(&cut),
            ended: Arc::clone(&ended),
        };
        let here = there.clone();
        let (from, to) = (Arc::clone(&front), Arc::clone(&back));
        let known = Arc::clone(&agent);
        let out = thread::spawn(move || {
            there.carry(&from, |packet, sender| {
                *known.lock().unwrap() = Some(sender);
                to.send(packet)
            });
        });
        let home = thread::spawn(move || {
            here.carry(&back, |packet, _| {
                let agent = *agent.lock().unwrap();
                agent.map_or(Ok(0), |agent| front.send_to(packet, agent))
            });
        });
        Self {
            address,
            cut,
            ended,
            tasks: vec![out, home],
        }
    }

    /// Where the agent finds the coordinator.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Nothing gets through any more.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Everything gets through again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            // One that panicked has nothing left to clear away.
            let _ = task.join();
        }
    }
}

#[derive(Debug, Clone)]
struct Way {
    cut: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Way {
    /// Carries packets until the end. One that cannot be sent is lost, as on any network.
    fn carry(
        &self,
        from: &UdpSocket,
        mut to: impl FnMut(&[u8], SocketAddr) -> std::io::Result<usize>,
    ) {
        let mut packet = [0; PACKET_MAX_BYTES];
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((length, sender)) = from.recv_from(&mut packet) else {
                continue;
            };
            if !self.cut.load(Ordering::SeqCst) {
                let _ = to(&packet[..length], sender);
            }
        }
    }
}

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LOOK_UP)).unwrap();
    socket
}

/// How often a quiet relay looks whether it has ended.
const LOOK_UP: Duration = Duration::from_millis(50);
/// The largest UDP packet.
const PACKET_MAX_BYTES: usize = 65_536;

/// Chance that can be repeated: the seed is printed, and `HOLDFAST_SEED` sets it.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// A new seed for each run, unless one is given.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let given = std::env::var("HOLDFAST_SEED").ok();
        let given = given.map(|text| text.parse().expect("HOLDFAST_SEED is a number"));
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().subsec_nanos().into()
        });
        println!("{what}: HOLDFAST_SEED={seed}");
        Self(seed)
    }

    /// Some span between two others.
    pub fn span(&mut self, least: Duration, most: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let width = most.saturating_sub(least).as_micros().max(1);
        let micros = u64::try_from(u128::from(z) % width).expect("less than the width");
        least + Duration::from_micros(micros)
    }
}
