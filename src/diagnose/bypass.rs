//! A bad token was accepted: is it the token, a header, or does nobody look?

use serde_json::json;

use super::lab::{Answer, Door, Lab, TEST_HEADERS, Trial};
use super::{Cause, Side};
use crate::exchange::{Exchange, Kind};
use crate::expect::Class;
use crate::secret::Secret;
use crate::token::Claims;

/// Three parts, and no sense in any of them.
pub(crate) fn garbage() -> String {
    let word = uuid::Uuid::new_v4().simple().to_string();
    format!("garbage{}.{}.{}", &word[..8], &word[8..20], &word[20..])
}

/// Authentication is off: this outranks every other cause.
pub(crate) fn bypassed(trials: &[Trial]) -> Cause {
    let through: Vec<_> = trials.iter().filter(|trial| trial.answer == Answer::Accepted).collect();
    let doors: Vec<_> = through.iter().filter_map(|trial| trial.door).map(|door| door.to_string()).collect();
    Cause::new(
        "authentication-bypassed",
        Class::Contract,
        Side::Theirs,
        format!("authentication is bypassed: a garbage token is accepted at {}", doors.join(" and at ")),
        "the setting of the deployment that switches authentication off (a test or demo mode); strangers get in until then",
    )
    .shown_by(through)
}

/// Which way leads past authentication.
pub(crate) async fn examine(lab: &mut Lab<'_>, accepted: &Exchange) -> Vec<Cause> {
    let mut plain = Vec::new();
    for door in [Door::Http, Door::Header] {
        plain.extend(lab.show("a garbage token", &garbage(), door).await);
    }
    if plain.iter().any(|trial| trial.answer == Answer::Accepted) {
        return vec![bypassed(&plain)];
    }
    if let Some(cause) = by_header(lab).await {
        return vec![cause];
    }
    let secret = Secret::new(uuid::Uuid::new_v4().to_string());
    let mut forged = Vec::new();
    for door in [Door::Http, Door::Header] {
        let token = Claims::access("critical-diagnosis", "").with("probe", json!(door.to_string())).sign(&secret);
        forged.extend(lab.show("a token signed with another secret", &token, door).await);
    }
    if forged.iter().any(|trial| trial.answer == Answer::Accepted) {
        let through = forged.iter().filter(|trial| trial.answer == Answer::Accepted);
        return vec![
            Cause::new(
                "signature-not-verified",
                Class::Contract,
                Side::Theirs,
                "the signature of tokens is not verified: anybody can make one",
                "the service's verification of tokens: the signature comes first",
            )
            .shown_by(through),
        ];
    }
    let what = if accepted.kind == Kind::WebSocket { "the socket" } else { "the API" };
    let shows_none = !accepted.request_headers.iter().any(|(name, value)| name == "authorization" && value.len() > "Bearer ".len());
    let (name, credential) =
        if shows_none { ("no-token-accepted", "no token at all") } else { ("bad-token-accepted", accepted.caller.as_str()) };
    vec![
        Cause::new(
            name,
            Class::Contract,
            Side::Theirs,
            format!("{what} accepts {credential}; garbage and forged tokens are refused, so it is this one rule that is missing"),
            "the rule of contract, section 1, that this credential breaks, in the service's verification",
        )
        .shown_in([accepted.id])
        .shown_by(&plain),
    ]
}

/// Headers that ask for a test mode: all together, then each alone.
pub(crate) async fn by_header(lab: &mut Lab<'_>) -> Option<Cause> {
    let all = lab.show_with_headers("a garbage token with test headers", &garbage(), &TEST_HEADERS).await?;
    if all.answer != Answer::Accepted {
        return None;
    }
    let (mut guilty, mut shown) = (Vec::new(), vec![all]);
    for header in TEST_HEADERS {
        let Some(trial) = lab.show_with_headers(&format!("a garbage token with {header}"), &garbage(), &[header]).await else {
            break;
        };
        if trial.answer == Answer::Accepted {
            guilty.push(header);
        }
        shown.push(trial);
    }
    let through: Vec<_> = shown.into_iter().filter(|trial| trial.answer == Answer::Accepted).collect();
    let names = if guilty.is_empty() { "several test headers together".to_owned() } else { guilty.join(", ") };
    Some(
        Cause::new(
            "bypass-by-header",
            Class::Contract,
            Side::Theirs,
            format!("a request header switches authentication off at the socket: {names}"),
            "the service's handling of test headers: they must change nothing (contract, section 2)",
        )
        .shown_by(&through),
    )
}
