//! The objects that a workload wants: those of its template, and those of manifests in its artifacts.

use std::path::{Path, PathBuf};

use holdfast_protocol::workload::{Form, Placeholder, Workload};
use tokio_util::sync::CancellationToken;

use super::adapter::Inner;
use super::object::Object;
use super::order::rank;
use super::record::{AGENT_LABEL, SERVICE_LABEL};
use super::spec::{LABEL_PREFIX, OBJECTS_MAX, Template};
use super::{job, manifest, secret};
use crate::durable;
use crate::failure::Failure;
use crate::run::Wanted;
use crate::unpacked::lay_aside;

impl Inner {
    /// Every object that is wanted. Artifacts lie unpacked only while they are read.
    pub(super) fn read_objects(
        &self,
        wanted: &Wanted,
        template: &Template,
        cancel: &CancellationToken,
    ) -> Result<Vec<Object>, Failure> {
        let own = self.unpacked.join(wanted.workload.service.as_str());
        durable::make_directory(&own, 0o700)
            .map_err(durable::failed("cannot make room for artifacts"))?;
        let objects = self
            .lay_artifacts(wanted, &own, cancel)
            .and_then(|()| self.objects(wanted, template, &own));
        if let Err(error) = durable::remove_all(&own) {
            tracing::warn!(%error, "what was unpacked could not be removed");
        }
        objects
    }

    fn lay_artifacts(
        &self,
        wanted: &Wanted,
        own: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        for artifact in &wanted.workload.artifacts {
            let blob = wanted.artifacts.get(&artifact.name).ok_or_else(|| {
                Failure::Retryable(format!("artifact {} is not here yet", artifact.name))
            })?;
            let fresh = own.join(artifact.name.as_str());
            lay_aside(artifact, blob, &fresh, &|| cancel.is_cancelled())?;
        }
        Ok(())
    }

    /// Every object of a template and of its manifests, labelled, in the order of applying.
    fn objects(
        &self,
        wanted: &Wanted,
        template: &Template,
        own: &Path,
    ) -> Result<Vec<Object>, Failure> {
        let mut objects = template.objects.clone();
        for object in &mut objects {
            secret::fill(object, &wanted.secrets)?;
        }
        for text in &template.manifests {
            let read = manifest::read(&path(&wanted.workload, own, text)?)?;
            refuse_own_labels(&read)?;
            objects.extend(read);
        }
        if objects.len() > OBJECTS_MAX {
            let why = format!(
                "a set has at most {OBJECTS_MAX} objects; it has {}",
                objects.len()
            );
            return Err(Failure::Permanent(why));
        }
        if wanted.workload.job.is_some() {
            job::prepare(&mut objects, wanted.body).map_err(Failure::Permanent)?;
        }
        Ok(self.arranged(&wanted.workload, objects))
    }

    /// Labelled, in the order of applying; what runs to completion comes last.
    fn arranged(&self, workload: &Workload, objects: Vec<Object>) -> Vec<Object> {
        let service = workload.service.as_str();
        let labels = [(AGENT_LABEL, self.agent.as_str()), (SERVICE_LABEL, service)];
        let mut objects: Vec<Object> = objects
            .into_iter()
            .map(|object| object.labelled(labels))
            .collect();
        let runs = workload.job.is_some();
        objects.sort_by_key(|object| (runs && job::is_job(&object.name), rank(&object.name.kind)));
        objects
    }
}

/// Where manifests lie that a template names, in artifacts that are unpacked below `own`.
fn path(workload: &Workload, own: &Path, text: &str) -> Result<PathBuf, Failure> {
    let filled = Placeholder::fill(text, &|placeholder| match placeholder {
        Placeholder::ArtifactPath(name) => {
            let mut artifacts = workload.artifacts.iter();
            let artifact = artifacts.find(|artifact| artifact.name == *name)?;
            let place = own.join(artifact.name.as_str());
            let place = match artifact.form {
                Form::File => place.join(&artifact.file),
                Form::Tar | Form::TarGz | Form::TarZst | Form::Zip => place,
            };
            place.to_str().map(str::to_owned)
        }
        Placeholder::WorkloadDir => None,
    });
    filled
        .map(PathBuf::from)
        .map_err(|unknown| Failure::Permanent(format!("manifests: {unknown:?} has no path here")))
}

/// Labels of the agent's own say whose an object is, and which are its records: no artifact may.
fn refuse_own_labels(objects: &[Object]) -> Result<(), Failure> {
    for object in objects {
        let labels = object.body.pointer("/metadata/labels");
        let labels = labels.and_then(serde_json::Value::as_object);
        let mut keys = labels.into_iter().flatten().map(|(key, _)| key);
        if let Some(key) = keys.find(|key| key.starts_with(LABEL_PREFIX)) {
            return Err(Failure::Permanent(format!(
                "{}: label {key}: labels that begin with {LABEL_PREFIX} are the agent's own",
                object.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_does_not_say_what_is_the_agents() {
        let object = |labels: serde_json::Value| {
            let metadata = serde_json::json!({"name": "a", "labels": labels});
            let value =
                serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
            Object::parse(value).unwrap()
        };
        let plain = object(serde_json::json!({"app": "holdfast"}));
        assert_eq!(refuse_own_labels(std::slice::from_ref(&plain)), Ok(()));
        let forged = object(serde_json::json!({"holdfast.record": "x"}));
        let refused = refuse_own_labels(&[plain, forged]).unwrap_err();
        assert!(refused.to_string().contains("holdfast.record"), "{refused}");
    }
}
