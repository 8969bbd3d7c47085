//! What Cloud Run refuses, in words that say what to do, and whether trying again may help. Pure.

use serde_json::Value;

use crate::Failure;

/// What an answer that refuses means.
pub(super) fn judge(doing: &str, status: u16, answer: &Value) -> Failure {
    let (again, help) = taught(status);
    let said = format!("cannot {doing}: {} ({status}){help}", words(answer));
    if again {
        Failure::Retryable(said)
    } else {
        Failure::Permanent(said)
    }
}

/// Whether trying again may help, and what a person can do.
const fn taught(status: u16) -> (bool, &'static str) {
    match status {
        401 => (
            true,
            "; the plugin's credentials are not accepted: renew them, or name others in its \
             environment in agent.toml",
        ),
        403 => (
            false,
            "; give the plugin's account roles/run.developer in the project, and \
             roles/iam.serviceAccountUser for the service account that the service runs as",
        ),
        404 => (
            false,
            "; are project and region right, and is the API of Cloud Run enabled there?",
        ),
        409 => (true, "; somebody else changed it in the same moment"),
        429 => (true, "; it is throttled"),
        408 | 500..=599 => (true, ""),
        300..=399 => (false, "; that is no address of Cloud Run's API"),
        _ => (false, ""),
    }
}

/// As Google's APIs say it, or as Kubernetes does; or whatever else was answered.
fn words(answer: &Value) -> String {
    let google = answer["error"]["message"].as_str();
    let kubernetes = || answer["message"].as_str();
    let said = google.or_else(kubernetes).or_else(|| answer.as_str());
    let said = said.map(str::trim).filter(|said| !said.is_empty());
    let said = said.unwrap_or("nothing was said");
    said.chars().take(SAID_MAX_CHARS).collect()
}

/// Longest reason that is passed on, in characters.
const SAID_MAX_CHARS: usize = 400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_what_was_tried_and_what_to_do() {
        let denied =
            json!({"error": {"code": 403, "message": "Permission 'run.services.create' denied"}});
        let said = judge("create service web", 403, &denied);
        assert!(!said.is_retryable());
        assert_eq!(
            said.to_string(),
            "cannot create service web: Permission 'run.services.create' denied (403); give the \
             plugin's account roles/run.developer in the project, and roles/iam.serviceAccountUser \
             for the service account that the service runs as"
        );
        let kubernetes = json!({"kind": "Status", "message": "the object has been modified"});
        let said = judge("switch", 409, &kubernetes);
        assert!(said.is_retryable() && said.to_string().contains("has been modified"));
        let page = json!("<html>Bad gateway</html>");
        assert!(judge("look", 502, &page).is_retryable());
        assert!(!judge("look", 302, &json!({})).is_retryable());
        assert!(!judge("create", 400, &json!({"message": "bad image"})).is_retryable());
    }
}
