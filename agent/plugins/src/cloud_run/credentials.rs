//! By whose word Cloud Run is called: an access token from a file, of a service account, or of the
//! machine itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_certs::rsa::{self, RsaError};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::sent;
use super::refusal;
use crate::Failure;
use crate::journal::wall;

/// A file with an access token, as Google's own command takes it.
const TOKEN_FILE: &str = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE";
/// A file with the key of a service account.
const KEY_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Another address of the machine's metadata.
const METADATA_HOST: &str = "GCE_METADATA_HOST";
/// Where machines of Google's find their own metadata.
const MACHINE: &str = "metadata.google.internal";
/// What is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long the word of a service account is good for; it is used at once.
const ASSERTION_LIFE_SECONDS: u64 = 300;
/// In a form, how a word is exchanged for a token.
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
/// Time that a machine's own metadata may take.
const MACHINE_LIMIT: Duration = Duration::from_secs(4);
/// Longest token that is taken, in bytes.
const TOKEN_MAX_BYTES: usize = 16 << 10;

/// Where a token comes from.
pub(super) enum Source {
    /// Somebody else renews it there.
    File(PathBuf),
    /// The key of a service account.
    Key(PathBuf),
    /// The machine is Google's, and has an account.
    Machine(String),
}

/// An access token. It has no words: it must not be shown.
pub(super) struct Token(String);

/// The file of a service account's key, as Google writes it.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    token_uri: String,
}

impl Token {
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// What stands in an answer.
    fn of(doing: &str, answer: &Value) -> Result<Self, Failure> {
        Self::parse(answer["access_token"].as_str().unwrap_or_default()).ok_or_else(|| {
            Failure::Retryable(format!("cannot {doing}: there is no token in the answer"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let good = !text.is_empty() && text.len() <= TOKEN_MAX_BYTES;
        (good && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }
}

impl Source {
    /// As the environment of the plugin says; `variable` gives the value of one of it.
    pub(super) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let host = variable(METADATA_HOST).map(|text| text.to_string_lossy().into_owned());
        let machine = || Self::Machine(host.unwrap_or_else(|| MACHINE.to_owned()));
        let file = path(TOKEN_FILE).map(Self::File);
        file.or_else(|| path(KEY_FILE).map(Self::Key))
            .unwrap_or_else(machine)
    }

    /// Has a token.
    ///
    /// # Errors
    /// Why there is none, and how it is given.
    pub(super) async fn token(&self, client: &Client) -> Result<Token, Failure> {
        match self {
            Self::File(path) => {
                let text = read(TOKEN_FILE, path)?;
                Token::parse(&text).ok_or_else(|| wrong(TOKEN_FILE, path, "holds no access token"))
            }
            Self::Key(path) => of_account(client, path).await,
            Self::Machine(host) => of_machine(host).await,
        }
    }
}

fn read(name: &str, path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| wrong(name, path, &format!("cannot be read: {error}")))
}

fn wrong(name: &str, path: &std::path::Path, why: &str) -> Failure {
    let path = path.display();
    Failure::Retryable(format!("{path}, which {name} names in agent.toml, {why}"))
}

/// The machine's own account.
async fn of_machine(host: &str) -> Result<Token, Failure> {
    let doing = format!("ask {host} for the account of this machine");
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    // It is the machine's own: a proxy would be asked for its own account.
    let near = Client::builder().no_proxy().timeout(MACHINE_LIMIT).build();
    let near = near.map_err(|error| Failure::Retryable(format!("cannot {doing}: {error}")))?;
    let request = near
        .get(format!("http://{host}/{path}"))
        .header("Metadata-Flavor", "Google");
    let answered = sent(&doing, request).await;
    let help = |failure: &dyn std::fmt::Display| {
        Failure::Retryable(format!(
            "{failure}. On a machine that is not Google's, name a file of credentials in the \
             plugin's environment in agent.toml: {KEY_FILE} or {TOKEN_FILE}"
        ))
    };
    let (status, answer) = answered.map_err(|failure| help(&failure))?;
    if !status.is_success() {
        let refused = refusal::judge(&doing, status.as_u16(), &answer);
        return Err(help(&refused));
    }
    Token::of(&doing, &answer)
}

/// The word of a service account, exchanged for a token.
async fn of_account(client: &Client, path: &std::path::Path) -> Result<Token, Failure> {
    let text = read(KEY_FILE, path)?;
    // What is wrong with it is not said in serde's words, which quote.
    let key: Key = serde_json::from_str(&text).map_err(|_| {
        wrong(
            KEY_FILE,
            path,
            "is not the file of a key as Google writes it",
        )
    })?;
    if key.kind != "service_account" {
        let kind = key.kind;
        let why = format!("is of type {kind:?}; what is needed is the key of a service_account");
        return Err(wrong(KEY_FILE, path, &why));
    }
    let doing = format!("have a token for {}", key.client_email);
    let url = Url::parse(&key.token_uri).ok();
    let url = url.filter(is_safe);
    let url = url.ok_or_else(|| wrong(KEY_FILE, path, "has no token_uri with https://"))?;
    let signed = assertion(&key, wall().as_millis() / 1000);
    let signed = signed.map_err(|error| wrong(KEY_FILE, path, &error.to_string()))?;
    let form = format!("grant_type={GRANT}&assertion={signed}");
    let request = client
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let (status, answer) = sent(&doing, request).await?;
    if status.is_success() {
        return Token::of(&doing, &answer);
    }
    let said = answer["error_description"]
        .as_str()
        .or(answer["error"].as_str());
    let said = said.unwrap_or("nothing was said");
    Err(Failure::Retryable(format!(
        "cannot {doing}: {said} ({}); is the key still valid?",
        status.as_u16()
    )))
}

/// A key's word must not be read on its way.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || matches!(url.host_str(), Some("127.0.0.1" | "localhost"))
}

/// The account's word for a while from `now`, in seconds: a JSON Web Token.
fn assertion(key: &Key, now: u64) -> Result<String, RsaError> {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.private_key_id});
    let claims = json!({"iss": key.client_email, "aud": key.token_uri, "scope": SCOPE,
        "iat": now, "exp": now + ASSERTION_LIFE_SECONDS});
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", text(header), text(claims));
    let signature = rsa::sign(&key.private_key, message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
