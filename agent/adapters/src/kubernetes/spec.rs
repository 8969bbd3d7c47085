//! The template of runtime `kubernetes`, parsed once. Pure.

use holdfast_protocol::workload::PLACEHOLDER_OPEN;
use serde_json::Value;

use super::object::Object;
use super::secret;
use crate::fields::{self, Fields, Reading, join};
use crate::{Context, Problem};

/// A set of objects, as a template describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// The namespace of objects that are in one and name none.
    pub namespace: String,
    /// Objects written in the template.
    pub objects: Vec<Object>,
    /// Files and directories of manifests, below artifacts' paths.
    pub manifests: Vec<String>,
    /// Whether fields that others manage are taken over.
    pub force: bool,
}

/// Most objects of one set.
pub const OBJECTS_MAX: usize = 1000;
/// The namespace of Kubernetes for what names none.
const NAMESPACE: &str = "default";
/// Labels of Holdfast's own begin so.
pub const LABEL_PREFIX: &str = "holdfast.";

const FIELDS: &[&str] = &["namespace", "objects", "manifests", "force"];

/// Everything wrong with a template.
#[must_use]
pub fn validate(template: &Value, context: &Context<'_>) -> Vec<Problem> {
    fields::problems(template, context, read)
}

/// A rendered template.
///
/// # Errors
/// Everything wrong with it.
pub fn parse(template: &Value, context: &Context<'_>) -> Result<Template, Vec<Problem>> {
    fields::parsed(template, context, read)
}

fn read(reading: &Reading<'_>, template: &Value) -> Option<Template> {
    let fields = reading.object(template, "", FIELDS)?;
    let list = |key: &str| fields.value(key).map(|value| fields.texts(key, value));
    let template = Template {
        namespace: fields
            .parsed("namespace", parse_namespace)
            .unwrap_or_else(|| NAMESPACE.to_owned()),
        objects: read_objects(reading, &fields),
        manifests: list("manifests").unwrap_or_default(),
        force: fields.flag("force"),
    };
    check_manifests(reading, &template.manifests);
    let given = |key: &str| fields.value(key).and_then(Value::as_array);
    if given("objects").is_none_or(Vec::is_empty) && given("manifests").is_none_or(Vec::is_empty) {
        let expected = "is missing: expected a list of objects, or manifests";
        reading.problem("objects", expected);
    }
    Some(template)
}

fn read_objects(reading: &Reading<'_>, fields: &Fields<'_>) -> Vec<Object> {
    let Some(value) = fields.value("objects") else {
        return Vec::new();
    };
    let Some(items) = value.as_array() else {
        reading.problem("objects", "expected a list of objects");
        return Vec::new();
    };
    if items.len() > OBJECTS_MAX {
        reading.problem("objects", format!("has more than {OBJECTS_MAX} objects"));
    }
    let read = |(i, item): (usize, &Value)| read_object(reading, &format!("objects[{i}]"), item);
    items.iter().enumerate().filter_map(read).collect()
}

fn read_object(reading: &Reading<'_>, path: &str, value: &Value) -> Option<Object> {
    if value.to_string().contains(PLACEHOLDER_OPEN) {
        let why = "a path of the agent's own machine says nothing inside a cluster";
        reading.problem(path, why);
        return None;
    }
    secret::check(reading, value, path);
    let object = Object::parse(value.clone());
    let object = object.map_err(|(at, why)| reading.problem(join(path, &at), why));
    let object = object.ok()?;
    let labels = object.body.pointer("/metadata/labels");
    let own = |key: &&String| key.starts_with(LABEL_PREFIX);
    let labels = labels.and_then(Value::as_object);
    if let Some(key) = labels.and_then(|labels| labels.keys().find(own)) {
        let at = format!("{path}.metadata.labels.{key}");
        reading.problem(at, "labels that begin with holdfast. are the agent's own");
    }
    Some(object)
}

fn check_manifests(reading: &Reading<'_>, paths: &[String]) {
    for (i, path) in paths.iter().enumerate() {
        let at = format!("manifests[{i}]");
        let checked = reading.unless_open(path, |path| {
            Err(format!(
                "{path:?} is not below an artifact: write \"{{{{ artifacts.NAME.path }}}}/DIRECTORY\""
            ))
        });
        // One that is rendered begins with the artifact's path, which is still a placeholder.
        let below = path.starts_with(PLACEHOLDER_OPEN);
        match checked {
            Err(why) if !below => reading.problem(at.clone(), why),
            Ok(()) | Err(_) => {}
        }
        if path.split('/').any(|step| step == "..") {
            reading.problem(at, "may not lead out of its artifact with ..");
        }
    }
}

fn parse_namespace(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || edges || !text.chars().all(fits) {
        return Err(format!(
            "{text:?} is not a namespace: write lowercase letters, digits and -"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::name::ArtifactName;
    use holdfast_protocol::workload::Placeholder;
    use serde_json::json;

    fn said(template: &Value) -> Vec<String> {
        let app = ArtifactName::parse("app").unwrap();
        let artifacts = [(app, true)];
        let context = Context {
            artifacts: &artifacts,
        };
        let problems = validate(template, &context);
        problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect()
    }

    fn map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    }

    #[test]
    fn objects_and_manifests_of_an_artifact_are_a_set() {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap()).text();
        for good in [
            json!({"objects": [map("a")]}),
            json!({"objects": [map("{{ service }}-conf")], "namespace": "{{ vars.space }}"}),
            json!({"namespace": "shop", "manifests": [format!("{app}/deploy")], "force": true}),
            json!({"manifests": ["{{ artifacts.app.path }}/deploy"]}),
        ] {
            assert_eq!(said(&good), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_by_field() {
        let app = Placeholder::ArtifactPath(ArtifactName::parse("app").unwrap()).text();
        let labelled = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"holdfast.agent": "x"}}});
        let pathed = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a"}, "data": {"path": app}});
        for (bad, part) in [
            (json!({}), "objects: is missing"),
            (json!({"objects": []}), "objects: is missing"),
            (json!({"objects": map("a")}), "objects: expected a list"),
            (
                json!({"objects": [{"kind": "Pod"}]}),
                "objects[0].apiVersion: is missing",
            ),
            (
                json!({"objects": [labelled]}),
                "objects[0].metadata.labels.holdfast.agent",
            ),
            (
                json!({"objects": [pathed]}),
                "says nothing inside a cluster",
            ),
            (
                json!({"objects": [map("a")], "namespace": "Shop"}),
                "namespace: \"Shop\"",
            ),
            (
                json!({"manifests": ["/etc/deploy"]}),
                "manifests[0]: \"/etc/deploy\" is not below",
            ),
            (
                json!({"manifests": [format!("{app}/../x")]}),
                "manifests[0]: may not lead out",
            ),
            (json!({"object": [map("a")]}), "did you mean \"objects\""),
            (
                json!({"objects": [map("a")], "force": "yes"}),
                "force: expected true or false",
            ),
        ] {
            let said = said(&bad);
            assert!(
                said.iter().any(|said| said.contains(part)),
                "{bad}: {said:?}"
            );
        }
    }
}
