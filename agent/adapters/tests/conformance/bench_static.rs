//! A web site from an archive, behind a link.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::run::{Adapter, Wanted};
use holdfast_protocol::name::ServiceName;
use serde_json::json;

use crate::bench::{Home, tar_gz};

pub(crate) struct StaticBench {
    pub(crate) home: Home,
}

impl StaticBench {
    pub(crate) fn new() -> Self {
        let home = Home::new();
        fs::create_dir(home.path().join("www")).unwrap();
        Self { home }
    }

    pub(crate) fn link(&self, service: &str) -> PathBuf {
        self.home.path().join("www").join(service)
    }

    pub(crate) fn release(&self, service: &str, release: u32) -> Wanted {
        let page = format!("release {release}");
        let blob = tar_gz(&[
            ("index.html", 0o644, &page),
            ("css/site.css", 0o600, "body {}"),
        ]);
        let artifact = self.home.artifact("site", "site.tar.gz", &blob);
        let template = json!({"path": self.link(service), "keep": 2});
        self.home
            .wanted(service, "static", &template, vec![artifact])
    }
}

impl Subject for StaticBench {
    fn name(&self) -> &str {
        "static"
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.home.open("static"))
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        self.release(service.as_str(), release)
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        let template = json!({"path": "relative/path"});
        self.home
            .wanted(service.as_str(), "static", &template, Vec::new())
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        fs::remove_file(self.link(service.as_str())).map_err(|error| error.to_string())
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        let page = self.link(service.as_str()).join("index.html");
        fs::write(page, "defaced").map_err(|error| error.to_string())
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let page = fs::read_to_string(self.link(service.as_str()).join("index.html"));
        let release = page
            .ok()
            .and_then(|page| page.strip_prefix("release ")?.parse().ok());
        release.into_iter().collect()
    }

    fn has_output(&self) -> bool {
        false
    }
}
