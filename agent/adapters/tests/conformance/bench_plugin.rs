//! Text files, made by the example plugin `notice`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::run::{Adapter, Wanted};
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::Home;
use crate::plugin::{Plugins, examples, open};

/// One agent with one plugin, and a directory for what that makes.
pub(crate) struct NoticeBench {
    pub(crate) home: Home,
    plugins: Plugins,
}

impl NoticeBench {
    pub(crate) fn new() -> Self {
        let (home, plugins) = (Home::new(), Plugins::new());
        plugins.add("notice", &fs::read(examples().join("notice")).unwrap());
        // The plugin's user goes through the one, and writes into the other.
        let notices = home.path().join("notices");
        fs::create_dir(&notices).unwrap();
        for (path, mode) in [(home.path(), 0o711), (&notices, 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { home, plugins }
    }

    /// The file of a service.
    pub(crate) fn notice(&self, service: &ServiceName) -> PathBuf {
        self.home.path().join("notices").join(service.as_str())
    }
}

impl Subject for NoticeBench {
    fn name(&self) -> &str {
        "notice"
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(open(&self.home.agent(), self.plugins.settings()))
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        let text = format!("release {release}\n");
        let artifact = self.home.artifact("text", "text.txt", text.as_bytes());
        let template = json!({"file": self.notice(service)});
        self.home
            .wanted(service.as_str(), "plugin/notice", &template, vec![artifact])
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        let template = json!({"file": 1});
        self.home
            .wanted(service.as_str(), "plugin/notice", &template, Vec::new())
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        fs::remove_file(self.notice(service)).map_err(|error| error.to_string())
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        fs::write(self.notice(service), "mine").map_err(|error| error.to_string())
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let text = fs::read_to_string(self.notice(service)).unwrap_or_default();
        let release = text.trim().strip_prefix("release ");
        release.and_then(|n| n.parse().ok()).into_iter().collect()
    }

    fn has_output(&self) -> bool {
        true
    }
}
