//! The story of a failure: why, five times, each with its evidence; and what to do next, ready to paste.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Findings;
use super::lab::{Answer, Door, Lab, Trial};
use super::rules::{Calls, Ruling, header};
use super::token::{Source, Subject};
use crate::config::TokenSource;
use crate::context::Cx;
use crate::evidence::Evidence;
use crate::exchange::{Exchange, Kind, cut};
use crate::time::parse_iso;

/// One answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The answer.
    pub text: String,
    /// Exchanges that show it; none if it is not visible from outside.
    pub evidence: Vec<String>,
}

/// Seconds before and after an exchange that its log is looked for.
const LOG_WINDOW_S: f64 = 5.0;
/// Nothing more can be seen by asking.
const NOT_VISIBLE: &str = "not visible from outside";

impl Why {
    fn new(text: impl Into<String>, evidence: Vec<String>) -> Self {
        Self { text: text.into(), evidence }
    }
}

/// Why, from the failure down to what must be changed.
pub(crate) fn whys(evidence: &Evidence, ruling: &Ruling, findings: &Findings) -> Vec<Why> {
    let shown: Vec<String> = ruling.shown.iter().map(|x| format!("#{}", x.id)).collect();
    let mut all = vec![match (&evidence.failure, &evidence.trouble) {
        (Some(failure), _) => {
            let about = failure.about.iter().map(|id| format!("#{id}")).collect();
            Why::new(format!("it does not hold that {}: got {}", failure.expectation, cut(&failure.got, 160)), about)
        }
        (_, Some(_)) => Why::new("the suite could not judge: see `because`", shown.clone()),
        _ => Why::new(format!("the deadline passed, waiting for {}", evidence.waiting_for.join("; in it: ")), shown.clone()),
    }];
    if ruling.calls != Calls::Nothing {
        all.push(Why::new(ruling.because.clone(), shown));
    }
    let Some(cause) = findings.causes.first() else {
        all.push(Why::new(
            format!("{NOT_VISIBLE}: which part of the service answers so; its log of this request shows it"),
            vec![],
        ));
        return all;
    };
    all.extend(doors(&findings.trials));
    all.push(Why::new(cause.what.clone(), cause.evidence.clone()));
    let visible = cause.side == super::Side::Ours;
    let last = format!("change ({}): {}", cause.side.words(), cause.change);
    all.push(Why::new(if visible { last } else { format!("{last}; why it came to that is {NOT_VISIBLE}") }, vec![]));
    all
}

/// Where the same token is accepted and where it is refused, in one line.
fn doors(trials: &[Trial]) -> Option<Why> {
    let same: Vec<_> = trials.iter().filter(|trial| trial.what.ends_with(", the same")).collect();
    let list = |answer| {
        let at: Vec<_> = same.iter().filter(|trial| trial.answer == answer).filter_map(|trial| trial.door).collect();
        at.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (refused, accepted, unclear) = (list(Answer::Refused), list(Answer::Accepted), list(Answer::Unclear));
    let parts = [("refused at", refused), ("accepted at", accepted), ("no clear answer at", unclear)];
    let text: Vec<_> = parts.into_iter().filter(|(_, at)| !at.is_empty()).map(|(words, at)| format!("{words} {at}")).collect();
    let cited = same.iter().map(|trial| trial.exchange.clone()).collect();
    (!text.is_empty()).then(|| Why::new(format!("the same token again: {}", text.join("; ")), cited))
}

/// What to do: repeat it by hand, look into the log, change, run again.
pub(crate) fn next(cx: &Cx, evidence: &Evidence, ruling: &Ruling, findings: &Findings) -> Vec<String> {
    let target = match cx.target().name.as_str() {
        "stand-in" => String::new(),
        name => format!("CRITICAL_TARGET={name} "),
    };
    let mut all = Vec::new();
    if let Some(shown) = &ruling.shown {
        let again = again(cx, shown);
        all.push(if shown.kind == Kind::WebSocket {
            format!("{target}cargo run --quiet --bin critical -- ws{again}")
        } else {
            curl(&format!("{target}cargo run --quiet --bin critical -- token{again}"), cx.settings().ca_file.as_deref(), shown)
        });
        all.push(log_query(evidence, shown));
    }
    if let Some(cause) = findings.causes.first() {
        all.push(format!("change: {}", cause.change));
    }
    all.push(format!("{target}cargo test --test critical {}", evidence.name));
    all
}

/// How `critical ws` and `critical token` show a token like that of an exchange: their options.
fn again(cx: &Cx, shown: &Exchange) -> String {
    let subject = Subject::of(shown, &Lab::new(cx));
    let own = match cx.settings().token_source {
        TokenSource::AuthService => Source::Issued,
        TokenSource::Mint => Source::Minted,
        TokenSource::Env => Source::HandedIn,
    };
    let token = match subject.as_ref().map(|subject| subject.source) {
        None if shown.credential_good => "",
        None if header_of_request(shown, "authorization").is_empty() && shown.kind == Kind::WebSocket => " --token none",
        _ if !shown.credential_good => " --token garbage",
        Some(Source::Minted) if own != Source::Minted => " --token minted",
        Some(Source::Issued) if own != Source::Issued => " --token issued",
        _ => "",
    };
    let by = match subject.map(|subject| subject.door) {
        Some(Door::Subprotocol) => " --by subprotocol",
        Some(Door::Query) => " --by query",
        _ => "",
    };
    format!("{token}{by}")
}

/// The same request by curl; the token comes from a program, through a pipe, and is seen by nobody.
fn curl(token: &str, ca_file: Option<&Path>, shown: &Exchange) -> String {
    let bearer = !header_of_request(shown, "authorization").is_empty();
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut command = String::new();
    if bearer {
        let _ = write!(command, "{token} | ");
    }
    let _ = write!(command, "curl -sS -i -X {}", shown.method);
    if bearer {
        command.push_str(" -H @-");
    }
    if let Some(body) = shown.request_body.as_ref().filter(|body| !body.contains("[cut: ")) {
        let _ = write!(command, " -H 'content-type: application/json' -d {}", quoted(body));
    }
    if let Some(file) = ca_file {
        let _ = write!(command, " --cacert {}", quoted(&file.display().to_string()));
    }
    let _ = write!(command, " {}", quoted(&shown.url));
    command
}

fn header_of_request<'a>(exchange: &'a Exchange, name: &str) -> &'a str {
    exchange.request_headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

/// A query for Google Cloud Logging: the ids of the exchange, in its minute.
fn log_query(evidence: &Evidence, shown: &Exchange) -> String {
    let request_id = header_of_request(shown, "x-request-id");
    let ids: Vec<_> =
        [header(shown, "x-trace-id"), request_id].into_iter().filter(|id| !id.is_empty()).map(|id| format!("\"{id}\"")).collect();
    let began = parse_iso(&evidence.started_at).unwrap_or_default() + shown.started_ms / 1e3;
    let ended = began + shown.timing.total_ms.unwrap_or_default() / 1e3;
    let (from, to) = (moment(began - LOG_WINDOW_S), moment(ended + LOG_WINDOW_S));
    format!("log: ({}) AND timestamp>=\"{from}\" AND timestamp<=\"{to}\"", ids.join(" OR "))
}

/// Epoch seconds as ISO 8601 in UTC, whole seconds.
fn moment(at: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are meant, and no clock is centuries off")]
    jiff::Timestamp::from_second(at as i64).map_or_else(|_| "?".to_owned(), |at| at.to_string())
}
