//! The way out to other machines: where requests may go, and how.
//!
//! URLs come from manifests, so whoever may write one could send the coordinator anywhere. *Guarantees:*
//! only `http` and `https`; names are looked up once, and the address that was judged is the one
//! that is connected to; never a link-local address or another one of the metadata of clouds, never
//! the coordinator's own API; messages only over `https` and to public addresses, unless the operator
//! allows more. No proxy, no cookie, no credential of the coordinator. Redirects are followed by
//! checks within one origin alone, and by messages not at all.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use holdfast_homes::lookup::Judged;
use holdfast_homes::reach::{self, Allowed, Reach};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Response, Url};

/// Redirects that a check follows.
const REDIRECTS_MAX: usize = 5;
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A check.
    Check,
    /// A message of a notifier.
    Notice,
}

/// The way out.
#[derive(Debug)]
pub struct Egress {
    checks: Client,
    notices: Client,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    /// TCP port of the coordinator's own API.
    own_port: u16,
    allowed: Vec<Allowed>,
}

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
#[error("requests to other machines cannot be prepared")]
pub struct EgressError(#[source] reqwest::Error);

impl Egress {
    /// A way out for a coordinator whose API listens on `own_port`.
    ///
    /// # Errors
    /// [`EgressError`] when TLS cannot be set up.
    pub fn new(own_port: u16, allowed: Vec<Allowed>) -> Result<Self, EgressError> {
        let rules = Arc::new(Rules { own_port, allowed });
        let client = |purpose, redirects| {
            let rules = Arc::clone(&rules);
            let resolver =
                Judged::new(move |host: &str, address: IpAddr| rules.judge(purpose, host, address));
            let begun = || {
                let builder = Client::builder()
                    .no_proxy()
                    .connect_timeout(CONNECT_TIMEOUT);
                builder.pool_idle_timeout(IDLE)
            };
            let resolver = Arc::new(resolver);
            let redirects: fn() -> Policy = redirects;
            let whole = begun()
                .dns_resolver(Arc::clone(&resolver))
                .redirect(redirects());
            // A machine without authorities can still ask over plain HTTP.
            whole.build().or_else(|_| {
                let bare = begun().dns_resolver(resolver).redirect(redirects());
                bare.tls_certs_only([]).build()
            })
        };
        let checks = client(Purpose::Check, || Policy::custom(same_origin));
        let notices = client(Purpose::Notice, Policy::none);
        Ok(Self {
            checks: checks.map_err(EgressError)?,
            notices: notices.map_err(EgressError)?,
            rules,
        })
    }

    /// The client for a purpose. Only for URLs that [`Self::admit`] gave.
    #[must_use]
    pub const fn client(&self, purpose: Purpose) -> &Client {
        match purpose {
            Purpose::Check => &self.checks,
            Purpose::Notice => &self.notices,
        }
    }

    /// The URL, if a request may go there.
    ///
    /// # Errors
    /// In words, without the URL, which may hold a secret.
    pub async fn admit(&self, purpose: Purpose, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("the URL cannot be read: {error}"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        match (url.scheme(), purpose) {
            ("https", _) | ("http", Purpose::Check) => {}
            ("http", Purpose::Notice) if self.rules.names(&host) => {}
            ("http", Purpose::Notice) => {
                return Err(format!(
                    "messages go over https; to send them to {host} over http, add it to `allow` \
                     under [notifiers] in coordinator.toml"
                ));
            }
            (other, _) => {
                return Err(format!(
                    "the URL begins with {other}:, not with http: or https:"
                ));
            }
        }
        let literal = reach::address(&host);
        if let Some(address) = literal {
            self.rules.judge(purpose, &host, address)?;
        }
        if url.port_or_known_default() == Some(self.rules.own_port) {
            self.refuse_own(&host, literal).await?;
        }
        Ok(url)
    }

    /// Who may write manifests must not speak to the API by the coordinator's mouth.
    async fn refuse_own(&self, host: &str, literal: Option<IpAddr>) -> Result<(), String> {
        let addresses: Vec<IpAddr> = match literal {
            Some(address) => vec![address],
            None => tokio::net::lookup_host((host, self.rules.own_port))
                .await
                .map_err(|error| format!("{host} cannot be looked up: {error}"))?
                .map(|address| address.ip())
                .collect(),
        };
        if addresses.into_iter().any(is_of_this_machine) {
            return Err("the coordinator does not ask its own API".to_owned());
        }
        Ok(())
    }

    /// What a failed request says, with everything that caused it, without the URL.
    #[must_use]
    pub fn said(&self, error: reqwest::Error) -> String {
        crate::chain(&error.without_url())
    }
}

impl Rules {
    /// Whether a host is allowed by its name or, as an address, by its network.
    fn names(&self, host: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed.names(host))
    }

    fn judge(&self, purpose: Purpose, host: &str, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        let reach = reach::reach(address);
        let allowed = self.names(host) || self.names(&address.to_string());
        match (reach, purpose) {
            (Reach::Nobody, _) => Err(format!("{host} is {address}, which nothing is sent to")),
            (Reach::Public, _) | (Reach::Private, Purpose::Check) => Ok(()),
            (Reach::Private, Purpose::Notice) if allowed => Ok(()),
            (Reach::Private, Purpose::Notice) => Err(format!(
                "{host} is {address}, which is not public; to send messages there, add it to \
                 `allow` under [notifiers] in coordinator.toml"
            )),
        }
    }
}

/// An address can be bound where it is this machine's.
fn is_of_this_machine(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_unspecified() || address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

fn same_origin(attempt: Attempt<'_>) -> Action {
    let first = attempt.previous().first();
    let same = first.is_some_and(|first| first.origin() == attempt.url().origin());
    if same && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// At most `most` bytes of a body; what cannot be read is left out.
pub async fn read(mut response: Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = most.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= most {
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allowed: &[&str]) -> Egress {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Egress::new(7443, allowed).unwrap()
    }

    #[tokio::test]
    async fn checks_reach_the_site_and_never_the_link_or_the_api() {
        let egress = egress(&[]);
        let admits = async |url: &str| egress.admit(Purpose::Check, url).await;
        for good in [
            "http://127.0.0.1:9090/x",
            "http://10.1.2.3/",
            "https://example.com/?a=b",
            "http://[::1]:80/",
            "http://localhost:9090",
        ] {
            assert!(admits(good).await.is_ok(), "{good}");
        }
        for bad in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0:80/",
            "http://2852039166/",
            "http://[fd00:ec2::254]/latest",
            "http://100.100.100.200/latest",
            "http://[64:ff9b::169.254.169.254]/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://127.0.0.1:7443/v1/status",
            "https://localhost:7443/v1/status",
            "https://[::1]:7443/",
            "nonsense",
        ] {
            assert!(admits(bad).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn messages_stay_public_unless_the_operator_allows_more() {
        let strict = egress(&[]);
        for bad in [
            "http://example.com/",
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://[fd00::1]/",
            "https://100.64.1.1/",
        ] {
            let refused = strict.admit(Purpose::Notice, bad).await.unwrap_err();
            assert!(refused.contains("[notifiers]"), "{bad}: {refused}");
        }
        assert!(
            strict
                .admit(Purpose::Notice, "https://example.com/secret")
                .await
                .is_ok()
        );
        let open = egress(&["10.0.0.0/8", "hooks.internal"]);
        for good in [
            "http://10.9.8.7/",
            "https://10.0.0.1/",
            "http://hooks.internal/x",
        ] {
            assert!(open.admit(Purpose::Notice, good).await.is_ok(), "{good}");
        }
        let link = open.admit(Purpose::Notice, "https://169.254.0.1/").await;
        assert!(link.is_err());
        assert!(
            open.admit(Purpose::Notice, "https://11.0.0.1/")
                .await
                .is_ok()
        );
    }
}
