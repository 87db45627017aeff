//! What must hold. Every expectation has a name, and either holds or ends the check.
//!
//! A matcher is data → [`Mismatch`]; [`Expect`] gives it a name and a place. An expectation that is named but checks nothing
//! does not compile (`#[must_use]`, denied), and neither does a result that nobody looks at.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::panic::Location;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exchange::{Judged, Recorder, cut};

/// What a step of a check returns: go on, or stop with a verdict.
pub type Held<T = ()> = Result<T, Stop>;

/// Why a check stops.
#[derive(Debug)]
pub enum Stop {
    /// The service broke an expectation.
    Failed(Box<Failure>),
    /// The suite cannot judge: its configuration, its client, or a target that cannot be reached.
    Errored(Box<Trouble>),
}

/// A broken expectation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The expectation's name.
    pub expectation: String,
    /// What was wanted.
    pub wanted: String,
    /// What came.
    pub got: String,
    /// `file:line` in the check.
    pub at: String,
    /// Class of failure, where the expectation itself decides it (an SLA, a transport step); else `diagnose` does.
    pub class: Option<Class>,
    /// Exchanges that show it.
    pub about: Vec<u32>,
}

/// Why the suite could not judge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// What went wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// `Transport` for an unreachable target, `Suite` for everything of ours.
    pub class: Class,
    /// Exchanges that show it.
    pub about: Vec<u32>,
}

impl Trouble {
    /// Trouble of our own making: configuration, file system, client.
    pub fn suite(what: impl Into<String>, remedy: impl Into<String>) -> Stop {
        Stop::Errored(Box::new(Self { what: what.into(), remedy: remedy.into(), class: Class::Suite, about: Vec::new() }))
    }
}

/// The classes of failure (contract, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// DNS, TCP, TLS, a gateway's answer, HTML where JSON belongs.
    Transport,
    /// The service says that it is still starting.
    NotReady,
    /// Auth service and backend both refuse the token.
    AuthToken,
    /// The auth service accepts the token, the backend refuses it.
    AuthLink,
    /// Internal error or wrong result.
    Application,
    /// Shape, order or status differs from the contract.
    Contract,
    /// Right, but too slow.
    Sla,
    /// Our own configuration or client.
    Suite,
}

impl Class {
    /// The class in words, for the person who reads a failure.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Transport => "the network, TLS or a gateway in front of the service",
            Self::NotReady => "the service says that it is not ready",
            Self::AuthToken => "the auth service and the backend both refuse the token",
            Self::AuthLink => "the auth service accepts the token, the backend refuses it",
            Self::Application => "the service works wrongly inside",
            Self::Contract => "the answer breaks the contract (shape, order or status)",
            Self::Sla => "the answer is right but too slow",
            Self::Suite => "the suite's own configuration or client, not the service",
        }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.write_str(name.as_str().unwrap_or("unknown"))
    }
}

/// The difference between what was wanted and what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was wanted.
    pub wanted: String,
    /// What came.
    pub got: String,
}

impl Mismatch {
    /// A mismatch of two printable things.
    pub fn new(wanted: impl Display, got: impl Display) -> Self {
        Self { wanted: wanted.to_string(), got: got.to_string() }
    }
}

/// How much of a value a mismatch shows, in characters.
const SHOWN_CHARS: usize = 600;

/// A named expectation that waits for its matcher.
#[derive(Debug)]
#[must_use = "an expectation that is named but matches nothing cannot fail"]
pub struct Expect<'a> {
    recorder: &'a Recorder,
    name: Cow<'static, str>,
    about: Vec<u32>,
    class: Option<Class>,
    at: &'static Location<'static>,
}

impl<'a> Expect<'a> {
    /// Names an expectation about some exchanges. Checks use `cx.must`, `reply.must` or `socket.must`.
    pub fn new(
        recorder: &'a Recorder,
        name: impl Into<Cow<'static, str>>,
        about: Vec<u32>,
        at: &'static Location<'static>,
    ) -> Self {
        Self { recorder, name: name.into(), about, class: None, at }
    }

    /// Says which exchanges show it.
    pub fn about(mut self, exchanges: impl IntoIterator<Item = u32>) -> Self {
        self.about.extend(exchanges);
        self
    }

    /// Decides the class of failure here rather than by the rules of `diagnose`.
    pub fn class(mut self, class: Class) -> Self {
        self.class = Some(class);
        self
    }

    /// Takes the result of any matcher. All other matchers end here.
    pub fn hold<T>(self, result: Result<T, Mismatch>) -> Held<T> {
        let at = format!("{}:{}", self.at.file(), self.at.line());
        self.recorder.judge(Judged {
            name: self.name.clone().into_owned(),
            held: result.is_ok(),
            at: at.clone(),
            about: self.about.clone(),
        });
        result.map_err(|Mismatch { wanted, got }| {
            Stop::Failed(Box::new(Failure {
                expectation: self.name.into_owned(),
                wanted: crate::secret::redact(&wanted),
                got: crate::secret::redact(&got),
                at,
                class: self.class,
                about: self.about,
            }))
        })
    }

    /// Wants two values to be equal.
    pub fn equal<T: PartialEq + fmt::Debug + ?Sized>(self, got: &T, wanted: &T) -> Held {
        let result = if got == wanted { Ok(()) } else { Err(difference(&format!("{wanted:?}"), &format!("{got:?}"))) };
        self.hold(result)
    }

    /// Wants a condition, with both sides in words.
    pub fn that(self, condition: bool, wanted: impl Display, got: impl Display) -> Held {
        self.hold(if condition {
            Ok(())
        } else {
            Err(Mismatch { wanted: wanted.to_string(), got: cut(&got.to_string(), 4 * SHOWN_CHARS) })
        })
    }

    /// Wants fields of a JSON value, by pointer (RFC 6901). Reports all that differ, not only the first.
    pub fn fields(self, value: &Value, wanted: &[(&str, Is)]) -> Held {
        self.hold(fields(value, wanted))
    }

    /// Wants exactly one item and gives it.
    pub fn one<T: fmt::Debug>(self, mut items: Vec<T>, what: impl Display) -> Held<T> {
        let result = match (items.pop(), items.len()) {
            (Some(item), 0) => Ok(item),
            (None, _) => Err(Mismatch::new(format!("exactly one {what}"), "none")),
            (Some(item), more) => {
                Err(Mismatch::new(format!("exactly one {what}"), format!("{}: {item:?} and {more} more", more + 1)))
            }
        };
        self.hold(result)
    }
}

/// What a JSON field must be.
#[derive(Clone, Debug)]
pub enum Is {
    /// Exactly this value.
    Exactly(Value),
    /// A string that is not blank.
    Text,
    /// A string that is not blank, or null, or absent.
    TextOrNull,
    /// Any number.
    Number,
    /// An integer of at least this.
    IntFrom(i64),
    /// A number within these bounds, both included.
    Within(f64, f64),
    /// True or false.
    Bool,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A date and time in ISO 8601.
    IsoTime,
    /// A moment: epoch seconds or ISO 8601.
    Moment,
    /// An object.
    Object,
    /// An array, maybe empty.
    List,
    /// An array with at least one item.
    FilledList,
    /// Present, whatever it is.
    Present,
}

impl Is {
    /// Exactly this value.
    pub fn exactly(value: impl Into<Value>) -> Self {
        Self::Exactly(value.into())
    }

    /// Judges a value; `None` means that the field is absent.
    #[must_use]
    pub fn accepts(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else { return matches!(self, Self::TextOrNull) };
        match self {
            Self::Exactly(wanted) => value == wanted,
            Self::Text => value.as_str().is_some_and(|text| !text.trim().is_empty()),
            Self::TextOrNull => value.is_null() || Self::Text.accepts(Some(value)),
            Self::Number => value.is_number(),
            Self::IntFrom(least) => value.as_i64().is_some_and(|number| number >= *least),
            Self::Within(low, high) => value.as_f64().is_some_and(|number| (*low..=*high).contains(&number)),
            Self::Bool => value.is_boolean(),
            Self::OneOf(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
            Self::IsoTime => value.as_str().is_some_and(|text| crate::time::parse_iso(text).is_some()),
            Self::Moment => crate::time::moment(value).is_some(),
            Self::Object => value.is_object(),
            Self::List => value.is_array(),
            Self::FilledList => value.as_array().is_some_and(|items| !items.is_empty()),
            Self::Present => true,
        }
    }
}

impl Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::Text => f.write_str("a string that is not blank"),
            Self::TextOrNull => f.write_str("a string or null"),
            Self::Number => f.write_str("a number"),
            Self::IntFrom(least) => write!(f, "an integer ≥ {least}"),
            Self::Within(low, high) => write!(f, "a number from {low} to {high}"),
            Self::Bool => f.write_str("true or false"),
            Self::OneOf(choices) => write!(f, "one of {choices:?}"),
            Self::IsoTime => f.write_str("a date and time in ISO 8601"),
            Self::Moment => f.write_str("a time: epoch seconds or ISO 8601"),
            Self::Object => f.write_str("an object"),
            Self::List => f.write_str("a list"),
            Self::FilledList => f.write_str("a list with at least one item"),
            Self::Present => f.write_str("present"),
        }
    }
}

/// The matcher behind [`Expect::fields`].
pub fn fields(value: &Value, wanted: &[(&str, Is)]) -> Result<(), Mismatch> {
    let wrong: Vec<_> = wanted.iter().filter(|(pointer, is)| !is.accepts(value.pointer(pointer))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let line = |pointer: &str, text: String| format!("{} {text}", if pointer.is_empty() { "(whole body)" } else { pointer });
    let told = wrong.into_iter().map(|(pointer, is)| {
        let got = value.pointer(pointer);
        // Long values are shown where they part, not where they begin.
        let shown = match (is, got) {
            (Is::Exactly(wanted), Some(got)) => difference(&wanted.to_string(), &got.to_string()),
            _ => Mismatch::new(is, shown(got)),
        };
        (line(pointer, shown.wanted), line(pointer, shown.got))
    });
    let (wanted, got): (Vec<_>, Vec<_>) = told.unzip();
    Err(Mismatch { wanted: wanted.join("; "), got: got.join("; ") })
}

/// A JSON value for a person: cut, and `absent` where there is none.
#[must_use]
pub fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| cut(&value.to_string(), SHOWN_CHARS))
}

/// Two texts that should be equal, shown from shortly before the place where they part.
#[must_use]
pub fn difference(wanted: &str, got: &str) -> Mismatch {
    const CONTEXT: usize = 40;
    let common = wanted.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
    if common <= CONTEXT || wanted.chars().count() <= SHOWN_CHARS {
        return Mismatch { wanted: cut(wanted, SHOWN_CHARS), got: cut(got, SHOWN_CHARS) };
    }
    let tail = |text: &str| {
        let tail: String = text.chars().skip(common - CONTEXT).collect();
        format!("({} characters) …{}", text.chars().count(), cut(&tail, SHOWN_CHARS / 2))
    };
    Mismatch { wanted: tail(wanted), got: tail(got) }
}

/// A list for a person: the first items, and how many more there are.
#[must_use]
pub fn cut_list(items: &[&str]) -> String {
    const SHOWN: usize = 8;
    let first: Vec<_> = items.iter().take(SHOWN).map(|item| cut(item, 60)).collect();
    let more = items.len().saturating_sub(SHOWN);
    if more == 0 { format!("{first:?}") } else { format!("{first:?} and {more} more") }
}
