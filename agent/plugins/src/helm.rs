//! The plugin `helm`: a chart, installed as one release of Helm.
//!
//! *Expected flow*: converge is `upgrade --install`, without helm's own way back, which is Holdfast's
//! to go. Observe asks which release there is, compares its objects with the cluster by
//! `kubectl diff`, and asks whether its workloads are ready. *Guarantees*: whose a release is stands
//! in labels of the release itself, and one without them is refused; values go by standard input.
//! *Assumptions*: `helm` is 3.13 or newer, `kubectl` is there, and both find the cluster by the
//! plugin's environment.

mod place;
mod program;
mod sight;

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{About, Call, Failure, Plugin, Sighting, State, Wrong, memory, span};
use place::Place;
use program::Programs;
use sight::{Listed, Status};

/// The plugin.
pub struct Helm;

/// Its template.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    chart: PathBuf,
    namespace: String,
    release: Option<String>,
    #[serde(default)]
    create_namespace: bool,
    #[serde(default)]
    values: Map<String, Value>,
    #[serde(default)]
    values_files: Vec<PathBuf>,
    context: Option<String>,
    #[serde(default)]
    drift: Drift,
    timeout: Option<String>,
}

/// How it is looked whether somebody changed an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Drift {
    /// By `kubectl diff`, which asks the API server what it would change and changes nothing.
    #[default]
    Diff,
    /// Not at all; whether everything is ready is looked at all the same.
    None,
}

/// What is remembered of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// The body and helm's revision of it, once all of it is so.
    done: Option<(Digest, String)>,
    place: Place,
}

impl Plugin for Helm {
    type Template = Template;

    fn about(&self) -> About {
        let text = json!({"type": "string", "minLength": 1});
        About {
            version: env!("CARGO_PKG_VERSION"),
            summary: "a chart of Helm",
            template: json!({
                "type": "object", "required": ["chart", "namespace"], "additionalProperties": false,
                "properties": {
                    "chart": text, "context": text, "timeout": text,
                    "namespace": {"type": "string", "minLength": 1, "maxLength": 63},
                    "release": {"type": "string", "minLength": 1, "maxLength": RELEASE_MAX},
                    "createNamespace": {"type": "boolean"},
                    "values": {"type": "object"},
                    "valuesFiles": {"type": "array", "items": text},
                    "drift": {"enum": ["diff", "none"]},
                },
            }),
            logs: true,
            interval_seconds: 30,
        }
    }

    fn problems(&self, call: &Call<'_, Template>) -> Vec<Wrong> {
        let template = &call.template;
        let mut problems: Vec<Wrong> = span::problem("timeout", template.timeout.as_deref())
            .into_iter()
            .collect();
        problems.extend(place::problems(call));
        problems.extend(
            chart(&template.chart)
                .err()
                .map(|why| Wrong::at("chart", &why)),
        );
        let files = template.values_files.iter().enumerate();
        problems.extend(files.filter_map(|(number, path)| {
            let why = not_a_file(path)?;
            Some(Wrong::at(&format!("valuesFiles[{number}]"), &why))
        }));
        problems
    }

    fn observe(&self, call: &Call<'_, Template>) -> Result<Sighting, Failure> {
        let place = Place::of(call);
        let programs = Programs::new(call, &place);
        let made: Option<Made> = memory::recall(call.directory(), MADE);
        let done = made.and_then(|made| made.done);
        let body = done.as_ref().map(|(body, _)| *body);
        let (state, message) = match programs.own()? {
            None => (State::Absent, Some(format!("there is no release {place}"))),
            Some(listed) => seen(&programs, &listed, done.map(|(_, revision)| revision))?,
        };
        Ok(Sighting {
            body,
            message,
            ..call.seen(state)
        })
    }

    fn converge(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let place = Place::of(call);
        let programs = Programs::new(call, &place);
        let chart = chart(&call.template.chart).map_err(Failure::Permanent)?;
        let made: Option<Made> = memory::recall(call.directory(), MADE);
        let found = programs.own()?;
        match &found {
            Some(found) if is_so(&programs, found, made.as_ref())? => {
                call.progress("unchanged");
                return Ok(());
            }
            Some(_) => {}
            None => refuse_another(&programs)?,
        }
        if let Some(before) = elsewhere(made, &place) {
            remove(call, &before)?;
        }
        let begun = Made {
            done: None,
            place: place.clone(),
        };
        memory::remember(call.directory(), MADE, &begun)?;
        if let Some(found) = &found {
            end_what_was_cut_off(&programs, found)?;
        }
        programs.upgrade(&chart)?;
        let revision = settled(&programs)?;
        let made = Made {
            done: Some((call.body, revision)),
            place,
        };
        memory::remember(call.directory(), MADE, &made)
    }

    fn remove(&self, call: &Call<'_, Template>) -> Result<(), Failure> {
        let made: Option<Made> = memory::recall(call.directory(), MADE);
        let now = Place::of(call);
        if let Some(before) = elsewhere(made, &now) {
            remove(call, &before)?;
        }
        remove(call, &now)
    }
}

/// What a release of ours does.
fn seen(
    programs: &Programs<'_>,
    listed: &Listed,
    revision: Option<String>,
) -> Result<(State, Option<String>), Failure> {
    let altered = |what: String| Ok((State::Altered, Some(what)));
    match listed.status() {
        Status::Leaving => return Ok((State::Absent, Some("it was uninstalled".to_owned()))),
        Status::Installing | Status::Changing => {
            return altered("a change did not come to its end".to_owned());
        }
        Status::Failed => return Ok((State::Failing, Some("its last change failed".to_owned()))),
        Status::Deployed => {}
    }
    if revision.is_some_and(|revision| revision != listed.revision) {
        return altered(format!(
            "revision {} was made by somebody else",
            listed.revision
        ));
    }
    let manifest = programs.manifest()?;
    let names = programs.differing(&manifest)?;
    if !names.is_empty() {
        return altered(format!("not as in the chart: {}", sight::named(&names)));
    }
    let unready = programs.unready(&manifest)?;
    if unready.is_empty() {
        return Ok((State::Running, None));
    }
    Ok((State::Starting, Some(sight::named(&unready))))
}

/// Whether nothing is to be done: made of this body, and by nobody changed since.
fn is_so(programs: &Programs<'_>, found: &Listed, made: Option<&Made>) -> Result<bool, Failure> {
    let Some((body, revision)) = made.and_then(|made| made.done.as_ref()) else {
        return Ok(false);
    };
    let same = *body == programs.call.body
        && found.revision == *revision
        && found.status() == Status::Deployed;
    Ok(same && programs.differing(&programs.manifest()?)?.is_empty())
}

/// The revision that an upgrade made, where all of it is as the chart says.
fn settled(programs: &Programs<'_>) -> Result<String, Failure> {
    let place = programs.place;
    let listed = programs.own()?.ok_or_else(|| {
        Failure::Retryable(format!("release {place} is not there after its upgrade"))
    })?;
    // Helm compares custom resources with the chart before, and not with what there is.
    let names = programs.differing(&programs.manifest()?)?;
    if !names.is_empty() {
        return Err(Failure::Retryable(format!(
            "helm left what is not as in the chart: {}; delete it, and it is made anew, or write \
             `drift: none`",
            sight::named(&names)
        )));
    }
    programs.call.output(&format!(
        "{place} is revision {}, chart {}, of release {}",
        listed.revision, listed.chart, programs.call.version
    ));
    Ok(listed.revision)
}

/// Where it was before, if that was somewhere else.
fn elsewhere(made: Option<Made>, now: &Place) -> Option<Place> {
    made.map(|made| made.place).filter(|before| before != now)
}

fn remove(call: &Call<'_, Template>, place: &Place) -> Result<(), Failure> {
    let programs = Programs::new(call, place);
    match programs.own()? {
        Some(_) => programs.uninstall(),
        None => Ok(()),
    }
}

/// A change that was killed leaves the release locked. No other change of it runs now.
fn end_what_was_cut_off(programs: &Programs<'_>, found: &Listed) -> Result<(), Failure> {
    let end = match found.status() {
        Status::Deployed | Status::Failed => return Ok(()),
        Status::Installing | Status::Leaving => Programs::uninstall,
        Status::Changing => Programs::roll_back,
    };
    programs.call.output("ending a change that was cut off");
    end(programs)
}

fn refuse_another(programs: &Programs<'_>) -> Result<(), Failure> {
    if programs.anybodys()?.is_none() {
        return Ok(());
    }
    Err(Failure::Permanent(format!(
        "release {} is there already, and is not of this workload: uninstall it, or choose another \
         `release`",
        programs.place
    )))
}

/// The chart's directory or archive: what lies at `path`, or the one directory in it that is a chart.
fn chart(path: &Path) -> Result<PathBuf, String> {
    let is_chart = |path: &Path| path.join("Chart.yaml").is_file();
    if !path.is_absolute() {
        return Err(format!(
            "{} is no whole path: charts come from artifacts, {{{{ artifacts.NAME.path }}}}",
            path.display()
        ));
    }
    if path.is_file() || is_chart(path) {
        return Ok(path.to_owned());
    }
    let entries = std::fs::read_dir(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let mut charts = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_chart(path));
    match (charts.next(), charts.next()) {
        (Some(chart), None) => Ok(chart),
        (None, _) => Err(format!(
            "{} has no Chart.yaml, and no directory in it has one",
            path.display()
        )),
        (Some(_), Some(_)) => Err(format!(
            "{} has several charts: name one of its directories",
            path.display()
        )),
    }
}

/// Why it is not a file that is read: helm would also take an address, or its own input.
fn not_a_file(path: &Path) -> Option<String> {
    if !path.is_absolute() {
        return Some(format!("{} is no whole path, from /", path.display()));
    }
    let file = std::fs::metadata(path);
    match file {
        Ok(file) if file.is_file() => None,
        Ok(_) => Some(format!("{} is no file", path.display())),
        Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
    }
}

/// The file of what is remembered.
const MADE: &str = "made.json";
/// Longest name of a release, in characters.
const RELEASE_MAX: usize = 53;
/// Time that a change has unless the template says otherwise.
const CHANGE_LIMIT: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_found_where_an_archive_was_unpacked() {
        let room = tempfile::tempdir().unwrap();
        let at = |path: &str| room.path().join(path);
        let why = |path: &Path| chart(path).unwrap_err();
        assert!(why(room.path()).contains("has no Chart.yaml"));
        std::fs::create_dir(at("web")).unwrap();
        std::fs::write(at("web/Chart.yaml"), "name: web").unwrap();
        assert_eq!(chart(room.path()), Ok(at("web")));
        assert_eq!(chart(&at("web")), Ok(at("web")));
        std::fs::create_dir(at("other")).unwrap();
        std::fs::write(at("other/Chart.yaml"), "name: other").unwrap();
        assert!(why(room.path()).contains("several charts"));
        assert!(why(Path::new("stable/web")).contains("no whole path"));
        assert!(why(&at("gone")).contains("cannot be read"));
    }

    #[test]
    fn values_come_from_files_alone() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("values.yaml");
        std::fs::write(&file, "").unwrap();
        assert_eq!(not_a_file(&file), None);
        for wrong in ["-", "https://example.com/values.yaml", "/nowhere", "/tmp"] {
            assert!(not_a_file(Path::new(wrong)).is_some(), "{wrong}");
        }
    }
}
