//! Real programs outside: an HTTP server that does as it is told, and a Prometheus server.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) header: Option<(&'static str, String)>,
    pub(crate) after: Duration,
}

/// A server that answers with what it is told to, the last of it again and again.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<Vec<Answer>>,
    /// Requests under way, and the most that ever were.
    under_way: Mutex<(usize, usize)>,
}

/// An answer with a status and a text.
pub(crate) fn status(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        body: body.into(),
        header: None,
        after: Duration::ZERO,
    }
}

impl Server {
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            answers: Mutex::new(answers.to_vec()),
            under_way: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            serving,
        }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, answers: &[Answer]) {
        *self.shared.answers.lock().unwrap() = answers.to_vec();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The most requests that ever were under way at once.
    pub(crate) fn peak(&self) -> usize {
        self.shared.under_way.lock().unwrap().1
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    shared.seen.lock().unwrap().push(Seen {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
    });
    let answer = {
        let mut answers = shared.answers.lock().unwrap();
        if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        }
    };
    let change = |now: fn(usize) -> usize| {
        let mut under_way = shared.under_way.lock().unwrap();
        under_way.0 = now(under_way.0);
        under_way.1 = under_way.1.max(under_way.0);
    };
    change(|count| count + 1);
    tokio::time::sleep(answer.after).await;
    change(|count| count - 1);
    let status = StatusCode::from_u16(answer.status).unwrap();
    let mut response = (status, answer.body).into_response();
    if let Some((name, value)) = answer.header {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A Prometheus server that asks one address every second, and fires an alert `Broken` of service
/// `web` while the metric `broken` there is above 0.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    // Ends before its folder goes.
    _server: holdfast_tests::prometheus::Prometheus,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    pub(crate) fn start(asked: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = configure(folder.path(), asked);
        let server = holdfast_tests::prometheus::Prometheus::start(&config, folder.path());
        Self {
            url: server.url.clone(),
            _server: server,
            _folder: folder,
        }
    }

    /// What a query gives, or none while it does not answer.
    pub(crate) async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let request = reqwest::Client::new().get(format!("{}/api/v1/query", self.url));
        let answer = request.query(&[("query", query)]).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        answer["data"]["result"].as_array().cloned()
    }
}

fn configure(folder: &Path, asked: SocketAddr) -> PathBuf {
    let rules = "groups: [{name: all, rules: [{alert: Broken, expr: broken > 0, \
                 labels: {service: web}}]}]";
    std::fs::write(folder.join("rules.yaml"), rules).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs:\n\
         - {{job_name: web, static_configs: [{{targets: ['{asked}']}}]}}\n"
    );
    let path = folder.join("prometheus.yaml");
    std::fs::write(&path, config).unwrap();
    path
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
