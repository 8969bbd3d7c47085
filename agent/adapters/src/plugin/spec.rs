//! What can be said of a plugin's template where the plugin is not: it is an object. Pure.
//!
//! The plugin's own word on it is asked on the target, before anything is changed.

use holdfast_protocol::name::EnvironmentName;
use serde_json::Value;

use super::PREFIX;
use crate::fields::kind;
use crate::{Context, Problem};

/// The plugin's name in `plugin/NAME`; none where the runtime is another one.
///
/// # Errors
/// Why it is no name, in words.
pub fn name(runtime: &str) -> Option<Result<&str, String>> {
    let name = runtime.strip_prefix(PREFIX)?;
    // The same rule as for every name: a DNS label, which is also safe as one part of a path.
    Some(match EnvironmentName::parse(name) {
        Ok(_) => Ok(name),
        Err(error) => Err(format!("plugin {:?} {}", error.text, error.problem)),
    })
}

pub(crate) fn validate(runtime: &str, template: &Value, _: &Context<'_>) -> Vec<Problem> {
    let problem = |message| Problem {
        path: String::new(),
        message,
    };
    let misnamed = name(runtime).and_then(Result::err);
    let shape = (!template.is_object()).then(|| {
        format!(
            "expected an object for the plugin, found {}",
            kind(template)
        )
    });
    misnamed.into_iter().chain(shape).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_by_one_label() {
        assert_eq!(name("process"), None);
        assert_eq!(name("plugin/hello-2"), Some(Ok("hello-2")));
        for bad in [
            "plugin/",
            "plugin/../x",
            "plugin/A",
            "plugin/a/b",
            "plugin/.x",
        ] {
            assert!(matches!(name(bad), Some(Err(_))), "{bad}");
        }
    }

    #[test]
    fn a_template_is_an_object() {
        let context = Context { artifacts: &[] };
        let said = |template| validate("plugin/x", &template, &context);
        assert!(said(serde_json::json!({"anything": [1]})).is_empty());
        let refused = said(serde_json::json!("text"));
        assert!(refused[0].message.contains("found text"), "{refused:?}");
        assert_eq!(
            validate("plugin/X", &serde_json::json!(1), &context).len(),
            2
        );
    }
}
