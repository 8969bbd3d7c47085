//! A tiny web server, as somebody's own program that Holdfast deploys. It knows nothing of Holdfast.
//!
//! It serves one folder. `/healthz` answers 200 only while the site in it is whole: its start page and
//! its `VERSION` file can be read. `/version` gives that file, `/pid` the number of this process.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

fn main() -> ExitCode {
    let settings = match parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(problem) => return failed(&problem, 64),
    };
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string(), 1),
    }
}

fn failed(problem: &str, code: u8) -> ExitCode {
    let _ = writeln!(
        io::stderr(),
        "error: {problem}\n  help: holdfast-example-server --dir DIR --port PORT [--listen ADDR]"
    );
    ExitCode::from(code)
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    dir: PathBuf,
    listen: String,
    port: u16,
}

fn parse(words: impl Iterator<Item = String>) -> Result<Settings, String> {
    let (mut dir, mut listen, mut port) = (None, "127.0.0.1".to_owned(), None);
    let mut words = words;
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} has no value"))?;
        match flag.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--listen" => listen = value,
            "--port" => {
                let number = value.parse().map_err(|_| format!("{value:?} is no port"))?;
                port = Some(number);
            }
            unknown => return Err(format!("unknown flag {unknown:?}")),
        }
    }
    Ok(Settings {
        dir: dir.ok_or("--dir is missing")?,
        listen,
        port: port.ok_or("--port is missing")?,
    })
}

fn serve(settings: &Settings) -> io::Result<()> {
    let listener = TcpListener::bind((settings.listen.as_str(), settings.port))?;
    log(&format!(
        "serving {} on http://{}",
        settings.dir.display(),
        listener.local_addr()?
    ));
    let queue = workers(&settings.dir);
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                log(&format!("cannot accept: {error}"));
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        // Above the bound a connection is closed at once: a busy server says so, it does not grow.
        if let Err(TrySendError::Disconnected(_)) = queue.try_send(stream) {
            return Err(io::Error::other("all workers have ended"));
        }
    }
}

fn workers(dir: &Path) -> SyncSender<TcpStream> {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..WORKERS {
        let (receiver, dir) = (Arc::clone(&receiver), dir.to_owned());
        std::thread::spawn(move || {
            while let Some(stream) = next(&receiver) {
                // A visitor who goes away is no news.
                let _ = answer(&stream, &dir);
            }
        });
    }
    sender
}

fn next(receiver: &Mutex<Receiver<TcpStream>>) -> Option<TcpStream> {
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

fn answer(stream: &TcpStream, dir: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(VISITOR_TIMEOUT))?;
    stream.set_write_timeout(Some(VISITOR_TIMEOUT))?;
    let mut reader = BufReader::new(stream.take(REQUEST_MAX_BYTES));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let Answer { status, kind, body } = respond(&first, dir);
    if status != 200 {
        log(&format!("{status} {}", first.trim_end()));
    }
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    writer.write_all(&body)
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

fn respond(request: &str, dir: &Path) -> Answer {
    let mut words = request.split_whitespace();
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else {
        return Answer::text(405, "only GET\n");
    };
    let path = target.split('?').next().unwrap_or_default();
    match path {
        "/healthz" => health(dir),
        "/version" => file(&dir.join("VERSION")),
        "/pid" => Answer::text(200, format!("{}\n", std::process::id())),
        "/" => file(&dir.join("index.html")),
        path => match inside(path) {
            Some(path) => file(&dir.join(path)),
            None => Answer::text(400, "no such path\n"),
        },
    }
}

/// The site is healthy while it can be shown.
fn health(dir: &Path) -> Answer {
    for name in ["index.html", "VERSION"] {
        if let Err(error) = fs::File::open(dir.join(name)) {
            return Answer::text(500, format!("{name}: {error}\n"));
        }
    }
    Answer::text(200, "ok\n")
}

fn file(path: &Path) -> Answer {
    let kind = match path.extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        Some(_) | None => "text/plain; charset=utf-8",
    };
    match fs::read(path) {
        Ok(body) => Answer {
            status: 200,
            kind,
            body,
        },
        Err(_) => Answer::text(404, "not found\n"),
    }
}

/// A path that stays inside the folder.
fn inside(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path.trim_start_matches('/'));
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(path)
}

fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Connections that are answered at the same time.
const WORKERS: usize = 4;
/// Connections that wait for a worker.
const QUEUE_MAX: usize = 64;
/// Time for a visitor to send a request or to take an answer.
const VISITOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request, in bytes.
const REQUEST_MAX_BYTES: u64 = 16 * 1024;
/// Pause after the system could give no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../site")
    }

    #[test]
    fn the_example_site_is_healthy_and_an_empty_folder_is_not() {
        assert_eq!(respond("GET /healthz HTTP/1.1", &site()).status, 200);
        let empty = Path::new(env!("CARGO_MANIFEST_DIR"));
        let answer = respond("GET /healthz HTTP/1.1", empty);
        assert_eq!(answer.status, 500);
        assert!(
            String::from_utf8(answer.body)
                .unwrap()
                .starts_with("index.html")
        );
    }

    #[test]
    fn pages_the_version_and_the_process_are_served() {
        let page = respond("GET / HTTP/1.1", &site());
        assert_eq!((page.status, page.kind), (200, "text/html; charset=utf-8"));
        assert_eq!(respond("GET /version HTTP/1.1", &site()).body, b"1.0.0\n");
        let pid = respond("GET /pid HTTP/1.1", &site()).body;
        assert_eq!(
            String::from_utf8(pid).unwrap().trim(),
            std::process::id().to_string()
        );
        assert_eq!(respond("GET /nothing HTTP/1.1", &site()).status, 404);
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        for path in ["/../server/Cargo.toml", "/a/../../x", "//etc/passwd/.."] {
            let status = respond(&format!("GET {path} HTTP/1.1"), &site()).status;
            assert_eq!(status, 400, "{path}");
        }
        assert_eq!(respond("POST / HTTP/1.1", &site()).status, 405);
        assert_eq!(respond("", &site()).status, 405);
    }

    #[test]
    fn the_command_line_is_checked() {
        let read = |line: &str| parse(line.split_whitespace().map(str::to_owned));
        assert_eq!(
            read("--dir /srv --port 8080"),
            Ok(Settings {
                dir: "/srv".into(),
                listen: "127.0.0.1".to_owned(),
                port: 8080
            })
        );
        for wrong in [
            "",
            "--dir /srv",
            "--dir",
            "--port x --dir /",
            "--colour red",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_visitor_is_served_over_a_real_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            answer(&stream, &site()).unwrap();
        });
        let mut visitor = TcpStream::connect(address).unwrap();
        visitor
            .write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        visitor.read_to_string(&mut text).unwrap();
        server.join().unwrap();
        assert!(text.starts_with("HTTP/1.1 200\r\n"), "{text}");
        assert!(text.ends_with("1.0.0\n"), "{text}");
    }
}
