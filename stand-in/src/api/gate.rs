//! What every request passes on its way in, and every response on its way out.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::{
    caller::Credential,
    error::{ApiError, Ids},
};
use crate::{app::App, listener::Peer};

const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-environment");
/// What no honest path or query contains.
const FORBIDDEN: [&str; 4] = ["..", "./", ".env", "/etc/"];

/// The gate of the API: guards, limits, runs the handler, marks the answer.
pub(crate) async fn api(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let marks = Marks::of(&request);
    let answer = match admit(&app, request) {
        Ok(request) => handled(request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    marks.put_on(answer, &app.environment, |refusal| refusal)
}

/// The gate of the auth service: the same, but its errors are plain, and tokens are its handlers' business.
pub(crate) async fn auth_service(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let marks = Marks::of(&request);
    let answer = match guard(&request) {
        Ok(()) => handled(request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    marks.put_on(answer, &app.environment, ApiError::plain)
}

fn admit(app: &App, mut request: Request) -> Result<Request, ApiError> {
    guard(&request)?;
    let credential = Credential::of(request.headers(), &app.tokens);
    let key = match (&credential, request.extensions().get::<Peer>()) {
        (Credential::Good(caller), _) => format!("user {}", caller.user_id),
        (_, Some(Peer(peer))) => format!("peer {}", peer.ip()),
        (_, None) => "unknown peer".to_owned(),
    };
    app.limiter.take(&key).map_err(ApiError::too_many)?;
    request.extensions_mut().insert(credential);
    Ok(request)
}

/// Runs the handler; a panic is a 500 and not a cut connection.
async fn handled(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answer.unwrap_or_else(|_panic| ApiError::internal().into_response())
}

fn guard(request: &Request) -> Result<(), ApiError> {
    let uri = request.uri();
    let suspect = [Some(uri.path()), uri.query()].into_iter().flatten().any(is_suspect);
    if suspect { Err(ApiError::forbidden("Access denied")) } else { Ok(()) }
}

/// Looks at the text as sent, decoded once, and decoded twice: whoever encodes has a reason.
fn is_suspect(text: &str) -> bool {
    let once = percent_decoded(text.as_bytes());
    let twice = percent_decoded(&once);
    let contains = |text: &[u8]| FORBIDDEN.iter().any(|bad| text.windows(bad.len()).any(|part| part == bad.as_bytes()));
    contains(text.as_bytes()) || contains(&once) || contains(&twice)
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if let (b'%', Some(high), Some(low)) = (text[at], digit(at + 1), digit(at + 2)) {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
            at += 3;
        } else {
            decoded.push(text[at]);
            at += 1;
        }
    }
    decoded
}

/// The ids of one request.
struct Marks {
    trace: String,
    request: Option<HeaderValue>,
    versioned: bool,
}

impl Marks {
    fn of(request: &Request) -> Self {
        Self {
            trace: Uuid::new_v4().to_string(),
            request: request.headers().get(&REQUEST_ID).cloned(),
            versioned: request.uri().path().starts_with("/api/"),
        }
    }

    /// Gives a refusal its body, and every response its headers.
    fn put_on(self, mut response: Response, environment: &str, shape: fn(ApiError) -> ApiError) -> Response {
        if let Some(refusal) = refusal_of(&response).map(shape) {
            let request = self.request.as_ref().and_then(|id| id.to_str().ok());
            let body = refusal.to_json(&Ids { trace: &self.trace, request }).to_string();
            *response.body_mut() = Body::from(body);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: Result<HeaderValue, _>| value.map(|value| headers.insert(name, value));
        // An environment that is no header value is left out rather than refused.
        drop(put(TRACE_ID, HeaderValue::from_str(&self.trace)));
        drop(put(ENVIRONMENT, HeaderValue::from_str(environment)));
        if let Some(id) = self.request {
            headers.insert(REQUEST_ID, id);
        }
        if self.versioned {
            headers.insert("x-api-version", HeaderValue::from_static("1.0"));
        }
        response
    }
}

/// The refusal a response stands for: a handler's own, or the framework's, which gets our shape.
fn refusal_of(response: &Response) -> Option<ApiError> {
    let status = response.status();
    if let Some(refusal) = response.extensions().get::<ApiError>() {
        return Some(refusal.clone());
    }
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    ((status.is_client_error() || status.is_server_error()) && !is_json).then(|| ApiError::of_status(status))
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware, routing::get};
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let router =
            Router::new().route("/", get(async || -> &'static str { panic!("on purpose") })).layer(middleware::from_fn(handled));
        let request = Request::new(Body::empty());
        let answer = hyper::service::Service::call(&TowerToHyperService::new(router), request).await.expect("an answer");
        let marks = Marks { trace: "t".into(), request: None, versioned: false };
        let answer = marks.put_on(answer, "staging", |refusal| refusal);
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()[TRACE_ID], "t");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn traversal_is_seen_through_encodings() {
        for bad in ["/api/../x", "/api/%2e%2e/x", "q=%252e%252e", "file=.env", "/%65tc/etc/passwd", "a=./b", "a=.%2Fb"] {
            assert!(is_suspect(bad), "{bad} passed");
        }
        for good in ["/api/threads/thread_1", "limit=7&offset=14", "token=a.b.c", "q=100%"] {
            assert!(!is_suspect(good), "{good} refused");
        }
    }
}
