//! Questions to homes: plain requests, and those that a registry of the OCI distribution specification
//! answers, with the credentials that it asks for.
//!
//! A registry that wants to know who asks answers 401 with a challenge: `Basic`, or `Bearer` with the
//! address of a server that gives a token for one repository. Credentials are sent to whom the
//! challenge names, over a way that the rules admit, and only those of the registry itself. A challenge is
//! the registry's own or none: whomever it redirects to cannot say where its credentials go.

use holdfast_protocol::home::Home;
use holdfast_protocol::image::{DEFAULT_REGISTRY, Repository};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::credentials::{self, Credentials, CredentialsError};
use crate::way::Way;

/// Largest answer of a token server, in bytes.
const TOKEN_MAX_BYTES: usize = 64 * 1024;
/// The host that answers for the default registry.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// Why a home gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The rules of this machine forbid it.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody answers.
    #[error("{host} does not answer: {why}")]
    NoAnswer {
        /// Who was asked.
        host: String,
        /// Why, without the URL.
        why: String,
    },
    /// There was no answer in time.
    #[error("{host} did not answer within {seconds} s")]
    Silent {
        /// Who was asked.
        host: String,
        /// How long that is.
        seconds: u64,
    },
    /// It does not give it to whoever asks like this.
    #[error("{host} refuses it ({status}){help}")]
    Denied {
        /// Who was asked.
        host: String,
        /// The status.
        status: StatusCode,
        /// What to do.
        help: String,
    },
    /// Another answer than the content.
    #[error("{host} answers {status} to {what}")]
    Status {
        /// Who was asked.
        host: String,
        /// What for, without what may be secret.
        what: String,
        /// The status.
        status: StatusCode,
    },
    /// What comes is not what the specification says.
    #[error("{host} answers what is none of a registry's answers: {why}")]
    Answer {
        /// Who was asked.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// One question.
#[derive(Debug)]
pub(crate) struct Question {
    /// The address.
    pub(crate) url: Url,
    /// Who is asked, as credentials name it.
    pub(crate) host: String,
    /// What for, for people.
    pub(crate) what: String,
    /// The repository, where a registry is asked.
    pub(crate) repository: Option<Repository>,
    /// What is said besides.
    pub(crate) headers: HeaderMap,
    /// What the host is told, in place of what the machine's file of credentials has for it.
    pub(crate) login: Option<Credentials>,
}

impl Question {
    /// For the content of an artifact, from `offset`.
    pub(crate) fn content(
        way: &Way,
        home: &Home,
        artifact: &str,
        offset: u64,
    ) -> Result<Self, AskError> {
        let mut question = match home {
            Home::Http(text) => Self {
                url: url(text)?,
                host: home.host().to_owned(),
                what: home.plain(),
                repository: None,
                headers: HeaderMap::new(),
                login: None,
            },
            Home::Oci { repository, .. } => {
                Self::of_registry(way, repository, &format!("blobs/{artifact}"))?
            }
        };
        let identity = HeaderValue::from_static("identity");
        question.headers.insert(ACCEPT_ENCODING, identity);
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            question.headers.insert(RANGE, range.expect("digits"));
        }
        Ok(question)
    }

    /// For a file's first byte, which tells its length.
    pub(crate) fn first_byte(text: &str, host: &str) -> Result<Self, AskError> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Self {
            url: url(text)?,
            host: host.to_owned(),
            what: text.split('?').next().unwrap_or_default().to_owned(),
            repository: None,
            headers,
            login: None,
        })
    }

    /// For something of a repository: `manifests/TAG`, `blobs/DIGEST`.
    pub(crate) fn of_registry(
        way: &Way,
        repository: &Repository,
        path: &str,
    ) -> Result<Self, AskError> {
        let registry = &repository.registry;
        let host = match registry.as_str() {
            DEFAULT_REGISTRY => DEFAULT_HOST,
            other => other,
        };
        let scheme = if way.rules.is_plain(registry) {
            "http"
        } else {
            "https"
        };
        Ok(Self {
            url: url(&format!("{scheme}://{host}/v2/{}/{path}", repository.path))?,
            host: registry.clone(),
            what: format!("{path} of {}", repository.path),
            repository: Some(repository.clone()),
            headers: HeaderMap::new(),
            login: None,
        })
    }

    /// The error of an answer that is not the content.
    pub(crate) fn answered(&self, status: StatusCode) -> AskError {
        AskError::Status {
            host: self.host.clone(),
            what: self.what.clone(),
            status,
        }
    }

    pub(crate) fn with(mut self, login: Option<&Credentials>) -> Self {
        self.login = login.cloned();
        self
    }

    pub(crate) fn accepting(mut self, kinds: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kinds));
        self
    }
}

impl Way {
    /// Asks; tells who it is where it is asked to. Any status but success is an error, 416 (nothing
    /// from there on) excepted.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Response, AskError> {
        let known = match &question.login {
            Some(login) => Some(login.clone()),
            None => self.credentials(&question.host)?,
        };
        let first = match (&question.repository, &known) {
            (None, Some(known)) => Some(authorization(known, &question.host)?),
            (None, None) | (Some(_), _) => None,
        };
        let response = self.send(question, first).await?;
        let asks = response.status() == StatusCode::UNAUTHORIZED && question.repository.is_some();
        // Whoever the registry redirects to is not told who it is that asks the registry.
        if !asks || response.url().origin() != question.url.origin() {
            return self.judged(response, question, known.is_some());
        }
        let token = self.answer(&response, question, known.as_ref()).await?;
        let response = self.send(question, Some(token)).await?;
        self.judged(response, question, known.is_some())
    }

    fn credentials(&self, host: &str) -> Result<Option<Credentials>, CredentialsError> {
        match &self.rules.credentials {
            Some(path) => credentials::of(path, host),
            None => Ok(None),
        }
    }

    async fn send(
        &self,
        question: &Question,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, AskError> {
        self.rules
            .admit(&question.url)
            .map_err(AskError::Forbidden)?;
        let mut request = self.client.get(question.url.clone());
        request = request.headers(question.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let host = || question.host.clone();
        let span = self.rules.patience.span;
        match tokio::time::timeout(span, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(AskError::NoAnswer {
                host: host(),
                why: crate::chain(&error.without_url()),
            }),
            Err(_) => Err(AskError::Silent {
                host: host(),
                seconds: span.as_secs(),
            }),
        }
    }

    fn judged(
        &self,
        response: Response,
        question: &Question,
        known: bool,
    ) -> Result<Response, AskError> {
        let status = response.status();
        match status {
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.denied(question, status, known))
            }
            success if success.is_success() => Ok(response),
            _ => Err(question.answered(status)),
        }
    }

    /// What a challenge is answered with.
    async fn answer(
        &self,
        response: &Response,
        question: &Question,
        known: Option<&Credentials>,
    ) -> Result<HeaderValue, AskError> {
        let odd = |why: &str| AskError::Answer {
            host: question.host.clone(),
            why: why.to_owned(),
        };
        if let Some(known) = known.filter(|known| known.bearer.is_some()) {
            return authorization(known, &question.host);
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<&str> = challenges.filter_map(|value| value.to_str().ok()).collect();
        let bearer = challenges.iter().find_map(|text| Bearer::parse(text));
        if let Some(bearer) = bearer {
            return self.token(&bearer, question, known).await;
        }
        let basically = challenges
            .iter()
            .any(|text| text.to_ascii_lowercase().starts_with("basic"));
        match (basically, known) {
            (true, Some(known)) => basic(known, &question.host),
            (true, None) => Err(self.denied(question, StatusCode::UNAUTHORIZED, false)),
            (false, _) => Err(odd("401 with a challenge that is neither Basic nor Bearer")),
        }
    }

    fn denied(&self, question: &Question, status: StatusCode, known: bool) -> AskError {
        let help = match (known, &self.rules.credentials) {
            (true, _) => "; it was given the credentials that are there for it".to_owned(),
            (false, Some(path)) => format!("; {} has no credentials for it", path.display()),
            (false, None) => format!(
                "; `credentials` under [artifacts] in {} names a file with some",
                self.rules.file
            ),
        };
        AskError::Denied {
            host: question.host.clone(),
            status,
            help,
        }
    }

    async fn token(
        &self,
        bearer: &Bearer,
        question: &Question,
        known: Option<&Credentials>,
    ) -> Result<HeaderValue, AskError> {
        let odd = |why: String| AskError::Answer {
            host: question.host.clone(),
            why,
        };
        let path = question.repository.as_ref().map(|r| r.path.as_str());
        let scope = format!("repository:{}:pull", path.unwrap_or_default());
        let mut realm = Url::parse(&bearer.realm)
            .map_err(|_| odd("the address of its tokens cannot be read".to_owned()))?;
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = &bearer.service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        let led = self
            .rules
            .admit_led(std::slice::from_ref(&question.url), &realm);
        led.map_err(AskError::Forbidden)?;
        let asked = Question {
            host: realm.host_str().unwrap_or_default().to_owned(),
            url: realm,
            what: format!("a token for {scope}"),
            repository: None,
            headers: HeaderMap::new(),
            login: None,
        };
        let known = known
            .map(|known| basic(known, &question.host))
            .transpose()?;
        let has = known.is_some();
        let response = self.send(&asked, known).await?;
        let response = self.judged(response, &asked, has)?;
        let text = self.read(response, &asked.host, TOKEN_MAX_BYTES).await?;
        let token: Token = serde_json::from_slice(&text)
            .map_err(|error| odd(format!("a token that is none, line {}", error.line())))?;
        let token = token.token.or(token.access_token).unwrap_or_default();
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| odd("a token that no header can hold".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// All of a small answer.
    pub(crate) async fn read(
        &self,
        mut response: Response,
        host: &str,
        most: usize,
    ) -> Result<Vec<u8>, AskError> {
        let reading = async {
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| AskError::NoAnswer {
                host: host.to_owned(),
                why: crate::chain(&error.without_url()),
            })? {
                body.extend_from_slice(&chunk);
                if body.len() > most {
                    return Err(AskError::Answer {
                        host: host.to_owned(),
                        why: format!("more than {most} bytes"),
                    });
                }
            }
            Ok(body)
        };
        let span = self.rules.patience.span;
        tokio::time::timeout(span, reading)
            .await
            .unwrap_or_else(|_| {
                Err(AskError::Silent {
                    host: host.to_owned(),
                    seconds: span.as_secs(),
                })
            })
    }
}

/// A challenge of the kind that registries make.
#[derive(Debug, PartialEq, Eq)]
struct Bearer {
    realm: String,
    service: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Bearer {
    /// `Bearer realm="…",service="…",scope="…"`
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            match key.trim() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        realm.map(|realm| Self { realm, service })
    }
}

fn url(text: &str) -> Result<Url, AskError> {
    Url::parse(text)
        .map_err(|error| AskError::Forbidden(format!("the URL cannot be read: {error}")))
}

fn authorization(known: &Credentials, host: &str) -> Result<HeaderValue, AskError> {
    let Some(token) = &known.bearer else {
        return basic(known, host);
    };
    let text = Zeroizing::new(format!("Bearer {}", **token));
    let mut value = HeaderValue::try_from(text.as_str()).map_err(|_| {
        AskError::Credentials(CredentialsError::Unusable {
            path: host.to_owned(),
            why: "the token holds what no header can hold".to_owned(),
        })
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(known: &Credentials, host: &str) -> Result<HeaderValue, AskError> {
    use base64::Engine as _;
    let (Some(user), Some(password)) = (&known.username, &known.password) else {
        return Err(AskError::Credentials(CredentialsError::Unusable {
            path: host.to_owned(),
            why: "an identity token alone is not enough here; log in with user and password"
                .to_owned(),
        }));
    };
    let pair = Zeroizing::new(format!("{user}:{}", **password));
    let pair = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    let text = Zeroizing::new(format!("Basic {}", *pair));
    let mut value = HeaderValue::try_from(text.as_str()).expect("Base64 fits a header");
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_in_it() {
        let text = r#"Bearer realm="https://auth.example/token",service="reg.example",scope="repository:a:pull,push""#;
        let read = Bearer::parse(text).unwrap();
        assert_eq!(read.realm, "https://auth.example/token");
        assert_eq!(read.service.as_deref(), Some("reg.example"));
        assert_eq!(Bearer::parse("Basic realm=\"x\""), None);
        assert_eq!(Bearer::parse("Bearer service=\"x\""), None);
        assert_eq!(Bearer::parse("Bearer realm=\"unended"), None);
    }

    #[tokio::test]
    async fn a_registry_elsewhere_has_no_credentials_sent_to_a_program_of_this_machine() {
        let homes = crate::way::Homes::new(crate::way::Rules::strict("agent.toml"));
        let way = homes.way().unwrap();
        let repository = Repository::parse("registry.example/team/web").unwrap();
        let question = Question::of_registry(&way, &repository, "manifests/1").unwrap();
        let known = credentials::of_value(b"ada:pw", "registry.example", Some("registry.example"));
        let known = known.unwrap();
        for realm in [
            "http://127.0.0.1:9/token",
            "https://localhost/token",
            "http://registry.example/token",
            "https://169.254.169.254/token",
        ] {
            let (realm, service) = (realm.to_owned(), None);
            let bearer = Bearer { realm, service };
            let token = way.token(&bearer, &question, known.as_ref()).await;
            assert!(matches!(token, Err(AskError::Forbidden(_))), "{bearer:?}");
        }
    }
}
