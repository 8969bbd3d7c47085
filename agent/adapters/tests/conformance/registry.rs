//! A real registry, and images made for it on the spot: one layer with busybox.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_protocol::digest::Digest;
use serde_json::{Value, json};

/// A running registry.
pub(crate) struct Registry {
    pub(crate) port: u16,
    root: tempfile::TempDir,
    child: Child,
    secret: bool,
}

/// An image's parts, as a registry serves them.
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// Who may read a registry that has secrets: `ada`, with the password `s3cret?>~`, of which the two
/// forms of Base64 differ.
const LOGIN: &str = "YWRhOnMzY3JldD8+fg==";
const HTPASSWD: &str = "ada:$2b$04$h4It96sCxCAzrZXWhFAb3.0UvVQ5oekXP981Wx6aL04m8PZtNSew6\n";
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a release of the tests' service does: says so, and ends when asked to.
pub(crate) const SCRIPT: &str =
    "trap 'exit 0' TERM; echo release $RELEASE begins; while :; do sleep 1000 & wait $!; done";

impl Registry {
    pub(crate) fn start(secret: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let port = free_port();
        let place = root.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\n"
        );
        if secret {
            fs::write(root.path().join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: tests, path: {place}/htpasswd}}}}\n");
        }
        fs::write(root.path().join("config.yml"), config).unwrap();
        let child = serve(&[], root.path());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "no registry");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            port,
            root,
            child,
            secret,
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stores an image. Gives its reference by digest.
    pub(crate) fn push(&self, repository: &str, image: &Image) -> String {
        for blob in [&image.layer, &image.config] {
            self.push_blob(repository, blob);
        }
        let digest = Digest::of(&image.manifest);
        let path = format!("/v2/{repository}/manifests/{digest}");
        let answer = self.request("PUT", &path, Some(MANIFEST_TYPE), &image.manifest);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        format!("{}/{repository}@{digest}", self.host())
    }

    fn push_blob(&self, repository: &str, blob: &[u8]) {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.request("POST", &path, None, b"");
        let place = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap_or_else(|| panic!("{begun}"));
        let path = place.split_once(&self.host()).unwrap().1;
        let digest = Digest::of(blob);
        let path = format!("{}&digest={digest}", path.trim());
        let answer = self.request("PUT", &path, Some("application/octet-stream"), blob);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    fn request(&self, method: &str, path: &str, kind: Option<&str>, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.host(),
            body.len()
        );
        if let Some(kind) = kind {
            head += &format!("Content-Type: {kind}\r\n");
        }
        if self.secret {
            head += &format!("Authorization: Basic {}\r\n", LOGIN);
        }
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Goes on in another network namespace, which `enter` leads into.
    pub(crate) fn move_to(&mut self, enter: &[String]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = serve(enter, self.root.path());
    }

    /// The file with credentials, as `docker login` writes it.
    pub(crate) fn credentials(&self) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.root.path().join("credentials.json");
        let host = self.host();
        let text = json!({"auths": {host: {"auth": LOGIN}}}).to_string();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry's program over its directory, by way of another command where one is named.
fn serve(within: &[String], root: &std::path::Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(root.join("log"));
    let log = log.unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(within);
    command
        .args(["docker-registry", "serve"])
        .arg(root.join("config.yml"));
    command
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null());
    command.spawn().unwrap()
}

/// An image of a release: busybox, and `more` in its configuration.
pub(crate) fn image(release: u32, more: &Value) -> Image {
    let tar = root_tree(release);
    let diff = Digest::of(&tar).to_string();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    let layer = gz.finish().unwrap();
    let mut inner = json!({
        "Env": [format!("RELEASE={release}"), "PATH=/bin"],
        "Cmd": ["/bin/sh", "-c", SCRIPT],
    });
    for (key, value) in more.as_object().unwrap() {
        inner[key] = value.clone();
    }
    let config = json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": "2026-01-01T00:00:00Z"}],
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| {
        json!({"mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(),
            "digest": Digest::of(bytes).to_string()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": part("container.image.v1+json", &config),
        "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
    });
    Image {
        layer,
        config,
        manifest: manifest.to_string().into_bytes(),
    }
}

fn root_tree(release: u32) -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        if link.is_empty() {
            header.set_cksum();
            archive.append_data(&mut header, path, content).unwrap();
        } else {
            archive.append_link(&mut header, path, link).unwrap();
        }
    };
    add("bin/busybox", 0o755, tar::EntryType::Regular, "", &busybox);
    for applet in ["sh", "sleep", "cat", "nc", "httpd", "wget", "id", "ls"] {
        add(
            &format!("bin/{applet}"),
            0o777,
            tar::EntryType::Symlink,
            "busybox",
            b"",
        );
    }
    add(
        "etc/passwd",
        0o644,
        tar::EntryType::Regular,
        "",
        b"root:x:0:0::/:/bin/sh\n",
    );
    add(
        "release",
        0o644,
        tar::EntryType::Regular,
        "",
        release.to_string().as_bytes(),
    );
    add("tmp/", 0o1777, tar::EntryType::Directory, "", b"");
    archive.into_inner().unwrap()
}

/// A port that nobody had a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
