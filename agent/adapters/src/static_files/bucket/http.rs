//! How object storage is spoken to: the agent's one HTTP client, which speaks HTTP/1.1, as all three
//! clouds do. The kit's own would bring HTTP/2 besides, half a megabyte of program for nothing.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use reqwest::tls::Certificate;
use reqwest::{Client, NoProxy, Proxy, Request, Url};

/// Time until a connection stands.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time for one request with its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// What storage is told of who asks.
const USER_AGENT: &str = concat!("holdfast-agent/", env!("CARGO_PKG_VERSION"));

/// Options of the client that count here; those of other kinds are not the client's.
pub(super) const OPTIONS: [ClientConfigKey; 6] = [
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::UserAgent,
];

/// Makes clients as the options say.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(options).map_err(|error| object_store::Error::Generic {
            store: "HTTP",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(Service(client)))
    }
}

fn client(options: &ClientOptions) -> reqwest::Result<Client> {
    let text = |key| options.get_config_value(&key);
    let is = |key| text(key).is_some_and(|value| value == "true");
    let agent = text(ClientConfigKey::UserAgent);
    let mut builder = Client::builder()
        .user_agent(agent.as_deref().unwrap_or(USER_AGENT))
        .connect_timeout(CONNECT_LIMIT)
        .timeout(REQUEST_LIMIT)
        .tls_danger_accept_invalid_certs(is(ClientConfigKey::AllowInvalidCertificates))
        .https_only(!is(ClientConfigKey::AllowHttp));
    if let Some(address) = text(ClientConfigKey::ProxyUrl) {
        let excluded = text(ClientConfigKey::ProxyExcludes);
        let excluded = excluded.and_then(|list| NoProxy::from_string(&list));
        builder = builder.proxy(Proxy::all(address)?.no_proxy(excluded));
    }
    if let Some(pem) = text(ClientConfigKey::ProxyCaCertificate) {
        builder = builder.tls_certs_merge([Certificate::from_pem(pem.as_bytes())?]);
    }
    builder.build()
}

#[derive(Debug)]
struct Service(Client);

impl HttpService for Service {
    fn call<'a, 'f>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(self.exchange(request))
    }
}

impl Service {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Url = parts
            .uri
            .to_string()
            .parse()
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(body),
        });
        let response = self.0.execute(request).await.map_err(refused)?;
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let body = HttpResponseBody::new(body.map_err(refused));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// A failure in the kit's words, by which it decides whether to ask again. Without the address, which may
/// hold a signature.
fn refused(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        of_source(&error)
    };
    HttpError::new(kind, error.without_url())
}

fn of_source(error: &reqwest::Error) -> HttpErrorKind {
    use std::io::ErrorKind;
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && (error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted())
        {
            return HttpErrorKind::Request;
        }
        let cut = [
            ErrorKind::ConnectionAborted,
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::UnexpectedEof,
        ];
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            if error.kind() == ErrorKind::TimedOut {
                return HttpErrorKind::Timeout;
            }
            if cut.contains(&error.kind()) {
                return HttpErrorKind::Interrupted;
            }
        }
        source = cause.source();
    }
    HttpErrorKind::Unknown
}
