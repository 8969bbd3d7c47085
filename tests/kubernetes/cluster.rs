//! A real Kubernetes API server with its store and its controllers, ended with the test that started
//! it. There is no container runtime: `kubelet.py` runs the commands of pods as processes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use cache::cached;
use port::Port;

#[path = "../cache.rs"]
mod cache;

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the harness uses the rest"
)]
#[path = "../harness/port.rs"]
mod port;

/// A cluster on loopback.
pub(crate) struct Cluster {
    root: tempfile::TempDir,
    programs: PathBuf,
    port: Port,
    store_port: Port,
    peer_port: Port,
    store: Option<Child>,
    server: Option<Child>,
    controllers: Option<Child>,
    kubelet: Option<Child>,
    kubelet_port: u16,
    runtime: Option<tokio::runtime::Runtime>,
    client: reqwest::Client,
}

/// The token of the one who may do everything.
pub(crate) const ADMIN: &str = "admin-token";
/// The token of the agents of most tests: the user `agent`, who may do everything, too.
pub(crate) const AGENT: &str = "agent-token";
/// The token of a user who may do nothing until a role is bound to the user `limited`.
pub(crate) const LIMITED: &str = "limited-token";

/// Longest time that the API server may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);
const CONTROLLERS: &str = "deployment,replicaset,namespace,serviceaccount,serviceaccount-token,\
    endpoint,garbagecollector,statefulset,daemonset,job,clusterrole-aggregation";

/// Why no cluster can be started here; nothing where one can.
pub(crate) fn missing() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| {
        let mut places = std::env::split_paths(&path);
        places.any(|place| place.join(name).exists())
    };
    let absent: Vec<_> = ["etcd", "openssl", "python3", "setpriv"]
        .into_iter()
        .filter(|name| !found(name))
        .collect();
    let programs = programs();
    if !absent.is_empty() {
        return Some(format!("Kubernetes needs {absent:?}"));
    }
    let built = programs.join("kube-apiserver").exists()
        && programs.join("kube-controller-manager").exists();
    (!built).then(|| "Kubernetes is not built: tests/kubernetes/build.sh builds it".to_owned())
}

/// Where `build.sh` puts the programs: under its own hash.
fn programs() -> PathBuf {
    let script = include_bytes!("build.sh");
    let hash = holdfast_protocol::digest::Digest::of(script).hex();
    cached(&format!("kubernetes-{}", &hash[..16]))
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let root = tempfile::Builder::new()
            .prefix("hf-k8s-")
            .tempdir_in("/tmp")
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
        let mut cluster = Self {
            root,
            programs: programs(),
            port: Port::free(),
            store_port: Port::free(),
            peer_port: Port::free(),
            store: None,
            server: None,
            controllers: None,
            kubelet: None,
            kubelet_port: 0,
            runtime: Some(runtime),
            client: client.build().unwrap(),
        };
        cluster.prepare();
        cluster.start_store();
        cluster.go_on();
        cluster
    }

    fn prepare(&self) {
        let tokens = format!(
            "{ADMIN},admin,1,\"system:masters\"\n{AGENT},agent,2,\"system:masters\"\n\
             {LIMITED},limited,3,\"limited\"\n"
        );
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
            "omitStages": ["ResponseStarted", "ResponseComplete"],
            "rules": [{"level": "None", "users": ["admin", "system:apiserver"]},
                {"level": "Metadata"}]});
        fs::write(self.path("audit.json"), policy.to_string()).unwrap();
        fs::write(self.path("tokens.csv"), tokens).unwrap();
        let made = Command::new("openssl")
            .args(["genrsa", "-out", "sa.key", "2048"])
            .current_dir(self.root.path())
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port.number()
    }

    /// What vouches for the API server and for the node.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A kubeconfig for a token; through another port, where one is given.
    pub(crate) fn kubeconfig(&self, token: &str, port: Option<u16>) -> PathBuf {
        let path = self.path(&format!(
            "kubeconfig-{}-{token:.40}",
            port.unwrap_or(self.port())
        ));
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", port.unwrap_or(self.port())),
                "certificate-authority": self.certificate(),
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u",
                "namespace": "holdfast"}}],
        });
        fs::write(&path, file.to_string()).unwrap();
        path
    }

    fn start_store(&mut self) {
        let (client, peer) = (
            format!("http://127.0.0.1:{}", self.store_port.number()),
            format!("http://127.0.0.1:{}", self.peer_port.number()),
        );
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(self.path("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
            ]);
        self.store = Some(self.spawn(command, "etcd"));
    }

    /// Starts the API server, its controllers and the node over what is stored.
    pub(crate) fn go_on(&mut self) {
        let root = self.root.path().to_owned();
        let path = |name: &str| root.join(name).display().to_string();
        let mut server = Command::new(self.programs.join("kube-apiserver"));
        server.args([
            format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.store_port.number()
            ),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port()),
            format!("--cert-dir={}", path("certs")),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-issuer=https://127.0.0.1:{}", self.port()),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            format!("--service-account-key-file={}", path("sa.key")),
            "--service-cluster-ip-range=10.99.0.0/24".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--audit-policy-file={}", path("audit.json")),
            format!("--audit-log-path={}", path("audit.log")),
        ]);
        self.server = Some(self.spawn(server, "server"));
        self.start_kubelet();
        let mut controllers = Command::new(self.programs.join("kube-controller-manager"));
        controllers
            .arg("--kubeconfig")
            .arg(self.kubeconfig(ADMIN, None))
            .arg(format!(
                "--service-account-private-key-file={}",
                path("sa.key")
            ))
            .args([
                "--use-service-account-credentials=false",
                "--leader-elect=false",
            ])
            .args(["--bind-address=127.0.0.1", "--port=0", "--secure-port=0"])
            .arg(format!("--controllers={CONTROLLERS}"))
            .args([
                "--concurrent-gc-syncs=5",
                "--kube-api-qps=500",
                "--kube-api-burst=500",
            ]);
        self.controllers = Some(self.spawn(controllers, "controllers"));
        let (code, _) = self.try_namespace("holdfast");
        assert!(code == 201 || code == 409, "{code}");
    }

    fn try_namespace(&self, name: &str) -> (u16, Value) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name}});
        self.ask("POST", "/api/v1/namespaces", Some(&namespace))
    }

    /// Starts the node, and waits until it knows the API server.
    fn start_kubelet(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|place| place.join("tests/kubernetes/kubelet.py"))
            .find(|path| path.exists())
            .unwrap();
        let mut command = mortal("python3");
        command
            .arg(script)
            .args([&self.port.text(), ADMIN])
            .arg(self.root.path())
            .stdout(Stdio::piped())
            .stderr(self.log("kubelet"));
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.kubelet = Some(child);
        let (told, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = told.send(line);
        });
        let begun = Instant::now();
        let line = ready.recv_timeout(START_MAX).unwrap_or_default();
        let log = || fs::read_to_string(self.path("server.log")).unwrap();
        let port = line
            .strip_prefix("ready ")
            .and_then(|port| port.trim().parse().ok());
        let late = || format!("not ready after {:?}: {}", begun.elapsed(), log());
        self.kubelet_port = port.unwrap_or_else(|| panic!("{}", late()));
        let vouch = |path: PathBuf| fs::read_to_string(path).unwrap();
        let both = vouch(self.path("certs/apiserver.crt")) + &vouch(self.path("kubelet.crt"));
        fs::write(self.certificate(), both).unwrap();
    }

    /// The port of the node, which is an API server out of order to those who take it for one.
    pub(crate) fn broken_port(&self) -> u16 {
        self.kubelet_port
    }

    /// What an user asked of the API server so far, as `VERB /path`, by its own audit.
    pub(crate) fn asked_by(&self, user: &str) -> Vec<String> {
        let audit = fs::read_to_string(self.path("audit.log")).unwrap_or_default();
        let events = audit
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter(|event| event["user"]["username"] == user)
            .map(|event| {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                format!("{} {}", text("verb"), text("requestURI"))
            })
            .collect()
    }

    /// Ends the API server, and with it everything that speaks to it; what is stored stays.
    pub(crate) fn stop(&mut self) {
        for child in [&mut self.controllers, &mut self.kubelet, &mut self.server] {
            end(child);
        }
    }

    /// Asks the API server as the one who may do everything.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.ask_as(ADMIN, method, path, body.map(|body| (kind, body)))
    }

    pub(crate) fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> (u16, Value) {
        let url = format!("https://127.0.0.1:{}{path}", self.port());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url).bearer_auth(token);
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let runtime = self.runtime.as_ref().unwrap().handle().clone();
        // The caller may be inside of a runtime of its own.
        let asking = std::thread::spawn(move || {
            runtime.block_on(async {
                let answer = request.send().await.unwrap();
                let code = answer.status().as_u16();
                let text = answer.text().await.unwrap();
                (
                    code,
                    serde_json::from_str(&text).unwrap_or(Value::String(text)),
                )
            })
        });
        asking.join().unwrap()
    }

    /// One object; nothing where it is not there.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let (code, value) = self.ask("GET", path, None);
        assert!(code == 200 || code == 404, "{path}: {code} {value}");
        (code == 200).then_some(value)
    }

    /// Makes an object, or changes it by a merge patch, as somebody called `kubectl-edit`.
    pub(crate) fn edit(&self, path: &str, patch: &Value) {
        let path = format!("{path}?fieldManager=kubectl-edit");
        let (code, said) = self.ask("PATCH", &path, Some(patch));
        assert_eq!(code, 200, "{path}: {said}");
    }

    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        let path = format!("{path}?fieldManager=kubectl-create");
        let (code, said) = self.ask("POST", &path, Some(object));
        assert_eq!(code, 201, "{path}: {said}");
        said
    }

    pub(crate) fn delete(&self, path: &str) {
        let (code, said) = self.ask("DELETE", path, None);
        assert!(code == 200 || code == 202, "{path}: {code} {said}");
    }

    pub(crate) fn namespace(&self, name: &str) {
        let (code, said) = self.try_namespace(name);
        assert!(code == 201 || code == 409, "{said}");
    }

    fn spawn(&self, command: Command, name: &str) -> Child {
        let mut mortal = mortal(command.get_program());
        mortal
            .args(command.get_args())
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .stdout(self.log(name))
            .stderr(self.log(name));
        mortal.spawn().unwrap()
    }

    fn log(&self, name: &str) -> fs::File {
        let path = self.path(&format!("{name}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(path);
        log.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        end(&mut self.store);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A command whose process ends with the thread that started it, also where that is killed.
fn mortal(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
