//! Who is reached by an address, and which hosts and networks an operator allows. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A host or network that somebody who runs a machine allows: `hooks.internal`, `10.0.0.0/8`,
/// `127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Allowed {
    /// A host by its name.
    Host(String),
    /// Addresses that begin alike.
    Network(IpAddr, u8),
}

/// Who can be reached by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The machines of this link, everybody at once, no one: never meant.
    Nobody,
    /// This machine or site.
    Private,
    /// Anybody.
    Public,
}

/// Who can be reached by `address`.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    let address = translated(address);
    if METADATA.contains(&address) {
        return Reach::Nobody;
    }
    let (nobody, private) = match address {
        IpAddr::V4(v4) => (
            v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0,
            v4.is_private() || v4.is_loopback() || is_in(address, SHARED, 10),
        ),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified(),
            v6.is_unique_local() || v6.is_loopback(),
        ),
    };
    match (nobody, private) {
        (true, _) => Reach::Nobody,
        (false, true) => Reach::Private,
        (false, false) => Reach::Public,
    }
}

/// Where clouds keep what a machine is and may do, besides link-local addresses: credentials for
/// whoever asks from the machine itself.
const METADATA: [IpAddr; 5] = [
    // Amazon and Google, over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba, Oracle, Azure.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The address that a network sends to in place of this one: through a translator (NAT64, RFC 6052 and
/// 8215), a tunnel (6to4), or since it is the same one written in an older way.
fn translated(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let within = |high: u16, low: u16| {
        let bits = u32::from(high) << 16 | u32::from(low);
        IpAddr::V4(Ipv4Addr::from_bits(bits))
    };
    match v6.segments() {
        // `::1` and `::` are this machine's own, and not written in an older way.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0x64, 0xff9b, 0 | 1, .., high, low]
        | [0x2002, high, low, ..]
        | [0, 0, 0, 0, 0, 0, high, low] => within(high, low),
        _ => address.to_canonical(),
    }
}

/// Addresses that providers share among customers (RFC 6598), with length 10.
const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0));

fn is_in(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let bits = |address| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((one, width), (other, same)) = (bits(address.to_canonical()), bits(network));
    let ignored = 128 - u32::from(length.min(width));
    width == same && one.checked_shr(ignored) == other.checked_shr(ignored)
}

impl Allowed {
    /// Whether a host is this one by its name or, as an address, by its network.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => name.eq_ignore_ascii_case(host),
            Self::Network(network, length) => {
                address(host).is_some_and(|address| is_in(address, *network, *length))
            }
        }
    }
}

/// The address that a URL's host is, where it is no name.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no host and no network; write 10.0.0.0/8 or a name");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let parsed = address.parse::<IpAddr>();
        let most = match parsed {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) if length.is_none() && !text.is_empty() => {
                return Ok(Self::Host(text.to_ascii_lowercase()));
            }
            Err(_) => return Err(refused()),
        };
        let length = length.map_or(Ok(most), str::parse).map_err(|_| refused())?;
        let address = parsed.map_err(|_| refused())?;
        if length > most {
            return Err(refused());
        }
        Ok(Self::Network(address, length))
    }
}

impl TryFrom<String> for Allowed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_none_is_refused() {
        for bad in ["10.0.0.0/33", "10.0.0/8", "/8", "", "::/129"] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert!(is_in(v6, "::".parse().unwrap(), 0));
        assert!(!is_in(v6, "0.0.0.0".parse().unwrap(), 0));
    }

    #[test]
    fn the_metadata_of_clouds_is_nobody_however_it_is_written() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
        ] {
            assert_eq!(reach(text.parse().unwrap()), Reach::Nobody, "{text}");
        }
        for text in ["10.1.2.3", "::1", "2002:0a01:0203::1"] {
            assert_eq!(reach(text.parse().unwrap()), Reach::Private, "{text}");
        }
        assert_eq!(reach("93.184.216.34".parse().unwrap()), Reach::Public);
    }
}
