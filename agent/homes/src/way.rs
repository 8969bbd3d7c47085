//! The way to homes: one client that goes only where it may, with what that host alone is to be told.
//!
//! References of releases come from whoever may make one, so they could send a machine anywhere.
//! *Guarantees:* `https`, and `http` only to this machine and to hosts that its operator names; names
//! are looked up once, and the address that was judged is the one that is connected to; never a
//! link-local address or another one of the metadata of clouds unless the operator names it; at most
//! [`REDIRECTS_MAX`] redirects, each judged like the first address; none leads from elsewhere to this
//! machine, and none carries a credential to another host. No proxy, no cookie.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Url};

use crate::lookup::Judged;
use crate::reach::{self, Allowed, Reach};

/// Redirects that a request follows.
pub const REDIRECTS_MAX: usize = 5;
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Largest file of certificates, in bytes.
const CERTIFICATES_MAX: u64 = 1 << 20;

/// How slow a home may be: fewer bytes than `bytes` within `span` are too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long is waited, for an answer and for bytes.
    pub span: Duration,
    /// Bytes that have to come within that time.
    pub bytes: u64,
}

/// About 1 KiB/s: slower than the worst line that is worth waiting for.
pub const PATIENCE: Patience = Patience {
    span: Duration::from_secs(60),
    bytes: 64 * 1024,
};

/// Where a machine may fetch from, and with what. For its operator alone to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Hosts, `HOST` or `HOST:PORT`, that are asked by plain `http`.
    pub insecure: Vec<String>,
    /// Hosts and networks that would be refused for their address.
    pub allow: Vec<Allowed>,
    /// The file with credentials, as `docker login` writes it.
    pub credentials: Option<PathBuf>,
    /// A PEM file with authorities that are believed beside the machine's own.
    pub certificates: Option<PathBuf>,
    /// The file that says all this, for errors: `agent.toml`.
    pub file: &'static str,
    /// How slow a home may be.
    pub patience: Patience,
}

/// The way to homes, made when somebody takes it and gone when nobody does: what a client of HTTP and
/// the machine's authorities take is only taken while something is fetched.
#[derive(Debug)]
pub struct Homes {
    rules: Arc<Rules>,
    open: Mutex<Weak<Way>>,
}

/// A client that keeps to the rules.
#[derive(Debug)]
pub struct Way {
    pub(crate) client: Client,
    pub(crate) rules: Arc<Rules>,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The authorities cannot be read.
    #[error("cannot read the certificates in {path}: {why}")]
    Certificates {
        /// Which file.
        path: String,
        /// Why.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("requests cannot be prepared")]
    Client(#[source] reqwest::Error),
}

impl Rules {
    /// No exceptions, told by `file`.
    #[must_use]
    pub const fn strict(file: &'static str) -> Self {
        Self {
            insecure: Vec::new(),
            allow: Vec::new(),
            credentials: None,
            certificates: None,
            file,
            patience: PATIENCE,
        }
    }

    /// Whether a registry, `HOST[:PORT]`, is asked by plain `http`.
    #[must_use]
    pub(crate) fn is_plain(&self, authority: &str) -> bool {
        let (host, _) = split(authority);
        is_loopback(host)
            || self
                .insecure
                .iter()
                .any(|named| [host, authority].contains(&named.as_str()))
    }

    /// Whether a request may go to `url`, as far as that can be said without looking a name up.
    ///
    /// # Errors
    /// In words, without the URL, which may hold a secret.
    pub(crate) fn admit(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        let authority = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        match url.scheme() {
            "https" => {}
            "http" if self.is_plain(&authority) => {}
            "http" => {
                return Err(format!(
                    "{authority} is not asked over http; to allow that, add it to `insecure` under \
                     [artifacts] in {}",
                    self.file
                ));
            }
            other => return Err(format!("{other}: is not http: or https:")),
        }
        reach::address(host).map_or(Ok(()), |address| self.judge(host, address))
    }

    /// Whether whoever answered for the last of `previous` may lead a request to `url`, by a redirect or
    /// by a challenge. A server elsewhere must not make this machine ask its own programs.
    pub(crate) fn admit_led(&self, previous: &[Url], url: &Url) -> Result<(), String> {
        let here = |url: &Url| url.host_str().is_some_and(is_loopback);
        let host = url.host_str().unwrap_or_default();
        let named = self.allow.iter().any(|allowed| allowed.names(host));
        if here(url) && !named && !previous.last().is_some_and(here) {
            return Err(format!(
                "{host} is this machine; to allow that, add it to `allow` under [artifacts] in {}",
                self.file
            ));
        }
        self.admit(url)
    }

    fn judge(&self, host: &str, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        let named = |text: &str| self.allow.iter().any(|allowed| allowed.names(text));
        match reach::reach(address) {
            Reach::Public | Reach::Private => Ok(()),
            Reach::Nobody if named(host) || named(&address.to_string()) => Ok(()),
            Reach::Nobody => Err(format!(
                "{host} is {address}, which nothing is fetched from; to allow that, add it to `allow` \
                 under [artifacts] in {}",
                self.file
            )),
        }
    }
}

impl Homes {
    /// Nothing is read or opened before somebody asks for the way.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
            open: Mutex::default(),
        }
    }

    /// The way, which everybody shares who takes it at the same time.
    ///
    /// # Errors
    /// [`WayError`].
    pub fn way(&self) -> Result<Arc<Way>, WayError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = open.upgrade() {
            return Ok(way);
        }
        let way = Arc::new(Way::open(Arc::clone(&self.rules))?);
        *open = Arc::downgrade(&way);
        Ok(way)
    }
}

impl Way {
    fn open(rules: Arc<Rules>) -> Result<Self, WayError> {
        let certificates = match &rules.certificates {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let whole = builder(&rules).tls_certs_merge(certificates.clone());
        // A machine without authorities can still ask its own, and over plain HTTP.
        let client = whole
            .build()
            .or_else(|_| builder(&rules).tls_certs_only(certificates).build());
        Ok(Self {
            client: client.map_err(WayError::Client)?,
            rules,
        })
    }
}

fn builder(rules: &Arc<Rules>) -> ClientBuilder {
    let judge = Arc::clone(rules);
    let resolver = Judged::new(move |host: &str, address: IpAddr| judge.judge(host, address));
    let judge = Arc::clone(rules);
    let redirects = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
        }
        match judge.admit_led(attempt.previous(), attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(why) => attempt.error(format!("it redirects elsewhere, and {why}")),
        }
    });
    Client::builder()
        .no_proxy()
        .http1_only()
        .referer(false)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .dns_resolver(Arc::new(resolver))
        .redirect(redirects)
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>, WayError> {
    let failed = |why: String| WayError::Certificates {
        path: path.display().to_string(),
        why,
    };
    let length = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > CERTIFICATES_MAX {
        return Err(failed(format!("it has more than {CERTIFICATES_MAX} bytes")));
    }
    let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&text);
    certificates.map_err(|error| failed(crate::chain(&error)))
}

/// Host and port of `HOST[:PORT]`.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || reach::address(host).is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rules: &Rules, url: &str) -> Result<(), String> {
        rules.admit(&Url::parse(url).unwrap())
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_what_the_operator_names() {
        let strict = Rules::strict("agent.toml");
        for good in [
            "https://example.com/a",
            "https://10.1.2.3/a",
            "http://127.0.0.1:5000/v2/",
            "http://[::1]/a",
            "http://localhost:5000/a",
        ] {
            assert_eq!(admits(&strict, good), Ok(()), "{good}");
        }
        let refused = admits(&strict, "http://files.internal:8080/secret?a=b").unwrap_err();
        assert!(
            refused.contains("`insecure`") && refused.contains("agent.toml"),
            "{refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
        let open = Rules {
            insecure: vec!["files.internal:8080".to_owned(), "old.internal".to_owned()],
            ..strict
        };
        for good in [
            "http://files.internal:8080/a",
            "http://old.internal/a",
            "http://old.internal:99/a",
        ] {
            assert_eq!(admits(&open, good), Ok(()), "{good}");
        }
        assert!(admits(&open, "http://files.internal/a").is_err());
        assert!(admits(&open, "ftp://old.internal/a").is_err());
    }

    #[test]
    fn the_metadata_of_clouds_is_fetched_from_only_where_that_is_allowed() {
        let strict = Rules::strict("agent.toml");
        for bad in [
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://2852039166/",
            "https://[64:ff9b::169.254.169.254]/",
        ] {
            let refused = admits(&strict, bad).unwrap_err();
            assert!(refused.contains("`allow`"), "{bad}: {refused}");
        }
        let open = Rules {
            allow: vec!["169.254.10.0/24".parse().unwrap()],
            ..strict
        };
        assert_eq!(admits(&open, "https://169.254.10.9/a"), Ok(()));
        assert!(admits(&open, "https://169.254.169.254/a").is_err());
    }

    #[test]
    fn a_server_elsewhere_leads_nobody_to_his_own_machine() {
        let strict = Rules::strict("agent.toml");
        let leads = |rules: &Rules, from: &str, to: &str| {
            rules.admit_led(&[Url::parse(from).unwrap()], &Url::parse(to).unwrap())
        };
        let elsewhere = "https://files.example/a";
        for own in [
            "http://127.0.0.1:8500/v1/kv",
            "https://localhost/a",
            "http://[::1]:80/",
            "http://2130706433/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            let refused = leads(&strict, elsewhere, own).unwrap_err();
            assert!(refused.contains("this machine"), "{own}: {refused}");
            assert_eq!(leads(&strict, "http://127.0.0.1:5000/v2/", own), Ok(()));
        }
        assert_eq!(leads(&strict, elsewhere, "https://cdn.example/a"), Ok(()));
        let open = Rules {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            ..strict
        };
        assert_eq!(leads(&open, elsewhere, "http://127.0.0.1:80/a"), Ok(()));
    }

    #[test]
    fn the_way_is_shared_while_it_is_taken_and_gone_afterwards() {
        let homes = Homes::new(Rules::strict("agent.toml"));
        let (one, two) = (homes.way().unwrap(), homes.way().unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        drop((one, two));
        assert!(homes.open.lock().unwrap().upgrade().is_none());
    }
}
