//! A kubeconfig: read as plain YAML like every other file here, then taken as what the client makes
//! of it. Its own reader would bring the whole of YAML once more for each type in it.

use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use serde_json::Value;

use crate::kubernetes::manifest;

/// Reads a file, of one or several documents. Paths in it count from its directory.
///
/// # Errors
/// What is wrong with it, for people, and nothing of what stands in it.
pub(super) fn read(path: &Path) -> Result<Kubeconfig, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    parse(&text, directory)
}

fn parse(text: &str, directory: &Path) -> Result<Kubeconfig, String> {
    let mut whole = Kubeconfig::default();
    for mut document in manifest::documents(text)? {
        if document.is_null() {
            continue;
        }
        as_text(&mut document);
        // The reader's own message would show what stands there.
        let part: Kubeconfig = serde_json::from_value(document)
            .map_err(|_| "is no kubeconfig: see `kubectl config view`".to_owned())?;
        whole = whole
            .merge(absolute(part, directory))
            .map_err(|error| error.to_string())?;
    }
    Ok(whole)
}

/// Names and tokens may be written like numbers; nothing in a kubeconfig is one.
fn as_text(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::String(number.to_string()),
        Value::Array(all) => all.iter_mut().for_each(as_text),
        Value::Object(all) => all.values_mut().for_each(as_text),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn absolute(mut config: Kubeconfig, directory: &Path) -> Kubeconfig {
    let lead = |path: &mut Option<String>| {
        if let Some(own) = path
            .as_ref()
            .map(PathBuf::from)
            .filter(|own| own.is_relative())
        {
            *path = Some(directory.join(own).display().to_string());
        }
    };
    for cluster in config
        .clusters
        .iter_mut()
        .filter_map(|c| c.cluster.as_mut())
    {
        lead(&mut cluster.certificate_authority);
    }
    let users = config.auth_infos.iter_mut();
    for user in users.filter_map(|user| user.auth_info.as_mut()) {
        lead(&mut user.client_certificate);
        lead(&mut user.client_key);
        lead(&mut user.token_file);
        // A bare name is looked for where programs are.
        let command = user.exec.as_mut().map(|exec| &mut exec.command);
        if let Some(command) = command.filter(|c| c.as_ref().is_some_and(|c| c.contains('/'))) {
            lead(command);
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
apiVersion: v1
kind: Config
current-context: one
clusters:
- name: 7
  cluster: {server: 'https://127.0.0.1:6443', certificate-authority: ca.pem, insecure-skip-tls-verify: false}
users:
- name: ada
  user: {client-certificate: /etc/ada.pem, client-key: keys/ada.key, exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login}}
- name: bob
  user: {token: 1234, exec: {command: aws}}
---
contexts:
- name: one
  context: {cluster: '7', user: ada, namespace: web}
";

    #[test]
    fn paths_count_from_the_file_and_documents_are_one() {
        let config = parse(FILE, Path::new("/etc/holdfast")).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("one"));
        assert_eq!(config.contexts.len(), 1);
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(config.clusters[0].name, "7");
        assert_eq!(
            cluster.certificate_authority.as_deref(),
            Some("/etc/holdfast/ca.pem")
        );
        let ada = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(ada.client_certificate.as_deref(), Some("/etc/ada.pem"));
        assert_eq!(
            ada.client_key.as_deref(),
            Some("/etc/holdfast/keys/ada.key")
        );
        let command = |n: usize| {
            config.auth_infos[n]
                .auth_info
                .as_ref()?
                .exec
                .as_ref()?
                .command
                .clone()
        };
        assert_eq!(command(0).as_deref(), Some("/etc/holdfast/./login"));
        assert_eq!(command(1).as_deref(), Some("aws"));
    }

    #[test]
    fn what_stands_in_it_is_not_repeated() {
        let why = parse("users: [{name: ada, user: hunter2}]", Path::new("/")).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
        assert!(why.contains("kubeconfig"), "{why}");
    }
}
