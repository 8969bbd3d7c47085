//! An instant query of a Prometheus server (HTTP API v1), judged by its samples.

use std::collections::BTreeMap;

use holdfast_confine::output::plain;
use holdfast_engine::compiled::protection::{Comparison, Prometheus, Samples};
use holdfast_engine::request::expected;
use serde::Deserialize;

use super::check::{Said, no_answer};
use super::egress::{Egress, Purpose, read};

/// Largest answer of a server, in bytes.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Samples that are shown.
const SHOWN_MAX: usize = 5;
/// Longest error of a server that is shown, in bytes.
const ERROR_MAX_BYTES: usize = 500;

/// Asks, and judges. A server that cannot be asked says nothing: neither a pass nor a failure.
pub async fn ask(egress: &Egress, prometheus: &Prometheus) -> Said {
    let asking = async {
        let url = format!("{}/api/v1/query", prometheus.url.trim_end_matches('/'));
        let url = egress.admit(Purpose::Check, &url).await?;
        let request = egress.client(Purpose::Check).get(url);
        let request = request.query(&[("query", &prometheus.query)]);
        let response = request
            .send()
            .await
            .map_err(|error| format!("no answer: {}", egress.said(error)))?;
        let status = response.status();
        let body = read(response, ANSWER_MAX_BYTES + 1).await;
        if body.len() > ANSWER_MAX_BYTES {
            return Err(format!(
                "the answer is larger than {ANSWER_MAX_BYTES} bytes; write a narrower query"
            ));
        }
        samples(&body).map_err(|why| match why {
            NoSamples::Said(error) => error,
            NoSamples::Unreadable => format!("{status}, and no answer of a Prometheus server"),
        })
    };
    match tokio::time::timeout(prometheus.timeout, asking).await {
        Ok(Ok(samples)) => judge(prometheus.expect, &samples),
        Ok(Err(why)) => Said::unknown(why),
        Err(_) => Said::unknown(no_answer(prometheus.timeout)),
    }
}

/// One sample of an instant vector.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Why an answer holds no samples.
enum NoSamples {
    /// The server says why.
    Said(String),
    /// It does not speak its API.
    Unreadable,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Answered>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "camelCase")]
enum Answered {
    Vector(Vec<Series>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

fn samples(body: &[u8]) -> Result<Vec<Sample>, NoSamples> {
    let body: Body = serde_json::from_slice(body).map_err(|_| NoSamples::Unreadable)?;
    if body.status != "success" {
        let error = holdfast_confine::output::cut(body.error, ERROR_MAX_BYTES);
        return Err(NoSamples::Said(format!(
            "the server refuses the query: {error}"
        )));
    }
    let sample = |(labels, text): (BTreeMap<String, String>, String)| {
        let value = text.parse().map_err(|_| NoSamples::Unreadable)?;
        Ok(Sample { labels, value })
    };
    match body.data {
        Some(Answered::Vector(series)) => series
            .into_iter()
            .map(|series| sample((series.metric, series.value.1)))
            .collect(),
        Some(Answered::Scalar((_, text))) => Ok(vec![sample((BTreeMap::new(), text))?]),
        Some(Answered::Matrix(_) | Answered::String(_)) => Err(NoSamples::Said(
            "the query gives no instant vector; leave out the range, as in `[5m]`".to_owned(),
        )),
        None => Err(NoSamples::Unreadable),
    }
}

fn judge(expect: Samples, samples: &[Sample]) -> Said {
    let passes = match expect {
        Samples::Empty => samples.is_empty(),
        Samples::Some => !samples.is_empty(),
        Samples::Each(comparison, bound) => {
            let compares = |sample: &Sample| holds(comparison, sample.value, bound);
            !samples.is_empty() && samples.iter().all(compares)
        }
    };
    if passes {
        // The same at every pass, though values change.
        return Said::passed(format!("as expected: {}", expected(expect)));
    }
    let count = match samples.len() {
        0 => "no sample".to_owned(),
        1 => "1 sample".to_owned(),
        more => format!("{more} samples"),
    };
    let shown: Vec<String> = samples.iter().take(SHOWN_MAX).map(written).collect();
    let colon = if shown.is_empty() { "" } else { ": " };
    let more = if samples.len() > SHOWN_MAX {
        " …"
    } else {
        ""
    };
    let expected = expected(expect);
    Said::failed(format!(
        "{count}{colon}{}{more}; expected {expected}",
        shown.join(" ")
    ))
}

#[expect(
    clippy::float_cmp,
    reason = "equal means what it means in the query language"
)]
fn holds(comparison: Comparison, value: f64, bound: f64) -> bool {
    match comparison {
        Comparison::Less => value < bound,
        Comparison::AtMost => value <= bound,
        Comparison::Greater => value > bound,
        Comparison::AtLeast => value >= bound,
        Comparison::Equal => value == bound,
        // What is not a number differs from everything, and proves nothing.
        Comparison::Differs => value != bound && !value.is_nan(),
    }
}

/// `HighErrorRate{service=web}=1`
fn written(sample: &Sample) -> String {
    let name = sample
        .labels
        .get("alertname")
        .or_else(|| sample.labels.get("__name__"));
    let labels: Vec<String> = sample
        .labels
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "alertname" | "__name__" | "alertstate"))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let braces = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    let name = name.map_or("", String::as_str);
    plain(format!("{name}{braces}={}", sample.value).as_bytes())
}

#[cfg(test)]
mod tests {
    use holdfast_engine::track::check::CheckResult;

    use super::*;

    fn said(expect: Samples, body: &str) -> String {
        match samples(body.as_bytes()) {
            Ok(samples) => {
                let Said { result, output } = judge(expect, &samples);
                let result = match result {
                    CheckResult::Passed => "passed",
                    CheckResult::Failed => "failed",
                    CheckResult::Unknown => "unknown",
                };
                format!("{result}: {output}")
            }
            Err(NoSamples::Said(error)) => error,
            Err(NoSamples::Unreadable) => "unreadable".to_owned(),
        }
    }

    fn vector(values: &[&str]) -> String {
        let one = |value: &&str| {
            format!(
                r#"{{"metric":{{"__name__":"ALERTS","alertname":"Slow","service":"web"}},"value":[1.5,"{value}"]}}"#
            )
        };
        let all: Vec<String> = values.iter().map(one).collect();
        let all = all.join(",");
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{all}]}}}}"#)
    }

    #[test]
    fn samples_are_judged() {
        let each = |comparison| Samples::Each(comparison, 0.5);
        let none = vector(&[]);
        assert_eq!(
            said(Samples::Empty, &none),
            "passed: as expected: no sample"
        );
        assert_eq!(
            said(Samples::Some, &none),
            "failed: no sample; expected at least one sample"
        );
        assert_eq!(
            said(each(Comparison::Less), &none),
            "failed: no sample; expected every sample < 0.5"
        );
        let one = vector(&["1"]);
        assert_eq!(
            said(Samples::Empty, &one),
            "failed: 1 sample: Slow{service=web}=1; expected no sample"
        );
        let two = vector(&["0.1", "NaN"]);
        assert!(said(each(Comparison::Less), &two).starts_with("failed: 2 samples"));
        assert!(said(each(Comparison::Differs), &two).starts_with("failed"));
        let low = vector(&["0.1", "0.2"]);
        assert!(said(each(Comparison::AtMost), &low).starts_with("passed"));
        let many = said(Samples::Empty, &vector(&["1"; 9]));
        assert!(many.contains("9 samples") && many.contains(" …;"), "{many}");
    }

    #[test]
    fn what_is_no_answer_is_said_so() {
        let error = r#"{"status":"error","errorType":"bad_data","error":"1:1: parse error"}"#;
        assert_eq!(
            said(Samples::Some, error),
            "the server refuses the query: 1:1: parse error"
        );
        assert_eq!(said(Samples::Some, "<html>"), "unreadable");
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(said(Samples::Some, matrix).contains("no instant vector"));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#;
        assert_eq!(
            said(Samples::Each(Comparison::Less, 2.0), scalar),
            "failed: 1 sample: =2; expected every sample < 2"
        );
    }
}
