//! Homes of artifacts: a real web server and a real registry, and a stretch of network before either
//! that can be made to fail.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use holdfast_protocol::digest::Digest;

/// What is wrong with the network before a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each answer is cut after so many bytes of the connection.
    CutAfter(u64),
    /// Nothing more comes after so many bytes of the connection, which is cut with the next fault.
    StallAfter(u64),
    /// Every request is answered with 500.
    Broken,
    /// Every request is redirected to this port of this machine.
    Redirect(u16),
    /// Every request is redirected to the metadata of a cloud.
    Metadata,
}

/// A server, and the way to it.
#[derive(Debug)]
pub struct Home {
    port: u16,
    root: tempfile::TempDir,
    child: Child,
    network: Network,
}

#[derive(Debug)]
struct Network {
    port: u16,
    fault: Arc<Mutex<Fault>>,
    bytes: Arc<AtomicU64>,
    requests: Arc<AtomicUsize>,
    traffic: Arc<Mutex<Traffic>>,
    ended: Arc<AtomicBool>,
}

/// What went by.
#[derive(Debug, Default)]
struct Traffic {
    /// Connections that are open, and the most that were.
    open: usize,
    most: usize,
    /// What clients said, byte by byte.
    said: Vec<u8>,
}

impl Home {
    /// nginx over an empty folder.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn web() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (port, place) = (free_port(), root.path().display());
        fs::create_dir(root.path().join("files")).unwrap();
        let config = format!(
            "daemon off; worker_processes 1; pid {place}/pid; error_log {place}/log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n\
             fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {place}/files; }} }}\n"
        );
        fs::write(root.path().join("nginx.conf"), config).unwrap();
        open_to_others(root.path());
        let log = format!("{place}/log");
        let conf = format!("{place}/nginx.conf");
        let child = started(&["nginx", "-e", &log, "-c", &conf], root.path());
        Self::behind(port, root, child)
    }

    /// An OCI registry, which asks for a password where `htpasswd` holds one.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn registry(htpasswd: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (port, place) = (free_port(), root.path().display());
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
             http: {{addr: 127.0.0.1:{port}, relativeurls: true}}\n"
        );
        if let Some(htpasswd) = htpasswd {
            fs::write(root.path().join("htpasswd"), htpasswd).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: tests, path: {place}/htpasswd}}}}\n");
        }
        let file = root.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let words = ["docker-registry", "serve", file.to_str().unwrap()];
        let child = started(&words, root.path());
        Self::behind(port, root, child)
    }

    fn behind(port: u16, root: tempfile::TempDir, child: Child) -> Self {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no server");
            thread::sleep(Duration::from_millis(10));
        }
        let network = Network::to(port);
        Self {
            port,
            root,
            child,
            network,
        }
    }

    /// `HOST:PORT` of the network before it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.network.port)
    }

    /// The server's own port, past the network.
    #[must_use]
    pub const fn own_port(&self) -> u16 {
        self.port
    }

    /// A folder of the server's own.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// Puts a file on the web server; its URL.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn put(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.root.path().join("files").join(name), content).unwrap();
        format!("http://{}/{name}", self.host())
    }

    /// From now on, this is wrong.
    ///
    /// # Panics
    /// Never.
    pub fn fail(&self, fault: Fault) {
        *self.network.fault.lock().unwrap() = fault;
    }

    /// Bytes that came from the server since it was asked last, with headers.
    #[must_use]
    pub fn take_bytes(&self) -> u64 {
        self.network.bytes.swap(0, Ordering::SeqCst)
    }

    /// Connections that were made since it was asked last.
    #[must_use]
    pub fn take_requests(&self) -> usize {
        self.network.requests.swap(0, Ordering::SeqCst)
    }

    /// The most connections that were open at a time since it was asked last.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn take_most_open(&self) -> usize {
        let mut traffic = self.network.traffic.lock().unwrap();
        let open = traffic.open;
        std::mem::replace(&mut traffic.most, open)
    }

    /// From where on files were asked for since it was asked last: `Range: bytes=N-`.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn take_ranges(&self) -> Vec<u64> {
        let said = std::mem::take(&mut self.network.traffic.lock().unwrap().said);
        let said = String::from_utf8_lossy(&said).to_lowercase();
        let starts = said
            .lines()
            .filter_map(|line| line.strip_prefix("range: bytes=")?.split('-').next());
        starts.filter_map(|start| start.parse().ok()).collect()
    }

    /// Stores a manifest of the registry with these files as its layers, by title and content.
    /// `login` is `USER:PASSWORD` in Base64. Gives the manifest's digest.
    ///
    /// # Panics
    /// The registry refuses it.
    #[must_use]
    pub fn push(
        &self,
        (repository, tag): (&str, &str),
        files: &[(&str, &[u8])],
        login: Option<&str>,
    ) -> Digest {
        let config: &[u8] = b"{}";
        for blob in files.iter().map(|(_, blob)| *blob).chain([config]) {
            let path = format!("/v2/{repository}/blobs/uploads/");
            let begun = self.request(("POST", &path), None, b"", login);
            let place = begun.lines().find_map(|l| l.strip_prefix("Location: "));
            let place = place.unwrap_or_else(|| panic!("{begun}")).trim();
            let path = format!("{place}&digest={}", Digest::of(blob));
            let kind = Some("application/octet-stream");
            let answer = self.request(("PUT", &path), kind, blob, login);
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
        let layer = |(title, blob): &(&str, &[u8])| {
            serde_json::json!({"mediaType": "application/octet-stream", "size": blob.len(),
                "digest": Digest::of(blob), "annotations": {"org.opencontainers.image.title": title}})
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": Digest::of(config)},
            "layers": files.iter().map(layer).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.request(("PUT", &path), Some(kind), &manifest, login);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        Digest::of(&manifest)
    }

    fn request(
        &self,
        (method, path): (&str, &str),
        kind: Option<&str>,
        body: &[u8],
        login: Option<&str>,
    ) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let kind = kind.map_or_else(String::new, |kind| format!("Content-Type: {kind}\r\n"));
        let login = login.map_or_else(String::new, |l| format!("Authorization: Basic {l}\r\n"));
        let (host, length) = (format!("127.0.0.1:{}", self.port), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{kind}{login}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.network.ended.store(true, Ordering::SeqCst);
        // nginx's master has workers of its own, which end with it when it is asked to.
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        let begun = Instant::now();
        while asked.is_ok() && matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(5) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Network {
    fn to(server: u16) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        front.set_nonblocking(true).unwrap();
        let network = Self {
            port: front.local_addr().unwrap().port(),
            fault: Arc::new(Mutex::new(Fault::None)),
            bytes: Arc::default(),
            requests: Arc::default(),
            traffic: Arc::default(),
            ended: Arc::default(),
        };
        let (fault, bytes) = (Arc::clone(&network.fault), Arc::clone(&network.bytes));
        let (requests, ended) = (Arc::clone(&network.requests), Arc::clone(&network.ended));
        let traffic = Arc::clone(&network.traffic);
        thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let Ok((client, _)) = front.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                requests.fetch_add(1, Ordering::SeqCst);
                let (fault, bytes) = (Arc::clone(&fault), Arc::clone(&bytes));
                let (ended, traffic) = (Arc::clone(&ended), Arc::clone(&traffic));
                traffic.lock().unwrap().opened();
                // A client that goes away breaks the pipe, which is no failure of the test.
                thread::spawn(move || {
                    let way = (server, &*fault);
                    let _ = carry(&client, way, &bytes, &ended, &traffic);
                    traffic.lock().unwrap().open -= 1;
                });
            }
        });
        network
    }
}

impl Traffic {
    fn opened(&mut self) {
        self.open += 1;
        self.most = self.most.max(self.open);
    }
}

/// Hands on what a client says, and keeps it.
fn listen(mut from: TcpStream, mut to: TcpStream, traffic: &Mutex<Traffic>) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return to.shutdown(Shutdown::Both);
        }
        traffic
            .lock()
            .unwrap()
            .said
            .extend_from_slice(&piece[..length]);
        to.write_all(&piece[..length])?;
    }
}

fn carry(
    client: &TcpStream,
    (server, now): (u16, &Mutex<Fault>),
    bytes: &AtomicU64,
    ended: &AtomicBool,
    traffic: &Arc<Mutex<Traffic>>,
) -> io::Result<()> {
    let fault = *now.lock().unwrap();
    let said = match fault {
        Fault::None | Fault::CutAfter(_) | Fault::StallAfter(_) => None,
        Fault::Broken => Some("500 Internal Server Error\r\n".to_owned()),
        Fault::Redirect(port) => Some(format!(
            "302 Found\r\nLocation: http://127.0.0.1:{port}/x\r\n"
        )),
        Fault::Metadata => {
            Some("302 Found\r\nLocation: https://169.254.169.254/latest\r\n".to_owned())
        }
    };
    if let Some(said) = said {
        let mut head = [0; 4096];
        let _ = (&*client).read(&mut head)?;
        let text = format!("HTTP/1.1 {said}Content-Length: 0\r\nConnection: close\r\n\r\n");
        return (&*client).write_all(text.as_bytes());
    }
    let there = TcpStream::connect(("127.0.0.1", server))?;
    let (from, to, heard) = (client.try_clone()?, there.try_clone()?, Arc::clone(traffic));
    thread::spawn(move || drop(listen(from, to, &heard)));
    let (mut piece, mut given) = (vec![0; 16 * 1024], 0);
    loop {
        let room = match fault {
            Fault::CutAfter(most) | Fault::StallAfter(most) => most - given,
            Fault::None | Fault::Broken | Fault::Redirect(_) | Fault::Metadata => u64::MAX,
        };
        if room == 0 {
            let stalls = || matches!(*now.lock().unwrap(), Fault::StallAfter(_));
            while matches!(fault, Fault::StallAfter(_)) && stalls() && !ended.load(Ordering::SeqCst)
            {
                thread::sleep(Duration::from_millis(20));
            }
            return client.shutdown(Shutdown::Both);
        }
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(piece.len());
        let length = (&there).read(&mut piece[..most])?;
        if length == 0 {
            return client.shutdown(Shutdown::Both);
        }
        (&*client).write_all(&piece[..length])?;
        given += length as u64;
        bytes.fetch_add(length as u64, Ordering::SeqCst);
    }
}

fn started(words: &[&str], root: &Path) -> Child {
    let log = fs::File::create(root.join("said")).unwrap();
    // Should the test be killed, so is the server.
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .args(words)
        .env("PATH", path())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// nginx lies where not everybody looks.
fn path() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

/// nginx reads its files as another user where root starts it.
fn open_to_others(root: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What a test needs and is not installed.
#[must_use]
pub fn lacking() -> Option<&'static str> {
    let found = |name: &str| {
        path()
            .split(':')
            .any(|folder| Path::new(folder).join(name).exists())
    };
    ["nginx", "docker-registry"]
        .into_iter()
        .find(|name| !found(name))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
