//! What a job is in a cluster: one Job of its set, whose end is the result. Pure.
//!
//! How often it is tried is the agent's to say, so a Job tries once unless its manifest says more. The
//! Job itself says which body it is an attempt of, so whoever lost everything else knows what was
//! begun. It comes last of its set: where it is there, all else is done.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::converge::{Placed, Step, left};
use super::object::{Name, Object};
use super::readiness::{self, Readiness};
use super::record::Left;

/// The annotation of a Job: the digest of the body that it is an attempt of.
const BODY: &str = "holdfast.body";

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Of which body.
    pub(super) body: Digest,
    /// When it was begun.
    pub(super) since: Timestamp,
    /// When it ended, if it has.
    pub(super) ended: Option<Timestamp>,
}

/// Whether an object is a Job.
pub(super) fn is_job(name: &Name) -> bool {
    name.group() == "batch" && name.kind == "Job"
}

/// Makes the one Job of a set an attempt of a body, and lets it try once where its manifest does not
/// say otherwise.
///
/// # Errors
/// Where there is not exactly one, or its result would not stay.
pub(super) fn prepare(objects: &mut [Object], body: Digest) -> Result<(), String> {
    let mut jobs = objects.iter_mut().filter(|object| is_job(&object.name));
    let (Some(job), None) = (jobs.next(), jobs.next()) else {
        return Err("a job of this runtime needs exactly one Job in its set".to_owned());
    };
    let Some(spec) = job.body.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err(format!("{}: spec is missing", job.name));
    };
    if spec.contains_key("ttlSecondsAfterFinished") {
        return Err(format!(
            "{}: leave ttlSecondsAfterFinished out: a Job that is gone would be run again",
            job.name
        ));
    }
    spec.entry("backoffLimit").or_insert(json!(0));
    if let Some(pod) = spec
        .get_mut("template")
        .and_then(|template| template.get_mut("spec"))
        .and_then(Value::as_object_mut)
    {
        pod.entry("restartPolicy").or_insert(json!("Never"));
    }
    job.annotate(BODY, &body.to_string());
    Ok(())
}

/// Which attempt a live Job is; none where it is none, or is just going.
pub(super) fn attempt(live: &Value) -> Option<Attempt> {
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion")?.split_once('/')?.0;
    if group != "batch" || text("/kind") != Some("Job") {
        return None;
    }
    if text("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let body = live.pointer("/metadata/annotations")?.get(BODY)?.as_str()?;
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let end = conditions.into_iter().flatten().find(|condition| {
        let says = |key: &str| condition.get(key).and_then(Value::as_str);
        matches!(says("type"), Some("Complete" | "Failed")) && says("status") == Some("True")
    });
    let ended = end.and_then(|end| end.get("lastTransitionTime")?.as_str()?.parse().ok());
    Some(Attempt {
        body: body.parse().ok()?,
        since: text("/metadata/creationTimestamp")?.parse().ok()?,
        ended,
    })
}

/// What the Job of a set needs: nothing where it runs, or has done what this body is for.
pub(super) fn judge(placed: &Placed, body: Digest) -> Step {
    let Some(live) = &placed.live else {
        return Step::Apply { given: None };
    };
    let begun = attempt(live).is_some_and(|attempt| attempt.body == body);
    let failed = matches!(readiness::of(live), Readiness::Failed(_));
    match begun && !failed {
        true => Step::Keep(as_it_is(live, placed.manifest)),
        false => Step::Again,
    }
}

/// What is changed of a job that was begun is no reason to begin it again.
fn as_it_is(live: &Value, manifest: Digest) -> Left {
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str);
    left(live, manifest).unwrap_or_else(|| Left {
        uid: uid.unwrap_or_default().to_owned(),
        manifest,
        values: manifest,
        fields: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, body: &Value) -> Object {
        let mut value = json!({"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": "a"}});
        if !body.is_null() {
            value["spec"] = body.clone();
        }
        Object::parse(value).unwrap()
    }

    #[test]
    fn a_job_tries_once_unless_its_manifest_says_more() {
        let plain = json!({"template": {"spec": {"containers": []}}});
        let mut objects = [object("Job", &plain), object("CronJob", &Value::Null)];
        let body = Digest::of(b"body");
        prepare(&mut objects, body).unwrap();
        let spec = &objects[0].body["spec"];
        assert_eq!(spec["backoffLimit"], 0);
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
        assert_eq!(
            objects[0].body["metadata"]["annotations"][BODY],
            body.to_string()
        );
        let mut more = [object("Job", &json!({"backoffLimit": 3}))];
        prepare(&mut more, body).unwrap();
        assert_eq!(more[0].body["spec"]["backoffLimit"], 3);
    }

    #[test]
    fn a_job_needs_exactly_one_job_that_stays() {
        let refused = |objects: &mut [Object]| prepare(objects, Digest::of(b"body")).unwrap_err();
        assert!(refused(&mut []).contains("exactly one"));
        let spec = json!({});
        assert!(refused(&mut [object("Job", &spec), object("Job", &spec)]).contains("exactly one"));
        assert!(refused(&mut [object("Job", &Value::Null)]).contains("spec is missing"));
        let gone = json!({"ttlSecondsAfterFinished": 0});
        assert!(refused(&mut [object("Job", &gone)]).contains("ttlSecondsAfterFinished"));
    }

    #[test]
    fn a_live_job_says_which_attempt_it_is() {
        let body = Digest::of(b"body");
        let mut live = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"creationTimestamp": "2026-11-21T10:00:00Z",
                "annotations": {BODY: body.to_string()}},
        });
        let begun = attempt(&live).unwrap();
        assert_eq!((begun.body, begun.ended), (body, None));
        live["status"] = json!({"conditions": [{"type": "Complete", "status": "True",
            "lastTransitionTime": "2026-11-21T10:00:07Z"}]});
        let ended = attempt(&live).unwrap();
        assert_eq!(
            ended.ended.unwrap().since(ended.since),
            std::time::Duration::from_secs(7)
        );
        live["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:08Z");
        assert_eq!(attempt(&live), None, "it is just going");
        live["metadata"] = json!({"creationTimestamp": "2026-11-21T10:00:00Z"});
        assert_eq!(attempt(&live), None, "somebody else's");
    }
}
