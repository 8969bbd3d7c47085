//! A socket in front of an engine's: counts what it is asked, and can be slow to answer or refuse.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How the proxy treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Hands them on.
    Honest,
    /// Takes them and says nothing.
    Silent,
    /// Answers each with status 500.
    Broken,
}

/// A proxy, which ends with the test.
pub(crate) struct Proxy {
    root: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

struct State {
    manner: Manner,
    /// First lines of requests, without the API's version.
    asked: Vec<String>,
    /// Connections that are kept open without an answer.
    held: Vec<UnixStream>,
}

impl Proxy {
    pub(crate) fn start(engine: &Path) -> Self {
        let root = tempfile::Builder::new()
            .prefix("hf-proxy-")
            .tempdir_in("/tmp")
            .unwrap();
        let listener = UnixListener::bind(root.path().join("api.sock")).unwrap();
        let state = Arc::new(Mutex::new(State {
            manner: Manner::Honest,
            asked: Vec::new(),
            held: Vec::new(),
        }));
        let (shared, engine) = (Arc::clone(&state), engine.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (shared, engine) = (Arc::clone(&shared), engine.clone());
                std::thread::spawn(move || serve(client.unwrap(), &shared, &engine));
            }
        });
        Self { root, state }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.path().join("api.sock")
    }

    pub(crate) fn be(&self, manner: Manner) {
        let mut state = self.state.lock().unwrap();
        state.manner = manner;
        state.held.clear();
    }

    /// What was asked since the last time, as `METHOD /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// How many requests that change something came since [`Self::asked`] was asked.
    pub(crate) fn changes(&self) -> usize {
        let state = self.state.lock().unwrap();
        state
            .asked
            .iter()
            .filter(|request| changes(request))
            .count()
    }
}

/// Whether a request changes something.
pub(crate) fn changes(request: &str) -> bool {
    !request.starts_with("GET ") && !request.starts_with("HEAD ")
}

fn serve(mut client: UnixStream, state: &Mutex<State>, engine: &Path) {
    let mut head = vec![0; 16 * 1024];
    let Ok(read) = client.read(&mut head) else {
        return;
    };
    head.truncate(read);
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = path.split('?').next().unwrap_or_default();
    let path = match path.get(1..).and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) if version.starts_with("v1.") => format!("/{rest}"),
        Some(_) | None => path.to_owned(),
    };
    let manner = {
        let mut state = state.lock().unwrap();
        state.asked.push(format!("{method} {path}"));
        state.manner
    };
    match manner {
        Manner::Honest => hand_on(client, engine, &head),
        Manner::Silent => state.lock().unwrap().held.push(client),
        Manner::Broken => {
            let body = r#"{"message":"out of order"}"#;
            let head = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Type: application/json";
            let _ = write!(
                client,
                "{head}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    }
}

fn hand_on(client: UnixStream, engine: &Path, head: &[u8]) {
    // The engine may be away: the client then finds its connection closed.
    let Ok(mut real) = UnixStream::connect(engine) else {
        return;
    };
    if real.write_all(head).is_err() {
        return;
    }
    let (mut from, mut to) = (client.try_clone().unwrap(), real.try_clone().unwrap());
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (real, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = up.join();
}
