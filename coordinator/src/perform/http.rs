//! A GET that passes with the right status and the right words.

use holdfast_confine::output::{cut, plain};
use holdfast_engine::compiled::protection::Http;
use reqwest::StatusCode;

use super::check::{Said, no_answer};
use super::egress::{Egress, Purpose, read};

/// Bytes of a body that are looked at.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Bytes of a body that are shown.
const SHOWN_MAX_BYTES: usize = 500;

/// Asks, and judges.
pub async fn ask(egress: &Egress, http: &Http) -> Said {
    let asking = async {
        let url = match egress.admit(Purpose::Check, &http.url).await {
            Ok(url) => url,
            Err(why) => return Said::unknown(why),
        };
        match egress.client(Purpose::Check).get(url).send().await {
            Ok(response) => {
                let status = response.status();
                let body = read(response, BODY_MAX_BYTES).await;
                judge(http, status, &body)
            }
            Err(error) => Said::failed(format!("no answer: {}", egress.said(error))),
        }
    };
    let asked = tokio::time::timeout(http.timeout, asking).await;
    asked.unwrap_or_else(|_| Said::failed(no_answer(http.timeout)))
}

/// Whether the answer passes. What a pass shows does not depend on the body, which may name the time.
fn judge(http: &Http, status: StatusCode, body: &[u8]) -> Said {
    let right = match http.expect {
        Some(expected) => status.as_u16() == expected,
        None => status.is_success(),
    };
    let body = String::from_utf8_lossy(body);
    let lacking = http
        .contains
        .as_ref()
        .filter(|wanted| !body.contains(wanted.as_str()));
    let shown = cut(plain(body.as_bytes()), SHOWN_MAX_BYTES);
    let expected = http
        .expect
        .map_or("200 to 299".to_owned(), |e| e.to_string());
    match (right, lacking) {
        (true, None) => Said::passed(status.to_string()),
        (true, Some(wanted)) => Said::failed(format!("{status}, without {wanted:?}\n{shown}")),
        (false, _) => Said::failed(format!("{status}, expected {expected}\n{shown}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdfast_engine::track::check::CheckResult;

    use super::*;

    #[track_caller]
    fn check(expect: Option<u16>, contains: Option<&str>, status: u16, said: &str) {
        let http = Http {
            url: String::new(),
            expect,
            contains: contains.map(ToOwned::to_owned),
            timeout: Duration::from_secs(1),
        };
        let status = StatusCode::from_u16(status).unwrap();
        let judged = judge(&http, status, b"all \x1b[32mwell\x1b[0m at 12:00");
        let passed = judged.result == CheckResult::Passed;
        assert_eq!(format!("{passed}: {}", judged.output), said);
    }

    #[test]
    fn status_and_words_decide() {
        check(None, None, 204, "true: 204 No Content");
        check(None, Some("well"), 200, "true: 200 OK");
        check(Some(503), None, 503, "true: 503 Service Unavailable");
        check(
            None,
            Some("ill"),
            200,
            "false: 200 OK, without \"ill\"\nall well at 12:00",
        );
        check(
            None,
            None,
            302,
            "false: 302 Found, expected 200 to 299\nall well at 12:00",
        );
        check(
            Some(200),
            None,
            201,
            "false: 201 Created, expected 200\nall well at 12:00",
        );
    }
}
