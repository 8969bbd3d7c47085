//! `examples/hotfix`: past a pending approval, on record.

use super::Example;

#[test]
fn a_hot_fix_passes_a_pending_approval_and_says_who_and_why() {
    let mut example = Example::of("hotfix");
    example.step(1);
    example.step(2);
    let seen = example.step(3);
    assert!(
        seen.contains("no approval by release-manager yet"),
        "{seen}"
    );
    assert!(
        seen.contains("exit code 4") || seen.contains("exit code 8"),
        "{seen}"
    );
    let seen = example.step(4);
    assert!(
        seen.contains("1.0.1    production   production-2  process  yes"),
        "{seen}"
    );
    let seen = example.step(5);
    assert!(
        seen.contains("change-approval by admin: CVE-2026-1234"),
        "{seen}"
    );

    let history = example.items("history web -e production");
    let [_, pending, hotfix] = &history[..] else {
        panic!("three deployments: {history:?}");
    };
    assert_eq!(pending["phase"], "Superseded", "{pending}");
    assert_eq!(hotfix["trigger"]["kind"], "hotfix", "{hotfix}");
    assert_eq!(hotfix["trigger"]["by"], "admin", "{hotfix}");
    assert_eq!(hotfix["trigger"]["reason"], "CVE-2026-1234", "{hotfix}");
    let skipped = serde_json::json!([
        {"name": "change-approval", "by": "admin", "reason": "CVE-2026-1234"}
    ]);
    assert_eq!(hotfix["skipped"], skipped, "{hotfix}");
    let asked = hotfix["protections"].as_array().unwrap();
    assert!(
        asked
            .iter()
            .all(|one| one["name"] == "nobody-is-down" && one["result"] == "passed")
    );
    assert!(
        !asked.is_empty(),
        "what may not be skipped was asked: {hotfix}"
    );
    example.is_whole();
}
