//! The bench for experiments: each is one real exchange, recorded with the phase `diagnosis`, and all together are few.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Deadlines;
use crate::context::Cx;
use crate::expect::{Held, Stop};
use crate::identity::Credential;
use crate::poll;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::secret::{Secret, redact};
use crate::time::{now, parse_http_date};

/// No search sends more requests than this, handshakes included.
pub const REQUESTS_AT_MOST: usize = 24;
/// An experiment that has no answer by then is told as such.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where a token is shown over HTTP.
pub(crate) const ROUTE: &str = "/api/threads";
/// Headers that ask for a test mode (contract, section 2): none of them may change anything.
pub(crate) const TEST_HEADERS: [&str; 6] =
    ["X-E2E-Test", "X-Test-Mode", "X-Test-Type", "X-Staging-E2E", "X-E2E-Bypass", "X-Test-Environment"];

/// Where a token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// `POST /auth/validate`.
    Validate,
    /// `GET /auth/verify`.
    Verify,
    /// `GET /api/threads`.
    Http,
    /// The socket, as `Authorization`.
    Header,
    /// The socket, as subprotocol.
    Subprotocol,
    /// The socket, as query parameter.
    Query,
}

impl Door {
    /// True for the three carriers of the socket.
    #[must_use]
    pub fn is_socket(self) -> bool {
        matches!(self, Self::Header | Self::Subprotocol | Self::Query)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validate => "/auth/validate",
            Self::Verify => "/auth/verify",
            Self::Http => "the API",
            Self::Header => "the socket",
            Self::Subprotocol => "the socket (by subprotocol)",
            Self::Query => "the socket (by query)",
        })
    }
}

/// What an experiment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The token was taken.
    Accepted,
    /// The token was refused.
    Refused,
    /// Neither: no answer, a server's error, a gateway.
    Unclear,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unclear => "unclear",
        })
    }
}

/// One experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// What was shown, or asked.
    pub what: String,
    /// Where; none for a request that shows no token.
    pub door: Option<Door>,
    /// What came of it.
    pub answer: Answer,
    /// The same in the service's words.
    pub said: String,
    /// The exchange, as in `#12`.
    pub exchange: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.door.map_or(String::new(), |door| format!(" at {door}"));
        let answer = match self.answer {
            Answer::Accepted => self.answer.to_string(),
            Answer::Refused | Answer::Unclear => format!("{}: {}", self.answer, self.said),
        };
        write!(f, "{} {}{at}: {answer}", self.exchange, self.what)
    }
}

/// The bench.
pub(crate) struct Lab<'a> {
    pub(crate) cx: &'a Cx,
    left: usize,
    pub(crate) trials: Vec<Trial>,
    skews: Vec<f64>,
}

impl<'a> Lab<'a> {
    pub(crate) fn new(cx: &'a Cx) -> Self {
        // Switched off, one question stays: what does the auth service say of the token?
        let left = if cx.settings().token_search { REQUESTS_AT_MOST } else { 1 };
        Self { cx, left, trials: Vec::new(), skews: Vec::new() }
    }

    fn take(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    fn patience(&self) -> Duration {
        Deadlines::of(self.cx.settings().deadlines.reply_ms).min(PATIENCE)
    }

    /// How far the service's clock is ahead of ours, in seconds, as its `Date` headers have it (RFC 9110 §6.6.1: whole seconds,
    /// cut off, so half a second is added). None before any was seen.
    pub(crate) fn skew(&self) -> Option<f64> {
        let mut all = self.skews.clone();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Takes down the clock of an answer.
    pub(crate) fn saw_date(&mut self, date: &str) {
        self.skews.extend(parse_http_date(date).map(|at| at + 0.5 - now()));
    }

    /// Shows a token at a door. None when no more requests may be sent.
    pub(crate) async fn show(&mut self, what: &str, token: &str, door: Door) -> Option<Trial> {
        if !self.take() {
            return None;
        }
        // Known before it is sent, so that it is kept out of everything that is written.
        let token = Secret::new(token.to_owned());
        let bearer = Credential::Raw {
            label: format!("{what} (experiment)"),
            authorization: format!("Bearer {}", token.expose()),
            good: false,
        };
        let (answer, said, exchange) = match door {
            Door::Validate => {
                let body = json!({"token": token.expose(), "token_type": "access"});
                let reply = Box::pin(self.cx.auth().post("/auth/validate", body).within(self.patience()).send()).await;
                self.read(reply, |reply| match reply.json()["valid"].as_bool() {
                    Some(true) => (Answer::Accepted, "valid".to_owned()),
                    Some(false) => {
                        (Answer::Refused, format!("not valid: {}", reply.json()["message"].as_str().unwrap_or("no reason")))
                    }
                    None => (Answer::Unclear, reply.summary()),
                })
            }
            Door::Verify => {
                let reply = Box::pin(self.cx.auth().with(bearer).get("/auth/verify").within(self.patience()).send()).await;
                self.read(reply, |reply| match (reply.status, reply.json()["valid"].as_bool()) {
                    (200, Some(true)) => (Answer::Accepted, "valid".to_owned()),
                    (200, Some(false)) | (401, _) => (Answer::Refused, "not valid".to_owned()),
                    _ => (Answer::Unclear, reply.summary()),
                })
            }
            Door::Http => {
                let request = self.cx.anonymous().with(bearer).get(ROUTE).query("limit", 1).within(self.patience());
                let reply = Box::pin(request.send()).await;
                self.read(reply, by_status)
            }
            Door::Header | Door::Subprotocol | Door::Query => {
                let dial = self.cx.dial().caller(format!("{what} (experiment)"), false);
                let dial = match door {
                    Door::Header => dial.bearer(token.expose()),
                    Door::Subprotocol => dial.subprotocol(token.expose()),
                    _ => dial.query(token.expose()),
                };
                let refusal = poll::within(self.patience(), Box::pin(dial.refusal())).await;
                self.listen(refusal)
            }
        };
        Some(self.note(what, Some(door), answer, &said, exchange))
    }

    /// Shows a token at one route of the API, as it was asked before.
    pub(crate) async fn show_at(&mut self, what: &str, token: &str, path: &str) -> Option<Trial> {
        if !self.take() {
            return None;
        }
        let who = Credential::Raw {
            label: format!("{what} (experiment)"),
            authorization: format!("Bearer {}", Secret::new(token.to_owned()).expose()),
            good: false,
        };
        let reply = Box::pin(self.cx.api(who).get(path).within(self.patience()).send()).await;
        let (answer, said, exchange) = self.read(reply, by_status);
        Some(self.note(&format!("{what}, at {path}"), None, answer, &said, exchange))
    }

    /// Shows a token at the socket together with headers that ask for a test mode.
    pub(crate) async fn show_with_headers(&mut self, what: &str, token: &str, headers: &[&str]) -> Option<Trial> {
        if !self.take() {
            return None;
        }
        let token = Secret::new(token.to_owned());
        let mut dial = self.cx.dial().bearer(token.expose()).caller(format!("{what} (experiment)"), false);
        for header in headers {
            dial = dial.header(header, "true");
        }
        let refusal = poll::within(self.patience(), Box::pin(dial.refusal())).await;
        let (answer, said, exchange) = self.listen(refusal);
        Some(self.note(what, Some(Door::Header), answer, &said, exchange))
    }

    /// A request that shows no token of ours. None when no more may be sent, or when no answer came.
    pub(crate) async fn ask(&mut self, what: &str, request: crate::http::Request) -> Option<Reply> {
        if !self.take() {
            return None;
        }
        let reply = Box::pin(request.within(self.patience()).send()).await;
        let mut kept = None;
        let (answer, said, exchange) = self.read(reply, |reply| {
            kept = Some(reply.clone());
            let answer = if reply.status < 400 { Answer::Accepted } else { Answer::Unclear };
            (answer, reply.summary())
        });
        self.note(what, None, answer, &said, exchange);
        kept
    }

    /// A pair of tokens from the auth service, as checks get theirs.
    pub(crate) async fn issue(&mut self) -> Result<Secret, String> {
        let Some(key) = self.cx.target().e2e_key.clone() else {
            return Err(format!("{} is not set, so the auth service cannot be asked for a token", self.cx.settings().e2e_key_env));
        };
        let email =
            format!("critical-diagnosis-{}@{}", &uuid::Uuid::new_v4().simple().to_string()[..8], self.cx.settings().email_domain);
        let request = self.cx.auth().post("/auth/e2e/test-auth", json!({"email": email, "permissions": ["read", "write"]}));
        let Some(reply) = self.ask("a token of the auth service", request.header("X-E2E-Bypass-Key", key.expose())).await else {
            return Err("the auth service gave no answer when asked for a token".to_owned());
        };
        match reply.json()["access_token"].as_str() {
            Some(token) => {
                crate::secret::remember(token);
                crate::secret::remember(reply.json()["refresh_token"].as_str().unwrap_or_default());
                self.cx.recorder().redact_again();
                Ok(Secret::new(token.to_owned()))
            }
            None => Err(format!("the auth service issues no token: {}", reply.summary())),
        }
    }

    fn read(&mut self, reply: Held<Reply>, judge: impl FnOnce(&Reply) -> (Answer, String)) -> (Answer, String, u32) {
        match reply {
            Ok(reply) => {
                self.saw_date(reply.header("date"));
                let (answer, said) = judge(&reply);
                (answer, said, reply.exchange)
            }
            Err(stop) => self.stopped(&stop),
        }
    }

    fn stopped(&self, stop: &Stop) -> (Answer, String, u32) {
        let (said, about) = match stop {
            Stop::Failed(failure) => (failure.got.clone(), &failure.about),
            Stop::Errored(trouble) => (trouble.what.clone(), &trouble.about),
        };
        (Answer::Unclear, said, about.first().copied().unwrap_or_else(|| self.cx.recorder().last_id()))
    }

    fn listen(&self, refusal: Option<Held<Refusal>>) -> (Answer, String, u32) {
        let refusal = match refusal {
            None => return (Answer::Unclear, "neither welcome nor refusal in time".to_owned(), self.cx.recorder().last_id()),
            Some(Err(stop)) => return self.stopped(&stop),
            Some(Ok(refusal)) => refusal,
        };
        let id = refusal.exchange;
        let welcomed = refusal.frames.iter().any(|frame| frame["data"]["event"] == "connection_established");
        let error = refusal.frames.iter().find(|frame| frame["type"] == "error_message");
        let code = error.and_then(|frame| frame["error_code"].as_str());
        let close = refusal.close.as_ref().map_or("no close".to_owned(), |close| format!("close {}", close.code));
        match (refusal.status, code) {
            (101, _) if welcomed => (Answer::Accepted, "welcomed".to_owned(), id),
            (101, Some(code)) => {
                let message = error.and_then(|frame| frame["error_message"].as_str()).unwrap_or_default();
                let said = format!("{code} {:?}, {close}", message.split(" | Debug").next().unwrap_or_default());
                let token = super::rules::TOKEN_CODES.contains(&code);
                (if token { Answer::Refused } else { Answer::Unclear }, said, id)
            }
            (101, None) if refusal.close.as_ref().is_some_and(|close| close.code == 1008) => (Answer::Refused, close, id),
            (101, None) => (Answer::Unclear, format!("no frame that says why, {close}"), id),
            (401, _) => (Answer::Refused, "handshake 401".to_owned(), id),
            (403, _) if !self.cx.recorder().exchanges(&[id]).iter().any(super::rules::is_html) => {
                (Answer::Refused, "handshake 403".to_owned(), id)
            }
            (status, _) => (Answer::Unclear, format!("handshake {status}"), id),
        }
    }

    fn note(&mut self, what: &str, door: Option<Door>, answer: Answer, said: &str, exchange: u32) -> Trial {
        let recorded = self.cx.recorder().exchanges(&[exchange]);
        let took_ms = recorded.first().and_then(|x| x.timing.total_ms.or(x.timing.first_byte_ms)).unwrap_or_default();
        let trial = Trial { what: what.to_owned(), door, answer, said: redact(said), exchange: format!("#{exchange}"), took_ms };
        self.trials.push(trial.clone());
        trial
    }
}

/// What the API says of a token.
fn by_status(reply: &Reply) -> (Answer, String) {
    let html = reply.header("content-type").starts_with("text/html");
    match reply.status {
        200..=299 => (Answer::Accepted, reply.status.to_string()),
        401 | 403 if !html => {
            let code = reply.json()["error_code"].as_str().unwrap_or_default();
            (Answer::Refused, format!("{} {code}", reply.status).trim().to_owned())
        }
        _ => (Answer::Unclear, reply.summary()),
    }
}
