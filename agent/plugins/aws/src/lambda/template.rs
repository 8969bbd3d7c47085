//! The template of `aws-lambda`, read into what it asks for, with everything that is wrong at once. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_plugins::image;
use holdfast_protocol::time::parse_span;
use serde::Deserialize;
use serde_json::Value;

use crate::place::Place;
use crate::problem::Problems;

/// One function as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    /// Its name in Lambda.
    pub(crate) name: String,
    /// Where.
    pub(crate) place: Place,
    /// Where its code comes from.
    pub(crate) code: Code,
    /// Everything else that is a part of a version.
    pub(crate) settings: Settings,
    /// The name by which callers reach the version that is wanted.
    pub(crate) alias: String,
    /// Earlier versions that stay.
    pub(crate) keep: usize,
    /// A part of the calls goes to the new version first.
    pub(crate) canary: Option<Canary>,
    /// An event that a new version must take before any caller reaches it.
    pub(crate) trial: Option<Value>,
}

/// Where a function's code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Code {
    /// A directory or a file on the target, packed as a zip archive.
    Path(PathBuf),
    /// An image, by digest.
    Image(String),
}

/// What Lambda keeps of a version besides its code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// None for an image.
    pub(crate) runtime: Option<String>,
    /// None for an image.
    pub(crate) handler: Option<String>,
    pub(crate) role: String,
    pub(crate) memory_mib: i32,
    pub(crate) timeout_seconds: i32,
    pub(crate) storage_mib: i32,
    pub(crate) architecture: String,
    /// May hold secrets: never shown.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) layers: Vec<String>,
    /// Sorted.
    pub(crate) subnets: Vec<String>,
    /// Sorted.
    pub(crate) security_groups: Vec<String>,
}

/// How a new version is tried by real calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Canary {
    /// The part of the calls that goes to the new version, between 0 and 1.
    pub(crate) weight: f64,
    /// For how long.
    pub(crate) soak: Duration,
}

/// The template as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    function: String,
    region: Option<String>,
    profile: Option<String>,
    endpoint: Option<String>,
    role: String,
    code: WrittenCode,
    runtime: Option<String>,
    handler: Option<String>,
    memory: Option<String>,
    timeout: Option<String>,
    storage: Option<String>,
    architecture: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    layers: Vec<String>,
    network: Option<WrittenNetwork>,
    alias: Option<String>,
    keep: Option<usize>,
    canary: Option<WrittenCanary>,
    trial: Option<WrittenTrial>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCode {
    path: Option<String>,
    image: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenNetwork {
    subnets: Vec<String>,
    security_groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCanary {
    weight: String,
    soak: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTrial {
    event: Value,
}

/// JSON Schema of the template.
pub(crate) fn schema() -> Value {
    serde_json::from_str(include_str!("template.schema.json")).expect("the file is JSON")
}

/// Reads a template.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(template: &Value) -> Result<Function, Problems> {
    let written: Written = serde_json::from_value(template.clone())
        .map_err(|error| Problems::one("", error.to_string()))?;
    let mut problems = Problems::default();
    let code = code(&written.code, &mut problems);
    let settings = settings(&written, &mut problems);
    name("function", &written.function, NAME_MAX, &mut problems);
    let alias = written.alias.clone().unwrap_or_else(|| "live".to_owned());
    name("alias", &alias, ALIAS_MAX, &mut problems);
    if alias.bytes().all(|byte| byte.is_ascii_digit()) {
        problems.add(
            "alias",
            "a name of digits alone stands for a version; add a letter",
        );
    }
    if written.trial.is_some() && settings.timeout_seconds > TRIAL_MAX_SECONDS {
        let most = format!("a function that takes a trial has at most {TRIAL_MAX_SECONDS}s");
        problems.add("timeout", most);
    }
    let canary = written
        .canary
        .and_then(|canary| read_canary(&canary, &mut problems));
    let place = Place::read(
        written.region,
        written.profile,
        written.endpoint,
        &mut problems,
    );
    let keep = written.keep.unwrap_or(KEEP);
    if keep > KEEP_MAX {
        problems.add(
            "keep",
            format!("at most {KEEP_MAX} earlier versions are kept"),
        );
    }
    problems.or(Function {
        name: written.function,
        place,
        code: code.unwrap_or_else(|| Code::Path(PathBuf::new())),
        settings,
        alias,
        keep,
        canary,
        trial: written.trial.map(|trial| trial.event),
    })
}

fn code(written: &WrittenCode, problems: &mut Problems) -> Option<Code> {
    match (&written.path, &written.image) {
        (Some(path), None) if path.starts_with('/') => Some(Code::Path(PathBuf::from(path))),
        (Some(_), None) => {
            let help = "expected a whole path, such as \"{{ artifacts.app.path }}\"";
            problems.add("code.path", help);
            None
        }
        (None, Some(image)) => match image::digest(image) {
            Ok(_) => Some(Code::Image(image.clone())),
            Err(why) => {
                problems.add("code.image", why);
                None
            }
        },
        (Some(_), Some(_)) | (None, None) => {
            problems.add("code", "give either path or image");
            None
        }
    }
}

fn settings(written: &Written, problems: &mut Problems) -> Settings {
    let zipped = written.code.image.is_none();
    for (field, value) in [("runtime", &written.runtime), ("handler", &written.handler)] {
        match value {
            None if zipped => problems.add(field, "is needed for code that is no image"),
            Some(_) if !zipped => problems.add(field, "belongs to the image; leave it out here"),
            Some(_) | None => {}
        }
    }
    if !zipped && !written.layers.is_empty() {
        problems.add("layers", "belong into the image; leave them out here");
    }
    if !written.role.starts_with("arn:") {
        let help = "expected the whole name of a role, such as arn:aws:iam::123456789012:role/web";
        problems.add("role", help);
    }
    let mut network = written
        .network
        .as_ref()
        .map(|network| (network.subnets.clone(), network.security_groups.clone()))
        .unwrap_or_default();
    network.0.sort();
    network.1.sort();
    Settings {
        runtime: written.runtime.clone(),
        handler: written.handler.clone(),
        role: written.role.clone(),
        memory_mib: mib("memory", written.memory.as_deref(), (128, 10_240), problems),
        timeout_seconds: seconds(written.timeout.as_deref(), problems),
        storage_mib: mib(
            "storage",
            written.storage.as_deref(),
            (512, 10_240),
            problems,
        ),
        architecture: written
            .architecture
            .clone()
            .unwrap_or_else(|| "x86_64".to_owned()),
        environment: written.environment.clone(),
        layers: written.layers.clone(),
        subnets: network.0,
        security_groups: network.1,
    }
}

/// `256MiB` or `1GiB`, in MiB; the least that Lambda has where nothing is written.
fn mib(field: &str, text: Option<&str>, (least, most): (i32, i32), problems: &mut Problems) -> i32 {
    let Some(text) = text else { return least };
    let number = |text: &str| text.trim().parse::<i32>().ok();
    let read = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(text), _) => number(text),
        (None, Some(text)) => number(text).and_then(|number| number.checked_mul(1024)),
        (None, None) => None,
    };
    match read.filter(|mib| (least..=most).contains(mib)) {
        Some(mib) => mib,
        None => {
            problems.add(field, format!("{text:?}: expected {least}MiB to {most}MiB"));
            least
        }
    }
}

fn seconds(text: Option<&str>, problems: &mut Problems) -> i32 {
    let Some(text) = text else { return 3 };
    let read = parse_span(text)
        .ok()
        .filter(|span| span.subsec_nanos() == 0);
    let read = read.and_then(|span| i32::try_from(span.as_secs()).ok());
    match read.filter(|seconds| (1..=TIMEOUT_MAX_SECONDS).contains(seconds)) {
        Some(seconds) => seconds,
        None => {
            problems.add(
                "timeout",
                format!("{text:?}: expected whole seconds, 1s to 15m"),
            );
            3
        }
    }
}

fn read_canary(written: &WrittenCanary, problems: &mut Problems) -> Option<Canary> {
    let percent = written
        .weight
        .strip_suffix('%')
        .and_then(|text| text.trim().parse::<u8>().ok());
    let percent = percent.filter(|percent| (1..=99).contains(percent));
    if percent.is_none() {
        let message = format!("{:?}: expected a percentage, 1% to 99%", written.weight);
        problems.add("canary.weight", message);
    }
    let soak = parse_span(&written.soak).ok();
    let soak = soak.filter(|soak| *soak >= Duration::from_secs(1) && *soak <= SOAK_MAX);
    if soak.is_none() {
        let message = format!("{:?}: expected 1s to 6m; {SOAK_HELP}", written.soak);
        problems.add("canary.soak", message);
    }
    Some(Canary {
        weight: f64::from(percent?) / 100.0,
        soak: soak?,
    })
}

fn name(field: &str, text: &str, most: usize, problems: &mut Problems) {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > most || !text.bytes().all(good) {
        let message = format!("{text:?}: expected letters, digits, - and _, at most {most}");
        problems.add(field, message);
    }
}

/// Longest name of a function.
const NAME_MAX: usize = 64;
/// Longest name of an alias.
const ALIAS_MAX: usize = 128;
/// Earlier versions that stay where nothing is written.
const KEEP: usize = 3;
/// Most earlier versions that stay.
const KEEP_MAX: usize = 50;
/// Longest time that a call of a function may take, in seconds.
const TIMEOUT_MAX_SECONDS: i32 = 900;
/// Longest time that a call may take of a function that takes a trial, in seconds: it is one call of
/// the API.
const TRIAL_MAX_SECONDS: i32 = 100;
/// Longest soak: it happens within one converge, which has 9 minutes.
const SOAK_MAX: Duration = Duration::from_secs(6 * 60);
const SOAK_HELP: &str = "for longer ones let an environment of its own come first";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_small_template_is_filled_with_what_lambda_has_by_itself() {
        let read = read(&json!({
            "function": "web", "role": "arn:aws:iam::1:role/web", "runtime": "python3.12",
            "handler": "app.handler", "code": {"path": "/srv/app"},
            "canary": {"weight": "10%", "soak": "5m"},
        }));
        let function = read.unwrap();
        assert_eq!(function.alias, "live");
        assert_eq!(
            (
                function.settings.memory_mib,
                function.settings.timeout_seconds
            ),
            (128, 3)
        );
        let canary = Canary {
            weight: 0.1,
            soak: Duration::from_secs(300),
        };
        assert_eq!(function.canary, Some(canary));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_by_field() {
        let read = read(&json!({
            "function": "we b", "role": "web", "code": {"image": "web:latest"}, "handler": "x",
            "memory": "64MiB", "timeout": "1h", "alias": "7", "keep": 99, "endpoint": "nowhere",
            "canary": {"weight": "all", "soak": "1d"},
        }));
        let problems = read.unwrap_err();
        let mut paths: Vec<&str> = problems.0.iter().map(|(path, _)| path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "alias",
                "canary.soak",
                "canary.weight",
                "code.image",
                "endpoint",
                "function",
                "handler",
                "keep",
                "memory",
                "role",
                "timeout"
            ]
        );
    }
}
