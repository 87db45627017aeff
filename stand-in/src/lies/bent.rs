//! Bends at work: [`Bend`]s told to this service, at every seam.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::{StreamExt as _, future::BoxFuture};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Answered, Asked, Family, Fault, Heard, Lies, Said, Seat,
    bend::{Bend, Change, Deed, Place, places},
    pause,
};
use crate::{app::App, clock, token::Kind};

pub(super) struct Bent;

/// The field of a frame of a stream that is late, in milliseconds. No client minds it.
const LATE: &str = "@late";
/// The type by which the end of a connection is named as a frame.
const CLOSE: &str = "close";

impl Family for Bent {
    fn faults(&self) -> &'static [Fault] {
        &[]
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if app.lies.bends.is_empty() {
                return None;
            }
            let document = asked_document(app, asked);
            asked.bent = fitting(&app.lies, &document, |place| is_request(place, asked));
            let deeds: Vec<_> = deeds(&app.lies, &asked.bent).cloned().collect();
            for deed in &deeds {
                match deed {
                    Deed::Answers(status, body) => return Some(by_itself(asked, *status, body.as_deref())),
                    Deed::AsFirstUser => asked.become_user(app, &user(&app.lies, 1)),
                    Deed::AsNobody => drop(asked.headers.remove(header::AUTHORIZATION)),
                    Deed::Asks(change) => ask_otherwise(asked, &document, change),
                    _ => {}
                }
            }
            None
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for (at, strikes) in &asked.bent {
                let bend = &app.lies.bends[*at];
                let headers = header_fields(&answered.headers);
                let before = remember(&app.lies, bend, &json!({"body": answered.body, "headers": headers}), "/body");
                for deed in bend.deeds.iter().filter(|_| *strikes) {
                    answer_otherwise(answered, deed, before.as_ref());
                }
            }
        })
    }

    fn carried<'a>(&'a self, app: &'a App, asked: &'a Asked, answer: Response) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            wait(deeds(&app.lies, &asked.bent)).await;
            let streams = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            if streams && !app.lies.bends.is_empty() { answer.map(held_up) } else { answer }
        })
    }

    fn incoming(&self, app: &App, seat: &Seat<'_>, text: String) -> Heard {
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else { return Heard::Pass(text) };
        let honest = frame.clone();
        let document = frame_document(app, seat, &frame);
        let fits = |place: &Place| matches!(place, Place::Sent(kind) if names(&frame, kind));
        let bent = fitting(&app.lies, &document, fits);
        for deed in deeds(&app.lies, &bent) {
            match deed {
                Deed::Dropped => return Heard::Answer(vec![]),
                Deed::Close(code) => return Heard::Answer(vec![Said::Close(*code, "")]),
                Deed::Cut => return Heard::Answer(vec![Said::Cut]),
                Deed::Change(change) => change.apply(&mut frame, None),
                _ => {}
            }
        }
        Heard::Pass(if frame == honest { text } else { frame.to_string() })
    }

    fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        if app.lies.bends.is_empty() {
            return vec![said];
        }
        let frame = match &said {
            Said::Frame(frame) => frame.clone(),
            Said::Close(code, _) => json!({"type": CLOSE, "code": code}),
            Said::Cut => return vec![said],
        };
        let document = frame_document(app, seat, &frame);
        let fits = |place: &Place| matches!(place, Place::Frame(kind) if names(&frame, kind));
        let bent = fitting(&app.lies, &document, fits);
        let told = frames_otherwise(&app.lies, &bent, seat.connection_id, frame);
        let mut all: Vec<_> =
            told.into_iter().map(|frame| if frame["type"] == CLOSE { said.clone() } else { Said::Frame(frame) }).collect();
        for deed in deeds(&app.lies, &bent) {
            match deed {
                Deed::Close(code) => all.push(Said::Close(*code, "")),
                Deed::Cut => all.push(Said::Cut),
                Deed::Late(ms) => drop(app.lies.memory().counts.insert(late(seat), *ms)),
                _ => {}
            }
        }
        all
    }

    fn before_frame<'a>(&'a self, app: &'a App, seat: &'a Seat<'_>, _said: &'a Said, _since: Instant) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let held_up = app.lies.memory().counts.remove(&late(seat));
            if let Some(ms) = held_up {
                pause(Duration::from_millis(ms)).await;
            }
        })
    }

    fn streamed(&self, app: &App, frame: Value) -> Vec<Value> {
        let fits = |place: &Place| matches!(place, Place::Streamed(kind) if names(&frame, kind));
        let bent = fitting(&app.lies, &frame, fits);
        let stream = frame["run_id"].as_str().unwrap_or_default().to_owned();
        let mut all = frames_otherwise(&app.lies, &bent, &stream, frame);
        for deed in deeds(&app.lies, &bent) {
            match (deed, all.first_mut()) {
                (Deed::Cut, _) => all.push(Value::Null),
                (Deed::Late(ms), Some(first)) => first[LATE] = (*ms).into(),
                _ => {}
            }
        }
        all
    }

    fn before_run<'a>(&'a self, app: &'a App, user_id: &'a str, prompt: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let document = json!({"prompt": prompt, "@user": ordinal(&app.lies, "users", user_id)});
            let bent = fitting(&app.lies, &document, |place| *place == Place::Run);
            wait(deeds(&app.lies, &bent)).await;
        })
    }
}

/// A bend, by index, whose place and conditions fit; true if it is its turn.
pub(super) type Fit = (usize, bool);

fn fitting(lies: &Lies, document: &Value, fits: impl Fn(&Place) -> bool) -> Vec<Fit> {
    let all = lies.bends.iter().enumerate().filter(|(_, bend)| fits(&bend.place) && bend.fits(document));
    all.map(|(at, bend)| (at, bend.strikes(lies.count(&bend.text)))).collect()
}

fn deeds<'a>(lies: &'a Lies, bent: &'a [Fit]) -> impl Iterator<Item = &'a Deed> {
    bent.iter().filter(|(_, strikes)| *strikes).flat_map(|(at, _)| &lies.bends[*at].deeds)
}

async fn wait(deeds: impl Iterator<Item = &Deed>) {
    for deed in deeds {
        match deed {
            Deed::Late(ms) => pause(Duration::from_millis(*ms)).await,
            Deed::Never => std::future::pending().await,
            _ => {}
        }
    }
}

/// Where it is kept that the next frame of a connection is late.
fn late(seat: &Seat<'_>) -> String {
    format!("bent late {}", seat.connection_id)
}

/// A stream, each frame of it as late as it says.
fn held_up(body: Body) -> Body {
    Body::from_stream(body.into_data_stream().then(async |piece| {
        let piece = piece.unwrap_or_default();
        let frame = piece.strip_prefix(b"data: ").and_then(|json| serde_json::from_slice::<Value>(json).ok());
        let ms = frame.and_then(|frame| frame[LATE].as_u64());
        pause(Duration::from_millis(ms.unwrap_or_default())).await;
        Ok::<_, std::convert::Infallible>(piece)
    }))
}

/// Which one this is of those of its kind, counted from 1 in the order in which they came; 0 for an empty name.
fn ordinal(lies: &Lies, kind: &str, name: &str) -> usize {
    if name.is_empty() {
        return 0;
    }
    let mut memory = lies.memory();
    let seen = memory.held.entry(format!("bent {kind}")).or_default();
    seen.iter().position(|seen| seen == name).unwrap_or_else(|| {
        seen.push(name.into());
        seen.len() - 1
    }) + 1
}

/// The name of the nth user; empty if there is none.
fn user(lies: &Lies, nth: usize) -> String {
    let memory = lies.memory();
    let users = memory.held.get("bent users");
    users.and_then(|users| users.get(nth - 1)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Keeps a document, as it honestly is, for the next time, and gives the one of the last time. One without the fields that are
/// to be as before is no last time.
fn remember(lies: &Lies, bend: &Bend, document: &Value, root: &str) -> Option<Value> {
    let wanted = bend.deeds.iter().filter_map(|deed| match deed {
        Deed::Change(Change::Before(pointer)) => Some(format!("{root}{pointer}")),
        Deed::HeaderBefore(name) => Some(format!("/headers/{name}")),
        _ => None,
    });
    let (wanted, key) = (wanted.collect::<Vec<_>>(), format!("before {}", bend.text));
    let mut memory = lies.memory();
    if wanted.is_empty() || wanted.iter().any(|pointer| places(document, pointer).iter().all(|at| document.pointer(at).is_none())) {
        return memory.notes.get(&key).cloned();
    }
    memory.notes.insert(key, document.clone())
}

fn header_fields(headers: &HeaderMap) -> Map<String, Value> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().into())).collect()
}

fn is_request(place: &Place, asked: &Asked) -> bool {
    let Place::Http { service, method, path, parameter } = place else { return false };
    let has = |(name, value): &(String, Option<String>)| {
        asked.parameter(name).is_some_and(|got| value.as_ref().is_none_or(|value| value == got))
    };
    asked.service == *service && asked.is(method, path) && parameter.as_ref().is_none_or(has)
}

fn asked_document(app: &App, asked: &Asked) -> Value {
    let pairs = asked.query.as_deref().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let query: Map<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.into())).collect();
    let headers: Map<_, _> =
        asked.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().into_iter().collect())).collect();
    let token = super::connection::presented(asked).map(|token| token_document(app, &token));
    // An invented user is nobody: only who is known to the service counts.
    let known = token.as_ref().is_some_and(|token| token["valid"] == true);
    let user = if known { ordinal(&app.lies, "users", &asked.user_id) } else { 0 };
    json!({
        "body": asked.body, "query": query, "headers": headers, "token": token, "@user": user, "@restarted": app.lies.restarted,
    })
}

/// What can be seen of a token by whoever has the key.
fn token_document(app: &App, token: &str) -> Value {
    let part = |nth| token.split('.').nth(nth).and_then(|part| serde_json::from_slice::<Value>(&BASE64.decode(part).ok()?).ok());
    let claims = part(1).unwrap_or_default();
    let time = |claim: &str| claims[claim].as_i64().map(|time| time - clock::seconds());
    json!({
        "alg": part(0).map(|header| header["alg"].clone()), "dots": token.matches('.').count(), "size": token.len(),
        "left": time("exp"), "age": time("iat").map(|age| -age), "signature": token.split('.').nth(2),
        "signed": app.tokens.is_signed(token), "valid": app.tokens.verify(token, Kind::Access).is_ok(), "claims": claims,
    })
}

fn frame_document(app: &App, seat: &Seat<'_>, frame: &Value) -> Value {
    let mut document = frame.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.insert("@user".into(), ordinal(&app.lies, "users", seat.user_id).into());
        let connections = format!("connections of {}", seat.user_id);
        fields.insert("@connection".into(), ordinal(&app.lies, &connections, seat.connection_id).into());
        let run = ordinal(&app.lies, &format!("runs of {}", seat.user_id), frame["run_id"].as_str().unwrap_or_default());
        fields.insert("@run".into(), run.into());
    }
    document
}

fn names(frame: &Value, kind: &str) -> bool {
    let named = ["/type", "/data/event", "/data/status", "/error_code"];
    kind == "*" || named.iter().any(|pointer| frame.pointer(pointer).is_some_and(|name| name == kind))
}

fn by_itself(asked: &Asked, status: u16, body: Option<&str>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = body.unwrap_or(r#"{"detail": "Internal server error"}"#).to_owned();
    for segment in 0..6 {
        body = body.replace(&format!("${segment}"), asked.segment(segment));
    }
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ask_otherwise(asked: &mut Asked, document: &Value, change: &Change) {
    let mut other = document.clone();
    change.apply(&mut other, None);
    asked.body = other["body"].take();
    let query = other["query"].as_object().into_iter().flatten();
    let pairs: Vec<_> =
        query.map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect();
    asked.query = (!pairs.is_empty()).then(|| pairs.join("&"));
}

fn answer_otherwise(answered: &mut Answered, deed: &Deed, before: Option<&Value>) {
    let name = |name: &str| name.parse::<HeaderName>().ok();
    match deed {
        Deed::Status(status) => answered.status = StatusCode::from_u16(*status).unwrap_or(answered.status),
        Deed::Header(header, None) => drop(name(header).and_then(|name| answered.headers.remove(name))),
        Deed::Header(header, Some(value)) => {
            name(header).zip(value.parse().ok()).into_iter().for_each(|(name, value)| drop(answered.headers.insert(name, value)));
        }
        Deed::HeaderBefore(header) => {
            let value = before.and_then(|before| before["headers"][header].as_str()?.parse().ok());
            name(header).zip(value).into_iter().for_each(|(name, value)| drop(answered.headers.insert(name, value)));
        }
        Deed::Text(text) => {
            answered.text = Some(text.clone());
        }
        Deed::Change(change) => change.apply(&mut answered.body, before.map(|before| &before["body"])),
        _ => {}
    }
}

/// What becomes of a frame of a connection or stream: none, one, or several.
fn frames_otherwise(lies: &Lies, bent: &[Fit], line: &str, mut frame: Value) -> Vec<Value> {
    let mut all = lies.memory().held.remove(&format!("bent held {line}")).unwrap_or_default();
    let (mut count, mut more) = (1, Vec::new());
    for (at, strikes) in bent {
        let told = &lies.bends[*at];
        let before = remember(lies, told, &frame, "");
        for deed in told.deeds.iter().filter(|_| *strikes) {
            match deed {
                Deed::Dropped => count = 0,
                Deed::Twice => count = 2,
                Deed::Also(other) => more.push(other.clone()),
                Deed::AfterNext => {
                    lies.memory().held.insert(format!("bent held {line}"), vec![frame.clone()]);
                    count = 0;
                }
                Deed::Change(change) => change.apply(&mut frame, before.as_ref()),
                _ => {}
            }
        }
    }
    // What was held comes after the frame that it was to follow.
    let held = std::mem::take(&mut all);
    all.extend(std::iter::repeat_n(frame, count));
    all.extend(more);
    all.extend(held);
    all
}
