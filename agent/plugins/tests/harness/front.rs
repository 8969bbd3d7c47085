//! A server of HTTP on loopback whose answers the test makes: an API that fails in ways that the real
//! one does not at a test's word.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// What was asked.
pub(crate) struct Request {
    /// As it came, but for its body.
    head: Vec<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What is answered.
pub(crate) enum Answer {
    Json(u16, Value),
    /// What the server at this port of this machine answers.
    Of(u16),
    /// Nothing, while the server is there.
    Nothing,
}

/// A running server.
pub(crate) struct Front {
    port: u16,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

impl Front {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (over, answer) = (Arc::clone(&stop), Arc::new(answer));
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (over, answer) = (Arc::clone(&over), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &*answer, &over));
            }
        });
        Self {
            port,
            stop,
            listener: Some(listener),
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.host())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Request) -> Answer, over: &AtomicBool) {
    let Some(request) = read(stream) else { return };
    match answer(&request) {
        Answer::Json(status, value) => {
            let text = value.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                text.len()
            );
            let mut stream = stream;
            drop(stream.write_all((head + &text).as_bytes()));
        }
        Answer::Of(port) => {
            drop(pass(&request, stream, port));
        }
        Answer::Nothing => {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Asks another server the same, once.
fn pass(request: &Request, mut stream: &TcpStream, port: u16) -> std::io::Result<u64> {
    let mut other = TcpStream::connect(("127.0.0.1", port))?;
    let single = |line: &&String| !line.to_lowercase().starts_with("connection:");
    let head: String = request
        .head
        .iter()
        .filter(single)
        .map(String::as_str)
        .collect();
    other.write_all(format!("{head}connection: close\r\n\r\n{}", request.body).as_bytes())?;
    std::io::copy(&mut other, &mut stream)
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut head, mut headers) = (vec![line.clone()], Vec::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
        head.push(line);
    }
    let mut request = Request {
        head,
        method,
        path,
        headers,
        body: String::new(),
    };
    let length: u64 = request.header("content-length").parse().unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body).ok()?;
    Some(request)
}
