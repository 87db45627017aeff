//! Faults of what lies between the service and its clients: the network, TLS, gateways and firewalls.
//!
//! Those below HTTP are only named here: the listener, its certificate or a [`Line`](crate::line::Line) does them, on the port of
//! the API alone. The auth service is always reached.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use uuid::Uuid;

use super::{
    Asked, Family, Fault, Lies,
    http::{BODY_LIMIT, Foreign},
    pause,
};
use crate::{
    api::error::{ApiError, Ids},
    app::App,
    line::Flaw,
    tls,
};

pub(super) struct Transport;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    reported("transport", name, what, kills)
}

const fn reported(class: &'static str, name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: Some(class) }
}

const FAULTS: &[Fault] = &[
    fault("connection-refused", "the port of the API is closed", &[1, 5, 8, 12]),
    fault("wrong-host-certificate", "the certificate of the API is for another host", &[1, 5, 8, 12]),
    fault("expired-certificate", "the certificate of the API has expired", &[1, 5, 8, 12]),
    fault("untrusted-certificate", "the certificate of the API is signed by an unknown authority", &[1, 5, 8, 12]),
    fault("plain-http-on-https-port", "the API answers TLS with a plain HTTP 400", &[1, 5, 8, 12]),
    fault("reset-after-bytes", "each connection is reset after some hundred bytes of the server's", &[1, 5, 8, 12]),
    fault("half-open", "each connection is open after its TLS handshake, and nothing is answered on it", &[1, 5, 8, 12]),
    fault("half-open-socket", "after its first frame a socket stays open, and nothing comes over it", &[1, 3, 22]),
    fault("idle-cut", "a connection that is idle for six tenths of a heartbeat interval is cut", &[1]),
    fault("stall-mid-body", "the body of each answer stops in the middle", &[1, 5, 8, 12]),
    fault("stall-mid-frame", "the second frame of each socket stops in its middle", &[1, 3, 22]),
    fault("close-without-close-frame", "each socket ends after a few frames, and without a close frame", &[1, 3, 4, 22]),
    fault("gateway-502-html", "a gateway answers 502 with an HTML page, everywhere", &[1, 5, 8, 12]),
    fault("firewall-403-on-upgrade", "a firewall answers each upgrade with 403 and an HTML page", &[1, 3, 4, 22]),
    reported("auth_link", "authorization-stripped-on-upgrade", "a gateway drops Authorization from each upgrade", &[1, 2, 3, 22]),
    reported("not_ready", "not-ready-503", "every route but /health/live answers 503 with Retry-After", &[1, 5, 8, 12]),
    Fault { reports: None, ..fault("socket-without-tls", "the socket is served without TLS, on a port of its own", &[1]) },
    reported("sla", "slow-trickle", "the body of each answer comes a few bytes at a time", &[11, 15, 23]),
];

/// So much of a body comes at a time, and so long after what came before it.
const TRICKLE: (usize, Duration) = (16, Duration::from_millis(100));
const RETRY_AFTER_S: u64 = 5;

/// What breaks below HTTP. Honest lies have none of it.
impl Lies {
    /// True if nothing listens on the port of the API.
    pub(crate) fn port_is_closed(&self) -> bool {
        self.tells("connection-refused")
    }

    /// True if the port of the API speaks no TLS.
    pub(crate) fn speaks_no_tls(&self) -> bool {
        self.tells("plain-http-on-https-port")
    }

    /// True if the socket is served without TLS.
    pub(crate) fn socket_is_plain(&self) -> bool {
        self.tells("socket-without-tls")
    }

    /// What is wrong with the certificate of the API.
    pub(crate) fn certificate(&self) -> Option<tls::Flaw> {
        let flaws = [
            ("wrong-host-certificate", tls::Flaw::OtherHost),
            ("expired-certificate", tls::Flaw::Expired),
            ("untrusted-certificate", tls::Flaw::Untrusted),
        ];
        flaws.into_iter().find(|(name, _)| self.tells(name)).map(|(_, flaw)| flaw)
    }

    /// What is wrong with each connection to the API.
    pub(crate) fn line(&self, heartbeat: Duration) -> Option<Flaw> {
        let flaws = [
            ("reset-after-bytes", Flaw::Reset),
            ("half-open", Flaw::Mute),
            ("half-open-socket", Flaw::MuteSocket),
            ("idle-cut", Flaw::IdleCut(heartbeat.mul_f64(0.6))),
            ("stall-mid-frame", Flaw::HalfFrame),
            ("close-without-close-frame", Flaw::NoCloseFrame),
        ];
        flaws.into_iter().find(|(name, _)| self.tells(name)).map(|(_, flaw)| flaw)
    }
}

impl Family for Transport {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if asked.service != "api" {
                return None;
            }
            let upgrade = asked.is("GET", "/ws") && asked.headers.contains_key(header::UPGRADE);
            if upgrade && app.lies.tells("authorization-stripped-on-upgrade") {
                asked.headers.remove(header::AUTHORIZATION);
            }
            if upgrade && app.lies.tells("firewall-403-on-upgrade") {
                return Some(page(StatusCode::FORBIDDEN));
            }
            if app.lies.tells("gateway-502-html") {
                return Some(page(StatusCode::BAD_GATEWAY));
            }
            (app.lies.tells("not-ready-503") && asked.path != "/health/live").then(not_ready)
        })
    }

    fn carried<'a>(&'a self, app: &'a App, asked: &'a Asked, answer: Response) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let untouched = asked.service != "api" || answer.status().is_informational();
            match answer.headers().get(header::CONTENT_TYPE) {
                _ if untouched => answer,
                Some(kind) if app.lies.tells("stall-mid-body") && kind != "text/event-stream" => half(answer).await,
                _ if app.lies.tells("slow-trickle") => answer.map(trickling),
                _ => answer,
            }
        })
    }
}

/// What a gateway shows in place of the service.
fn page(status: StatusCode) -> Response {
    let page = Html(format!("<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>gateway</body></html>\n"));
    let mut answer = (status, page).into_response();
    answer.extensions_mut().insert(Foreign);
    answer
}

/// What a service says of itself that is still starting.
fn not_ready() -> Response {
    let trace = Uuid::new_v4().to_string();
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service is starting");
    let body = error.to_json(&Ids { trace: &trace, request: None }).to_string();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S)),
    ];
    let mut answer = (error.status, headers, body).into_response();
    if let Ok(trace) = HeaderValue::from_str(&trace) {
        answer.headers_mut().insert("x-trace-id", trace);
    }
    answer
}

/// The answer with half of its body; the length says that there is more, and nothing comes.
async fn half(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.slice(..bytes.len() / 2);
    let body = stream::once(async move { Ok::<_, Infallible>(half) }).chain(stream::pending());
    Response::from_parts(parts, Body::from_stream(body))
}

/// The body, a few bytes at a time.
fn trickling(body: Body) -> Body {
    Body::from_stream(body.into_data_stream().flat_map(|chunk| {
        let chunk = chunk.unwrap_or_default();
        stream::unfold(chunk, |mut rest: Bytes| async move {
            if rest.is_empty() {
                return None;
            }
            pause(TRICKLE.1).await;
            let piece = rest.split_to(TRICKLE.0.min(rest.len()));
            Some((Ok::<_, Infallible>(piece), rest))
        })
    }))
}
