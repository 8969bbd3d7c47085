//! Promise: what no adapter knows is deployed by a plugin, like everything else: released, changed,
//! put back when it fails, repaired, shown, removed. With the plugin `command` that ships.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use holdfast_tests::program::built;
use holdfast_tests::wait::{PATIENCE, expect, wait_for};

const SERVICE: &str = r#"
apiVersion: holdfast/v1
kind: Service
metadata: {name: limits, owner: team-web}
spec:
  artifacts: {tool: {file: limits}}
  runtime: plugin/command
  template:
    fetch: ["{{ artifacts.tool.path }}", fetch]
    apply: ["{{ artifacts.tool.path }}", apply, "{{ release.version }}"]
    remove: ["{{ artifacts.tool.path }}", remove]
    expect: {release: "{{ release.version }}", mine: false}
    environment: {FILE: "PLACE/limits.json"}
"#;

/// The program of a release: it keeps a file, or refuses to.
fn tool(fails: bool) -> String {
    let apply = if fails {
        "echo \"no room for $2\" >&2; exit 1"
    } else {
        "echo \"{\\\"release\\\": \\\"$2\\\", \\\"mine\\\": false}\" >\"$FILE\"; echo \"$2 applied\""
    };
    format!(
        "#!/bin/sh\nset -eu\ncase $1 in\nfetch) if [ -e \"$FILE\" ]; then cat \"$FILE\"; fi ;;\n\
         apply) {apply} ;;\nremove) rm -f \"$FILE\" ;;\nesac\n"
    )
}

/// A fleet of one target that has the plugin, and a place that everybody may write to.
struct Site {
    fleet: Fleet,
}

impl Site {
    fn start() -> Self {
        let mut fleet = Fleet::start();
        let open = |path: PathBuf, mode| {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        // The plugin runs as nobody, who is to get as far as its own directory.
        open(fleet.directory().to_owned(), 0o711);
        open(fleet.directory().join("place"), 0o777);
        let plugins = open(fleet.directory().join("plugins"), 0o755);
        fs::copy(built("holdfast-plugins"), plugins.join("command")).unwrap();
        let config = format!("plugin-directory = {plugins:?}\n");
        fleet.configure_agents(&config);
        Self { fleet }
    }

    fn manifests(&self) -> String {
        let place = self.fleet.directory().join("place");
        let service = SERVICE.replace("PLACE", place.to_str().unwrap());
        [ENVIRONMENTS, &service].join("---\n")
    }

    fn file(&self) -> PathBuf {
        self.fleet.directory().join("place/limits.json")
    }

    fn wait_file(&self, part: &str) {
        wait_for(&format!("the file says {part}"), PATIENCE, || {
            let text = fs::read_to_string(self.file()).unwrap_or_default();
            expect(text.contains(part), text)
        });
    }
}

#[test]
fn a_plugin_is_deployed_changed_put_back_repaired_shown_and_removed() {
    let mut site = Site::start();
    site.fleet.apply(&site.manifests());
    let _ = site.fleet.join("edge", "staging", &[]);
    let fleet = &site.fleet;
    fleet.wait_connected("edge", true);
    let release = |version: &str, fails: bool| {
        fleet.release("limits", version, &[("tool", tool(fails).as_bytes())]);
    };

    release("1.0.0", false);
    fleet.wait_stable("limits", "staging", "1.0.0");
    site.wait_file("1.0.0");
    release("1.1.0", false);
    fleet.wait_stable("limits", "staging", "1.1.0");
    site.wait_file("1.1.0");

    // Only what fails is put back, and its own words are to be read.
    release("1.2.0", true);
    let failed = fleet.wait_phase(("limits", "staging"), "1.2.0", Phase::RolledBack);
    let said = format!("{failed:?}");
    assert!(said.contains("no room for 1.2.0"), "{said}");
    site.wait_file("1.1.0");

    let said = fleet
        .operator(&["logs", "limits", "-e", "staging"])
        .succeeds();
    assert!(said.contains("1.1.0 applied"), "{said}");

    // Gone behind its back, it comes again at the next look.
    fs::remove_file(site.file()).unwrap();
    site.wait_file("1.1.0");

    let applied = fleet.apply(ENVIRONMENTS);
    for held in &applied.held {
        let words: Vec<&str> = held.ends_by[0].split_whitespace().skip(1).collect();
        let _ = fleet.operator(&words).succeeds();
    }
    wait_for("the file is gone", PATIENCE, || {
        expect(!site.file().exists(), site.file())
    });
}
