//! Values of secrets in a set: in objects of kind Secret, and nowhere else.

use serde_json::Value;

use crate::fields::{Reading, join};

/// Says of everything in an object that names a secret, and is not the content of a Secret, that it may
/// not.
pub(super) fn check(reading: &Reading<'_>, object: &Value, path: &str) {
    let is_secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
    let fields = object.as_object().into_iter().flatten();
    for (key, value) in fields {
        let path = join(path, key);
        if !(is_secret && CONTENTS.contains(&key.as_str())) {
            misplaced(reading, value, &path);
            continue;
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            match reading.secret(value) {
                Some(Err(why)) => reading.problem(join(&path, name), why),
                Some(Ok(_)) => {}
                None => misplaced(reading, value, &join(&path, name)),
            }
        }
    }
}

fn misplaced(reading: &Reading<'_>, value: &Value, path: &str) {
    if let Some(Ok(name)) = reading.secret(value) {
        let why = format!(
            "secrets stand in the stringData or data of an object of kind Secret alone: put {name} there, \
             and name that object here"
        );
        return reading.problem(path, why);
    }
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                misplaced(reading, item, &format!("{path}[{i}]"));
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                misplaced(reading, value, &join(path, key));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The fields of a Secret that hold its content.
const CONTENTS: [&str; 2] = ["stringData", "data"];

#[cfg(feature = "kubernetes")]
pub(super) use run::fill;

#[cfg(feature = "kubernetes")]
mod run {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use holdfast_protocol::secret;

    use super::{CONTENTS, Value};
    use crate::failure::Failure;
    use crate::kubernetes::object::Object;
    use crate::secret::Secrets;

    /// Puts the values into a Secret. All go into `data`, which takes any bytes.
    pub(in crate::kubernetes) fn fill(
        object: &mut Object,
        secrets: &Secrets,
    ) -> Result<(), Failure> {
        if object.name.kind != "Secret" {
            return Ok(());
        }
        for field in CONTENTS {
            let Some(Value::Object(content)) = object.body.get_mut(field) else {
                continue;
            };
            let named: Vec<_> = content
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), secret::pinned(value)?.name)))
                .collect();
            for (_, name) in &named {
                secrets.value(name)?;
            }
            content.retain(|key, _| !named.iter().any(|(named, _)| named == key));
            for (key, name) in named {
                let value = STANDARD.encode(secrets.value(&name)?);
                object.body["data"][key] = Value::String(value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Context;
    use crate::kubernetes::spec;

    fn problems(object: &serde_json::Value) -> Vec<String> {
        let found = spec::validate(&json!({"objects": [object]}), &Context { artifacts: &[] });
        let said = found.iter().map(|p| format!("{}: {}", p.path, p.message));
        said.collect()
    }

    #[test]
    fn secrets_stand_in_the_content_of_a_secret_and_nowhere_else() {
        let of = |kind: &str, field: &str| {
            json!({
                "apiVersion": "v1", "kind": kind, "metadata": {"name": "web"},
                field: {"a": {"secret": "db-password"}, "b": "text"},
            })
        };
        assert_eq!(problems(&of("Secret", "stringData")), Vec::<String>::new());
        assert_eq!(problems(&of("Secret", "data")), Vec::<String>::new());
        let misplaced = problems(&of("ConfigMap", "data"));
        assert_eq!(misplaced.len(), 1, "{misplaced:?}");
        assert!(
            misplaced[0].starts_with("objects[0].data.a: secrets stand in"),
            "{misplaced:?}"
        );
        let list = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"containers": [{"env": [{"name": "A", "value": {"secret": "a"}}]}]},
        });
        let misplaced = problems(&list);
        assert!(
            misplaced[0].contains(".env[0].value: secrets"),
            "{misplaced:?}"
        );
        let wrong = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"},
            "data": {"a": {"secret": "No Name"}},
        });
        assert!(
            problems(&wrong)[0].contains("secret name"),
            "{:?}",
            problems(&wrong)
        );
    }
}

#[cfg(all(test, feature = "kubernetes"))]
mod filled {
    use serde_json::json;

    use super::fill;
    use crate::kubernetes::object::Object;
    use crate::secret::{Secret, Secrets};

    #[test]
    fn values_stand_in_data_whatever_their_bytes() {
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"},
            "stringData": {"a": {"secret": "a", "version": 3}, "b": "text"},
            "data": {"c": {"secret": "a", "version": 3}, "d": "dGV4dA=="},
        });
        let mut object = Object::parse(body).unwrap();
        let which = holdfast_protocol::secret::SecretRef {
            name: "a".parse().unwrap(),
            version: 3,
        };
        let secrets: Secrets = [(which, Secret::copy(b"\xff\0"))].into_iter().collect();
        assert!(fill(&mut object, &Secrets::default()).is_err());
        let mut object = Object::parse(object.body).unwrap();
        fill(&mut object, &secrets).unwrap();
        assert_eq!(object.body["stringData"], json!({"b": "text"}));
        assert_eq!(
            object.body["data"],
            json!({"a": "/wA=", "c": "/wA=", "d": "dGV4dA=="})
        );
    }
}
