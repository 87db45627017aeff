//! The outermost layer of both services, only there when lies are told: reads the request, lets the families at it, and at
//! the answer.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{Request, State},
    http::{Uri, header},
    middleware::Next,
    response::Response,
};
use serde_json::Value;
use uuid::Uuid;

use super::{Answered, Asked, FAMILIES};
use crate::{app::App, token};

/// More than any honest request or answer has.
pub(super) const BODY_LIMIT: usize = 4 * 1024 * 1024;

pub(crate) async fn layer(State((app, service)): State<(Arc<App>, &'static str)>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let sent = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let mut asked = Asked {
        service,
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        user_id: token::unverified_subject(&parts.headers),
        headers: parts.headers.clone(),
        body: serde_json::from_slice(&sent).unwrap_or_default(),
        bent: Vec::new(),
    };
    let before = asked.body.clone();
    for family in FAMILIES {
        if let Some(answer) = family.request(&app, &mut asked).await {
            let answer = if answer.extensions().get::<Foreign>().is_some() { answer } else { marked(&app, &asked, answer) };
            return carried(&app, &asked, answer).await;
        }
    }
    let target = asked.query.as_ref().map_or_else(|| asked.path.clone(), |query| format!("{}?{query}", asked.path));
    parts.uri = target.parse::<Uri>().unwrap_or(parts.uri);
    parts.headers = asked.headers.clone();
    let sent = if asked.body == before { sent } else { Bytes::from(asked.body.to_string()) };
    parts.headers.remove(header::CONTENT_LENGTH);
    let answer = next.run(Request::from_parts(parts, Body::from(sent))).await;
    let answer = changed(&app, &asked, answer).await;
    carried(&app, &asked, answer).await
}

/// Marks an answer that does not come from the service: it goes out as it is.
#[derive(Clone, Copy)]
pub(super) struct Foreign;

async fn carried(app: &App, asked: &Asked, mut answer: Response) -> Response {
    for family in FAMILIES {
        answer = family.carried(app, asked, answer).await;
    }
    answer
}

/// A lie that answers by itself is still the service's answer, so it bears the service's marks.
fn marked(app: &App, asked: &Asked, mut answer: Response) -> Response {
    let marks = [("x-trace-id", Uuid::new_v4().to_string().parse().ok()), ("x-environment", app.environment.parse().ok())];
    let echo = [("x-request-id", asked.headers.get("x-request-id").cloned())];
    for (name, value) in marks.into_iter().chain(echo) {
        if let Some(value) = value.filter(|_| !answer.headers().contains_key(name)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// Streams and upgrades pass untouched: their frames have seams of their own.
async fn changed(app: &App, asked: &Asked, answer: Response) -> Response {
    let streams = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if streams || answer.status().is_informational() {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let known_size = body.size_hint().exact();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut answered = Answered { status: parts.status, headers: parts.headers, body: json.clone(), text: None };
    for family in FAMILIES {
        family.response(app, asked, &mut answered).await;
    }
    (parts.status, parts.headers) = (answered.status, answered.headers);
    let bytes = match answered.text {
        Some(text) => Bytes::from(text),
        None if answered.body == json => bytes,
        None => Bytes::from(answered.body.to_string()),
    };
    if known_size.is_none_or(|size| size != bytes.len() as u64) {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Response::from_parts(parts, Body::from(bytes))
}
