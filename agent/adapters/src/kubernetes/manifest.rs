//! Manifests that came in an artifact: files of YAML or JSON, alone or in directories.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::object::Object;
use super::spec::OBJECTS_MAX;
use crate::failure::Failure;

/// Largest file of manifests, in bytes.
const FILE_MAX_BYTES: u64 = 8 << 20;
/// Most files below one path.
const FILES_MAX: usize = 1000;
/// Deepest directory below one path.
const DEPTH_MAX: usize = 16;

/// The objects of every file at or below `path`, by the files' names.
pub(super) fn read(path: &Path) -> Result<Vec<Object>, Failure> {
    let mut files = Vec::new();
    collect(path, 0, &mut files)?;
    if files.is_empty() {
        return Err(refused(
            path,
            "holds no file that ends in .yaml, .yml or .json",
        ));
    }
    let mut objects = Vec::new();
    for file in files {
        objects.extend(read_file(&file)?);
        if objects.len() > OBJECTS_MAX {
            return Err(refused(
                path,
                &format!("holds more than {OBJECTS_MAX} objects"),
            ));
        }
    }
    Ok(objects)
}

/// Files in the order of their names. Links are not followed: they may lead anywhere.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| refused(path, &error.to_string());
    let found = fs::symlink_metadata(path).map_err(unreadable)?;
    if found.is_file() && (depth == 0 || is_manifest(path)) {
        files.push(path.to_owned());
    }
    if !found.is_dir() {
        return Ok(());
    }
    if depth > DEPTH_MAX || files.len() > FILES_MAX {
        return Err(refused(path, "has too many files or directories below it"));
    }
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut below: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    below.sort();
    let shown = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.')
    };
    below
        .iter()
        .filter(shown)
        .try_for_each(|path| collect(path, depth + 1, files))
}

fn is_manifest(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending))
}

fn read_file(path: &Path) -> Result<Vec<Object>, Failure> {
    if path
        .file_name()
        .is_some_and(|name| name == "kustomization.yaml")
    {
        let why = "is of Kustomize: render it ahead, with kustomize build or kubectl kustomize";
        return Err(refused(path, why));
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| refused(path, &error.to_string()))?;
    file.take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| refused(path, &error.to_string()))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        let why = format!("is larger than {} MiB", FILE_MAX_BYTES >> 20);
        return Err(refused(path, &why));
    }
    parse(&text).map_err(|why| refused(path, &why))
}

/// The objects of a text; lists are taken apart.
fn parse(text: &str) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for (i, document) in documents(text)?.into_iter().enumerate() {
        let at = |(path, why): (String, String)| format!("document {}: {path}: {why}", i + 1);
        for value in apart(document) {
            objects.push(Object::parse(value).map_err(at)?);
        }
    }
    Ok(objects)
}

/// The documents of a text, as Kubernetes' own tools read YAML: 0644 is a file's mode.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| place(&error))
}

/// Only where it is: the text around it may be secret.
fn place(error: &serde_saphyr::Error) -> String {
    match error.location() {
        Some(at) => format!("is no YAML: see line {}, column {}", at.line(), at.column()),
        None => "is no YAML".to_owned(),
    }
}

fn apart(document: Value) -> Vec<Value> {
    match document {
        Value::Null => Vec::new(),
        Value::Object(mut object) if object.get("kind").and_then(Value::as_str) == Some("List") => {
            match object.remove("items") {
                Some(Value::Array(items)) => items,
                Some(_) | None => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn refused(path: &Path, why: &str) -> Failure {
    // Where the artifact lies says nothing to its author.
    let shown: PathBuf = path
        .iter()
        .rev()
        .take(3)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    Failure::Permanent(format!("the manifest …/{}: {why}", shown.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let objects = parse(text).unwrap();
        objects
            .iter()
            .map(|object| object.name.to_string())
            .collect()
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n---\n";
        assert_eq!(names(text), ["ConfigMap a", "Secret b"]);
        let json =
            r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c", "namespace": "d"}}"#;
        assert_eq!(names(json), ["Pod d/c"]);
    }

    #[test]
    fn numbers_are_read_as_kubernetes_tools_read_them() {
        let text = "apiVersion: v1\nkind: X\nmetadata: {name: a}\nmode: 0644\nplain: 644\n\
                    text: \"0644\"\nyes: no\nversion: 1.10\n";
        let body = &parse(text).unwrap()[0].body;
        assert_eq!(body["mode"], 0o644);
        assert_eq!(body["plain"], 644);
        assert_eq!(body["text"], "0644");
    }

    #[test]
    fn a_broken_manifest_is_refused_with_its_place_and_without_its_text() {
        let why = parse("apiVersion: v1\npassword: hunter2: x\n").unwrap_err();
        assert!(why.contains("line 2") && !why.contains("hunter2"), "{why}");
        let why = parse("apiVersion: v1\nkind: Pod\n").unwrap_err();
        assert_eq!(
            why,
            "document 1: metadata.name: is missing: expected the object's name"
        );
    }

    #[test]
    fn a_directory_is_read_by_its_files_names() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let map =
            |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        write("b.yaml", &map("b"));
        write("a/x.yml", &map("x"));
        write("README.md", "not a manifest");
        write(".hidden/c.yaml", "not read either");
        let read_names = || {
            let objects = read(root.path());
            objects.map(|all| all.iter().map(|o| o.name.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(read_names().unwrap(), ["x", "b"]);
        write("kustomization.yaml", "resources: [b.yaml]");
        let Err(Failure::Permanent(why)) = read_names() else {
            panic!("it was read");
        };
        assert!(why.contains("render it ahead"), "{why}");
        let empty = tempfile::tempdir().unwrap();
        assert!(read(empty.path()).is_err());
    }
}
