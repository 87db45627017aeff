//! Lies about connections, tokens, and messages over the socket.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Answered, Asked, Family, Fault, Heard, Lies, Said, Seat};
use crate::{
    app::App,
    socket::frames,
    token::{self, Claims, Kind, Refused, unverified},
};

pub(super) struct Connection;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: None }
}

const FAULTS: &[Fault] = &[
    fault("welcome-missing", "101, then only pings", &[1]),
    fault("welcome-not-ready", "'connection_ready: false'", &[1]),
    fault("welcome-foreign-user", "welcome carries another user's id", &[1, 16]),
    fault("welcome-reuses-connection-id", "same 'connection_id' for every connection", &[1, 4]),
    fault("welcome-wrong-environment", "'environment: production'", &[1]),
    fault("first-frame-is-error", "'error_message' first, then goes on as if connected", &[1]),
    fault("bare-1011-after-auth", "101, no frame, close 1011 for a valid token", &[1, 2]),
    fault("abnormal-close-after-welcome", "TCP cut right after the welcome", &[1]),
    fault("no-pong", "client 'ping' unanswered", &[1, 4]),
    fault("hang-after-upgrade", "101, then silence, no close", &[1]),
    fault("handshake-500", "upgrade answered 500 for authenticated users", &[1, 2]),
    fault("anonymous-accepted", "no token: welcome", &[2]),
    fault("bad-signature-accepted", "signature not verified", &[2]),
    fault("expired-accepted", "'exp' ignored", &[2]),
    fault("wrong-issuer-accepted", "'iss' ignored", &[2]),
    fault("wrong-token-type-accepted", "refresh token opens a socket", &[2]),
    fault("alg-none-accepted", "'alg: none'", &[2]),
    fault("alg-none-case-accepted", "'alg: noNE'", &[2]),
    fault("bypass-headers-accepted", "any 'X-E2E-*'/'X-Test-*' header skips validation", &[2]),
    fault("refusal-closes-1011", "bad token: close 1011 in place of 1008", &[2]),
    fault("refusal-without-frame", "bad token: 1008 with no 'error_message'", &[2]),
    fault("refusal-keeps-socket-open", "bad token: 'error_message', socket stays and acks", &[2]),
    fault("subprotocol-not-selected", "offered 'jwt-auth', none selected", &[2]),
    fault("subprotocol-token-ignored", "'jwt.<…>' carrier not read", &[2]),
    fault("http-bad-token-is-anonymous", "routes with optional token treat a bad one as none", &[2]),
    fault("valid-token-refused", "every token: 'VALIDATION_FAILED', 1008", &[1, 2]),
    fault("refresh-changes-user", "refreshed token has another 'sub'", &[18]),
    fault("refresh-gives-the-old-back", "a refresh answers with the refresh token that it was given", &[18]),
    fault("refresh-reusable", "a refresh token works twice", &[18]),
    fault("token-survives-logout", "access token accepted after logout", &[18]),
    fault("reconnect-loses-threads", "after reconnect the user's threads are gone", &[18]),
    fault("reconnect-replays-foreign-events", "reconnect delivers another session's queued events", &[18]),
    fault("no-ack", "message stored and run, never acknowledged", &[3]),
    fault("ack-without-run", "acknowledged, no agent ever starts", &[3, 22, 25]),
    fault("ack-wrong-message", "ack names another message id", &[3]),
    fault("unicode-damaged", "non-ASCII stored as '?'", &[3, 12]),
    fault("invalid-json-closes", "a non-JSON frame closes the socket", &[3]),
    fault("invalid-json-silent", "a non-JSON frame gets no answer", &[3]),
    fault("oversize-silent", "an oversized frame is dropped silently", &[3]),
    fault("sixth-connection-refused", "connections leak: the 6th in a row gets 1011", &[4]),
    fault("close-one-closes-all", "closing one socket closes the user's others", &[4]),
    fault("replies-cross-sockets", "pong goes to the user's newest socket", &[4]),
    fault("second-socket-mute", "only the newest socket of a user gets events", &[4]),
];

/// Somebody, when there is nobody to be taken for.
pub(super) const STRANGER: &str = "00000000-0000-4000-8000-000000000000";
/// So begin the ids of users who were refused and stay on the socket; code and message follow.
const REFUSED: &str = "refused|";
/// The key that marks a frame for the writers of a user's connections; no client sees it.
const ORDER: &str = "lie";
/// Where the events of all users are kept.
const EVENTS: &str = "reconnect-replays-foreign-events";

impl Family for Connection {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if asked.service == "api" && asked.is("GET", "/ws") {
                return upgrade(app, asked);
            }
            let lies = &app.lies;
            // Only where a token is optional; elsewhere it is still missed.
            let optional = asked.is("GET", "/api/mcp/servers") || asked.is("GET", "/api/mcp/tools");
            if lies.tells("http-bad-token-is-anonymous") && optional && bearer(asked).is_some_and(|token| !is_good(app, &token)) {
                asked.headers.remove(header::AUTHORIZATION);
            }
            if lies.tells("refresh-reusable") && asked.is("POST", "/auth/refresh") {
                renew(app, asked);
            }
            if lies.tells("unicode-damaged") && asked.is("POST", "/api/chat/messages") {
                asked.body.get_mut("content").into_iter().for_each(damage);
            }
            None
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let lies = &app.lies;
            if lies.tells("refresh-changes-user") && asked.is("POST", "/auth/refresh") && answered.status == StatusCode::OK {
                for (field, kind) in [("access_token", Kind::Access), ("refresh_token", Kind::Refresh)] {
                    let claims = unverified(answered.body[field].as_str().unwrap_or_default());
                    let email = claims.get("email").and_then(Value::as_str).unwrap_or_default();
                    let rights = texts(claims.get("permissions"));
                    answered.body[field] = app.tokens.mint(kind, STRANGER, email, &rights).into();
                }
            }
            if lies.tells("refresh-gives-the-old-back")
                && answered.body["refresh_token"].is_string()
                && asked.is("POST", "/auth/refresh")
            {
                answered.body["refresh_token"] = asked.body["refresh_token"].clone();
            }
            let reconnected = || lies.memory().counts.contains_key(&format!("reconnected {}", asked.user_id));
            if lies.tells("reconnect-loses-threads") && asked.is("GET", "/api/threads") && reconnected() {
                answered.body = json!([]);
            }
        })
    }

    fn token(&self, lies: &Lies, token: &str, kind: Kind, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
        let accepted = match honest {
            Ok(_) => return honest,
            Err(Refused::Signature) => lies.tells("bad-signature-accepted"),
            Err(Refused::Expired) => lies.tells("expired-accepted"),
            Err(Refused::Claim("iss")) => lies.tells("wrong-issuer-accepted"),
            Err(Refused::Claim("token_type")) => {
                let refresh = unverified(token).get("token_type").is_some_and(|claimed| claimed == Kind::Refresh.name());
                lies.tells("wrong-token-type-accepted") && kind == Kind::Access && refresh
            }
            Err(Refused::Revoked) => lies.tells("token-survives-logout") && kind == Kind::Access,
            Err(Refused::Algorithm) => match algorithm(token).as_str() {
                "none" => lies.tells("alg-none-accepted"),
                other => lies.tells("alg-none-case-accepted") && other.eq_ignore_ascii_case("none"),
            },
            Err(_) => false,
        };
        if accepted { Ok(believed(token)) } else { honest }
    }

    fn incoming(&self, app: &App, seat: &Seat<'_>, text: String) -> Heard {
        let lies = &app.lies;
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else {
            return match () {
                () if lies.tells("invalid-json-closes") => Heard::Answer(vec![Said::Close(1007, "invalid frame")]),
                () if lies.tells("invalid-json-silent") => Heard::Answer(vec![]),
                () => Heard::Pass(text),
            };
        };
        match frame["type"].as_str().unwrap_or_default() {
            "ping" if lies.tells("no-pong") => Heard::Answer(vec![]),
            "ping" if lies.tells("replies-cross-sockets") => {
                // All of the user's writers get it; all but the newest one's drop it.
                let mut pong = frames::pong(seat.user_id);
                pong[ORDER] = "newest".into();
                app.hub.publish(seat.user_id, pong);
                Heard::Answer(vec![])
            }
            "user_message" | "chat" | "chat_message" | "message" => {
                if lies.tells("ack-without-run") {
                    lies.count(&idle(seat.user_id, frame["payload"]["content"].as_str().unwrap_or_default()));
                }
                if lies.tells("unicode-damaged") {
                    frame.pointer_mut("/payload/content").into_iter().for_each(damage);
                    return Heard::Pass(frame.to_string());
                }
                Heard::Pass(text)
            }
            _ => Heard::Pass(text),
        }
    }

    fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        match said {
            said @ (Said::Frame(_) | Said::Close(..) | Said::Cut) if seat.user_id.is_empty() => refusal(&app.lies, said),
            Said::Frame(frame) if frame["data"]["event"] == "connection_established" => welcome(app, seat, frame),
            Said::Frame(frame) => later(&app.lies, seat, frame),
            Said::Close(..) if app.lies.tells("hang-after-upgrade") => vec![],
            said @ (Said::Close(..) | Said::Cut) => vec![said],
        }
    }

    fn left(&self, app: &App, seat: &Seat<'_>) {
        left(app, seat);
    }

    fn published(&self, app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        if app.lies.tells(EVENTS) {
            app.lies.memory().held.entry(format!("{EVENTS} {user_id}")).or_default().push(frame.clone());
        }
        vec![(user_id.to_owned(), frame)]
    }

    fn before_run<'a>(&'a self, app: &'a App, user_id: &'a str, prompt: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if app.lies.tells("ack-without-run") && app.lies.memory().counts.contains_key(&idle(user_id, prompt)) {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// What becomes of an upgrade.
fn upgrade(app: &App, asked: &mut Asked) -> Option<Response> {
    let lies = &app.lies;
    let token = presented(asked);
    if lies.tells("handshake-500") && token.as_ref().is_some_and(|token| is_good(app, token)) {
        return Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    }
    if lies.tells("anonymous-accepted") && token.is_none() {
        asked.become_user(app, STRANGER);
    }
    if lies.tells("valid-token-refused") && token.is_some() {
        spoil(asked, token.as_deref());
    }
    let bypass = |name: &str| name.starts_with("x-e2e-") || name.starts_with("x-test-");
    if lies.tells("bypass-headers-accepted") && asked.headers.keys().any(|name| bypass(name.as_str())) {
        let user = if asked.user_id.is_empty() { STRANGER.to_owned() } else { asked.user_id.clone() };
        asked.become_user(app, &user);
    }
    if lies.tells("refusal-keeps-socket-open")
        && let Some(why) = why_refused(app, token.as_deref())
    {
        asked.become_user(app, &format!("{REFUSED}{why}"));
    }
    if lies.tells("subprotocol-not-selected") {
        keep_offers(asked, |offer| offer.starts_with("jwt."));
    }
    if lies.tells("subprotocol-token-ignored") {
        keep_offers(asked, |offer| !offer.starts_with("jwt."));
    }
    None
}

/// The token of a request, by header or subprotocol.
pub(super) fn presented(asked: &Asked) -> Option<String> {
    bearer(asked).or_else(|| by_subprotocol(asked))
}

pub(super) fn bearer(asked: &Asked) -> Option<String> {
    let token = asked.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// The service sees a token of the same size whose signature does not fit.
pub(super) fn spoil(asked: &mut Asked, token: Option<&str>) {
    let head = token.and_then(|token| token.get(..token.len().checked_sub(4)?)).unwrap_or("a.b.");
    let tail = if token.is_some_and(|token| token.ends_with("AAAA")) { "QQQQ" } else { "AAAA" };
    let spoilt = HeaderValue::try_from(format!("Bearer {head}{tail}"));
    asked.headers.insert(header::AUTHORIZATION, spoilt.unwrap_or(HeaderValue::from_static("Bearer a.b.c")));
}

fn offers(asked: &Asked) -> Vec<String> {
    let offers = asked.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|offers| offers.to_str().ok());
    offers.flat_map(|offers| offers.split(',')).map(|offer| offer.trim().to_owned()).collect()
}

pub(super) fn by_subprotocol(asked: &Asked) -> Option<String> {
    let token = offers(asked).iter().find_map(|offer| BASE64.decode(offer.strip_prefix("jwt.")?).ok())?;
    String::from_utf8(token).ok()
}

/// The service sees no other subprotocols than these.
fn keep_offers(asked: &mut Asked, keep: impl Fn(&str) -> bool) {
    let kept: Vec<_> = offers(asked).into_iter().filter(|offer| keep(offer)).collect();
    asked.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = kept.join(", ").parse()
        && !kept.is_empty()
    {
        asked.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

fn is_good(app: &App, token: &str) -> bool {
    app.tokens.verify(token, Kind::Access).is_ok()
}

/// Code and message of the refusal that this token would get.
fn why_refused(app: &App, token: Option<&str>) -> Option<String> {
    let Some(token) = token else {
        return Some("NO_TOKEN|No JWT token found in WebSocket headers or subprotocols".to_owned());
    };
    let size = format!("{} chars, {} dots", token.chars().count(), token.matches('.').count());
    match token::parts(token) {
        None => Some(format!("INVALID_FORMAT|Invalid token format: {size}")),
        Some(_) if is_good(app, token) => None,
        Some(_) => Some(format!("VALIDATION_FAILED|Token validation failed, Debug: {size}")),
    }
}

fn algorithm(token: &str) -> String {
    // The header is where the claims would be if something stood before it.
    unverified(&format!(".{token}")).get("alg").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a token claims, taken at its word.
pub(super) fn believed(token: &str) -> Claims {
    let claims = unverified(token);
    let text = |name| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let exp = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
    Claims { sub: text("sub"), email: text("email"), permissions: texts(claims.get("permissions")), jti: text("jti"), exp }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A used refresh token is exchanged for a fresh one before the honest service sees it.
fn renew(app: &App, asked: &mut Asked) {
    for field in ["refresh_token", "refreshToken"] {
        let Some(token) = asked.body.get(field).and_then(Value::as_str) else { continue };
        if matches!(app.tokens.verify(token, Kind::Refresh), Err(Refused::Revoked)) {
            let Claims { sub, email, permissions, .. } = believed(token);
            asked.body[field] = app.tokens.mint(Kind::Refresh, &sub, &email, &permissions).into();
        }
    }
}

fn damage(text: &mut Value) {
    if let Value::String(text) = text {
        *text = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    }
}

/// The key of a prompt that no agent works on.
fn idle(user_id: &str, prompt: &str) -> String {
    format!("ack-without-run {user_id} {prompt}")
}

/// What a refused client is told.
fn refusal(lies: &Lies, said: Said) -> Vec<Said> {
    match said {
        Said::Frame(_) if lies.tells("refusal-without-frame") => vec![],
        Said::Close(1008, reason) if lies.tells("refusal-closes-1011") => vec![Said::Close(1011, reason)],
        said => vec![said],
    }
}

/// The first frame of a connection.
fn welcome(app: &App, seat: &Seat<'_>, mut frame: Value) -> Vec<Said> {
    let lies = &app.lies;
    let again = arrived(lies, seat);
    if let Some(why) = seat.user_id.strip_prefix(REFUSED) {
        let (code, message) = why.split_once('|').unwrap_or((why, ""));
        return vec![Said::Frame(frames::error(app, code, message))];
    }
    if lies.tells("welcome-missing") || lies.tells("hang-after-upgrade") {
        return vec![];
    }
    if lies.tells("bare-1011-after-auth") {
        return vec![Said::Close(1011, "")];
    }
    if lies.tells("sixth-connection-refused") && lies.count(&format!("sixth-connection-refused {}", seat.user_id)) > 5 {
        return vec![Said::Close(1011, "")];
    }
    let data = &mut frame["data"];
    if lies.tells("welcome-not-ready") {
        data["connection_ready"] = false.into();
    }
    if lies.tells("welcome-foreign-user") {
        data["user_id"] = STRANGER.into();
    }
    if lies.tells("welcome-reuses-connection-id") {
        data["connection_id"] = "ws_0".into();
    }
    if lies.tells("welcome-wrong-environment") {
        data["environment"] = "production".into();
    }
    let mut said = vec![Said::Frame(frame)];
    if lies.tells("first-frame-is-error") {
        said.insert(0, Said::Frame(frames::error(app, "SERVICE_UNAVAILABLE", "the service is not ready")));
    }
    if lies.tells("abnormal-close-after-welcome") {
        said.push(Said::Cut);
    }
    if lies.tells(EVENTS) && again {
        let own = format!("{EVENTS} {}", seat.user_id);
        let memory = lies.memory();
        let foreign = memory.held.iter().filter(|(key, _)| key.starts_with(EVENTS) && **key != own);
        said.extend(foreign.flat_map(|(_, frames)| frames.iter().cloned().map(Said::Frame)));
    }
    said
}

/// Every frame after the welcome.
fn later(lies: &Lies, seat: &Seat<'_>, mut frame: Value) -> Vec<Said> {
    let newest = || open(lies, seat.user_id).last().is_some_and(|newest| newest == seat.connection_id);
    match frame.as_object_mut().and_then(|frame| frame.remove(ORDER)).as_ref().and_then(Value::as_str) {
        Some("newest") if !newest() => return vec![],
        Some("close") => return vec![Said::Close(1000, "")],
        _ => {}
    }
    let kind = frame["type"].as_str().unwrap_or_default();
    let swallowed = lies.tells("hang-after-upgrade")
        || lies.tells("welcome-missing") && kind != "ping"
        || lies.tells("no-ack") && is_ack(&frame)
        || lies.tells("oversize-silent") && frame["error_code"] == "MESSAGE_TOO_LARGE"
        || lies.tells("second-socket-mute") && frame.get("run_id").is_some() && !newest();
    if swallowed {
        return vec![];
    }
    if lies.tells("ack-wrong-message") && is_ack(&frame) {
        frame["data"]["original_message_id"] = STRANGER.into();
    }
    vec![Said::Frame(frame)]
}

fn is_ack(frame: &Value) -> bool {
    frame["data"]["status"] == "acknowledged" && frame["data"].get("original_message_id").is_some()
}

/// The user's open connections, the newest last.
fn open(lies: &Lies, user_id: &str) -> Vec<String> {
    texts(lies.memory().notes.get(&format!("open {user_id}")))
}

/// Notes an opened connection; true if the user was here before and had left.
fn arrived(lies: &Lies, seat: &Seat<'_>) -> bool {
    let mut all = open(lies, seat.user_id);
    let alone = all.is_empty();
    all.push(seat.connection_id.to_owned());
    let mut memory = lies.memory();
    let before = memory.notes.insert(format!("open {}", seat.user_id), all.into());
    let again = alone && before.is_some();
    if again {
        memory.counts.insert(format!("reconnected {}", seat.user_id), 1);
    }
    again
}

/// Notes a connection that has ended.
fn left(app: &App, seat: &Seat<'_>) {
    let mut all = open(&app.lies, seat.user_id);
    all.retain(|connection| connection != seat.connection_id);
    app.lies.memory().notes.insert(format!("open {}", seat.user_id), all.into());
    if app.lies.tells("close-one-closes-all") {
        app.hub.publish(seat.user_id, json!({ORDER: "close"}));
    }
}
