//! A plugin called by hand, as the filter that it is, as whoever runs the test.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// One plugin, and where it keeps one workload.
pub(crate) struct Hand {
    pub(crate) plugin: &'static str,
    pub(crate) state: PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Values of secrets, as they come with a change.
    pub(crate) secrets: Value,
}

/// How a call ended, and all that was said.
pub(crate) type Told = (Option<i32>, String);

impl Hand {
    /// Another template is another body.
    pub(crate) fn call(&self, operation: &str, template: &Value) -> Told {
        let text = template.to_string();
        let body = holdfast_protocol::digest::Digest::of(text.as_bytes());
        fs::create_dir_all(&self.state).unwrap();
        let mut request = json!({"protocol": 1, "operation": operation, "deadlineSeconds": 60,
            "stateDirectory": self.state, "workload": {"id": "e/t/s", "environment": "e",
                "target": "t", "service": "s", "version": "1.0", "body": body.to_string(),
                "template": template, "artifacts": {}}});
        if operation == "converge" {
            request["secrets"] = self.secrets.clone();
        }
        let environment = self.environment.iter();
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_holdfast-plugins"))
            .arg(self.plugin)
            .envs(environment.map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = plugin.stdin.take().unwrap();
        input.write_all(request.to_string().as_bytes()).unwrap();
        drop(input);
        let output = plugin.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    }

    /// A converge that has to succeed, and what it said.
    pub(crate) fn converges(&self, template: &Value) -> String {
        let (code, said) = self.call("converge", template);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// What is observed.
    pub(crate) fn seen(&self, template: &Value) -> Value {
        let (code, said) = self.call("observe", template);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }
}
