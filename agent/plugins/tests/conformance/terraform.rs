//! The plugin `terraform`, with the real Terraform, where that is installed.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::hand::Hand;
use crate::{Room, skip, trials};

const MODULE: &str = r#"
variable "word" {
  type      = string
  sensitive = true
}
variable "size" { type = number }
resource "terraform_data" "one" {
  input = { word = var.word, size = var.size }
}
output "size" { value = var.size }
output "word" {
  value     = var.word
  sensitive = true
}
"#;

/// Whether this is skipped, and counted.
fn is_missing(test: &str) -> bool {
    let missing = Command::new("terraform").arg("version").output().is_err();
    if missing {
        skip::skip(test, "terraform is not installed");
    }
    missing
}

pub(crate) fn terraform_conforms() {
    if !is_missing("terraform_conforms") {
        Room::new().conforms("terraform", &trials().join("terraform.test.json"), &[]);
    }
}

pub(crate) fn terraform_keeps_its_state_and_shows_no_secret() {
    if is_missing("terraform_keeps_its_state_and_shows_no_secret") {
        return;
    }
    let room = Room::new();
    let module = room.path("module");
    fs::create_dir(&module).unwrap();
    fs::write(module.join("main.tf"), MODULE).unwrap();
    let hand = Hand {
        plugin: "terraform",
        state: room.path("state"),
        environment: vec![("HOME", room.path("home").display().to_string())],
        secrets: json!({"word": {"version": 1, "text": "s3cret-word"}}),
    };
    let wanted = |size: u32, backend: &str| {
        json!({"module": module, "variables": {"word": "plain-word", "size": size},
            "backend": {"type": backend}, "drift": {"every": "0s"}})
    };

    // A backend that is wrong can be put right before anything was applied.
    let (code, said) = hand.call("converge", &wanted(1, "nowhere"));
    assert_eq!(code, Some(2), "{said}");
    let said = hand.converges(&wanted(1, "local"));
    assert!(said.contains("size = 1") && said.contains("word = (secret)"));
    let kept = fs::read_to_string(hand.state.join("output.log")).unwrap();
    assert!(!said.contains("plain-word") && !kept.contains("plain-word"));
    assert!(hand.state.join("terraform.tfstate").is_file());
    assert!(!hand.state.join("plan").exists());
    assert_eq!(hand.seen(&wanted(1, "local"))["state"], "running");
    let (code, said) = hand.call("converge", &wanted(1, "nowhere"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("backend and workspace cannot be changed"));

    // What is wrong is said with its place, and not tried again.
    let broken = MODULE.replace("input =", "inptu =");
    fs::write(module.join("main.tf"), broken).unwrap();
    let (code, said) = hand.call("converge", &wanted(2, "local"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("main.tf:8: Unsupported argument"), "{said}");
    fs::write(module.join("main.tf"), MODULE).unwrap();

    // A secret is given to changes alone: nothing else can be planned, and all can be destroyed.
    let mut secret = wanted(2, "local");
    secret["variables"]["word"] = json!({"secret": "word", "version": 1});
    let (code, said) = hand.call("validate", &secret);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("drift.by"), "{said}");
    secret["drift"] = json!({"by": "none"});
    let (_, said) = hand.call("validate", &secret);
    assert!(said.contains("\"problems\":[]"), "{said}");
    let said = hand.converges(&secret);
    let kept = fs::read_to_string(hand.state.join("output.log")).unwrap();
    assert!(!said.contains("s3cret") && !kept.contains("s3cret"));
    let state = fs::read_to_string(hand.state.join("terraform.tfstate")).unwrap();
    assert!(state.contains("s3cret-word"));
    let (code, said) = hand.call("remove", &secret);
    assert_eq!(code, Some(0), "{said}");
    let state = fs::read_to_string(hand.state.join("terraform.tfstate")).unwrap();
    assert!(!state.contains("terraform_data"), "{state}");
}
