//! The HTTP API: `/v1/…` mirrors the commands, one file for each noun.
//!
//! Everything below `/v1` but its description needs a bearer token that allows it. Nothing else is
//! decided here: an endpoint asks the driver, or reads the store.

#![expect(unused_qualifications, reason = "what utoipa's params(…) expands to")]

pub mod access;
pub mod apply;
pub mod artifact;
pub mod ca;
pub mod compare;
pub mod deployment;
pub mod environment;
pub mod event;
pub mod ever;
pub mod freeze;
pub mod guardrail;
pub mod health;
pub mod idempotency;
pub mod judge;
pub mod limits;
pub mod log;
pub mod page;
pub mod problem;
pub mod release;
pub mod role;
pub mod secret;
pub mod serve;
pub mod service;
pub mod simulate;
pub mod status;
pub mod target;
pub mod token;
pub mod track;
pub mod user;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use holdfast_homes::way::Homes;
use holdfast_protocol::api::{Code, Problem};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::driver::Handle;
use crate::event::Refused;
use crate::metrics::Metrics;
use crate::store::Store;
pub use access::Caller;
use problem::Failed;

/// Largest body of a request, where nothing else is said.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct App {
    /// The driver.
    pub driver: Handle,
    /// The store, to read from.
    pub store: Store,
    /// Where artifacts lie.
    pub artifacts: PathBuf,
    /// The way to those that stay elsewhere.
    pub homes: Arc<Homes>,
    /// Counters.
    pub metrics: Metrics,
    /// Keys of the writes that are being answered.
    pub underway: idempotency::Underway,
    /// How much can be taken up at once.
    pub limits: limits::Limits,
    /// Cancelled when the coordinator stops, which ends streams.
    pub stop: CancellationToken,
}

impl App {
    /// What handlers share.
    #[must_use]
    pub fn new(
        driver: Handle,
        store: Store,
        (artifacts, homes): (PathBuf, Arc<Homes>),
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            driver,
            store,
            artifacts,
            homes,
            metrics,
            underway: idempotency::Underway::default(),
            limits: limits::Limits::default(),
            stop,
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "What should run where, what does, and why it does not move."
    ),
    security(("bearer" = [])),
    components(schemas(Problem)),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let components = description.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", scheme);
    }
}

/// Every route, described and served.
pub fn router(app: App) -> Router {
    let (routed, mut description) = described().split_for_parts();
    describe_refusals(&mut description);
    let description = serde_json::to_string(&description).expect("a description is plain data");
    let open = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route(
            "/v1/openapi.json",
            get(|| async move { ([("content-type", "application/json")], description) }),
        );
    let guarded = routed
        .route_layer(from_fn_with_state(app.clone(), idempotency::keep))
        .route_layer(from_fn_with_state(app.clone(), access::guard));
    guarded
        .merge(open)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(app)
}

/// Whatever is asked can be refused, and always in the same form.
fn describe_refusals(description: &mut utoipa::openapi::OpenApi) {
    let problem = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let refusal = ResponseBuilder::new()
        .description("a refusal (RFC 9457)")
        .content("application/problem+json", problem)
        .build();
    for path in description.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.head,
            &mut path.put,
            &mut path.post,
            &mut path.patch,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), refusal.clone().into());
        }
    }
}

fn described() -> OpenApiRouter<App> {
    // An upload takes as long as it takes, as long as it goes on.
    let uploads = OpenApiRouter::new()
        .routes(routes!(artifact::there, artifact::upload))
        .layer(DefaultBodyLimit::disable());
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(answered())
        .merge(uploads)
}

/// Everything that is answered within a known time.
fn answered() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ca::whoami))
        .routes(routes!(ca::status))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(apply::apply))
                .routes(routes!(apply::plan))
                .routes(routes!(simulate::simulate))
                .layer(DefaultBodyLimit::max(apply::REQUEST_MAX_BYTES)),
        )
        .routes(routes!(apply::set))
        .routes(routes!(apply::revisions))
        .routes(routes!(apply::confirm))
        .routes(routes!(environment::list))
        .routes(routes!(environment::one))
        .routes(routes!(service::list))
        .routes(routes!(service::one))
        .routes(routes!(guardrail::protections))
        .routes(routes!(guardrail::policies))
        .routes(routes!(guardrail::notifiers))
        .routes(routes!(target::list))
        .routes(routes!(target::one))
        .routes(routes!(target::revoke))
        .routes(routes!(target::resume))
        .routes(routes!(target::label))
        .routes(routes!(release::create))
        .routes(routes!(release::list))
        .routes(routes!(deployment::list))
        .routes(routes!(deployment::one))
        .routes(routes!(deployment::history))
        .routes(routes!(judge::judge))
        .routes(routes!(compare::diff))
        .routes(routes!(ever::ever))
        .routes(routes!(status::status))
        .routes(routes!(status::why))
        .routes(routes!(status::explain))
        .routes(routes!(status::whereabouts))
        .routes(routes!(track::steer))
        .routes(routes!(freeze::create, freeze::list))
        .routes(routes!(freeze::end))
        .routes(routes!(log::logs))
        .routes(routes!(event::events))
        .routes(routes!(event::audit))
        .routes(routes!(token::create, token::list))
        .routes(routes!(token::revoke))
        .routes(routes!(secret::set, secret::list))
        .routes(routes!(secret::rekey))
        .routes(routes!(secret::delete))
        .routes(routes!(user::create, user::list))
        .routes(routes!(user::one, user::revoke))
        .routes(routes!(user::rotate))
        .routes(routes!(user::assign))
        .routes(routes!(role::create, role::list))
        .routes(routes!(role::one, role::delete))
        .layer(axum::middleware::from_fn(problem::in_time))
}

/// Reads a name from a path or a query.
///
/// # Errors
/// [`Failed`] with what is wrong with it.
pub fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Failed>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Failed(Refused::new(Code::BadRequest, error.to_string())))
}

/// The same for something that may be left out; empty counts as left out.
///
/// # Errors
/// [`Failed`] with what is wrong with it.
pub fn parse_some<T: std::str::FromStr>(text: Option<&String>) -> Result<Option<T>, Failed>
where
    T::Err: std::fmt::Display,
{
    text.filter(|text| !text.is_empty())
        .map(|text| parse(text))
        .transpose()
}
