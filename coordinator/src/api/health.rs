//! For load balancers and monitoring.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::App;
use crate::metrics::Seen;

/// Alive: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: the driver answers, and what happens can be kept.
pub async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if !app.driver.is_healthy() {
        return (StatusCode::SERVICE_UNAVAILABLE, "commits fail\n");
    }
    match app.driver.ask(|_| ()).await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

/// For Prometheus.
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    // While it stops, the gauges stay at what they were.
    if let Ok(seen) = app.driver.ask(Seen::of).await {
        app.metrics.observe(&seen);
    }
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content)], app.metrics.text())
}
