//! Workload bodies: what the desired state asks one target to run, complete, addressed by digest.
//!
//! A body is rendered by the coordinator. Only what the target alone can know is left open in its
//! template: the paths of artifacts and of the workload's own directory, marked by two characters of
//! Unicode's private use area that a manifest may not contain (see [`Placeholder`]).

use std::time::Duration;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::digest::Digest;
use crate::home::Home;
use crate::login::{Goal, Login};
use crate::name::{ArtifactName, EnvironmentName, ServiceName, Version};
use crate::time::Timestamp;

/// Largest encoded workload body, in bytes: four bodies fit one frame.
pub const BODY_MAX_BYTES: usize = 240 * 1024;

/// A workload body on the wire and on disk. New shapes become new variants.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// The first shape: what runs for ever. Its `job` is none.
    V1(Workload),
    /// What runs to completion: the first shape, and how.
    V2(Workload, JobTerms),
    /// Either, and for each of its artifacts, in their order, where it stays if it was not uploaded.
    V3(Workload, Option<JobTerms>, Vec<Option<Home>>),
    /// The same, and with which secrets it is fetched: at least one.
    V4(Workload, Option<JobTerms>, Vec<Option<Home>>, Vec<Login>),
}

/// What one target shall run of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The service; also the workload's name on its target.
    pub service: ServiceName,
    /// The environment that the target belongs to.
    pub environment: EnvironmentName,
    /// The release.
    pub version: Version,
    /// The release's place in the order of the service's releases, from 1.
    pub sequence: u64,
    /// Digest of the track's configuration that this body was rendered from.
    pub configuration: Digest,
    /// The adapter: `process`, `static`, or a later one.
    pub runtime: String,
    /// The adapter's template as one JSON object, rendered but for its [`Placeholder`]s.
    pub template: String,
    /// The artifacts it needs, sorted by name.
    pub artifacts: Vec<Artifact>,
    /// How to tell that it is ready; without one, the runtime's own word counts.
    pub health: Option<Health>,
    /// Services that must be ready on the same target before this one starts.
    pub depends_on: Vec<ServiceName>,
    /// Who puts the previous release back when this one does not become ready.
    pub rollback: Rollback,
    /// How long it may take to become ready, in milliseconds, before it counts as failed.
    pub progress_deadline_ms: u64,
    /// How it runs to completion; none for what runs for ever. Not one of the first shape's fields.
    pub job: Option<JobTerms>,
    /// With which secrets it is fetched, sorted. Not one of the first shape's fields.
    pub logins: Vec<Login>,
}

/// How a job runs to completion on one target. It is ready once it has ended with exit code 0, and is
/// not run again for the same body; a body of another run differs in `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct JobTerms {
    /// When this run was due, or asked for; none for the one run of a release.
    pub run: Option<Timestamp>,
    /// How often it is started before it has failed; at least 1.
    pub attempts: u32,
    /// How long one attempt may take, in milliseconds; then it is stopped and has failed.
    pub time_limit_ms: u64,
}

/// Who puts the previous release back on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum Rollback {
    /// The coordinator, by a new assignment.
    #[default]
    Central,
    /// The agent itself, at once and also while disconnected; the failure is reported either way.
    Local,
}

/// One immutable thing that a workload needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Artifact {
    /// The name that templates use: `artifacts.NAME.path`.
    pub name: ArtifactName,
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// The file's own name, from the manifest; safe as one path component.
    pub file: String,
    /// How it is laid down on the target.
    pub form: Form,
    /// Where it stays; none where the coordinator keeps it. Not one of the first shape's fields.
    pub home: Option<Home>,
}

/// How an artifact is laid down on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Form {
    /// One file, executable.
    File,
    /// A tar archive, unpacked into a directory.
    Tar,
    /// A gzip-compressed tar archive.
    TarGz,
    /// A Zstandard-compressed tar archive.
    TarZst,
    /// A zip archive.
    Zip,
}

impl Form {
    /// The form that a file's name asks for.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|e| name.ends_with(e));
        if ends(&[".tar.gz", ".tgz"]) {
            Self::TarGz
        } else if ends(&[".tar.zst", ".tzst"]) {
            Self::TarZst
        } else if ends(&[".tar"]) {
            Self::Tar
        } else if ends(&[".zip"]) {
            Self::Zip
        } else {
            Self::File
        }
    }
}

/// How to tell that a workload is ready. All spans are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Time between two checks.
    pub interval_ms: u64,
    /// Time one check may take.
    pub timeout_ms: u64,
    /// Checks in a row that must pass before it is ready.
    pub success_threshold: u32,
    /// Checks in a row that must fail before it is no longer ready.
    pub failure_threshold: u32,
    /// Time after a start in which failures do not count.
    pub start_period_ms: u64,
}

/// One kind of health check. Texts may hold [`Placeholder`]s.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Check {
    /// A GET that must answer with a status from 200 to 399, or exactly `expect`.
    Http {
        /// `http://HOST:PORT/PATH`
        url: String,
        /// The one status that passes, if not the whole range.
        expect: Option<u16>,
    },
    /// A TCP connection that must be accepted.
    Tcp {
        /// `HOST:PORT`
        address: String,
    },
    /// A program that must exit with 0.
    Exec {
        /// Program and arguments; no shell.
        command: Vec<String>,
    },
}

impl Health {
    /// Time between two checks.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// Time one check may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl JobTerms {
    /// How long one attempt may take.
    #[must_use]
    pub const fn time_limit(&self) -> Duration {
        Duration::from_millis(self.time_limit_ms)
    }
}

/// The first shape, field by field: what the job's terms are is beside it in the body.
impl Encode for Workload {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let name = (&self.service, &self.environment);
        let release = (&self.version, &self.sequence, &self.configuration);
        let what = (&self.runtime, &self.template, &self.artifacts);
        let how = (&self.health, &self.depends_on, &self.rollback);
        (name, release, what, how, &self.progress_deadline_ms).encode(encoder)
    }
}

impl<Context> Decode<Context> for Workload {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            service: Decode::decode(decoder)?,
            environment: Decode::decode(decoder)?,
            version: Decode::decode(decoder)?,
            sequence: Decode::decode(decoder)?,
            configuration: Decode::decode(decoder)?,
            runtime: Decode::decode(decoder)?,
            template: Decode::decode(decoder)?,
            artifacts: Decode::decode(decoder)?,
            health: Decode::decode(decoder)?,
            depends_on: Decode::decode(decoder)?,
            rollback: Decode::decode(decoder)?,
            progress_deadline_ms: Decode::decode(decoder)?,
            job: None,
            logins: Vec::new(),
        })
    }
}

bincode::impl_borrow_decode!(Workload);

/// The first shape, field by field: homes are beside it in the body.
impl Encode for Artifact {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let content = (&self.name, &self.digest, &self.size);
        (content, &self.file, &self.form).encode(encoder)
    }
}

impl<Context> Decode<Context> for Artifact {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            name: Decode::decode(decoder)?,
            digest: Decode::decode(decoder)?,
            size: Decode::decode(decoder)?,
            file: Decode::decode(decoder)?,
            form: Decode::decode(decoder)?,
            home: None,
        })
    }
}

bincode::impl_borrow_decode!(Artifact);

impl Workload {
    /// How long it may take to become ready before it counts as failed.
    #[must_use]
    pub const fn progress_deadline(&self) -> Duration {
        Duration::from_millis(self.progress_deadline_ms)
    }

    /// The login that an artifact is fetched with from its home, and the host that it is for.
    #[must_use]
    pub fn login_of(&self, artifact: &ArtifactName) -> Option<(&Login, Option<&str>)> {
        self.logins.iter().find_map(|login| match &login.goal {
            Goal::File { artifact: of, host } if of == artifact => Some((login, host.as_deref())),
            Goal::File { .. } | Goal::Image { .. } => None,
        })
    }

    /// The canonical bytes of the body and their digest, which is the body's name.
    #[must_use]
    pub fn seal(self) -> (Digest, Vec<u8>) {
        let homes: Vec<_> = self.artifacts.iter().map(|a| a.home.clone()).collect();
        let bytes = codec::encode(&match self.job {
            job if !self.logins.is_empty() => {
                let logins = self.logins.clone();
                Body::V4(self, job, homes, logins)
            }
            job if homes.iter().any(Option::is_some) => Body::V3(self, job, homes),
            None => Body::V1(self),
            Some(terms) => Body::V2(self, terms),
        });
        (Digest::of(&bytes), bytes)
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`CodecError`] where the bytes are not one canonical body of at most [`BODY_MAX_BYTES`], or
    /// hold more or fewer homes than artifacts.
    pub fn open(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(match codec::decode::<Body>(bytes, BODY_MAX_BYTES)? {
            Body::V1(workload) => workload,
            Body::V2(workload, terms) => Self {
                job: Some(terms),
                ..workload
            },
            Body::V3(workload, job, homes) => Self {
                artifacts: at_home(workload.artifacts, some(homes)?)?,
                job,
                ..workload
            },
            Body::V4(workload, job, homes, logins) => Self {
                logins: canonical(logins, &workload.artifacts)?,
                artifacts: at_home(workload.artifacts, homes)?,
                job,
                ..workload
            },
        })
    }
}

/// Homes that are not all elsewhere: without one it would have been an earlier shape.
fn some(homes: Vec<Option<Home>>) -> Result<Vec<Option<Home>>, CodecError> {
    let any = homes.iter().any(Option::is_some);
    any.then_some(homes).ok_or(CodecError::NotCanonical)
}

/// Logins in order, one for each goal: nobody has to choose between two secrets.
fn canonical(logins: Vec<Login>, artifacts: &[Artifact]) -> Result<Vec<Login>, CodecError> {
    let ordered = !logins.is_empty() && logins.is_sorted_by(|one, next| one.goal < next.goal);
    let each = logins.iter().all(|login| login.is_canonical(artifacts));
    (ordered && each)
        .then_some(logins)
        .ok_or(CodecError::NotCanonical)
}

fn at_home(
    artifacts: Vec<Artifact>,
    homes: Vec<Option<Home>>,
) -> Result<Vec<Artifact>, CodecError> {
    if artifacts.len() != homes.len() {
        return Err(CodecError::NotCanonical);
    }
    let both = artifacts.into_iter().zip(homes);
    Ok(both
        .map(|(artifact, home)| Artifact { home, ..artifact })
        .collect())
}

/// Something only the target knows, standing in a rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    /// Path of an artifact: its directory when unpacked, else its file.
    ArtifactPath(ArtifactName),
    /// The workload's own directory.
    WorkloadDir,
}

/// Opens a placeholder in a rendered text. Manifests may not contain this character.
pub const PLACEHOLDER_OPEN: char = '\u{e000}';
/// Closes a placeholder in a rendered text. Manifests may not contain this character.
pub const PLACEHOLDER_CLOSE: char = '\u{e001}';

impl Placeholder {
    /// The placeholder as it stands in a rendered text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::ArtifactPath(name) => {
                format!("{PLACEHOLDER_OPEN}artifact:{name}{PLACEHOLDER_CLOSE}")
            }
            Self::WorkloadDir => format!("{PLACEHOLDER_OPEN}dir{PLACEHOLDER_CLOSE}"),
        }
    }

    fn parse(inner: &str) -> Option<Self> {
        match inner.split_once(':') {
            Some(("artifact", name)) => ArtifactName::parse(name).ok().map(Self::ArtifactPath),
            None if inner == "dir" => Some(Self::WorkloadDir),
            Some(_) | None => None,
        }
    }

    /// Replaces every placeholder of `text` by what `resolve` gives for it.
    ///
    /// # Errors
    /// The inner text of the first placeholder that is malformed or that `resolve` does not know.
    pub fn fill(text: &str, resolve: &dyn Fn(&Self) -> Option<String>) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(PLACEHOLDER_OPEN) {
            filled.push_str(before);
            let (inner, tail) = after
                .split_once(PLACEHOLDER_CLOSE)
                .ok_or_else(|| after.to_owned())?;
            let value = Self::parse(inner).as_ref().and_then(resolve);
            filled.push_str(&value.ok_or_else(|| inner.to_owned())?);
            rest = tail;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_how_it_is_laid_down() {
        for (name, form) in [
            ("web.tar.gz", Form::TarGz),
            ("WEB.TGZ", Form::TarGz),
            ("site.tar.zst", Form::TarZst),
            ("site.tar", Form::Tar),
            ("site.zip", Form::Zip),
            ("server", Form::File),
            ("notes.txt", Form::File),
        ] {
            assert_eq!(Form::of_file(name), form, "{name}");
        }
    }

    #[test]
    fn placeholders_are_filled_and_unknown_ones_named() {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap());
        let text = format!(
            "{}/bin/web --dir={}",
            app.text(),
            Placeholder::WorkloadDir.text()
        );
        let known = |p: &Placeholder| match p {
            Placeholder::ArtifactPath(name) => Some(format!("/store/{name}")),
            Placeholder::WorkloadDir => Some("/w".to_owned()),
        };
        assert_eq!(
            Placeholder::fill(&text, &known).unwrap(),
            "/store/app/bin/web --dir=/w"
        );
        assert_eq!(
            Placeholder::fill(&text, &|_| None).unwrap_err(),
            "artifact:app"
        );
        assert_eq!(
            Placeholder::fill("\u{e000}what\u{e001}", &known).unwrap_err(),
            "what"
        );
        assert_eq!(Placeholder::fill("\u{e000}dir", &known).unwrap_err(), "dir");
        assert_eq!(Placeholder::fill("plain", &known).unwrap(), "plain");
    }
}
