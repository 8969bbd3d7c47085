//! Kinds that a set brings along: definitions, and what waits for them. Pure.

use super::converge::Placed;
use super::kind::Kind;
use super::object::{Name, Object};
use crate::failure::Failure;

/// Whether an object can only be judged once others of its set are there: its kind or its namespace.
pub(super) fn needs_others(placed: &Placed, all: &[Placed]) -> bool {
    if placed.live.is_some() {
        return false;
    }
    let comes = |p: &Placed| p.live.is_none();
    all.iter().filter(|p| comes(p)).any(|other| {
        let defines = definition(&other.object).is_some_and(|kind| kind == placed.place.kind);
        let holds = other.place.name.kind == "Namespace"
            && placed.place.name.namespace.as_ref() == Some(&other.place.name.name);
        defines || holds
    })
}

/// Whether an object is of a kind that somebody defined.
pub(super) fn needs_kind(placed: &Placed) -> bool {
    placed.place.name.group().contains('.') && !placed.place.name.group().ends_with(".k8s.io")
}

/// The kind that a definition defines, in the version that is asked for by others of its set.
pub(super) fn definition(object: &Object) -> Option<Kind> {
    if object.name.kind != "CustomResourceDefinition" {
        return None;
    }
    let text = |pointer: &str| object.body.pointer(pointer)?.as_str();
    let versions = object.body.pointer("/spec/versions")?.as_array()?;
    let version = versions
        .iter()
        .find_map(|version| version.get("name")?.as_str())?;
    Some(Kind {
        api: format!("{}/{version}", text("/spec/group")?),
        kind: text("/spec/names/kind")?.to_owned(),
        plural: text("/spec/names/plural")?.to_owned(),
        namespaced: text("/spec/scope") == Some("Namespaced"),
    })
}

pub(super) fn new_kind(defined: &[Kind], name: &Name) -> Result<Kind, Failure> {
    let group = |api: &str| {
        api.split_once('/')
            .map_or(String::new(), |(g, _)| g.to_owned())
    };
    let kind = defined
        .iter()
        .find(|kind| kind.kind == name.kind && group(&kind.api) == name.group());
    // Another version of it is served under the same plural.
    let kind = kind.map(|kind| Kind {
        api: name.api.clone(),
        ..kind.clone()
    });
    kind.ok_or_else(|| {
        Failure::Retryable(format!(
            "the cluster does not serve kind {} of {}, which {name} is",
            name.kind, name.api
        ))
    })
}
