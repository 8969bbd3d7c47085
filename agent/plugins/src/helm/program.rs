//! helm and kubectl, asked about one release.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use serde_json::Value;

use super::place::Place;
use super::sight::{self, Listed};
use super::{CHANGE_LIMIT, Drift, Template};
use crate::child::{Child, Ran};
use crate::{Call, Failure, environment, secret, span};

/// The label of a release that says whose it is.
const OWNER: &str = "holdfast-workload";
/// Revisions that helm keeps; the way back is Holdfast's.
const HISTORY: &str = "--history-max=5";
/// What kubectl compares by; its output is read here.
const DIFFER: &str = "diff -u -N";
/// Time that a question has.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Time that helm has less than its call, to note that it failed instead of being killed.
const MARGIN: Duration = Duration::from_secs(10);

/// The programs, and what they are asked about.
pub(super) struct Programs<'c> {
    pub(super) call: &'c Call<'c, Template>,
    pub(super) place: &'c Place,
}

impl<'c> Programs<'c> {
    pub(super) const fn new(call: &'c Call<'c, Template>, place: &'c Place) -> Self {
        Self { call, place }
    }

    /// The release, where it is this workload's.
    pub(super) fn own(&self) -> Result<Option<Listed>, Failure> {
        let owner = format!("--selector={OWNER}={}", self.owner());
        self.listed(&[&owner])
    }

    /// The release, whosever it is.
    pub(super) fn anybodys(&self) -> Result<Option<Listed>, Failure> {
        self.listed(&[])
    }

    fn listed(&self, selector: &[&str]) -> Result<Option<Listed>, Failure> {
        let filter = format!("--filter=^{}$", self.place.release);
        let list = ["list", "--all", "--output=json", &filter];
        let ran = self.look(&self.helm(list.iter().chain(selector)))?;
        well(&ran)?;
        sight::listed(&ran.output)
    }

    /// The objects that the release is made of, as its chart says.
    pub(super) fn manifest(&self) -> Result<Vec<u8>, Failure> {
        let ran = self.look(&self.helm(&["get", "manifest", &self.place.release]))?;
        well(&ran)?;
        Ok(ran.output)
    }

    /// The objects that are not as in the manifest.
    pub(super) fn differing(&self, manifest: &[u8]) -> Result<Vec<String>, Failure> {
        if self.call.template.drift == Drift::None || sight::is_empty(manifest) {
            return Ok(Vec::new());
        }
        let ran = self.look(&self.kubectl(&["diff", "-f", "-"], manifest))?;
        let names = sight::differing(&ran.output);
        match ran.code {
            Some(0) => Ok(Vec::new()),
            // Some say that there are differences, and some that they could not know, with 1.
            Some(1) if !names.is_empty() => Ok(names),
            Some(_) | None => Err(unknown(&ran)),
        }
    }

    /// The workloads of the manifest that are not ready, each with why.
    pub(super) fn unready(&self, manifest: &[u8]) -> Result<Vec<String>, Failure> {
        if sight::is_empty(manifest) {
            return Ok(Vec::new());
        }
        let wanted = ["get", "-f", "-", "--output=json", "--ignore-not-found"];
        let ran = self.look(&self.kubectl(&wanted, manifest))?;
        if !ran.succeeded() {
            return Err(unknown(&ran));
        }
        sight::unready(&ran.output)
    }

    /// Installs the chart, or changes what is installed to it, and waits until it is ready.
    pub(super) fn upgrade(&self, chart: &Path) -> Result<(), Failure> {
        let (call, chart) = (self.call, chart.display().to_string());
        let labels = format!("--labels={OWNER}={}", self.owner());
        let (service, version, body) = (&call.service, &call.version, call.body.short());
        let description = format!("--description=Holdfast: {service} {version}, {body}");
        let timeout = self.timeout();
        let mut arguments = vec![
            "upgrade",
            "--install",
            &self.place.release,
            &chart,
            "--wait",
            &labels,
            &description,
            &timeout,
            HISTORY,
        ];
        if call.template.create_namespace {
            arguments.push("--create-namespace");
        }
        let files: Vec<String> = call
            .template
            .values_files
            .iter()
            .map(|path| format!("--values={}", path.display()))
            .collect();
        arguments.extend(files.iter().map(String::as_str));
        // The template's own values last: they win.
        arguments.push("--values=-");
        let values = Value::Object(call.template.values.clone());
        let values = secret::filled(call, &values, None)?;
        let child = Child {
            input: values.to_string().into_bytes(),
            ..self.helm(&arguments)
        };
        self.change(&child)
    }

    pub(super) fn uninstall(&self) -> Result<(), Failure> {
        let timeout = self.timeout();
        let release = self.place.release.as_str();
        self.change(&self.helm(&["uninstall", release, "--wait", &timeout]))
    }

    /// Puts the revision before back, so that the release is no longer locked. It is not waited
    /// for: another change follows.
    pub(super) fn roll_back(&self) -> Result<(), Failure> {
        self.change(&self.helm(&["rollback", &self.place.release, HISTORY]))
    }

    /// Runs what changes something. What it prints are notes for people who hold the secrets that
    /// may stand in them; its errors are kept.
    fn change(&self, child: &Child) -> Result<(), Failure> {
        well(&self.call.run(child, self.call.left())?)
    }

    fn look(&self, child: &Child) -> Result<Ran, Failure> {
        child.run(LOOK_LIMIT.min(self.call.left()), &|_| {})
    }

    fn helm<'w>(&self, arguments: impl IntoIterator<Item = &'w &'w str>) -> Child {
        let context = self.place.context.as_deref();
        let context = context.map(|context| format!("--kube-context={context}"));
        self.child("helm", context, arguments)
    }

    fn kubectl(&self, arguments: &[&str], manifest: &[u8]) -> Child {
        let context = self.place.context.as_deref();
        let context = context.map(|context| format!("--context={context}"));
        Child {
            input: manifest.to_vec(),
            ..self.child("kubectl", context, arguments)
        }
    }

    fn child<'w>(
        &self,
        program: &str,
        context: Option<String>,
        arguments: impl IntoIterator<Item = &'w &'w str>,
    ) -> Child {
        let mut command = vec![
            program.to_owned(),
            format!("--namespace={}", self.place.namespace),
        ];
        command.extend(context);
        command.extend(arguments.into_iter().map(|word| (*word).to_owned()));
        Child {
            command,
            environment: self.surroundings(),
            ..Child::default()
        }
    }

    /// What both keep lies in the workload's directory, and is nobody else's.
    fn surroundings(&self) -> BTreeMap<String, String> {
        let mut surroundings = environment::of(self.call, &BTreeMap::new());
        let room = self.call.directory().join("helm");
        let own = |(name, part): (&str, &str)| {
            let path = room.join(part).display().to_string();
            (name.to_owned(), path)
        };
        let homes = [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
            ("KUBECACHEDIR", "cluster"),
        ];
        surroundings.extend(homes.map(own));
        let differ = ("KUBECTL_EXTERNAL_DIFF".to_owned(), DIFFER.to_owned());
        surroundings.extend([differ]);
        surroundings
    }

    /// Whose a release is, as the value of a label.
    fn owner(&self) -> String {
        sight::label(&Digest::of(self.call.id.as_bytes()))
    }

    fn timeout(&self) -> String {
        let wanted = span::read(self.call.template.timeout.as_deref(), CHANGE_LIMIT);
        let limit = wanted.min(self.call.left().saturating_sub(MARGIN));
        format!("--timeout={}s", limit.as_secs().max(1))
    }
}

fn well(ran: &Ran) -> Result<(), Failure> {
    if ran.succeeded() {
        return Ok(());
    }
    Err(sight::failure(format!("helm {}", ran.why())))
}

fn unknown(ran: &Ran) -> Failure {
    Failure::Retryable(format!("kubectl {}", ran.why()))
}
