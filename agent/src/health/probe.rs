//! One check: an HTTP request, a TCP connection, or a program.

use std::process::Stdio;

use bytes::Bytes;
use holdfast_protocol::workload::Check;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::ANSWER_MAX_CHARS;

/// Most of an answer that is read, in bytes.
const ANSWER_MAX_BYTES: usize = 4 * 1024;

/// Makes one check.
///
/// # Errors
/// What went wrong, as one short line for people. The caller limits the time.
pub async fn check(check: &Check) -> Result<(), String> {
    match check {
        Check::Http { url, expect } => http(url, *expect).await,
        Check::Tcp { address } => tcp(address).await,
        Check::Exec { command } => exec(command).await,
    }
}

/// What is checked, for people.
pub(super) fn subject(check: &Check) -> String {
    match check {
        Check::Http { url, .. } => format!("GET {url}"),
        Check::Tcp { address } => format!("connecting to {address}"),
        Check::Exec { command } => command.join(" "),
    }
}

async fn tcp(address: &str) -> Result<(), String> {
    let connected = TcpStream::connect(address).await;
    connected
        .map(drop)
        .map_err(|e| format!("connecting to {address}: {e}"))
}

async fn http(url: &str, expect: Option<u16>) -> Result<(), String> {
    let (status, body) = get(url).await.map_err(|why| format!("GET {url}: {why}"))?;
    let passes = expect.map_or((200..400).contains(&status), |expected| expected == status);
    if passes {
        return Ok(());
    }
    let answer = excerpt(&body);
    let colon = if answer.is_empty() { "" } else { ": " };
    Err(format!("GET {url} answered {status}{colon}{answer}"))
}

async fn get(url: &str) -> Result<(u16, Vec<u8>), String> {
    let uri: Uri = url.parse().map_err(|e| format!("not a URL: {e}"))?;
    let host = uri.host().ok_or("the URL has no host")?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// can be checked".to_owned());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(80))).await;
    let stream = TokioIo::new(stream.map_err(|e| e.to_string())?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(|e| e.to_string())?;
    let request = Request::get(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header("host", uri.authority().map_or(host, |a| a.as_str()))
        .header(
            "user-agent",
            concat!("holdfast-agent/", env!("CARGO_PKG_VERSION")),
        )
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        // A body that is too long or breaks off does not change the answer's status.
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await;
        Ok((
            status,
            body.map(|b| b.to_bytes().to_vec()).unwrap_or_default(),
        ))
    };
    // The connection may be done while its last bytes still wait to be taken.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

async fn exec(command: &[String]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("the check names no program")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let mut said = Vec::new();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    if let (Some(out), Some(err)) = (stdout, stderr) {
        let mut both = out.chain(err).take(ANSWER_MAX_BYTES as u64);
        // What it printed is only for the message.
        let _ = both.read_to_end(&mut said).await;
    }
    let status = child.wait().await.map_err(|e| format!("{program}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let answer = excerpt(&said);
    let colon = if answer.is_empty() { "" } else { ": " };
    Err(format!(
        "{} ended with {status}{colon}{answer}",
        command.join(" ")
    ))
}

/// The beginning of an answer on one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .filter(|c| !c.is_control())
        .take(ANSWER_MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0u8; 1024];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        format!("http://{address}/healthz")
    }

    #[tokio::test]
    async fn an_http_check_repeats_what_was_answered() {
        let url = answering("HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nno\nroom!\n").await;
        let said = check(&Check::Http {
            url: url.clone(),
            expect: None,
        })
        .await
        .unwrap_err();
        assert_eq!(said, format!("GET {url} answered 500: no room!"));
        let url = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(check(&Check::Http { url, expect: None }).await, Ok(()));
        let url = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(
            check(&Check::Http {
                url,
                expect: Some(200)
            })
            .await
            .is_err()
        );
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(
            check(&Check::Tcp {
                address: address.clone()
            })
            .await,
            Ok(())
        );
        drop(listener);
        let said = check(&Check::Tcp {
            address: address.clone(),
        })
        .await
        .unwrap_err();
        assert!(
            said.starts_with(&format!("connecting to {address}: ")),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_program_passes_with_exit_code_0() {
        let run = |script: &str| Check::Exec {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        };
        assert_eq!(check(&run("exit 0")).await, Ok(()));
        let said = check(&run("echo broken >&2; exit 3")).await.unwrap_err();
        assert!(said.contains("exit status: 3: broken"), "{said}");
    }
}
