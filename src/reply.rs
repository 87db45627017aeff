//! A whole response, and what can be expected of it.

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::exchange::{Recorder, keep};
use crate::expect::{Expect, Held, Is, Mismatch, shown};

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) recorder: Arc<Recorder>,
    /// Number of the exchange.
    pub exchange: u32,
    /// Method and path, for texts.
    pub what: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The headers of the request.
    pub request_headers: HeaderMap,
    /// From the request to the last byte of the response.
    pub elapsed: Duration,
    /// From the request to the head of the response.
    pub first_byte: Duration,
    /// The body as it came.
    pub body: Vec<u8>,
    pub(crate) json: Option<Value>,
}

impl Reply {
    /// Names an expectation about this reply.
    #[track_caller]
    pub fn must(&self, name: impl Into<Cow<'static, str>>) -> ReplyExpect<'_> {
        ReplyExpect { reply: self, expect: Expect::new(&self.recorder, name, vec![self.exchange], Location::caller()) }
    }

    /// The body as JSON; null if it is none, which every matcher then reports.
    #[must_use]
    pub fn json(&self) -> &Value {
        self.json.as_ref().unwrap_or(&Value::Null)
    }

    /// A header as text; empty if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The status and the beginning of the body, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {}", self.status, keep(&body, 400))
    }
}

/// A named expectation about a reply.
#[derive(Debug)]
#[must_use = "an expectation that is named but matches nothing cannot fail"]
pub struct ReplyExpect<'a> {
    reply: &'a Reply,
    expect: Expect<'a>,
}

impl ReplyExpect<'_> {
    /// Wants this status.
    pub fn status(self, wanted: u16) -> Held {
        self.status_in(&[wanted])
    }

    /// Wants one of these statuses.
    pub fn status_in(self, wanted: &[u16]) -> Held {
        let held = wanted.contains(&self.reply.status);
        self.expect.that(held, format!("status {}", join(wanted)), format!("status {}", self.reply.summary()))
    }

    /// Wants a 2xx with a JSON body that has these fields.
    pub fn json(self, wanted: &[(&str, Is)]) -> Held {
        self.status_and_json(&[200, 201], wanted)
    }

    /// Wants fields of the body, whatever the status.
    pub fn fields(self, wanted: &[(&str, Is)]) -> Held {
        self.expect.fields(self.reply.json(), wanted)
    }

    /// Wants one of these statuses with a JSON body that has these fields.
    pub fn status_and_json(self, statuses: &[u16], wanted: &[(&str, Is)]) -> Held {
        if statuses.contains(&self.reply.status) && self.reply.json.is_some() {
            return self.expect.fields(self.reply.json(), wanted);
        }
        self.expect.that(false, format!("status {} with a JSON body", join(statuses)), format!("status {}", self.reply.summary()))
    }

    /// Wants a refusal by the API: one of these statuses with the error envelope of the contract (section 3), which names the
    /// same status, a code and a trace id.
    pub fn refused(self, statuses: &[u16]) -> Held {
        let status = self.reply.status;
        self.status_and_json(
            statuses,
            &[
                ("/error", Is::exactly(true)),
                ("/error_code", Is::Text),
                ("/message", Is::Text),
                ("/details/status_code", Is::exactly(status)),
                ("/trace_id", Is::Text),
            ],
        )
    }

    /// Wants a refusal by validation: 422 with a `detail` list whose `loc` names this field (contract, section 3).
    pub fn invalid(self, field: &str) -> Held {
        let reply = self.reply;
        let names_it = |error: &Value| error["loc"].as_array().is_some_and(|loc| loc.iter().any(|part| part == field));
        let named = reply.json()["detail"].as_array().is_some_and(|errors| errors.iter().any(names_it));
        self.expect.that(
            reply.status == 422 && named,
            format!("status 422 with a detail whose loc names {field:?}"),
            format!("status {}", reply.summary()),
        )
    }

    /// Wants a header that contains this text.
    pub fn header_has(self, name: &str, part: &str) -> Held {
        let got = self.reply.header(name).to_owned();
        self.expect.that(got.contains(part), format!("header {name} with {part:?}"), format!("{got:?}"))
    }

    /// Wants a string at this place of a 2xx answer, and gives it.
    pub fn text_at(self, pointer: &str) -> Held<String> {
        let found = self.reply.json().pointer(pointer);
        let ok = (200..300).contains(&self.reply.status);
        let result = match found.and_then(Value::as_str) {
            Some(text) if ok && !text.is_empty() => Ok(text.to_owned()),
            _ => Err(Mismatch::new(
                format!("2xx with a string at {pointer}"),
                format!("{} there; status {}", shown(found), self.reply.summary()),
            )),
        };
        self.expect.hold(result)
    }

    /// Wants a list at this place of a 2xx answer, and gives it.
    pub fn list_at(self, pointer: &str) -> Held<Vec<Value>> {
        let found = self.reply.json().pointer(pointer);
        let ok = (200..300).contains(&self.reply.status);
        let result = match found.and_then(Value::as_array) {
            Some(items) if ok => Ok(items.clone()),
            _ => Err(Mismatch::new(format!("2xx with a list at {pointer:?}"), format!("status {}", self.reply.summary()))),
        };
        self.expect.hold(result)
    }

    /// Wants fields of a part of the body.
    pub fn fields_of(self, part: &Value, wanted: &[(&str, Is)]) -> Held {
        self.expect.fields(part, wanted)
    }

    /// Wants exactly one item and gives it.
    pub fn one<T: std::fmt::Debug>(self, items: Vec<T>, what: impl std::fmt::Display) -> Held<T> {
        self.expect.one(items, what)
    }

    /// Wants two values to be equal.
    pub fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(self, got: &T, wanted: &T) -> Held {
        self.expect.equal(got, wanted)
    }

    /// Any other matcher.
    pub fn hold<T>(self, result: Result<T, Mismatch>) -> Held<T> {
        self.expect.hold(result)
    }

    /// A condition, with both sides in words.
    pub fn that(self, condition: bool, wanted: impl std::fmt::Display, got: impl std::fmt::Display) -> Held {
        self.expect.that(condition, wanted, got)
    }
}

fn join(statuses: &[u16]) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}
