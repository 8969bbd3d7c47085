//! What a wanted workload comes to on this target: units, files, artifacts. Decides nothing about
//! what is there already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::SecretName;
use holdfast_protocol::workload::{Form, Placeholder, Workload};

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::fields;
use crate::process::launch::User;
use crate::process::{files, user};
use crate::run::Wanted;
use crate::secret::Secret;
use crate::secret::memory::{Files, Laid, Memory};
use crate::systemd::extra::{self, Extra};
use crate::systemd::mark::Mark;
use crate::systemd::place::Place;
use crate::systemd::quote;
use crate::systemd::spec::{self, Reload, Template};
use crate::systemd::unit::{self, Filled, Held};
use crate::unpacked::Store;

/// The file of variables; its name is no secret's.
const ENVIRONMENT: &str = ".environment";
/// Most that systemd gives to one unit as credentials, in bytes (systemd.exec(5)).
const CREDENTIALS_MAX_BYTES: usize = 1 << 20;
/// Longest unit in bytes: systemd reads no line longer than this.
const UNIT_MAX_BYTES: usize = 1 << 20;

/// All that is to be there.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) body: Digest,
    pub(super) template: Template,
    /// Whether it runs to completion.
    pub(super) job: bool,
    /// Each unit's name and whole text.
    pub(super) units: BTreeMap<String, String>,
    /// Each file's path in the workload's directory, and its content.
    pub(super) files: BTreeMap<String, String>,
    /// What lies in memory for it.
    pub(super) secrets: Files,
    /// The same without content, and the links in its directory that lead to it.
    pub(super) laid: Laid,
    /// Who owns the files, where that is not the agent's own user.
    pub(super) user: Option<User>,
    pub(super) needs: BTreeSet<String>,
}

impl Plan {
    pub(super) fn digests(&self) -> BTreeMap<String, Digest> {
        files::digests(&self.files)
    }

    /// Whether systemd starts it by itself, at boot.
    pub(super) fn starts_by_itself(&self, unit: &str) -> bool {
        unit.ends_with(".timer") || !(self.is_scheduled() || self.job)
    }

    pub(super) const fn is_scheduled(&self) -> bool {
        self.template.schedule.is_some()
    }
}

/// Parses the template, fills its placeholders, finds its user and writes its units.
pub(super) fn plan(
    wanted: &Wanted,
    place: &Place,
    store: &Store,
    (home, memory): (&str, &Memory),
) -> Result<Plan, Failure> {
    let workload = &wanted.workload;
    let template = fields::arrived(workload, spec::parse)?;
    if workload.job.is_some() && template.schedule.is_some() {
        let why = "schedule: a job is run by the schedule of its service, not of its unit";
        return Err(Failure::Permanent(format!(
            "the template is refused: {why}"
        )));
    }
    let own = place.directory();
    let fill = |text: &str| {
        Placeholder::fill(text, &|p| resolve(p, workload, store, &own))
            .map_err(|inner| Failure::Permanent(format!("the template refers to {inner:?}")))
    };
    let user = match &template.user {
        Some(name) => user::find(name)?,
        None => None,
    };
    let (secrets, held) = hold(wanted, &template, memory)?;
    let laid = Laid {
        files: secrets.paths(),
        links: links(workload, &template),
    };
    let filled = Filled {
        secrets: held,
        ..filled(workload, &template, store, &own, &fill)?
    };
    let refused = |why: String| Failure::Permanent(format!("the template is refused: {why}"));
    let mut contents = BTreeMap::from([(
        unit::service_unit(&workload.service),
        unit::service(&filled).map_err(refused)?,
    )]);
    if let Some(schedule) = &template.schedule {
        let timer = unit::timer(&filled, schedule);
        contents.insert(unit::timer_unit(&workload.service), timer);
    }
    let files = fill_table(&template.files, &fill)?;
    Ok(Plan {
        body: wanted.body,
        job: workload.job.is_some(),
        units: seal(wanted, contents, home)?,
        files,
        secrets,
        laid,
        user,
        needs: workload.artifacts.iter().map(Store::key).collect(),
        template,
    })
}

/// What a placeholder stands for on this target.
pub(super) fn resolve(
    placeholder: &Placeholder,
    workload: &Workload,
    store: &Store,
    own: &Path,
) -> Option<String> {
    let path = match placeholder {
        Placeholder::WorkloadDir => own.to_owned(),
        Placeholder::ArtifactPath(name) => {
            store.path(workload.artifacts.iter().find(|a| a.name == *name)?)
        }
    };
    path.into_os_string().into_string().ok()
}

type Fill<'a> = dyn Fn(&str) -> Result<String, Failure> + 'a;

fn filled<'a>(
    workload: &'a Workload,
    template: &'a Template,
    store: &Store,
    own: &Path,
    fill: &Fill<'_>,
) -> Result<Filled<'a>, Failure> {
    let default = default_directory(workload, store).unwrap_or_else(|| own.to_owned());
    let directory = match &template.working_directory {
        Some(text) => default.join(fill(text)?),
        None => default,
    };
    let command = |words: &[String]| {
        let words: Result<Vec<_>, _> = words.iter().map(|word| fill(word)).collect();
        words.map(|words| located(words, &directory))
    };
    Ok(Filled {
        service: &workload.service,
        environment: &workload.environment,
        depends_on: &workload.depends_on,
        template,
        command: command(&template.command)?,
        reload: match &template.reload {
            Some(Reload::Command(words)) => Some(command(words)?),
            Some(Reload::Signal(_)) | None => None,
        },
        directory: directory.to_string_lossy().into_owned(),
        variables: fill_table(&template.environment, fill)?,
        secrets: Held::default(),
        job: workload.job.is_some(),
        unit: Extra {
            unit: fill_directives(&template.unit.unit, fill)?,
            service: fill_directives(&template.unit.service, fill)?,
        },
    })
}

/// What secrets stand for, as systemd takes it from memory: variables in one file, and files as
/// credentials.
fn hold(wanted: &Wanted, template: &Template, memory: &Memory) -> Result<(Files, Held), Failure> {
    let mut held = Held::default();
    if template.secret_environment.is_empty() && template.secret_files.is_empty() {
        return Ok((Files::default(), held));
    }
    // systemd itself reads them, as root.
    let mut files = memory.files(&wanted.workload.service, &wanted.secrets, None)?;
    if !template.secret_environment.is_empty() {
        let content = variables(wanted, template)?;
        held.environment = Some(files.put(ENVIRONMENT, content));
    }
    for name in template.secret_files.values() {
        let path = files.add(name, &wanted.secrets)?;
        held.credentials.insert(name.clone(), path);
    }
    let length = |name| wanted.secrets.value(name).map_or(0, <[u8]>::len);
    if held.credentials.keys().map(length).sum::<usize>() > CREDENTIALS_MAX_BYTES {
        return Err(Failure::Permanent(format!(
            "its files of secrets have together more than the {CREDENTIALS_MAX_BYTES} bytes that \
             systemd gives to one unit"
        )));
    }
    Ok((files, held))
}

fn variables(wanted: &Wanted, template: &Template) -> Result<Secret, Failure> {
    let mut lines = Zeroizing::new(String::new());
    for (name, secret) in &template.secret_environment {
        let value = wanted.secrets.text(secret)?;
        spec::check_value(value).map_err(|why| {
            Failure::Permanent(format!(
                "secret {secret}: the value of a variable {why}: give it to the workload as a file"
            ))
        })?;
        quote::assignment(&mut lines, name, value);
    }
    Ok(Secret::copy(lines.as_bytes()))
}

fn links(workload: &Workload, template: &Template) -> BTreeMap<String, PathBuf> {
    let one = |(path, name): (&String, &SecretName)| {
        (path.clone(), unit::credential(&workload.service, name))
    };
    template.secret_files.iter().map(one).collect()
}

/// systemd knows no program relative to the working directory.
fn located(mut words: Vec<String>, directory: &Path) -> Vec<String> {
    if let Some(program) = words.first_mut()
        && program.contains('/')
        && !program.starts_with('/')
    {
        *program = directory.join(&*program).to_string_lossy().into_owned();
    }
    words
}

/// The directory of the only unpacked artifact, if there is exactly one.
fn default_directory(workload: &Workload, store: &Store) -> Option<PathBuf> {
    let artifacts = workload.artifacts.iter();
    let mut unpacked = artifacts.filter(|artifact| artifact.form != Form::File);
    let only = unpacked.next()?;
    unpacked.next().is_none().then(|| store.path(only))
}

fn fill_table(
    table: &BTreeMap<String, String>,
    fill: &Fill<'_>,
) -> Result<BTreeMap<String, String>, Failure> {
    let filled = |(key, value): (&String, &String)| Ok((key.clone(), fill(value)?));
    table.iter().map(filled).collect()
}

fn fill_directives(
    directives: &[(String, String)],
    fill: &Fill<'_>,
) -> Result<Vec<(String, String)>, Failure> {
    let filled = |(name, value): &(String, String)| {
        let value = fill(value)?;
        // A path of this target may hold what the template itself may not.
        extra::check_value(&value)
            .map_err(|why| Failure::Permanent(format!("unit.{name}: {value:?} {why}")))?;
        Ok((name.clone(), value))
    };
    directives.iter().map(filled).collect()
}

fn seal(
    wanted: &Wanted,
    contents: BTreeMap<String, String>,
    home: &str,
) -> Result<BTreeMap<String, String>, Failure> {
    let mark = Mark {
        service: wanted.workload.service.clone(),
        version: wanted.workload.version.to_string(),
        body: wanted.body,
        home: home.to_owned(),
    };
    let sealed = |(name, content): (String, String)| {
        let text = mark.seal(&content);
        if text.len() > UNIT_MAX_BYTES {
            return Err(Failure::Permanent(format!(
                "command and environment are too large: {name} would be {} bytes, at most {UNIT_MAX_BYTES}",
                text.len()
            )));
        }
        Ok((name, text))
    };
    contents.into_iter().map(sealed).collect()
}
