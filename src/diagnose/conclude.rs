//! What follows from the experiments with a refused token. Nothing here asks anything.

use super::changes::Change;
use super::lab::{Answer, Door, Trial};
use super::token::{Found, Source};
use super::{Cause, Side};
use crate::context::Cx;
use crate::expect::Class;

/// All causes, the answer first.
pub(crate) fn causes(found: &Found, cx: &Cx) -> Vec<Cause> {
    let mut all = decided(found, cx);
    if all.is_empty() {
        all = flipped(found, cx);
    }
    if all.is_empty() {
        all.push(without_flip(found, cx));
    }
    // What differs from the contract stays worth telling where it could not be tried.
    if !matches!(all[0].name.as_str(), "authentication-bypassed" | "passing") && found.flip.is_none() && found.vain.is_empty() {
        all.extend(found.differing.iter().map(|claim| differs(found, cx, claim)));
    }
    all
}

/// False if it is clear already what is wrong, so that no change to the token can tell more.
pub(crate) fn needs_changes(found: &Found) -> bool {
    by_answers(found).is_none()
}

pub(crate) fn issued_accepted(found: &Found) -> bool {
    found.issued.as_ref().is_ok_and(|trials| trials.iter().any(|trial| trial.answer == Answer::Accepted))
}

/// What the answers at the doors decide without any change to the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Bypassed,
    Passing,
    RouteRefuses,
    AuthServiceSilent,
    CarrierLost,
    SubprotocolIgnored,
    LinkCredentials,
    LinkUnreachable,
    WrongSecret,
}

fn by_answers(found: &Found) -> Option<Decided> {
    use Answer::{Accepted, Refused, Unclear};
    let door = found.subject.door;
    let said = found.at(door).map_or("", |trial| trial.said.as_str());
    if found.garbage.iter().any(|trial| trial.answer == Accepted) {
        return Some(Decided::Bypassed);
    }
    if found.answer(door) == Accepted {
        let passed = found.subject.route.is_none() || found.replay.as_ref().is_some_and(|trial| trial.answer == Accepted);
        return Some(if passed { Decided::Passing } else { Decided::RouteRefuses });
    }
    if said.contains("inter_service_auth_failed") {
        return Some(Decided::LinkCredentials);
    }
    if found.answer(Door::Validate) == Unclear && found.answer(Door::Verify) == Unclear {
        return Some(Decided::AuthServiceSilent);
    }
    if said.contains("auth_service_unreachable") || said.contains("token_rejected") {
        return Some(Decided::LinkUnreachable);
    }
    if door == Door::Subprotocol && found.answer(Door::Header) == Accepted {
        return Some(Decided::SubprotocolIgnored);
    }
    if door.is_socket() && (said.contains("NO_TOKEN") || said.starts_with("handshake 40")) {
        return Some(Decided::CarrierLost);
    }
    let symmetric = found.algorithm.is_empty() || found.algorithm.starts_with("HS");
    let made_elsewhere = found.form.is_none() && issued_accepted(found) && symmetric;
    if found.subject.source == Source::Minted && made_elsewhere && found.answer(Door::Validate) == Refused {
        return Some(Decided::WrongSecret);
    }
    None
}

fn decided(found: &Found, cx: &Cx) -> Vec<Cause> {
    let Some(decided) = by_answers(found) else { return Vec::new() };
    let (name, door) = (found.subject.name(), found.subject.door);
    let at_door = found.at(door);
    let own =
        |doors: &[Door]| found.own.iter().filter(|trial| trial.door.is_some_and(|it| doors.contains(&it))).collect::<Vec<_>>();
    let settings = cx.settings();
    let cause = match decided {
        Decided::Bypassed => return vec![super::bypass::bypassed(&found.garbage)],
        Decided::Passing => Cause::new(
            "passing",
            Class::AuthToken,
            Side::Theirs,
            format!("{name} was refused in the check and is accepted now at {door}: the refusal passed by itself"),
            "look at what the service did at that moment: a start, a deployment, its link to the auth service, a clock that is behind",
        )
        .shown_by(own(&[door])),
        Decided::RouteRefuses => {
            let route = found.subject.route.as_ref().map_or(String::new(), |(method, path)| format!("{method} {path}"));
            Cause::new(
                "route-refuses",
                Class::Application,
                Side::Theirs,
                format!("{name} is good, other routes accept it: {route} alone refuses it"),
                format!("how {route} authenticates: it does not do as the other routes do"),
            )
            .shown_by(own(&[Door::Validate, door]).into_iter().chain(&found.replay))
        }
        Decided::AuthServiceSilent => silent(found),
        Decided::LinkCredentials => link_credentials(found),
        Decided::LinkUnreachable if found.at(Door::Validate).is_some_and(|trial| trial.took_ms >= super::service::SLOW_MS) => {
            super::service::slow_auth_service(found.at(Door::Validate).map_or(0.0, |trial| trial.took_ms)).shown_by(own(&[door, Door::Validate]))
        }
        Decided::LinkUnreachable => Cause::new(
            "auth-link-unreachable",
            Class::AuthLink,
            Side::Theirs,
            format!("the backend cannot ask the auth service, which answers us: it says {:?}", at_door.map_or("", |it| it.said.as_str())),
            "the backend's setting with the auth service's URL, and the network between the two",
        )
        .shown_by(own(&[door, Door::Validate])),
        Decided::SubprotocolIgnored => Cause::new(
            "subprotocol-ignored",
            Class::Contract,
            Side::Theirs,
            "the socket takes the token from Authorization, and not from the subprotocol jwt.<…>",
            "the service's reading of Sec-WebSocket-Protocol (contract, section 2: second carrier), or a gateway that drops the header",
        )
        .shown_by(own(&[Door::Header, Door::Subprotocol])),
        Decided::CarrierLost => Cause::new(
            "authorization-lost",
            class_of(found),
            Side::Between,
            "the token is good, and the header Authorization does not reach the socket: by other ways the same token is accepted",
            "the gateway or load balancer in front of the socket, which drops Authorization from the upgrade",
        )
        .shown_by(own(&[Door::Http, Door::Header, Door::Subprotocol, Door::Query])),
        Decided::WrongSecret => Cause::new(
            "secret",
            Class::AuthToken,
            Side::Ours,
            format!("{name} is signed with another secret than the auth service's tokens: {} made none of their signatures, in no form", settings.jwt_secret_env),
            format!("export {} with the secret that the auth service of this target signs with", settings.jwt_secret_env),
        )
        .shown_by(own(&[Door::Validate]).into_iter().chain(found.issued.iter().flatten())),
    };
    vec![cause]
}

/// The auth service gives no answer that can be used.
fn silent(found: &Found) -> Cause {
    let said = found.at(Door::Validate).map_or("", |trial| trial.said.as_str());
    let shown: Vec<_> = found.own.iter().filter(|trial| matches!(trial.door, Some(Door::Validate | Door::Verify))).collect();
    super::service::silent_auth_service(said).shown_by(shown)
}

fn link_credentials(found: &Found) -> Cause {
    let shown = found.own.iter().filter(|trial| trial.door == Some(Door::Validate) || trial.door == Some(found.subject.door));
    Cause::new(
        "service-credentials",
        Class::AuthLink,
        Side::Theirs,
        "the auth service accepts the token, and the backend is told otherwise when it asks: its own credentials there are wrong",
        "the backend's service id and service secret for the auth service, then its URL and its cache",
    )
    .shown_by(shown.chain(found.issued.iter().flatten()))
}

/// The changes that made the difference, a cause each.
fn flipped(found: &Found, cx: &Cx) -> Vec<Cause> {
    let Some((changes, trial)) = &found.flip else { return Vec::new() };
    let refused = found.at(found.subject.door);
    let together = if changes.len() > 1 {
        let all: Vec<_> = changes.iter().map(|change| change.says.as_str()).collect();
        format!(", both needed: {}", all.join(" and "))
    } else {
        String::new()
    };
    let cause = |change: &Change| of_change(found, cx, change, &together).shown_by(refused.into_iter().chain([trial]));
    changes.iter().map(cause).collect()
}

fn class_of(found: &Found) -> Class {
    match found.answer(Door::Validate) {
        Answer::Accepted => Class::AuthLink,
        _ => Class::AuthToken,
    }
}

fn of_change(found: &Found, cx: &Cx, change: &Change, together: &str) -> Cause {
    let (settings, name, class) = (cx.settings(), found.subject.name(), class_of(found));
    let secret = &settings.jwt_secret_env;
    let accepted = |what: &str| format!("{name} {what}; with {change} it is accepted{together}");
    let cause = |side, what: String, to_change: String| Cause::new(&change.name, class, side, what, to_change);
    match change.name.as_str() {
        "remembered-refusal" => Cause::new(
            "remembered-refusal",
            Class::AuthLink,
            Side::Theirs,
            format!("{name} is refused from memory: the same claims in a fresh token are accepted"),
            "wait 5 minutes or use a fresh token; then the backend's cache of refusals: it must not keep what it could not check",
        ),
        "secret-form" => cause(
            Side::Ours,
            accepted(&format!("is signed with {secret} in a form that the service does not use")),
            format!("export {secret} as the service uses it: {}", change.says.trim_start_matches("signed with the secret ")),
        ),
        "clock" => cause(
            Side::Between,
            accepted(&format!("has times of a clock that differs by {:.0} s from the service's", found.skew_s.abs())),
            "the clock (NTP) of this machine or of the service, whichever is wrong: compare both with a third".to_owned(),
        ),
        "user" => cause(
            Side::Ours,
            accepted("speaks for a user that the service does not take"),
            format!("[targets.{}] users in staging.toml: name users that exist there", cx.target().name),
        ),
        "algorithm" | "time-unit" | "times" => {
            let claims: &[&str] = if change.name == "algorithm" { &["alg"] } else { &["iat", "exp"] };
            let what = if change.name == "algorithm" {
                "is signed with another algorithm"
            } else {
                "has times that the service does not take"
            };
            let (side, place) = whose(found, cx, claims);
            cause(side, accepted(what), place)
        }
        claim => {
            let what = match found.ours.claims.get(claim) {
                None => format!("has no {claim}"),
                Some(value) => format!("has {claim} = {value}"),
            };
            let (side, place) = whose(found, cx, &[claim]);
            cause(side, accepted(&what), place)
        }
    }
}

/// Who must change a claim, and where.
fn whose(found: &Found, cx: &Cx, claims: &[&str]) -> (Side, String) {
    let (settings, target, names) = (cx.settings(), &cx.target().name, claims.join(" and "));
    let differs = found.differing.iter().any(|claim| claims.contains(&claim.as_str()));
    let configured = claims.iter().any(|claim| settings.mint.contains_key(*claim));
    match found.subject.source {
        Source::Minted if configured => {
            (Side::Ours, format!("{names} in [targets.{target}.mint] of staging.toml: correct or remove it"))
        }
        Source::Minted if differs => (Side::Ours, format!("{names} where the suite signs its tokens (src/token.rs)")),
        Source::HandedIn => {
            (Side::Ours, format!("hand in a token with {names} in order ({})", settings.access_token_envs.join(", ")))
        }
        Source::Issued if differs => (Side::Theirs, format!("{names} where the auth service makes its tokens")),
        Source::Minted | Source::Issued => {
            let ours = format!("or, if this environment means it so, {names} in [targets.{target}.mint] of staging.toml");
            (
                Side::Theirs,
                format!("the service asks for another {names} than the contract (section 1): correct the service; {ours}"),
            )
        }
    }
}

/// A claim that differs from the contract, where the first cause hides whether that matters.
fn differs(found: &Found, cx: &Cx, claim: &str) -> Cause {
    let (side, place) = whose(found, cx, &[claim]);
    let what =
        format!("{} also differs from the contract in {claim}; the first cause hides whether that matters", found.subject.name());
    Cause::new(claim, class_of(found), side, what, place)
}

/// No single change and no pair made the difference.
fn without_flip(found: &Found, cx: &Cx) -> Cause {
    use Answer::{Accepted, Refused};
    let (name, door) = (found.subject.name(), found.subject.door);
    let secret = &cx.settings().jwt_secret_env;
    let shown = |doors: &[Door]| -> Vec<Trial> {
        let own = found.own.iter().filter(|trial| trial.door.is_some_and(|it| doors.contains(&it)));
        own.chain(found.issued.iter().flatten()).cloned().collect()
    };
    let issued_at =
        |at: Door| found.issued.iter().flatten().find(|trial| trial.door == Some(at)).map_or(Answer::Unclear, |trial| trial.answer);
    if found.at(door).is_none() {
        let what = format!("{name} is refused; the search for the cause is switched off");
        let change = "token_search = true in staging.toml, then run again";
        return Cause::new("not-searched", class_of(found), Side::Ours, what, change).shown_by(&shown(&[Door::Validate]));
    }
    match (found.answer(Door::Validate), found.answer(door)) {
        (Accepted, Refused) if door.is_socket() && found.answer(Door::Http) == Accepted => Cause::new(
            "socket-refuses",
            Class::AuthLink,
            Side::Theirs,
            "the auth service and the API accept the token, the socket refuses it",
            "the socket's own authentication in the backend: which secret, cache or auth client it uses",
        )
        .shown_by(&shown(&[Door::Validate, Door::Http, Door::Header, Door::Subprotocol])),
        (Accepted, Refused) if door == Door::Http && found.answer(Door::Header) == Accepted => Cause::new(
            "api-refuses",
            Class::AuthLink,
            Side::Theirs,
            "the auth service and the socket accept the token, the API refuses it",
            "the API's own authentication in the backend: which secret, cache or auth client it uses",
        )
        .shown_by(&shown(&[Door::Validate, Door::Http, Door::Header])),
        (Accepted, Refused) => link_credentials(found),
        (Refused, Refused) if found.subject.source == Source::Issued || issued_at(Door::Validate) == Refused => Cause::new(
            "auth-service-refuses-its-own",
            Class::AuthToken,
            Side::Theirs,
            "the auth service refuses the tokens that it makes itself",
            "the auth service: the secret that it signs with and the one that it verifies with, its clock, its list of revoked tokens",
        )
        .shown_by(&shown(&[Door::Validate, Door::Verify])),
        (Refused, Refused) if found.subject.source == Source::Minted => Cause::new(
            "secret",
            Class::AuthToken,
            Side::Ours,
            format!("{name} is refused with every claim in order, changed one by one: what is left is the secret"),
            format!("export {secret} with the secret that the auth service of this target signs with"),
        )
        .shown_by(&shown(&[Door::Validate, door])),
        _ => Cause::new(
            "unexplained",
            class_of(found),
            Side::Theirs,
            format!("{name} is refused at {door}; no experiment made a difference"),
            "the service's log of these requests; what was tried is excluded",
        )
        .shown_by(&shown(&[Door::Validate, door])),
    }
}
