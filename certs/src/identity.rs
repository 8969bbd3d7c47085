//! Names in certificates: (environment, target) to and from `spiffe://DOMAIN/env/ENV/target/NAME`.
//!
//! There is one way to write a name, so two names are the same exactly when their bytes are.

use std::fmt;
use std::sync::Arc;

use holdfast_protocol::name::{EnvironmentName, NameError, TargetName};

use crate::random::{self, RandomError};

/// The random name of one installation, fixed for its life: `holdfast-1f2e3d4c`. It is the authority
/// part of every SPIFFE name, so certificates of two installations never name the same target.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// Who a target is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The trust zone that it belongs to.
    pub environment: EnvironmentName,
    /// Its name in the installation.
    pub target: TargetName,
}

/// Why a text is not the name of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a single DNS label.
    #[error("{0:?} is not a trust domain: expected one DNS label such as holdfast-1f2e3d4c")]
    TrustDomain(String),
    /// Not of the one form.
    #[error("{0:?} is not of the form spiffe://DOMAIN/env/ENVIRONMENT/target/NAME")]
    Form(String),
    /// The form is right, but a part is not a valid name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl TrustDomain {
    /// A new one: `holdfast-` and eight random hexadecimal digits.
    ///
    /// # Errors
    /// [`RandomError`] where the system has no random numbers.
    pub fn generate() -> Result<Self, RandomError> {
        let label = random::hex(&random::bytes::<4>()?[..]);
        Ok(Self(Arc::from(format!("holdfast-{label}"))))
    }

    /// Checks `text`: one DNS label (RFC 1123) in lower case.
    ///
    /// # Errors
    /// [`IdentityError::TrustDomain`].
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        // A trust domain follows the grammar of the installation's other labels.
        match EnvironmentName::parse(text) {
            Ok(_) => Ok(Self(Arc::from(text))),
            Err(_) => Err(IdentityError::TrustDomain(excerpt(text))),
        }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that the installation's root carries: `spiffe://DOMAIN`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("spiffe://{}", self.0)
    }

    /// The name that an environment's authority carries: `spiffe://DOMAIN/env/ENVIRONMENT`.
    #[must_use]
    pub fn environment_uri(&self, environment: &EnvironmentName) -> String {
        format!("spiffe://{}/env/{environment}", self.0)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Identity {
    /// The one name of this target in `domain`.
    #[must_use]
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!(
            "spiffe://{domain}/env/{}/target/{}",
            self.environment, self.target
        )
    }

    /// Reads a target's name together with the installation that it belongs to.
    ///
    /// # Errors
    /// [`IdentityError`]; there is no lenient form: no other case, no escapes, no empty or further
    /// path segments, no query, no port, no user.
    pub fn parse(uri: &str) -> Result<(TrustDomain, Self), IdentityError> {
        let form = || IdentityError::Form(excerpt(uri));
        if uri.len() > URI_MAX_BYTES {
            return Err(form());
        }
        let path = uri.strip_prefix("spiffe://").ok_or_else(form)?;
        let parts: Vec<&str> = path.split('/').collect();
        let &[domain, "env", environment, "target", target] = parts.as_slice() else {
            return Err(form());
        };
        let identity = Self {
            environment: EnvironmentName::parse(environment)?,
            target: TargetName::parse(target)?,
        };
        Ok((TrustDomain::parse(domain)?, identity))
    }
}

impl fmt::Display for Identity {
    /// `ENVIRONMENT/NAME`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.target)
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_MAX_CHARS).collect()
}

/// Longest name: three labels of 63 bytes and the fixed parts.
const URI_MAX_BYTES: usize = 3 * 63 + 22;
/// Longest part of a refused name that an error repeats, in characters.
const EXCERPT_MAX_CHARS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(environment: &str, target: &str) -> Identity {
        Identity {
            environment: EnvironmentName::parse(environment).unwrap(),
            target: TargetName::parse(target).unwrap(),
        }
    }

    #[test]
    fn a_name_is_written_and_read_back() {
        let domain = TrustDomain::parse("holdfast-1f2e3d4c").unwrap();
        let longest = "a".repeat(63);
        for who in [identity("staging", "web-1"), identity(&longest, &longest)] {
            let domain = if who.target.as_str().len() == 63 {
                TrustDomain::parse(&longest)
            } else {
                Ok(domain.clone())
            }
            .unwrap();
            assert_eq!(Identity::parse(&who.uri(&domain)).unwrap(), (domain, who));
        }
    }

    #[test]
    fn a_name_in_any_other_form_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "spiffe://d/env/staging/target/",
            "spiffe://d/env//target/web",
            "spiffe:///env/staging/target/web",
            "spiffe://d/env/staging/target/web/",
            "spiffe://d/env/staging/target/web/x",
            "spiffe://d//env/staging/target/web",
            "spiffe://d/env/staging/target/web?x",
            "spiffe://d/env/staging/target/web#x",
            "spiffe://d:1/env/staging/target/web",
            "spiffe://u@d/env/staging/target/web",
            "SPIFFE://d/env/staging/target/web",
            "spiffe://D/env/staging/target/web",
            "spiffe://d/ENV/staging/target/web",
            "spiffe://d/env/staging/target/we%62",
            "spiffe://d/env/staging/target/..",
            "spiffe://d/env/staging/target/web\0",
            " spiffe://d/env/staging/target/web",
            "https://d/env/staging/target/web",
            "spiffe://d/env/staging",
        ] {
            assert!(Identity::parse(uri).is_err(), "{uri}");
        }
        assert!(Identity::parse(&format!("spiffe://d/env/e/target/{}", "a".repeat(64))).is_err());
    }

    #[test]
    fn a_generated_domain_is_valid_and_differs_from_the_next() {
        let (one, two) = (
            TrustDomain::generate().unwrap(),
            TrustDomain::generate().unwrap(),
        );
        assert_eq!(TrustDomain::parse(one.as_str()), Ok(one.clone()));
        assert!(one.as_str().starts_with("holdfast-"));
        assert_ne!(one, two);
        assert!(TrustDomain::parse("a.b").is_err());
    }
}
