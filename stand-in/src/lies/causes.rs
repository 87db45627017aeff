//! Causes behind failures that look alike: what goes wrong between auth service, backend, clocks, instances and builds.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Answered, Asked, Family, Fault, Lies, Said, Seat,
    connection::{STRANGER, bearer, believed, by_subprotocol, spoil},
};
use crate::{
    app::App,
    clock,
    socket::frames,
    token::{Claims, Kind, Refused, unverified},
};

pub(super) struct Causes;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: None }
}

const FAULTS: &[Fault] = &[
    fault("other-issuer-demanded", "tokens are made and wanted with 'iss: netra-auth-v2'", &[2]),
    fault("other-audience-demanded", "tokens are made and wanted with 'aud: netra-customers'", &[2]),
    fault("other-token-type-demanded", "tokens are made and wanted with 'token_type: user'", &[2]),
    fault(
        "token-type-demanded-by-the-socket-alone",
        "only the socket looks at 'token_type': the rest takes tokens without it",
        &[2],
    ),
    fault("milliseconds-demanded", "tokens are made and wanted with times in milliseconds", &[2]),
    fault("clock-behind", "the service's clock is 10 minutes behind", &[2, 12]),
    fault("clock-ahead", "the service's clock is 10 minutes ahead", &[12]),
    fault("issued-without-token-type", "the auth service leaves 'token_type' out of the tokens that it makes", &[1, 2]),
    fault(
        "service-credentials-wrong",
        "the backend's credentials at the auth service are wrong: every token is invalid to it",
        &[1, 2],
    ),
    fault("inter-service-auth-failed", "the same, and the refusal says so", &[1, 2]),
    fault("auth-link-unreachable", "the backend cannot reach the auth service: every token is refused", &[1, 2]),
    fault("auth-service-down", "the auth service answers 503 to everything", &[1, 2]),
    Fault {
        reports: Some("not_ready"),
        ..fault("auth-service-frozen", "the auth service takes requests and answers none", &[1, 2])
    },
    fault("auth-service-slow", "the auth service needs 2.5 s for each answer, and the backend gives up on it", &[1, 2]),
    fault("authentication-off", "any token is accepted, garbage too", &[2]),
    fault("one-route-refuses", "/api/tools takes no token for good", &[10]),
    fault("startup-incomplete", "sockets are closed with STARTUP_INCOMPLETE and 1011, readiness is 503", &[1, 2]),
    fault("refusal-remembered", "the first token that is seen is refused for 5 minutes, others are not", &[1]),
    fault("user-suspended", "tokens of the first user that is seen are refused", &[1]),
    fault("store-per-process", "every second reading is answered by another instance, with an empty store of its own", &[12, 13]),
    fault("stale-build", "an older build: some documented routes are unknown to it", &[6, 10]),
];

/// Minutes by which a wrong clock is wrong, in seconds.
const OFF_S: i64 = 600;
/// What a demanding service puts into a claim, and wants there.
const DEMANDS: [(&str, &str, &str); 3] = [
    ("other-issuer-demanded", "iss", "netra-auth-v2"),
    ("other-audience-demanded", "aud", "netra-customers"),
    ("other-token-type-demanded", "token_type", "user"),
];
/// Why the backend refuses every token, as it tells a socket.
const LINKS: [(&str, &str); 4] = [
    ("service-credentials-wrong", "Token validation failed"),
    ("inter-service-auth-failed", "inter_service_auth_failed"),
    ("auth-link-unreachable", "auth_service_unreachable"),
    ("auth-service-slow", "auth_service_unreachable: timeout"),
];
/// Routes that the older build does not have.
const UNKNOWN: [&str; 4] = ["/api/tools", "/api/config/public", "/ws/config", "/api/mcp/config"];
/// Longer than a backend waits.
const SLOW: Duration = Duration::from_millis(2_500);

impl Family for Causes {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            let lies = &app.lies;
            if asked.service == "auth" {
                return auth_service(lies).await;
            }
            if lies.tells("stale-build") && UNKNOWN.contains(&asked.path.as_str()) {
                return Some((StatusCode::NOT_FOUND, axum::Json(json!({"detail": "Not Found"}))).into_response());
            }
            if lies.tells("one-route-refuses") && asked.path == "/api/tools" {
                let token = bearer(asked);
                spoil(asked, token.as_deref());
            }
            let ready = asked.is("GET", "/health/ready");
            if lies.tells("startup-incomplete") && ready {
                let body = json!({"status": "not_ready", "environment": app.environment, "uptime_seconds": 12.5});
                return Some((StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response());
            }
            let token = bearer(asked).or_else(|| by_subprotocol(asked)).or_else(|| asked.parameter("token").map(str::to_owned));
            let by_socket = |token: &str| {
                lies.tells("token-type-demanded-by-the-socket-alone") && asked.is("GET", "/ws") && untyped(&unverified(token))
            };
            if token.as_deref().is_some_and(|token| refused_by_backend(lies, token) || by_socket(token)) {
                spoil(asked, token.as_deref());
            }
            None
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let lies = &app.lies;
            for field in ["access_token", "refresh_token"] {
                if let Some(token) = answered.body[field].as_str().filter(|_| asked.service == "auth") {
                    answered.body[field] = remade(app, token).into();
                }
            }
            if let Some(off) = off(lies) {
                let date = (Timestamp::now() + jiff::Span::new().seconds(off)).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
                answered.headers.extend(date.parse().ok().map(|date| (header::DATE, date)));
                if let Some(time) = answered.body.pointer_mut("/message/timestamp") {
                    *time = clock::iso_of_second(clock::seconds() + off).into();
                }
            }
            if lies.tells("stale-build") && asked.is("GET", "/health") {
                answered.body["version"] = "0.9.0".into();
            }
            let store = ["/api/threads", "/api/threads/*", "/api/threads/*/messages", "/api/chat/messages"];
            let reads = asked.service == "api" && store.iter().any(|form| asked.is("GET", form));
            if lies.tells("store-per-process") && reads && lies.count("store-per-process").is_multiple_of(2) {
                empty_store(answered);
            }
        })
    }

    fn token(&self, lies: &Lies, token: &str, kind: Kind, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
        let claims = unverified(token);
        for (name, claim, wanted) in DEMANDS {
            if lies.tells(name) && (claim != "token_type" || kind == Kind::Access) {
                return match honest {
                    Err(Refused::Claim(other))
                        if other == claim && claims.get(claim).is_some_and(|got| got == wanted) && has_the_rest(&claims) =>
                    {
                        Ok(believed(token))
                    }
                    Ok(_) => Err(Refused::Claim(claim)),
                    refused => refused,
                };
            }
        }
        let refused = matches!(honest, Err(Refused::Claim("token_type")));
        if refused && untyped(&claims) && lies.tells("token-type-demanded-by-the-socket-alone") {
            return Ok(believed(token));
        }
        if lies.tells("milliseconds-demanded") {
            return milliseconds(token, &claims, honest);
        }
        if let Some(off) = off(lies) {
            return by_clock(token, &claims, clock::seconds() + off, honest);
        }
        if lies.tells("authentication-off") && honest.is_err() {
            let mut claims = believed(token);
            if claims.sub.is_empty() {
                STRANGER.clone_into(&mut claims.sub);
            }
            return Ok(claims);
        }
        honest
    }

    fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        match said {
            Said::Frame(mut frame) if seat.user_id.is_empty() && frame["error_code"] == "VALIDATION_FAILED" => {
                if let Some((_, why)) = LINKS.into_iter().find(|(name, _)| app.lies.tells(name)) {
                    frame["error_message"] = why.into();
                }
                vec![Said::Frame(frame)]
            }
            Said::Frame(frame) if app.lies.tells("startup-incomplete") && frame["data"]["event"] == "connection_established" => {
                let mut error = frames::error(app, "STARTUP_INCOMPLETE", "The service is starting");
                error["details"]["missing_service"] = "agent_supervisor".into();
                vec![Said::Frame(error), Said::Close(1011, "startup incomplete")]
            }
            said => vec![said],
        }
    }
}

/// The honest verification ends at the claim that it did not like: these would come after it.
fn has_the_rest(claims: &Map<String, Value>) -> bool {
    let size = |claim: &str| claims.get(claim).and_then(Value::as_str).map_or(0, str::len);
    size("sub") > 0 && size("jti") == 36
}

/// A token of somebody, with all but the claim that says what it is for.
fn untyped(claims: &Map<String, Value>) -> bool {
    claims.contains_key("sub") && !claims.contains_key("token_type")
}

/// What the whole auth service does, before it looks at a request.
async fn auth_service(lies: &Lies) -> Option<Response> {
    if lies.tells("auth-service-down") {
        let body = json!({"detail": "Service temporarily unavailable"});
        return Some((StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response());
    }
    if lies.tells("auth-service-frozen") {
        std::future::pending::<()>().await;
    }
    if lies.tells("auth-service-slow") {
        tokio::time::timeout(SLOW, std::future::pending::<()>()).await.ok();
    }
    None
}

/// True if the backend refuses a token that may well be good.
fn refused_by_backend(lies: &Lies, token: &str) -> bool {
    if LINKS.iter().any(|(name, _)| lies.tells(name)) {
        return true;
    }
    let first = |key: &str, seen: &str| {
        let mut memory = lies.memory();
        memory.notes.entry(key.to_owned()).or_insert_with(|| seen.into()) == seen
    };
    let subject = unverified(token).get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
    let suspended = lies.tells("user-suspended") && !subject.is_empty() && first("user-suspended", &subject);
    suspended || (lies.tells("refusal-remembered") && first("refusal-remembered", token))
}

/// By how much the clock is wrong, in seconds.
fn off(lies: &Lies) -> Option<i64> {
    match () {
        () if lies.tells("clock-behind") => Some(-OFF_S),
        () if lies.tells("clock-ahead") => Some(OFF_S),
        () => None,
    }
}

/// A token as the lying auth service makes it.
fn remade(app: &App, token: &str) -> String {
    let lies = &app.lies;
    let mut claims = unverified(token);
    let access = claims.get("token_type").is_some_and(|kind| kind == Kind::Access.name());
    for (name, claim, wanted) in DEMANDS {
        if lies.tells(name) && (claim != "token_type" || access) {
            claims.insert(claim.to_owned(), wanted.into());
        }
    }
    if lies.tells("issued-without-token-type") && access {
        claims.remove("token_type");
    }
    for time in ["iat", "exp"] {
        let Some(at) = claims.get(time).and_then(Value::as_i64) else { continue };
        if lies.tells("milliseconds-demanded") {
            claims.insert(time.to_owned(), (at * 1000).into());
        }
        if let Some(off) = off(lies) {
            claims.insert(time.to_owned(), (at + off).into());
        }
    }
    let claims = Value::Object(claims);
    if claims == Value::Object(unverified(token)) { token.to_owned() } else { app.tokens.sign(&claims) }
}

/// Everything else about the token must be right: only its unit is another.
fn milliseconds(token: &str, claims: &Map<String, Value>, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
    let exp = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
    match honest {
        Ok(_) => Err(Refused::Expired),
        Err(Refused::NotYetIssued) if exp / 1000 > clock::seconds() && exp > 100_000_000_000 => Ok(believed(token)),
        refused => refused,
    }
}

/// The times again, by another clock.
fn by_clock(token: &str, claims: &Map<String, Value>, now: i64, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
    let number = |name| claims.get(name).and_then(Value::as_i64).unwrap_or_default();
    match honest {
        Ok(_) if number("iat") > now => Err(Refused::NotYetIssued),
        Ok(_) if number("exp") <= now => Err(Refused::Expired),
        Err(Refused::NotYetIssued | Refused::Expired) if number("iat") <= now && number("exp") > now => Ok(believed(token)),
        said => said,
    }
}

/// The answer of an instance that has never heard of anything.
fn empty_store(answered: &mut Answered) {
    if answered.status != StatusCode::OK {
        return;
    }
    if answered.body.is_array() {
        answered.body = json!([]);
    } else if answered.body["messages"].is_array() {
        answered.body["messages"] = json!([]);
    } else {
        answered.status = StatusCode::NOT_FOUND;
        answered.body = json!({
            "error": true, "error_code": "NOT_FOUND", "message": "Thread not found", "user_message": "Thread not found",
            "details": {"status_code": 404}, "trace_id": "none", "timestamp": clock::iso(), "request_id": null,
        });
    }
}
