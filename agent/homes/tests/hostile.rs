//! Homes that lie, leak, lead astray and never end. What each of them answers is written here, byte for
//! byte, since no honest server can be made to say it.

#![allow(clippy::unwrap_used, reason = "a failure is a panic")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use holdfast_homes::credentials::of_value;
use holdfast_homes::download::{self, DownloadError, RESUMES_MAX};
use holdfast_homes::partial::path_of;
use holdfast_homes::resolve::{Found, ResolveError, resolve};
use holdfast_homes::way::{Homes, Patience, Rules, Way};
use holdfast_protocol::digest::Digest;
use holdfast_protocol::home::Home;
use tokio::time::timeout;

/// `ada` with the password `s3cret?>~`.
const LOGIN: &str = "YWRhOnMzY3JldD8+fg==";
/// Time in which each of them is seen through, with a busy machine in mind.
const SOON: Duration = Duration::from_secs(50);

/// A server that answers the request of this number, from 0, however it likes.
type Script = fn(usize, &str, &mut TcpStream) -> std::io::Result<()>;

struct Hostile {
    host: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    fn that(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        // It ends with the test's own process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, told) = (stream.unwrap(), Arc::clone(&told));
                thread::spawn(move || {
                    let request = head(&mut stream);
                    let number = {
                        let mut told = told.lock().unwrap();
                        told.push(request.clone());
                        told.len() - 1
                    };
                    // Who is asked too much of goes away.
                    drop(script(number, &request, &mut stream));
                });
            }
        });
        Self { host, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

fn say(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn way(rules: Rules) -> Arc<Way> {
    Homes::new(rules).way().unwrap()
}

fn hasty() -> Arc<Way> {
    let patience = Patience {
        span: Duration::from_millis(1_500),
        bytes: 64 * 1024,
    };
    way(Rules {
        patience,
        ..Rules::strict("agent.toml")
    })
}

/// The rules of somebody who has credentials for `host`, in a file of `folder`.
fn known(folder: &Path, host: &str) -> Rules {
    let path = folder.join("credentials.json");
    let auths = serde_json::json!({"auths": {host: {"auth": LOGIN}}});
    std::fs::write(&path, auths.to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Rules {
        credentials: Some(path),
        ..Rules::strict("agent.toml")
    }
}

async fn fetched(way: &Way, store: &Path, host: &str, content: &[u8]) -> Result<(), DownloadError> {
    let home: Home = format!("http://{host}/web.bin").parse().unwrap();
    let wanted = (Digest::of(content), content.len() as u64);
    download::bring(way, (&home, None), store, wanted, &|_| {}).await
}

async fn found(way: &Way, host: &str) -> Result<Found, ResolveError> {
    let named = format!("oci://{host}/team/web:1").parse().unwrap();
    resolve(way, (&named, "web.tar.gz"), None).await
}

/// Bytes that lie in a store, under whatever name.
fn stored(store: &Path) -> u64 {
    let entries = std::fs::read_dir(store).unwrap().flatten();
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_along() {
    static ELSEWHERE: Mutex<String> = Mutex::new(String::new());
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Hostile::that(|_, _, stream| say(stream, "200 OK", "", b"content"));
    elsewhere.host.clone_into(&mut ELSEWHERE.lock().unwrap());
    let home = Hostile::that(|_, _, stream| {
        let place = format!("Location: http://{}/x\r\n", ELSEWHERE.lock().unwrap());
        say(stream, "307 Temporary Redirect", &place, b"")
    });
    let way = way(known(folder.path(), &home.host));
    let store = tempfile::tempdir().unwrap();
    let came = fetched(&way, store.path(), &home.host, b"content").await;
    assert!(came.is_ok(), "{came:?}");
    assert!(home.heard()[0].contains("authorization: basic"));
    let told = elsewhere.heard();
    assert!(
        told.len() == 1 && !told[0].contains("authorization"),
        "{told:?}"
    );
    assert!(!told[0].contains("referer"), "{told:?}");
}

/// A registry may leave its files to somebody else; that one must not ask for the registry's password.
#[tokio::test]
async fn who_is_redirected_to_is_told_no_credentials_by_a_challenge_of_his_own() {
    static ELSEWHERE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let thief = Hostile::that(|_, _, stream| {
        let host = ELSEWHERE.get().unwrap();
        let to = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\n");
        say(stream, "401 Unauthorized", &to, b"")
    });
    ELSEWHERE.set(thief.host.clone()).unwrap();
    let registry = Hostile::that(|_, _, stream| {
        let to = format!("Location: http://{}/blob\r\n", ELSEWHERE.get().unwrap());
        say(stream, "307 Temporary Redirect", &to, b"")
    });
    let folder = tempfile::tempdir().unwrap();
    let way = way(known(folder.path(), &registry.host));
    let refused = found(&way, &registry.host).await.unwrap_err().to_string();
    assert!(refused.contains("401"), "{refused}");
    let heard = thief.heard();
    assert!(!heard.is_empty());
    assert!(
        heard.iter().all(|r| !r.contains("authorization")),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_secret_is_told_to_its_own_host_and_to_nobody_whom_that_names() {
    static ELSEWHERE: Mutex<String> = Mutex::new(String::new());
    let elsewhere = Hostile::that(|_, _, stream| say(stream, "200 OK", "", b"content"));
    elsewhere.host.clone_into(&mut ELSEWHERE.lock().unwrap());
    // A registry that sends to its store, and says who gives tokens.
    let home = Hostile::that(|_, request, stream| {
        let there = ELSEWHERE.lock().unwrap();
        if request.contains("authorization") || !request.contains("/v2/") {
            let place = format!("Location: http://{there}/x\r\n");
            return say(stream, "307 Temporary Redirect", &place, b"");
        }
        let to = format!("WWW-Authenticate: Bearer realm=\"http://{there}/tokens\"\r\n");
        say(stream, "401 Unauthorized", &to, b"")
    });
    let way = way(Rules::strict("agent.toml"));
    let digest = Digest::of(b"content");
    for (home_at, value, told) in [
        (
            format!("http://{}/web.bin", home.host),
            "ada:pw",
            "basic ywrhonb3",
        ),
        (
            format!("http://{}/web.bin", home.host),
            "Bearer t0ken",
            "bearer t0ken",
        ),
        (
            format!("oci://{}/team/web@{digest}", home.host),
            "Bearer t0ken",
            "bearer t0ken",
        ),
    ] {
        let store = tempfile::tempdir().unwrap();
        let login = of_value(value.as_bytes(), &home.host, Some(&home.host)).unwrap();
        let place: Home = home_at.parse().unwrap();
        let wanted = (digest, 7);
        let from = (&place, login.as_ref());
        let came = download::bring(&way, from, store.path(), wanted, &|_| {}).await;
        assert!(came.is_ok(), "{home_at}: {came:?}");
        let last = home.heard().pop().unwrap();
        assert!(last.contains(&format!("authorization: {told}")), "{last}");
        // The same home is told nothing that is for another host.
        let other = of_value(value.as_bytes(), &home.host, Some("other.example"));
        assert_eq!(other, Ok(None));
    }
    let heard = elsewhere.heard();
    let leaks = |request: &String| request.contains("authorization") || request.contains("token");
    assert!(heard.len() == 3 && !heard.iter().any(leaks), "{heard:?}");
}

#[tokio::test]
async fn a_challenge_sends_credentials_to_no_metadata_and_over_no_plain_way() {
    let folder = tempfile::tempdir().unwrap();
    for (script, why) in [
        (
            (|_, _, stream| {
                let to = "WWW-Authenticate: Bearer realm=\"https://169.254.169.254/latest\"\r\n";
                say(stream, "401 Unauthorized", to, b"")
            }) as Script,
            "`allow`",
        ),
        (
            |_, _, stream| {
                let to = "WWW-Authenticate: Bearer realm=\"http://tokens.example/t\"\r\n";
                say(stream, "401 Unauthorized", to, b"")
            },
            "`insecure`",
        ),
    ] {
        let home = Hostile::that(script);
        let refused = found(&way(known(folder.path(), &home.host)), &home.host).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert!(home.heard().iter().all(|r| !r.contains("authorization")));
    }
}

#[tokio::test]
async fn answers_that_never_end_are_read_no_further_than_they_may_be_long() {
    let endless: Script = |_, _, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            stream.write_all(b"4000\r\n")?;
            stream.write_all(&[b' '; 0x4000])?;
            stream.write_all(b"\r\n")?;
        }
    };
    let (home, store) = (Hostile::that(endless), tempfile::tempdir().unwrap());
    let longer = fetched(&hasty(), store.path(), &home.host, &vec![b'x'; 100_000]).await;
    assert!(
        matches!(longer, Err(DownloadError::Size { .. })),
        "{longer:?}"
    );
    assert!(stored(store.path()) <= 100_000);
    let manifest = found(&hasty(), &home.host).await.unwrap_err().to_string();
    assert!(manifest.contains("more than"), "{manifest}");

    let headers: Script = |_, _, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"X-More: 0123456789012345678901234567890123456789\r\n")?;
        }
    };
    let home = Hostile::that(headers);
    let refused = timeout(SOON, found(&hasty(), &home.host)).await;
    assert!(refused.unwrap().is_err());
}

#[tokio::test]
async fn bytes_that_drip_are_waited_for_no_longer_than_patience_lasts() {
    let drip: Script = |_, _, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n")?;
        loop {
            stream.write_all(b"x")?;
            thread::sleep(Duration::from_millis(20));
        }
    };
    let (home, store) = (Hostile::that(drip), tempfile::tempdir().unwrap());
    let (way, content) = (hasty(), vec![b'x'; 500_000]);
    let slow = fetched(&way, store.path(), &home.host, &content);
    let slow = timeout(SOON, slow).await.unwrap();
    assert!(matches!(slow, Err(DownloadError::Slow { .. })), "{slow:?}");
    let refused = timeout(SOON, found(&way, &home.host)).await;
    assert!(refused.unwrap().is_err());
}

#[tokio::test]
async fn a_home_that_breaks_off_after_every_byte_is_left() {
    let byte: Script = |_, _, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    };
    let (home, store) = (Hostile::that(byte), tempfile::tempdir().unwrap());
    let left = fetched(&hasty(), store.path(), &home.host, &[b'x'; 1_000]).await;
    assert!(
        matches!(left, Err(DownloadError::BrokeOff { .. })),
        "{left:?}"
    );
    assert!(
        home.heard().len() <= RESUMES_MAX + 1,
        "it is not asked for ever"
    );
}

#[tokio::test]
async fn parts_that_are_others_than_was_said_spoil_nothing() {
    // Asked to go on, it says that nothing is there, and then says so with content.
    let nothing: Script = |_, _, stream| {
        let range = "Content-Range: bytes */7\r\n";
        say(stream, "416 Range Not Satisfiable", range, b"content")
    };
    let (home, store) = (Hostile::that(nothing), tempfile::tempdir().unwrap());
    let part = path_of(store.path(), Digest::of(b"content"));
    std::fs::write(&part, b"con").unwrap();
    let refused = fetched(&hasty(), store.path(), &home.host, b"content").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("416"), "{refused}");
    assert_eq!(stored(store.path()), 0, "none of it is taken");

    // It begins elsewhere than it was asked to; asked for all of it, it gives that.
    let elsewhere: Script = |number, _, stream| match number {
        0 => say(
            stream,
            "206 Partial Content",
            "Content-Range: bytes 1-4/7\r\n",
            b"tent",
        ),
        _ => say(stream, "200 OK", "", b"content"),
    };
    let (home, store) = (Hostile::that(elsewhere), tempfile::tempdir().unwrap());
    let part = path_of(store.path(), Digest::of(b"content"));
    std::fs::write(&part, b"con").unwrap();
    let came = fetched(&hasty(), store.path(), &home.host, b"content").await;
    assert!(came.is_ok(), "{came:?}");
    let requests = home.heard();
    assert!(requests[0].contains("range: bytes=3-") && !requests[1].contains("range:"));

    // It says where it begins and lies: what came is thrown away as a whole, and brought anew.
    let lies: Script = |_, request, stream| {
        if request.contains("range:") {
            let range = "Content-Range: bytes 3-6/7\r\n";
            return say(stream, "206 Partial Content", range, b"con-");
        }
        say(stream, "200 OK", "", b"content")
    };
    let (home, store) = (Hostile::that(lies), tempfile::tempdir().unwrap());
    let part = path_of(store.path(), Digest::of(b"content"));
    std::fs::write(&part, b"con").unwrap();
    let came = fetched(&hasty(), store.path(), &home.host, b"content").await;
    assert!(came.is_ok(), "{came:?}");
    assert_eq!(home.heard().len(), 2);
}

#[tokio::test]
async fn manifests_that_are_bombs_are_refused() {
    let nested: Script = |_, _, stream| {
        let deep = "[".repeat(1_000_000);
        let text = format!("{{\"layers\":{deep}");
        say(stream, "200 OK", "", text.as_bytes())
    };
    let home = Hostile::that(nested);
    let refused = found(&hasty(), &home.host).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Unreadable(_)), "{refused}");
    let many: Script = |_, _, stream| {
        let text = format!("{{\"manifests\":[{}[]]}}", "[],".repeat(1_000_000));
        say(stream, "200 OK", "", text.as_bytes())
    };
    let home = Hostile::that(many);
    let refused = found(&hasty(), &home.host).await.unwrap_err().to_string();
    assert!(refused.contains("platforms"), "{refused}");
}
