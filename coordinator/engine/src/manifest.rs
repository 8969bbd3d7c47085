//! Manifest files to a checked set of documents, with everything that is wrong with them.
//!
//! Every document is read into a tree that knows the place of each key and value, then compared with
//! the declared shape of its kind ([`kinds`]). All problems of all documents come at once. A set holds
//! only documents without problems.

pub mod kinds;
pub mod node;
pub mod schema;
pub mod yaml;

mod check;
mod shape;

pub(crate) use check::{
    AT_LEAST, AT_MOST, Reach, join, read_extent, read_percent, read_window, use_name,
};
pub(crate) use shape::{Need, Object};

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::api::Diagnostic;
use holdfast_protocol::api::apply::{MANIFESTS_MAX_BYTES, ManifestFile};
use holdfast_protocol::name::{
    EnvironmentName, NameError, NotifierName, PolicyName, ProtectionName, ServiceName,
};

use crate::diagnostic::{Place, Problems, SourceFile};
use kinds::{Kind, LATER_KINDS};
use node::Node;

/// Largest manifest file, in bytes.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;

/// The documents of one input set, each without problems of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestSet {
    /// Its environments.
    pub environments: BTreeMap<EnvironmentName, Document>,
    /// Its services.
    pub services: BTreeMap<ServiceName, Document>,
    /// Its protections.
    pub protections: BTreeMap<ProtectionName, Document>,
    /// Its policies.
    pub policies: BTreeMap<PolicyName, Document>,
    /// Its notifiers.
    pub notifiers: BTreeMap<NotifierName, Document>,
}

impl ManifestSet {
    /// Its documents, kind by kind.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        let Self {
            environments,
            services,
            protections,
            policies,
            notifiers,
        } = self;
        environments
            .values()
            .chain(services.values())
            .chain(protections.values())
            .chain(policies.values())
            .chain(notifiers.values())
    }
}

/// One document, checked against the shape of its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it describes.
    pub kind: Kind,
    /// Its name, as text.
    pub name: String,
    /// Who owns it; empty where nobody said.
    pub owner: String,
    /// Where its name stands.
    pub place: Place,
    /// All of it.
    pub root: Node,
    /// The file that holds it.
    pub file: Arc<SourceFile>,
}

impl Document {
    /// Its `spec`, if it has one.
    #[must_use]
    pub fn spec(&self) -> Option<&Node> {
        self.root.at("spec")
    }

    /// Where it stands, for people: `web.yaml line 7`.
    pub(crate) fn described_in(&self) -> String {
        format!("{} line {}", self.file.path(), self.place.line)
    }
}

/// Reads the files of one input set. The set holds every document that is right by itself; it is only
/// to be used where there is no diagnostic.
#[must_use]
pub fn parse(files: &[ManifestFile]) -> (ManifestSet, Vec<Diagnostic>) {
    let mut problems = Problems::default();
    let mut set = ManifestSet::default();
    let total: usize = files.iter().map(|f| f.content.len()).sum();
    if total > MANIFESTS_MAX_BYTES {
        let path = files.first().map_or("", |f| f.path.as_str());
        let message = format!("{total} bytes of manifests are more than {MANIFESTS_MAX_BYTES}");
        let help = Some("apply them as several input sets, each with its own --set".to_owned());
        problems.add(SourceFile::new(path, "").diagnostic(Place::default(), message, help));
        return (set, problems.finish());
    }
    let mut budget = yaml::NODES_MAX;
    for file in files {
        read_file(file, &mut budget, &mut set, &mut problems);
    }
    if files.is_empty() {
        let message = "there is no manifest file".to_owned();
        let help = Some("name a file or a folder that holds .yaml, .yml or .json files".to_owned());
        problems.add(SourceFile::new("", "").diagnostic(Place::default(), message, help));
    }
    (set, problems.finish())
}

/// Everything wrong with the files of one input set that is to stand alone, without a coordinator.
#[must_use]
pub fn validate_only(
    files: &[ManifestFile],
    validate: crate::compile::Validate<'_>,
) -> Vec<Diagnostic> {
    let (set, diagnostics) = parse(files);
    if !diagnostics.is_empty() {
        return diagnostics;
    }
    match crate::compile::compile_offline(set, validate) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => diagnostics,
    }
}

fn read_file(
    file: &ManifestFile,
    budget: &mut usize,
    set: &mut ManifestSet,
    problems: &mut Problems,
) {
    if file.content.len() > FILE_MAX_BYTES {
        let size = file.content.len();
        let message = format!("{size} bytes are more than the {FILE_MAX_BYTES} of one file");
        let source = SourceFile::new(&file.path, "");
        let help = Some("write the documents to several files".to_owned());
        return problems.add(source.diagnostic(Place::default(), message, help));
    }
    let source = Arc::new(SourceFile::new(&file.path, &file.content));
    let before = problems.len();
    let documents = yaml::documents(&source, budget, problems);
    if documents.is_empty() && problems.len() == before {
        let message = "this file holds no document".to_owned();
        let help =
            Some("remove the file if that is meant; an empty input removes nothing".to_owned());
        problems.add(source.diagnostic(Place::default(), message, help));
    }
    // Problems of the text itself, such as duplicate keys, leave the file's documents out as well.
    let unread = problems.len() > before;
    for root in documents {
        match read_document(&source, root, problems) {
            Some(document) if !unread => add(set, document, problems),
            Some(_) | None => {}
        }
    }
}

/// The document that `root` is, if nothing is wrong with it.
fn read_document(
    source: &Arc<SourceFile>,
    root: Node,
    problems: &mut Problems,
) -> Option<Document> {
    let kind = read_kind(source, &root, problems)?;
    let before = problems.len();
    check::check(source, &root, kind.document(), problems);
    if problems.len() > before {
        return None;
    }
    let metadata = root.at("metadata")?;
    let name = metadata.at("name")?;
    let document = Document {
        kind,
        name: name.text()?.to_owned(),
        owner: metadata
            .at("owner")
            .and_then(Node::text)
            .unwrap_or_default()
            .to_owned(),
        place: name.place,
        file: Arc::clone(source),
        root,
    };
    Some(document)
}

fn read_kind(source: &SourceFile, root: &Node, problems: &mut Problems) -> Option<Kind> {
    let mut refuse = |place, message: String, help| {
        problems.add(source.diagnostic(place, message, help));
        None
    };
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    if root.entries().is_empty() {
        let message = format!("a document has to be an object, not {}", root.kind());
        return refuse(
            root.place,
            message,
            Some("begin with apiVersion and kind".to_owned()),
        );
    }
    let Some(kind) = root.at("kind") else {
        return refuse(
            root.place,
            "`kind` is missing".to_owned(),
            check::kind_help("", &known),
        );
    };
    let Some(word) = kind.text() else {
        let message = format!("`kind` has to be text, not {}", kind.kind());
        return refuse(kind.place, message, check::kind_help("", &known));
    };
    if LATER_KINDS.contains(&word) {
        let message = format!("kind {word} is not supported by this version yet");
        return refuse(kind.place, message, check::kind_help("", &known));
    }
    match Kind::of(word) {
        Some(kind) => Some(kind),
        None => refuse(
            kind.place,
            format!("unknown kind `{word}`"),
            check::kind_help(word, &known),
        ),
    }
}

fn add(set: &mut ManifestSet, document: Document, problems: &mut Problems) {
    let first = match document.kind {
        Kind::Environment => put(&mut set.environments, EnvironmentName::parse, document),
        Kind::Service => put(&mut set.services, ServiceName::parse, document),
        Kind::Protection => put(&mut set.protections, ProtectionName::parse, document),
        Kind::Policy => put(&mut set.policies, PolicyName::parse, document),
        Kind::Notifier => put(&mut set.notifiers, NotifierName::parse, document),
    };
    if let Err(twice) = first {
        let (second, first) = *twice;
        let message = format!("{} {} is described twice", second.kind.name(), second.name);
        let help = format!("it is first described in {first}");
        problems.add(second.file.diagnostic(second.place, message, Some(help)));
    }
}

/// Puts `document` under its name; gives it back, with the place of the other, where that is taken.
fn put<N: Ord>(
    documents: &mut BTreeMap<N, Document>,
    parse: impl Fn(&str) -> Result<N, NameError>,
    document: Document,
) -> Result<(), Box<(Document, String)>> {
    let name = parse(&document.name).expect("checked with its shape");
    if let Some(first) = documents.get(&name) {
        return Err(Box::new((document, first.described_in())));
    }
    documents.insert(name, document);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
