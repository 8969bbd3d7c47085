//! The template of `cloud-run`, read into what it asks for, with everything that is wrong at once. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::time::parse_span;
use serde::Deserialize;
use serde_json::Value;

use super::settings::{Settings, Variable};
use crate::{Wrong, image};

/// One service as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) place: Place,
    /// All that a revision is made of.
    pub(super) settings: Settings,
    /// Who may call it, in Cloud Run's words.
    pub(super) ingress: String,
    /// A part of the calls goes to a new revision first.
    pub(super) canary: Option<Canary>,
}

/// Where it is, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) project: String,
    pub(super) region: String,
    pub(super) service: String,
}

/// How a new revision is tried by real calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Canary {
    /// The part of the calls that goes to the new revision, in percent.
    pub(super) percent: u8,
    /// For how long.
    pub(super) soak: Duration,
}

/// The template as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    project: String,
    region: String,
    service: String,
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    port: Option<u16>,
    service_account: Option<String>,
    #[serde(default)]
    limits: Limits,
    concurrency: Option<u32>,
    timeout: Option<String>,
    #[serde(default)]
    scale: Scale,
    ingress: Option<String>,
    network: Option<Network>,
    canary: Option<WrittenCanary>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Limits {
    memory: Option<String>,
    cpu: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Scale {
    min: Option<u32>,
    max: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
struct Network {
    connector: String,
    egress: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct WrittenCanary {
    weight: String,
    soak: String,
}

/// JSON Schema of the template.
pub(super) fn schema() -> Value {
    serde_json::from_str(include_str!("template.schema.json")).expect("the file is JSON")
}

/// Reads a template.
///
/// # Errors
/// Everything that is wrong with it, by field.
pub(super) fn read(written: &Template) -> Result<Service, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let place = place(written, &mut wrong);
    if let Err(why) = image::digest(&written.image) {
        wrong.push(Wrong::at("image", &why));
    }
    let settings = settings(written, &mut wrong);
    let canary = written
        .canary
        .as_ref()
        .and_then(|canary| read_canary(canary, &mut wrong));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Service {
        place,
        settings,
        ingress: written.ingress.clone().unwrap_or_else(|| "all".to_owned()),
        canary,
    })
}

/// What stands in addresses: nothing else may get into them.
fn place(written: &Template, wrong: &mut Vec<Wrong>) -> Place {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |text: &str| {
        let first = text.bytes().next();
        text.bytes().all(plain) && first.is_some_and(|byte| byte != b'-') && !text.ends_with('-')
    };
    let words = "lower-case letters, digits and -";
    let fields = [
        ("project", &written.project, "the id or number of a project"),
        ("region", &written.region, "a region, such as europe-west1"),
        ("service", &written.service, words),
    ];
    for (field, text, expected) in fields {
        if !label(text) {
            wrong.push(Wrong::at(field, &format!("{text:?}: expected {expected}")));
        }
    }
    if !written
        .service
        .starts_with(|c: char| c.is_ascii_lowercase())
    {
        wrong.push(Wrong::at("service", "must begin with a letter"));
    }
    Place {
        project: written.project.clone(),
        region: written.region.clone(),
        service: written.service.clone(),
    }
}

fn settings(written: &Template, wrong: &mut Vec<Wrong>) -> Settings {
    let network = written.network.as_ref();
    let egress = |network: &Network| {
        let egress = network.egress.clone();
        egress.unwrap_or_else(|| "private-ranges-only".to_owned())
    };
    let (min, max) = (
        written.scale.min.unwrap_or(0),
        written.scale.max.unwrap_or(MAX_SCALE),
    );
    if min > max {
        let message = format!("{min} instances at least are more than {max} at most");
        wrong.push(Wrong::at("scale.min", &message));
    }
    Settings {
        image: written.image.clone(),
        command: written.command.clone(),
        args: written.args.clone(),
        environment: environment(written, wrong),
        port: written.port.unwrap_or(PORT),
        service_account: written.service_account.clone(),
        memory_mib: memory(written.limits.memory.as_deref(), wrong),
        cpu_milli: cpu(written.limits.cpu),
        concurrency: written.concurrency.unwrap_or(CONCURRENCY),
        timeout_seconds: timeout(written.timeout.as_deref(), wrong),
        min_scale: min,
        max_scale: max,
        connector: network.map(|network| network.connector.clone()),
        egress: network.map(egress),
    }
}

fn environment(written: &Template, wrong: &mut Vec<Wrong>) -> BTreeMap<String, Variable> {
    let mut all = BTreeMap::new();
    for (name, value) in &written.environment {
        check_name("environment", name, wrong);
        all.insert(name.clone(), Variable::Value(value.clone()));
    }
    for (name, secret) in &written.secrets {
        check_name("secrets", name, wrong);
        let path = format!("secrets.{name}");
        let Some((secret, version)) = parse_secret(secret) else {
            let expected = "expected NAME:VERSION of Secret Manager, such as db-password:3 or \
                            db-password:latest";
            wrong.push(Wrong::at(&path, expected));
            continue;
        };
        let secret = Variable::Secret {
            name: secret.to_owned(),
            version: version.to_owned(),
        };
        if all.insert(name.clone(), secret).is_some() {
            wrong.push(Wrong::at(&path, "is in environment, too"));
        }
    }
    all
}

fn check_name(field: &str, name: &str, wrong: &mut Vec<Wrong>) {
    let why = if name.is_empty() || name.contains(['=', '\0']) {
        "is no name of a variable"
    } else if SET_BY_CLOUD_RUN.contains(&name) {
        "is set by Cloud Run itself"
    } else {
        return;
    };
    wrong.push(Wrong::at(&format!("{field}.{name}"), why));
}

/// Never the value: somebody may have written a secret there.
fn parse_secret(text: &str) -> Option<(&str, &str)> {
    let (name, version) = text.split_once(':')?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let named = !name.is_empty() && name.bytes().all(good);
    (named && (digits || version == "latest")).then_some((name, version))
}

/// `512MiB` or `2GiB`, in MiB.
fn memory(text: Option<&str>, wrong: &mut Vec<Wrong>) -> u64 {
    let Some(text) = text else { return MEMORY_MIB };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let read = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(text), _) => number(text),
        (None, Some(text)) => number(text).and_then(|gib| gib.checked_mul(1024)),
        (None, None) => None,
    };
    let (least, most) = MEMORY_BOUNDS_MIB;
    read.filter(|mib| (least..=most).contains(mib))
        .unwrap_or_else(|| {
            let message = format!("{text:?}: expected {least}MiB to {}GiB", most / 1024);
            wrong.push(Wrong::at("limits.memory", &message));
            MEMORY_MIB
        })
}

/// In thousandths; the schema has its bounds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the schema allows 0.08 to 8"
)]
fn cpu(cpu: Option<f64>) -> u32 {
    cpu.map_or(CPU_MILLI, |cpu| (cpu * 1000.0).round() as u32)
}

fn timeout(text: Option<&str>, wrong: &mut Vec<Wrong>) -> u32 {
    let Some(text) = text else {
        return TIMEOUT_SECONDS;
    };
    let read = parse_span(text).ok();
    let read = read.filter(|span| span.subsec_nanos() == 0);
    let read = read.and_then(|span| u32::try_from(span.as_secs()).ok());
    read.filter(|seconds| (1..=TIMEOUT_MAX_SECONDS).contains(seconds))
        .unwrap_or_else(|| {
            let message = format!("{text:?}: expected whole seconds, 1s to 60m");
            wrong.push(Wrong::at("timeout", &message));
            TIMEOUT_SECONDS
        })
}

fn read_canary(written: &WrittenCanary, wrong: &mut Vec<Wrong>) -> Option<Canary> {
    let percent = written.weight.strip_suffix('%');
    let percent = percent.and_then(|text| text.trim().parse::<u8>().ok());
    let percent = percent.filter(|percent| (1..=99).contains(percent));
    if percent.is_none() {
        let message = format!("{:?}: expected a percentage, 1% to 99%", written.weight);
        wrong.push(Wrong::at("canary.weight", &message));
    }
    let soak = parse_span(&written.soak).ok();
    let soak = soak.filter(|soak| *soak >= Duration::from_secs(1) && *soak <= SOAK_MAX);
    if soak.is_none() {
        let help = "for longer ones let an environment of its own come first";
        let message = format!("{:?}: expected 1s to 6m; {help}", written.soak);
        wrong.push(Wrong::at("canary.soak", &message));
    }
    Some(Canary {
        percent: percent?,
        soak: soak?,
    })
}

/// What Cloud Run has where nothing is written; written all the same, so that it is compared, too.
const PORT: u16 = 8080;
const MEMORY_MIB: u64 = 512;
const CPU_MILLI: u32 = 1000;
const CONCURRENCY: u32 = 80;
const TIMEOUT_SECONDS: u32 = 300;
const MAX_SCALE: u32 = 100;
/// Least and most memory of an instance, in MiB.
const MEMORY_BOUNDS_MIB: (u64, u64) = (128, 32 * 1024);
/// Longest time that a request may take, in seconds.
const TIMEOUT_MAX_SECONDS: u32 = 3600;
/// Longest soak: it happens within one converge, which has 9 minutes.
const SOAK_MAX: Duration = Duration::from_secs(6 * 60);
/// Variables that no template may set.
const SET_BY_CLOUD_RUN: [&str; 4] = ["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"];
