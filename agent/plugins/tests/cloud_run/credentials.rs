//! By whose word `cloud-run` calls: files, service accounts, and machines of Google's. The two that
//! give tokens are played here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::cases::Test;
use crate::front::{Answer, Front};
use crate::skip;

pub(crate) const TESTS: &[Test] = &[
    (
        "a_machine_of_googles_calls_with_its_own_account",
        a_machine_of_googles_calls_with_its_own_account,
    ),
    (
        "the_key_of_a_service_account_signs_for_a_token",
        the_key_of_a_service_account_signs_for_a_token,
    ),
    (
        "credentials_that_are_missing_or_wrong_are_named_and_never_shown",
        credentials_that_are_missing_or_wrong_are_named_and_never_shown,
    ),
];

/// An API that knows nothing, and remembers by whose word it was asked.
struct Api {
    front: Front,
    words: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn start() -> Self {
        let words = Arc::<Mutex<Vec<String>>>::default();
        let own = Arc::clone(&words);
        let front = Front::start(move |request| {
            let word = request.header("authorization").to_owned();
            own.lock().unwrap().push(word);
            let missing = json!({"error": {"code": 400, "message": "nothing is made here"}});
            let status = if request.method == "GET" { 404 } else { 400 };
            Answer::Json(status, missing)
        });
        Self { front, words }
    }

    /// What comes of a converge with these variables.
    fn asked(&self, environment: &[(&str, &str)]) -> String {
        let mut agent = Agent::new(env!("CARGO_BIN_EXE_holdfast-plugins"), &["cloud-run"]);
        let url = self.front.url();
        agent.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN", Some(&url));
        for (name, value) in environment {
            agent.set(name, Some(value));
        }
        let image = format!("registry.example.com/web@sha256:{}", "1".repeat(64));
        let template = json!({"project": "shop", "region": "europe-west1", "service": "web",
            "image": image});
        let wanted = agent.wanted("cloud-run", &template, ("text.txt", "text"), 1);
        agent.converge(&wanted).unwrap_err().to_string()
    }

    fn word(&self) -> String {
        self.words.lock().unwrap().pop().unwrap()
    }
}

fn a_machine_of_googles_calls_with_its_own_account() {
    let api = Api::start();
    let machine = Front::start(|request| {
        let known = request.header("metadata-flavor") == "Google"
            && request.path == "/computeMetadata/v1/instance/service-accounts/default/token";
        let token = json!({"access_token": "of-the-machine", "expires_in": 3599});
        let status = if known { 200 } else { 403 };
        Answer::Json(status, token)
    });
    // A proxy would be asked for its own account.
    let said = api.asked(&[
        ("GCE_METADATA_HOST", &machine.host()),
        ("NO_PROXY", "127.0.0.1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
    ]);
    assert!(said.contains("nothing is made here"), "{said}");
    assert_eq!(api.word(), "Bearer of-the-machine");
}

fn the_key_of_a_service_account_signs_for_a_token() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skip::skip(
            "the_key_of_a_service_account_signs_for_a_token",
            "openssl is not installed",
        );
    }
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = |name: &str| room.path().join(name).display().to_string();
    let (private, public) = (place("key.pem"), place("public.pem"));
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        &private,
    ]);
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    let directory = room.path().to_owned();
    let giver = Front::start(move |request| match judged(&request.body, &directory) {
        Ok(()) => Answer::Json(200, json!({"access_token": "of-the-account"})),
        Err(why) => {
            let refused = json!({"error": "invalid_grant", "error_description": why});
            Answer::Json(400, refused)
        }
    });
    let write = |name: &str, token_uri: &str, key: &str| {
        let key = json!({"type": "service_account", "client_email": "web@shop.example.com",
            "private_key_id": "key-1", "private_key": key, "token_uri": token_uri});
        let path = place(name);
        fs::write(&path, key.to_string()).unwrap();
        path
    };
    let uri = format!("{}token", giver.url());
    let key = write("key.json", &uri, &fs::read_to_string(&private).unwrap());
    let api = Api::start();
    let said = api.asked(&[("GOOGLE_APPLICATION_CREDENTIALS", &key)]);
    assert!(said.contains("nothing is made here"), "{said}");
    assert_eq!(api.word(), "Bearer of-the-account");

    // Another key is not believed, and the word is not sent where it could be read on its way.
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        &private,
    ]);
    let other = fs::read_to_string(&private).unwrap();
    let key = write("other.json", &uri, &other);
    let said = api.asked(&[("GOOGLE_APPLICATION_CREDENTIALS", &key)]);
    assert!(said.contains("not the signature of that account"), "{said}");
    let key = write("open.json", "http://tokens.example.com/", &other);
    let said = api.asked(&[("GOOGLE_APPLICATION_CREDENTIALS", &key)]);
    assert!(said.contains("has no token_uri with https://"), "{said}");
}

fn openssl(arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let ran = command.args(arguments).stderr(Stdio::null()).status();
    assert!(ran.unwrap().success());
}

/// Whether a request for a token holds the word of the account whose public key is there.
fn judged(form: &str, directory: &Path) -> Result<(), String> {
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = form.strip_prefix(grant).ok_or("it is another grant")?;
    let (message, signature) = assertion.rsplit_once('.').ok_or("it is no token")?;
    let bytes = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| error.to_string())
    };
    let (header, claims) = message.split_once('.').ok_or("it has no claims")?;
    let read = |text: &str| -> Result<Value, String> {
        serde_json::from_slice(&bytes(text)?).map_err(|error| error.to_string())
    };
    let (header, claims) = (read(header)?, read(claims)?);
    let says = header["alg"] == "RS256"
        && header["kid"] == "key-1"
        && claims["iss"] == "web@shop.example.com"
        && claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        && claims["exp"].as_u64() == claims["iat"].as_u64().map(|at| at + 300);
    if !says {
        return Err(format!("{header} {claims}"));
    }
    let place = |name: &str| directory.join(name);
    fs::write(place("message"), message).unwrap();
    fs::write(place("signature"), bytes(signature)?).unwrap();
    let mut command = Command::new("openssl");
    let ran = command
        .args([
            "dgst",
            "-sha256",
            "-verify",
            "public.pem",
            "-signature",
            "signature",
            "message",
        ])
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let good = ran.unwrap().success();
    good.then_some(())
        .ok_or_else(|| "not the signature of that account".to_owned())
}

fn credentials_that_are_missing_or_wrong_are_named_and_never_shown() {
    let api = Api::start();
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, text: &str| {
        let path = room.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (key, token) = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    );
    let garbage = write("garbage", "hunter2 \u{1}");
    let user = write(
        "user.json",
        r#"{"type": "authorized_user", "refresh_token": "hunter2"}"#,
    );
    let broken = json!({"type": "service_account", "client_email": "x",
        "private_key": "hunter2", "token_uri": "https://tokens.example.com/"});
    let broken = write("broken.json", &broken.to_string());
    let nobody = "127.0.0.1:1";
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[(token, "/nonexistent")], "cannot be read"),
        (&[(token, &garbage)], "holds no access token"),
        (&[(key, &garbage)], "is not the file of a key"),
        (&[(key, &user)], "the key of a service_account"),
        (&[(key, &broken)], "holds no private RSA key"),
        (
            &[("GCE_METADATA_HOST", nobody)],
            "name a file of credentials",
        ),
    ];
    for (environment, expected) in cases {
        let said = api.asked(environment);
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("agent.toml"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let said = api.asked(&[("CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN", "http://example.com/")]);
    assert!(said.contains("sent by https:// alone"), "{said}");
    assert!(
        api.words.lock().unwrap().is_empty(),
        "nothing was asked without credentials"
    );
}
