//! From what is recorded to a class of failure (contract, section 6), and to the experiments that it calls for. All rules are
//! here, and each gives its reason. Nothing here asks anything.

use serde_json::Value;

use crate::evidence::Evidence;
use crate::exchange::{Exchange, Kind, Phase};
use crate::expect::Class;

/// Codes of a refused token (contract, section 2.2).
pub(crate) const TOKEN_CODES: [&str; 6] =
    ["NO_TOKEN", "INVALID_FORMAT", "VALIDATION_FAILED", "AUTH_SERVICE_ERROR", "UNEXPECTED_ERROR", "WEBSOCKET_AUTH_ERROR"];

/// What the rules say.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) class: Class,
    pub(crate) because: String,
    pub(crate) calls: Calls,
    /// The exchange that decided it, where there is one.
    pub(crate) shown: Option<Exchange>,
}

/// The experiments that a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// A token that should be accepted was refused.
    Token,
    /// A token that should be refused was accepted.
    Bypass,
    /// The way to the service, step by step.
    Way,
    /// Everything else about the service.
    Service,
    /// Nothing: it is ours, and said already.
    Nothing,
}

/// Judges a check that did not pass.
pub(crate) fn judge(evidence: &Evidence, exchanges: &[Exchange], api: &str) -> Ruling {
    let own = || exchanges.iter().filter(|x| x.phase == Phase::Check);
    let ruling = |class, because: &str, calls, shown: Option<&Exchange>| Ruling {
        class,
        because: because.to_owned(),
        calls,
        shown: shown.cloned(),
    };
    if let Some(trouble) = &evidence.trouble {
        let about = own().rfind(|x| trouble.about.contains(&x.id));
        if trouble.class == Class::Transport {
            return ruling(Class::Transport, "nothing came back from the target", Calls::Way, about.or(own().next_back()));
        }
        let key = own().next_back().filter(|x| x.url.ends_with("/auth/e2e/test-auth"));
        let calls = if key.is_some() { Calls::Service } else { Calls::Nothing };
        return ruling(trouble.class, "the suite could not judge", calls, key);
    }
    let Some(failure) = &evidence.failure else {
        let last = own().next_back();
        if let Some((class, because)) = last.and_then(|x| of_exchange(x, api)) {
            let calls = if class == Class::Transport { Calls::Way } else { Calls::Service };
            return ruling(class, &because, calls, last);
        }
        // Whatever waits for the wire has a deadline of its own.
        if evidence.waiting_for.is_empty() {
            let because = "the check waits for nothing that the suite knows of: it hangs by itself";
            return ruling(Class::Suite, because, Calls::Nothing, None);
        }
        let because = "no step has passed its own deadline; all of them together took longer than a check may";
        return ruling(Class::Sla, because, Calls::Service, last);
    };
    let shown: Vec<_> = exchanges.iter().filter(|x| failure.about.contains(&x.id)).collect();
    if let Some(class) = failure.class {
        let calls = if class == Class::Transport { Calls::Way } else { Calls::Service };
        let found = shown.iter().find_map(|x| of_exchange(x, api));
        let because = found.filter(|(found, _)| *found == class).map(|(_, because)| because);
        return ruling(
            class,
            &because.unwrap_or_else(|| "decided by the expectation itself".to_owned()),
            calls,
            shown.last().copied(),
        );
    }
    for exchange in &shown {
        if let Some((class, because)) = of_exchange(exchange, api) {
            let calls = if class == Class::Transport { Calls::Way } else { Calls::Service };
            return ruling(class, &because, calls, Some(exchange));
        }
    }
    for exchange in &shown {
        if exchange.credential_good && refuses(exchange) {
            let because = format!("#{} refuses a token that should be accepted", exchange.id);
            return ruling(Class::AuthToken, &because, Calls::Token, Some(exchange));
        }
        if !exchange.credential_good && accepts(exchange) && (failure.wanted.contains("401") || failure.wanted.contains("1008")) {
            let because = format!("#{} accepts a credential that must be refused", exchange.id);
            return ruling(Class::Contract, &because, Calls::Bypass, Some(exchange));
        }
    }
    let shown = shown.last().copied().or(own().next_back());
    if failure.got.starts_with("nothing that fits") {
        let because = "the connection stood, but what was waited for never came";
        return ruling(Class::Application, because, Calls::Service, shown);
    }
    ruling(Class::Contract, "the answer came, and differs from what the contract promises", Calls::Service, shown)
}

/// A header of the response; empty if it is absent.
pub(crate) fn header<'a>(exchange: &'a Exchange, name: &str) -> &'a str {
    exchange.response_headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

/// True for a page, where JSON belongs.
pub(crate) fn is_html(exchange: &Exchange) -> bool {
    header(exchange, "content-type").starts_with("text/html")
}

/// True if the service sent a frame with this code.
pub(crate) fn frame_says(exchange: &Exchange, code: &str) -> bool {
    let says = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|frame| frame["error_code"] == code);
    exchange.frames.iter().any(|frame| !frame.sent && says(&frame.text))
}

fn of_exchange(exchange: &Exchange, api: &str) -> Option<(Class, String)> {
    let id = exchange.id;
    if let Some(error) = &exchange.error {
        return Some((Class::Transport, format!("#{id} broke below HTTP: {error}")));
    }
    if is_html(exchange) {
        return Some((Class::Transport, format!("#{id} was answered with HTML, as gateways and firewalls do")));
    }
    let own = exchange.kind != Kind::WebSocket && exchange.url.starts_with(api);
    if own && exchange.status.is_some() && header(exchange, "x-trace-id").is_empty() {
        return Some((
            Class::Transport,
            format!("#{id} was answered without x-trace-id, so not by the service but by something before it"),
        ));
    }
    if exchange.status == Some(503) || frame_says(exchange, "STARTUP_INCOMPLETE") || frame_says(exchange, "SERVICE_UNAVAILABLE") {
        let later = match header(exchange, "retry-after") {
            "" => String::new(),
            after => format!(", and asks to come back later (Retry-After: {after})"),
        };
        return Some((Class::NotReady, format!("#{id} says that the service is not ready{later}")));
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
    let by_frame = TOKEN_CODES.iter().any(|code| frame_says(exchange, code));
    let by_handshake = exchange.kind == Kind::WebSocket && exchange.status == Some(403);
    exchange.status == Some(401) || by_handshake || by_frame
}

fn accepts(exchange: &Exchange) -> bool {
    let welcomed = exchange.frames.iter().any(|frame| !frame.sent && frame.text.contains("connection_established"));
    welcomed || (exchange.kind != Kind::WebSocket && exchange.status.is_some_and(|status| status < 300))
}
