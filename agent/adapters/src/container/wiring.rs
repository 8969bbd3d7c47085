//! How a container meets the machine it runs on: ports, volumes, networks, capabilities. Pure.

use std::net::IpAddr;

use holdfast_protocol::workload::{PLACEHOLDER_CLOSE, PLACEHOLDER_OPEN};

/// One port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The host's address; all of them where none is named.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// Something of the host that is mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What.
    pub source: Source,
    /// The path inside.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume of the engine, by name; made where it does not exist, and never removed.
    Named(String),
    /// A path of the host, which may begin with the placeholder of an artifact.
    Path(String),
    /// Memory, gone with the container.
    Memory,
}

/// Which network a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// The engine's own default: usually `bridge`.
    #[default]
    Default,
    /// The host's.
    Host,
    /// None but loopback.
    None,
    /// The engine's bridge.
    Bridge,
    /// One of that name, made where it does not exist.
    Named(String),
}

/// Capabilities that a workload may ask for. What would give the whole machine away (`ALL`,
/// `SYS_ADMIN`, `SYS_MODULE`, `SYS_RAWIO`, `DAC_READ_SEARCH`, `BPF` and their like) is none of them.
pub const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "WAKE_ALARM",
];

/// Longest name of a network or volume, in bytes.
const NAME_MAX: usize = 128;

impl Port {
    /// `[ADDRESS:]HOST:CONTAINER[/PROTOCOL]`
    ///
    /// # Errors
    /// How to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("{text:?} is not a port: write HOST:CONTAINER, such as 8080:80 or 53:53/udp")
        };
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = ["tcp", "udp", "sctp"].into_iter().find(|p| *p == protocol);
        let (host, container) = ports.rsplit_once(':').ok_or_else(refused)?;
        let (address, host) = match host.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None => (None, host),
        };
        let bare = |address: &str| {
            let inner = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
            inner
                .unwrap_or(address)
                .parse::<IpAddr>()
                .map_err(|_| refused())
        };
        let number = |text: &str| {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(refused)
        };
        Ok(Self {
            address: address.map(bare).transpose()?,
            host: number(host)?,
            container: number(container)?,
            protocol: protocol.ok_or_else(refused)?,
        })
    }
}

impl Volume {
    /// `SOURCE:TARGET[:ro]`, where the source is a volume's name, an absolute path or `tmpfs`.
    ///
    /// # Errors
    /// How to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not a volume: write NAME:/path, /host/path:/path or tmpfs:/path, with \
                 :ro behind it where it is only read"
            )
        };
        let (source, rest) = split_source(text).ok_or_else(refused)?;
        let (target, mode) = match rest.split_once(':') {
            Some((target, mode)) => (target, Some(mode)),
            None => (rest, None),
        };
        let is_artifact = source.starts_with(PLACEHOLDER_OPEN);
        let read_only = match mode {
            Some("ro") => true,
            Some("rw") if is_artifact => {
                return Err(format!(
                    "{target:?} is an artifact, which others run from, too: it is only read"
                ));
            }
            None => is_artifact,
            Some("rw") => false,
            Some(_) => return Err(refused()),
        };
        check_path(target, "the path inside the container")?;
        let source = if source == "tmpfs" {
            Source::Memory
        } else if source.starts_with(['/', PLACEHOLDER_OPEN]) {
            check_path(source, "the path on the host")?;
            Source::Path(source.to_owned())
        } else if is_name(source) {
            Source::Named(source.to_owned())
        } else {
            return Err(refused());
        };
        Ok(Self {
            source,
            target: target.to_owned(),
            read_only,
        })
    }
}

impl Network {
    /// `host`, `none`, `bridge` or a name.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            "bridge" => Ok(Self::Bridge),
            "default" => Ok(Self::Default),
            name if is_name(name) => Ok(Self::Named(name.to_owned())),
            other => Err(format!(
                "{other:?} is not a network: write host, none, bridge or a network's name"
            )),
        }
    }
}

/// The name of a capability that may be asked for, without `CAP_`.
///
/// # Errors
/// The ones that are known.
pub fn capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if CAPABILITIES.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "{text:?} cannot be asked for; what can is {}",
            CAPABILITIES.join(", ")
        ))
    }
}

/// The name of a capability that is taken away: any, or `ALL`.
///
/// # Errors
/// What is expected.
pub fn dropped_capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let plain = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if !name.is_empty() && name.len() <= 32 && name.bytes().all(plain) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a capability, such as NET_RAW or ALL"
        ))
    }
}

/// The source ends with the first colon that is not within a placeholder.
fn split_source(text: &str) -> Option<(&str, &str)> {
    let inside = text.rfind(PLACEHOLDER_CLOSE).unwrap_or(0);
    let colon = inside + text.get(inside..)?.find(':')?;
    Some((text.get(..colon)?, text.get(colon + 1..)?))
}

fn check_path(path: &str, which: &str) -> Result<(), String> {
    if !path.starts_with(['/', PLACEHOLDER_OPEN]) {
        return Err(format!("{which}, {path:?}, must be absolute"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("{which}, {path:?}, may not hold .."));
    }
    if path.contains(['\0', '\n', ',']) || path.len() > 1024 {
        return Err(format!(
            "{which} may not hold line breaks, commas, or 1024 bytes"
        ));
    }
    Ok(())
}

/// A name that every engine takes for volumes and networks.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (2..=NAME_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_with_address_and_protocol() {
        let port = Port::parse("127.0.0.1:8080:80").unwrap();
        assert_eq!(port.address, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(
            (port.host, port.container, port.protocol),
            (8080, 80, "tcp")
        );
        let six = Port::parse("[::1]:53:53/udp").unwrap();
        assert_eq!(
            (six.address, six.protocol),
            (Some("::1".parse().unwrap()), "udp")
        );
        for bad in [
            "80",
            "0:80",
            "80:",
            "a:80:80",
            "80:80/http",
            "80:70000",
            "80-90:80",
        ] {
            assert!(Port::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_is_a_name_a_path_or_memory() {
        let read = |text| Volume::parse(text).unwrap();
        assert_eq!(
            read("data:/var/lib").source,
            Source::Named("data".to_owned())
        );
        assert_eq!(
            read("/srv/x:/x:ro").source,
            Source::Path("/srv/x".to_owned())
        );
        assert!(read("/srv/x:/x:ro").read_only);
        assert_eq!(read("tmpfs:/tmp").source, Source::Memory);
        let artifact = read("\u{e000}artifact:app\u{e001}/conf:/etc/app:ro");
        assert_eq!(
            artifact.source,
            Source::Path("\u{e000}artifact:app\u{e001}/conf".to_owned())
        );
        assert!(
            read("\u{e000}artifact:app\u{e001}:/srv").read_only,
            "what it is said to be stays so"
        );
        assert!(Volume::parse("\u{e000}artifact:app\u{e001}:/srv:rw").is_err());
        for bad in [
            "data",
            "data:",
            "data:relative",
            "../x:/x",
            "/a/../b:/x",
            "/a:/x/..",
            "/a:/x:rwx",
            "$(id):/x",
            "/a:/x:ro:z",
            "-v:/x",
        ] {
            assert!(Volume::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_or_a_capability_that_gives_the_machine_away_is_refused() {
        assert_eq!(
            Network::parse("back-end"),
            Ok(Network::Named("back-end".to_owned()))
        );
        for bad in ["container:x", "a", "", "--net"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(capability("cap_net_raw"), Ok("NET_RAW".to_owned()));
        for bad in ["ALL", "SYS_ADMIN", "CAP_SYS_MODULE", "x"] {
            assert!(capability(bad).is_err(), "{bad}");
        }
        assert_eq!(dropped_capability("all"), Ok("ALL".to_owned()));
        assert!(dropped_capability("a b").is_err());
    }
}
