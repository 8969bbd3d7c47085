//! A web site from an archive, in object storage: a directory, or a server that speaks S3.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdfast_adapters::conformance::Subject;
use holdfast_adapters::run::{Adapter, Settings, Wanted, adapters_with};
use holdfast_adapters::static_files;
use holdfast_protocol::name::ServiceName;
use serde_json::{Value, json};

use crate::bench::{Home, eventually, tar_gz};
use crate::cluster::cached;
use crate::skip::skip;

/// The bucket of all tests of one server.
pub(crate) const BUCKET: &str = "team-web";

/// A server that speaks S3, with one bucket; it ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Where the server is installed by `tests/setup.sh`, if it is.
fn program() -> Option<PathBuf> {
    let own = cached("venv");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([own.join("bin")]);
    places.find_map(|place| Some(place.join("ministack")).filter(|program| program.exists()))
}

impl Server {
    /// Starts one; says so and counts it where there is none.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            skip(test, "object storage needs ministack");
            return None;
        };
        // Bound once to learn a free port; whoever takes it in between makes the test fail loudly.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = Command::new(program)
            .env("GATEWAY_PORT", address.port().to_string())
            .env("BIND_HOST", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        let made = || {
            TcpStream::connect(address).is_ok()
                && ask(address, "PUT", &format!("/{BUCKET}"), "")
                    .is_some_and(|(code, _)| code == 200)
        };
        eventually("a bucket", made);
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One plain request; status and everything after it, headers included.
pub(crate) fn ask(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    Some((code, answer))
}

/// Where the objects are.
pub(crate) enum Storage {
    Folder,
    S3(Server),
}

pub(crate) struct BucketBench {
    pub(crate) home: Home,
    pub(crate) storage: Storage,
    /// `site` or `releases`.
    pub(crate) layout: &'static str,
    /// Whom the adapter asks; the server itself unless something stands in between.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl BucketBench {
    pub(crate) fn folder(layout: &'static str) -> Self {
        Self {
            home: Home::new(),
            storage: Storage::Folder,
            layout,
            endpoint: None,
        }
    }

    pub(crate) fn s3(layout: &'static str, server: Server) -> Self {
        Self {
            home: Home::new(),
            endpoint: Some(server.address),
            storage: Storage::S3(server),
            layout,
        }
    }

    pub(crate) fn destination(&self, service: &str) -> String {
        match &self.storage {
            Storage::Folder => format!("file://{}/bucket/{service}", self.home.path().display()),
            Storage::S3(_) => format!("s3://{BUCKET}/sites/{service}"),
        }
    }

    pub(crate) fn settings(&self, target: &str) -> Settings {
        let mut object_store = static_files::Settings {
            look: Duration::ZERO,
            target: target.to_owned(),
            ..static_files::Settings::default()
        };
        if let Some(endpoint) = self.endpoint {
            let options = [
                ("endpoint", format!("http://{endpoint}")),
                ("region", "us-east-1".to_owned()),
            ];
            let options = options.map(|(key, value)| (key.to_owned(), value));
            object_store.options.insert("s3".to_owned(), options.into());
            object_store.credentials = Some(self.credentials());
        }
        Settings {
            object_store,
            ..Settings::default()
        }
    }

    fn credentials(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join("object-store.json");
        let bucket = format!("s3://{BUCKET}");
        let text = json!({bucket: {"access_key_id": "test", "secret_access_key": "hunter2"}});
        fs::write(&path, text.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn adapter(&self) -> Arc<dyn Adapter> {
        self.adapter_of("test/a")
    }

    pub(crate) fn adapter_of(&self, target: &str) -> Arc<dyn Adapter> {
        let all = adapters_with(&self.home.agent(), Vec::new(), self.settings(target)).unwrap();
        let mut all = all.into_iter();
        all.find(|adapter| adapter.runtime() == "static").unwrap()
    }

    /// A site of these files.
    pub(crate) fn site(&self, service: &str, files: &[(&str, &str)], more: &Value) -> Wanted {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (*path, 0o644, *text))
            .collect();
        let artifact = self.home.artifact("site", "site.tar.gz", &tar_gz(&files));
        let mut template = json!({"destination": self.destination(service), "keep": 1,
            "layout": self.layout});
        for (key, value) in more.as_object().unwrap() {
            template[key] = value.clone();
        }
        self.home
            .wanted(service, "static", &template, vec![artifact])
    }

    pub(crate) fn release(&self, service: &str, release: u32) -> Wanted {
        let page = format!("release {release}");
        let own = format!("assets/{release}.js");
        let files = [
            ("index.html", page.as_str()),
            ("css/site.css", "body {}"),
            (own.as_str(), page.as_str()),
        ];
        self.site(service, &files, &json!({}))
    }

    /// An object as anybody sees it.
    pub(crate) fn object(&self, service: &str, key: &str) -> Option<String> {
        match &self.storage {
            Storage::Folder => {
                let path = self.home.path().join("bucket").join(service).join(key);
                fs::read_to_string(path).ok()
            }
            Storage::S3(server) => {
                let path = format!("/{BUCKET}/sites/{service}/{key}");
                let (code, answer) = ask(server.address, "GET", &path, "")?;
                let body = answer.split_once("\r\n\r\n")?.1;
                (code == 200).then(|| body.to_owned())
            }
        }
    }

    /// Writes or removes an object behind the adapter's back.
    pub(crate) fn meddle(
        &self,
        service: &str,
        key: &str,
        content: Option<&str>,
    ) -> Result<(), String> {
        match (&self.storage, content) {
            (Storage::Folder, content) => {
                let path = self.home.path().join("bucket").join(service).join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let done =
                    content.map_or_else(|| fs::remove_file(&path), |text| fs::write(&path, text));
                done.map_err(|error| error.to_string())
            }
            (Storage::S3(server), content) => {
                let path = format!("/{BUCKET}/sites/{service}/{key}");
                let method = if content.is_some() { "PUT" } else { "DELETE" };
                let answer = ask(server.address, method, &path, content.unwrap_or_default());
                match answer {
                    Some((200..=299, _)) => Ok(()),
                    other => Err(format!("{method} {path}: {other:?}")),
                }
            }
        }
    }

    /// The keys of a service, sorted.
    pub(crate) fn keys(&self, service: &str) -> Vec<String> {
        let mut keys = match &self.storage {
            Storage::Folder => files(&self.home.path().join("bucket").join(service), ""),
            Storage::S3(server) => {
                let prefix = format!("sites/{service}/");
                let path = format!("/{BUCKET}?list-type=2&prefix={prefix}");
                let (_, answer) = ask(server.address, "GET", &path, "").unwrap();
                let keys = answer.split("<Key>").skip(1);
                let keys = keys.filter_map(|rest| rest.split("</Key>").next());
                keys.filter_map(|key| key.strip_prefix(&prefix))
                    .map(str::to_owned)
                    .collect()
            }
        };
        keys.sort();
        keys
    }

    /// The key at which visitors find the first page.
    pub(crate) fn index(&self, service: &str) -> String {
        let pointer = self.object(service, "current.json");
        let pointer: Option<Value> = pointer.and_then(|text| serde_json::from_str(&text).ok());
        let path = pointer
            .as_ref()
            .and_then(|pointer| pointer["path"].as_str());
        format!("{}index.html", path.unwrap_or_default())
    }
}

fn files(root: &std::path::Path, above: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let each = |entry: fs::DirEntry| {
        let path = format!("{above}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{path}/"))
        } else {
            vec![path]
        }
    };
    entries.flat_map(|entry| each(entry.unwrap())).collect()
}

impl Subject for BucketBench {
    fn name(&self) -> &str {
        match (&self.storage, self.layout) {
            (Storage::Folder, "site") => "folder",
            (Storage::Folder, _) => "folder/rel",
            (Storage::S3(_), "site") => "s3",
            (Storage::S3(_), _) => "s3/rel",
        }
    }

    fn open(&self) -> Result<Arc<dyn Adapter>, String> {
        Ok(self.adapter())
    }

    fn wanted(&self, service: &ServiceName, release: u32) -> Wanted {
        self.release(service.as_str(), release)
    }

    fn bad(&self, service: &ServiceName) -> Wanted {
        let template = json!({"destination": "ftp://somewhere/else"});
        self.home
            .wanted(service.as_str(), "static", &template, Vec::new())
    }

    fn kill(&self, service: &ServiceName) -> Result<(), String> {
        self.meddle(service.as_str(), &self.index(service.as_str()), None)
    }

    fn edit(&self, service: &ServiceName) -> Result<(), String> {
        self.meddle(
            service.as_str(),
            &self.index(service.as_str()),
            Some("defaced"),
        )
    }

    fn alive(&self, service: &ServiceName) -> Vec<u32> {
        let page = self.object(service.as_str(), &self.index(service.as_str()));
        let release = page.and_then(|page| page.strip_prefix("release ")?.parse().ok());
        release.into_iter().collect()
    }

    fn has_output(&self) -> bool {
        false
    }
}
