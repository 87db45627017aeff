//! From a failure to its class (contract, section 6). All rules are here, and each gives its reason.

use serde_json::json;

use crate::config::TokenSource;
use crate::context::Cx;
use crate::exchange::{Exchange, Kind};
use crate::expect::{Class, Failure};
use crate::secret::recall;

/// Classifies a failure. A refused token that should have been accepted is shown to the auth service too: that tells a bad token
/// from a bad link between the services.
pub async fn classify(cx: &Cx, failure: &Failure) -> (Class, String) {
    if let Some(class) = failure.class {
        return (class, "decided by the expectation itself".to_owned());
    }
    let shown = cx.recorder().exchanges(&failure.about);
    for exchange in &shown {
        if let Some(found) = of_exchange(exchange, cx.target().api.as_str()) {
            return found;
        }
    }
    for exchange in &shown {
        if exchange.credential_good && refuses(exchange) {
            return ask_auth_service(cx, exchange).await;
        }
    }
    if failure.got.starts_with("nothing that fits") {
        return (Class::Application, "the connection stood, but what was waited for never came".to_owned());
    }
    (Class::Contract, "the answer came, and differs from what the contract promises".to_owned())
}

fn of_exchange(exchange: &Exchange, api: &str) -> Option<(Class, String)> {
    let id = exchange.id;
    let header = |name: &str| exchange.response_headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let frame_says =
        |code: &str| exchange.frames.iter().any(|frame| !frame.sent && frame.text.contains(&format!("\"error_code\":\"{code}\"")));
    if let Some(error) = &exchange.error {
        return Some((Class::Transport, format!("#{id} broke below HTTP: {error}")));
    }
    if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Some((Class::Transport, format!("#{id} was answered with HTML, as gateways and firewalls do")));
    }
    if exchange.kind != Kind::WebSocket
        && exchange.url.starts_with(api)
        && exchange.status.is_some()
        && header("x-trace-id").is_none()
    {
        return Some((
            Class::Transport,
            format!("#{id} was answered without x-trace-id, so not by the service but by something before it"),
        ));
    }
    if exchange.status == Some(503) || frame_says("STARTUP_INCOMPLETE") || frame_says("SERVICE_UNAVAILABLE") {
        return Some((Class::NotReady, format!("#{id} says that the service is not ready")));
    }
    if exchange.status.is_some_and(|status| status >= 500) {
        return Some((Class::Application, format!("#{id} was answered with {}", exchange.status.unwrap_or_default())));
    }
    match &exchange.close {
        Some(close) if close.code == 1011 => Some((Class::Application, format!("#{id} was closed with 1011 (internal error)"))),
        Some(close) if close.code == 1006 => Some((Class::Transport, format!("#{id} was cut without a close frame"))),
        _ => None,
    }
}

fn refuses(exchange: &Exchange) -> bool {
    const CODES: [&str; 6] =
        ["NO_TOKEN", "INVALID_FORMAT", "VALIDATION_FAILED", "AUTH_SERVICE_ERROR", "UNEXPECTED_ERROR", "WEBSOCKET_AUTH_ERROR"];
    let by_frame = exchange.frames.iter().any(|frame| CODES.iter().any(|code| !frame.sent && frame.text.contains(code)));
    let by_handshake = exchange.kind == Kind::WebSocket && exchange.status == Some(403);
    exchange.status == Some(401) || by_handshake || by_frame
}

async fn ask_auth_service(cx: &Cx, refused: &Exchange) -> (Class, String) {
    let id = refused.id;
    let shown = refused.request_headers.iter().map(|(_, value)| value).chain([&refused.url]);
    let Some(token) = shown.into_iter().find_map(|text| recall(text)) else {
        return (
            Class::AuthToken,
            format!("#{id} refuses a token that should be accepted; it could not be shown to the auth service"),
        );
    };
    let issued = cx.settings().token_source == TokenSource::AuthService && cx.identities().iter().any(|it| it.access == token);
    match cx.auth().post("/auth/validate", json!({"token": token.expose(), "token_type": "access"})).send().await {
        Ok(reply) if reply.json()["valid"] == true => {
            let look = "look at the backend's link to it: its service credentials, its URL, its cache";
            (Class::AuthLink, format!("#{id} refuses the token that the auth service accepts (#{}): {look}", reply.exchange))
        }
        Ok(reply) => {
            let look = if issued {
                "it issued that token itself: look at the auth service".to_owned()
            } else {
                let secret = &cx.settings().jwt_secret_env;
                format!(
                    "look at the secret first: the token was signed here with {secret}, which must be the auth service's own; then at the claims"
                )
            };
            (Class::AuthToken, format!("#{id} and the auth service (#{}) both refuse the token; {look}", reply.exchange))
        }
        Err(_) => (Class::AuthToken, format!("#{id} refuses the token, and the auth service cannot be asked")),
    }
}
