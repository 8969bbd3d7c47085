//! The module in the workload's own directory: a copy, since Terraform writes beside what it reads,
//! and where its state lies.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::memory;

/// Most files that a module may have.
const FILES_MAX: usize = 10_000;
/// Versions of providers, as `init` wrote them down.
const LOCK_FILE: &str = ".terraform.lock.hcl";
/// Where the backend is told; a file of such a name replaces what the module itself says.
const OVERRIDE: &str = "holdfast_override.tf.json";

/// Copies the module at `from`, a directory or one file, to `to`, with `backend` as its own. The
/// copy there before is replaced as a whole; the versions of its providers are kept where the
/// module names none.
pub(super) fn lay(from: &Path, to: &Path, backend: &Value) -> io::Result<()> {
    let fresh = to.with_added_extension("new");
    memory::forget(&fresh)?;
    let mut room = FILES_MAX;
    if from.is_dir() {
        copy(from, &fresh, &mut room)?;
    } else {
        let text = fs::read_to_string(from)?;
        fs::create_dir(&fresh)?;
        let json = text.trim_start().starts_with('{');
        fs::write(
            fresh.join(if json { "main.tf.json" } else { "main.tf" }),
            text,
        )?;
    }
    let (lock, kept) = (fresh.join(LOCK_FILE), to.join(LOCK_FILE));
    if !lock.exists() && kept.exists() {
        fs::copy(kept, lock)?;
    }
    memory::replace(&fresh.join(OVERRIDE), backend.to_string().as_bytes())?;
    memory::forget(to)?;
    fs::rename(fresh, to)
}

/// What an override says of the backend: `local` in the workload's directory unless it is another.
pub(super) fn backend(kind: Option<&str>, config: &Map<String, Value>, directory: &Path) -> Value {
    let mut config = config.clone();
    let kind = kind.unwrap_or("local");
    if kind == "local" {
        let own = |name| Value::from(directory.join(name).display().to_string());
        config
            .entry("path")
            .or_insert_with(|| own("terraform.tfstate"));
        config
            .entry("workspace_dir")
            .or_insert_with(|| own("workspaces"));
    }
    json!({"terraform": {"backend": {kind: config}}})
}

/// The variables that the module at `from` declares.
pub(super) fn declared(from: &Path) -> io::Result<BTreeSet<String>> {
    let texts: Vec<PathBuf> = if from.is_dir() {
        let entries = fs::read_dir(from)?.take(FILES_MAX);
        let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
        paths?.into_iter().filter(|path| is_source(path)).collect()
    } else {
        vec![from.to_owned()]
    };
    let mut declared = BTreeSet::new();
    for path in texts {
        declared.extend(variables(&fs::read_to_string(path)?));
    }
    Ok(declared)
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".tf", ".tf.json", ".tofu", ".tofu.json"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The variables that a source declares: `variable "NAME" {`, or the keys of `variable` in JSON.
fn variables(text: &str) -> Vec<String> {
    if let Ok(Value::Object(json)) = serde_json::from_str(text) {
        let names = json.get("variable").and_then(Value::as_object);
        return names
            .into_iter()
            .flat_map(|names| names.keys().cloned())
            .collect();
    }
    let after = text.split("variable").skip(1);
    after.filter_map(name_of_block).collect()
}

fn name_of_block(rest: &str) -> Option<String> {
    let (name, _) = rest.split_once('{')?;
    let name = name.trim().trim_matches('"');
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    is_name.then(|| name.to_owned())
}

fn copy(from: &Path, to: &Path, room: &mut usize) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        *room = room.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!("the module has more than {FILES_MAX} files"))
        })?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // What is cached of another run belongs to that one.
        if entry.file_name() == ".terraform" {
            continue;
        }
        if fs::metadata(&from)?.is_dir() {
            copy(&from, &to, room)?;
        } else {
            // With its mode: a module may bring programs along. Terraform writes to some.
            fs::copy(&from, &to)?;
            let mode = fs::metadata(&to)?.permissions().mode();
            fs::set_permissions(&to, fs::Permissions::from_mode(mode | 0o600))?;
        }
    }
    Ok(())
}

/// A value as `TF_VAR_NAME` takes it: a text bare, everything else as an expression, in which what
/// looks like a template is none.
pub(super) fn variable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string().replace("${", "$${").replace("%{", "%%{"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_variables_are_found_in_both_syntaxes() {
        let text = "variable \"name\" {\n type = string\n}\nvariable size{}\noutput \"variable\" { value = var.name }";
        assert_eq!(variables(text), ["name", "size"]);
        assert_eq!(variables(r#"{"variable": {"a": {}, "b": {}}}"#), ["a", "b"]);
    }

    #[test]
    fn a_module_is_copied_whole_and_keeps_the_versions_of_its_providers() {
        let room = tempfile::tempdir().unwrap();
        let (from, to) = (room.path().join("from"), room.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir_all(from.join(".terraform")).unwrap();
        fs::write(from.join("main.tf"), "# one").unwrap();
        fs::write(from.join("sub/x.tf"), "# two").unwrap();
        fs::set_permissions(from.join("sub/x.tf"), fs::Permissions::from_mode(0o555)).unwrap();
        let backend = backend(None, &Map::new(), room.path());
        lay(&from, &to, &backend).unwrap();
        assert!(!to.join(".terraform").exists());
        let mode = fs::metadata(to.join("sub/x.tf")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
        fs::write(to.join(LOCK_FILE), "versions").unwrap();
        fs::remove_dir_all(from.join("sub")).unwrap();
        lay(&from, &to, &backend).unwrap();
        assert!(!to.join("sub").exists());
        assert_eq!(fs::read_to_string(to.join(LOCK_FILE)).unwrap(), "versions");
        let single = room.path().join("digest");
        fs::write(&single, "{}").unwrap();
        lay(&single, &to, &backend).unwrap();
        assert!(to.join("main.tf.json").exists() && !to.join("main.tf").exists());
    }

    #[test]
    fn state_lies_in_the_workloads_directory_unless_a_backend_says_otherwise() {
        let own = backend(None, &Map::new(), Path::new("/state"));
        assert_eq!(
            own["terraform"]["backend"]["local"]["path"],
            "/state/terraform.tfstate"
        );
        let config = json!({"bucket": "b"});
        let other = backend(Some("s3"), config.as_object().unwrap(), Path::new("/state"));
        assert_eq!(
            other,
            json!({"terraform": {"backend": {"s3": {"bucket": "b"}}}})
        );
    }

    #[test]
    fn values_are_expressions_without_templates() {
        assert_eq!(variable(&json!("${x}")), "${x}");
        assert_eq!(
            variable(&json!({"a": ["${x}", 1]})),
            "{\"a\":[\"$${x}\",1]}"
        );
    }
}
