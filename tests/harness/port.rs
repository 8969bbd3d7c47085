//! Free TCP ports that stay free until the one who was promised them takes them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

/// A port of 127.0.0.1 that nobody else is given while this lives.
///
/// It is held by a socket that is bound and does not listen. Bound first and made shareable
/// (`SO_REUSEADDR`) after that, it keeps every other holder out, while a server, which asks for a
/// shareable port as servers do, can listen.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: OwnedFd,
}

impl Port {
    /// The next free one, below the range from which the kernel gives ports to those who name none:
    /// so it is free again for a program that is killed and started again.
    #[must_use]
    pub fn free() -> Self {
        let first = u16::try_from(std::process::id() % u32::from(SPAN)).unwrap();
        for _ in 0..SPAN {
            let offset = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = LOWEST + (first.wrapping_add(offset)) % SPAN;
            if let Some(held) = hold(number) {
                return Self {
                    number,
                    _held: held,
                };
            }
        }
        panic!("no port between {LOWEST} and {} is free", LOWEST + SPAN);
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Its number as text, for a label.
    #[must_use]
    pub fn text(&self) -> String {
        self.number.to_string()
    }
}

fn hold(number: u16) -> Option<OwnedFd> {
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number)).ok()?;
    sockopt::set_socket_reuseaddr(&held, true).ok()?;
    Some(held)
}

/// The lowest port that is given.
const LOWEST: u16 = 12_000;
/// How many ports there are to give.
const SPAN: u16 = 20_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_a_server_can_listen_on_it() {
        let (one, other) = (Port::free(), Port::free());
        assert_ne!(one.number(), other.number());
        assert!(hold(one.number()).is_none(), "no other holder gets it");
        let server = TcpListener::bind(("127.0.0.1", one.number())).unwrap();
        drop(server);
        let again = TcpListener::bind(("127.0.0.1", one.number()));
        assert!(
            again.is_ok(),
            "a server that is started again gets it again"
        );
    }
}
