//! The lies: named ways in which a service broke its promise, told on purpose.
//!
//! The honest service knows nothing of them. It has a few seams, each one line, through which whatever goes in or out passes
//! [`Lies`]; without a fault they hand back what they were given. A fault is one name, in one of the families below, or a
//! bend: one place of the wire and what becomes of it there, in a small language (see `bend`).
//!
//! | seam | where | what a lie can do there |
//! |---|---|---|
//! | [`Family::request`] | outermost layer of API and auth service | answer by itself, or change the request: path, query, headers, body |
//! | [`Family::response`] | the same | change status, headers or body of the answer (not of a stream) |
//! | [`Family::carried`] | the same, when the answer is done | hold it up, or its body, streams and upgrades too |
//! | [`Family::token`] | after verification | accept what was refused, or refuse what was accepted |
//! | [`Family::incoming`] | a frame from a client | swallow it, change it, answer it, close |
//! | [`Family::outgoing`] | a frame to one connection | drop, change, add, close |
//! | [`Family::before_frame`] | before a frame is written to one connection | hold it up, and all that follow it there |
//! | [`Family::left`] | after a connection | know that it has ended |
//! | [`Family::published`] | an agent event on its way to its user | other users, other order, other content |
//! | [`Family::streamed`] | a frame of a stream | drop, change, add, hold back; a null frame ends the body |
//! | [`Family::before_run`] | before an agent works | delay it |
//!
//! What goes wrong below HTTP is not told here but done by the listener, its certificate and `line`; `transport` names it.

mod agents;
mod bend;
mod bent;
mod causes;
mod connection;
mod controls;
mod http;
mod streams;
mod threads;
mod transport;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

pub use self::bend::BENDS;
use self::bend::Bend;
pub(crate) use self::http::layer;
use crate::{
    app::App,
    token::{Claims, Kind, Refused},
};

/// One named lie.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its name: says what the service does.
    pub name: &'static str,
    /// The same in a sentence.
    pub what: &'static str,
    /// The checks that must not pass.
    pub kills: &'static [u16],
    /// The class that these checks must report (contract, section 6), where the fault lies before the service and says
    /// little of it: a check may then also be unable to judge. Without one, they must find the service wrong.
    pub reports: Option<&'static str>,
}

/// The service's own lies first, then those of what lies between it and its clients.
const FAMILIES: [&dyn Family; 8] = [
    &connection::Connection,
    &agents::Agents,
    &threads::Threads,
    &streams::Streams,
    &causes::Causes,
    &bent::Bent,
    &transport::Transport,
    &controls::Controls,
];

/// Every fault there is.
pub fn faults() -> impl Iterator<Item = &'static Fault> {
    FAMILIES.into_iter().flat_map(Family::faults)
}

/// A name that is no fault, and why it is no bend either.
#[derive(Clone, Debug)]
pub struct UnknownFault(pub String, pub String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no fault '{}' ({}); `netra-stand-in faults` lists the names, and how to bend one place of the wire",
            self.0, self.1
        )
    }
}

/// The lies that one stand-in tells, and what they need to remember.
#[derive(Default)]
pub(crate) struct Lies {
    told: BTreeSet<&'static str>,
    bends: Vec<Bend>,
    restarted: bool,
    memory: Mutex<Memory>,
    shuffle: controls::Shuffle,
}

/// What lies remember: counters and notes, by names of their own.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) counts: HashMap<String, u64>,
    pub(crate) notes: HashMap<String, Value>,
    /// Frames held back, by a key of the lie's own.
    pub(crate) held: HashMap<String, Vec<Value>>,
}

impl Lies {
    /// `restarted`: the service stands on data of an earlier start.
    pub(crate) fn of(names: &[String], restarted: bool) -> Result<Self, UnknownFault> {
        let mut lies = Self { restarted, ..Self::default() };
        for name in names {
            match faults().find(|fault| fault.name == name) {
                Some(fault) => drop(lies.told.insert(fault.name)),
                None => lies.bends.push(Bend::parse(name).map_err(|why| UnknownFault(name.clone(), why))?),
            }
        }
        Ok(lies)
    }

    /// True if any lie is told: without one, the layer is not even there.
    pub(crate) fn any(&self) -> bool {
        !(self.told.is_empty() && self.bends.is_empty())
    }

    /// True if this lie is told.
    pub(crate) fn tells(&self, name: &str) -> bool {
        self.told.contains(name)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts up, and gives the count: 1 the first time.
    pub(crate) fn count(&self, key: &str) -> u64 {
        let mut memory = self.memory();
        let count = memory.counts.entry(key.to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn token(&self, token: &str, kind: Kind, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
        FAMILIES.iter().filter(|_| self.any()).fold(honest, |said, family| family.token(self, token, kind, said))
    }

    pub(crate) fn incoming(&self, app: &App, seat: &Seat<'_>, text: String) -> Heard {
        let mut heard = Heard::Pass(text);
        for family in FAMILIES.iter().filter(|_| self.any()) {
            heard = match heard {
                Heard::Pass(text) => family.incoming(app, seat, text),
                answer @ Heard::Answer(_) => return answer,
            };
        }
        heard
    }

    pub(crate) fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        let start = vec![said];
        FAMILIES
            .iter()
            .filter(|_| self.any())
            .fold(start, |all, family| all.into_iter().flat_map(|said| family.outgoing(app, seat, said)).collect())
    }

    /// Waits as long as a lie holds up the next frame to this connection, and so all that follow it.
    pub(crate) async fn before_frame(&self, app: &App, seat: &Seat<'_>, said: &Said, since: Instant) {
        for family in FAMILIES.iter().filter(|_| self.any()) {
            family.before_frame(app, seat, said, since).await;
        }
    }

    /// A connection has ended, whoever ended it.
    pub(crate) fn left(&self, app: &App, seat: &Seat<'_>) {
        FAMILIES.iter().filter(|_| self.any()).for_each(|family| family.left(app, seat));
    }

    /// Users and the frames that they get, in order.
    pub(crate) fn published(&self, app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        let start = vec![(user_id.to_owned(), frame)];
        FAMILIES
            .iter()
            .filter(|_| self.any())
            .fold(start, |all, family| all.into_iter().flat_map(|(user, frame)| family.published(app, &user, frame)).collect())
    }

    pub(crate) fn streamed(&self, app: &App, frame: Value) -> Vec<Value> {
        FAMILIES
            .iter()
            .filter(|_| self.any())
            .fold(vec![frame], |all, family| all.into_iter().flat_map(|frame| family.streamed(app, frame)).collect())
    }

    pub(crate) async fn before_run(&self, app: &App, user_id: &str, prompt: &str) {
        for family in FAMILIES.iter().filter(|_| self.any()) {
            family.before_run(app, user_id, prompt).await;
        }
    }
}

/// Waits for the time alone.
async fn pause(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
}

/// A number below `below` that looks random and is the same at each start: the `at`-th one of this sequence (`SplitMix64`).
pub(crate) fn roll(sequence: u64, at: u64, below: u64) -> u64 {
    const SEED: u64 = 0x6e65_7472_615f_6c69;
    let mixed = |bits: u64| {
        let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let start = mixed(SEED.wrapping_add(sequence));
    mixed(start.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))) % below.max(1)
}

/// One connection, as lies see it. `user_id` is empty for one that was refused.
pub(crate) struct Seat<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) connection_id: &'a str,
}

/// What is said to one connection.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Frame(Value),
    Close(u16, &'static str),
    /// The TCP connection is cut, without a close frame.
    Cut,
}

/// What becomes of a frame from a client.
pub(crate) enum Heard {
    /// It is handled, maybe changed.
    Pass(String),
    /// These are said to this connection in its place.
    Answer(Vec<Said>),
}

/// A request, its body read.
pub(crate) struct Asked {
    /// `api` or `auth`.
    pub(crate) service: &'static str,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    /// JSON of the body; null if it is none.
    pub(crate) body: Value,
    /// The `sub` of the token, unverified; empty without one.
    pub(crate) user_id: String,
    /// The bends that this request meets.
    bent: Vec<bent::Fit>,
}

impl Asked {
    /// True for this method on a path of this form; `*` stands for one segment.
    pub(crate) fn is(&self, method: &str, form: &str) -> bool {
        let (mut path, mut form) = (self.path.trim_end_matches('/').split('/'), form.trim_end_matches('/').split('/'));
        self.method == method
            && loop {
                match (path.next(), form.next()) {
                    (None, None) => break true,
                    (Some(part), Some(wanted)) if wanted == "*" || wanted == part => {}
                    _ => break false,
                }
            }
    }

    /// A segment of the path, from 0.
    pub(crate) fn segment(&self, at: usize) -> &str {
        self.path.trim_start_matches('/').split('/').nth(at).unwrap_or_default()
    }

    /// A query parameter, undecoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.as_deref()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Sets a query parameter.
    pub(crate) fn set_parameter(&mut self, name: &str, value: &str) {
        let others = self.query.as_deref().unwrap_or_default().split('&');
        let mut all: Vec<_> =
            others.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(name)).map(str::to_owned).collect();
        all.push(format!("{name}={value}"));
        self.query = Some(all.join("&"));
    }

    /// From here on the honest service takes the request for this user's.
    pub(crate) fn become_user(&mut self, app: &App, user_id: &str) {
        let token = app.tokens.mint(Kind::Access, user_id, "", &["read".to_owned(), "write".to_owned()]);
        if let Ok(value) = format!("Bearer {token}").parse() {
            self.headers.insert("authorization", value);
        }
    }
}

/// An answer, its body read.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// JSON of the body; null if it is none.
    pub(crate) body: Value,
    /// What is said in place of the body.
    text: Option<String>,
}

/// A family of lies. Each method does nothing unless one of its faults is told.
pub(crate) trait Family: Sync {
    fn faults(&self) -> &'static [Fault];

    fn request<'a>(&'a self, _app: &'a App, _asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async { None })
    }

    fn response<'a>(&'a self, _app: &'a App, _asked: &'a Asked, _answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn carried<'a>(&'a self, _app: &'a App, _asked: &'a Asked, answer: Response) -> BoxFuture<'a, Response> {
        Box::pin(async { answer })
    }

    fn token(&self, _lies: &Lies, _token: &str, _kind: Kind, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
        honest
    }

    fn incoming(&self, _app: &App, _seat: &Seat<'_>, text: String) -> Heard {
        Heard::Pass(text)
    }

    fn outgoing(&self, _app: &App, _seat: &Seat<'_>, said: Said) -> Vec<Said> {
        vec![said]
    }

    fn before_frame<'a>(&'a self, _app: &'a App, _seat: &'a Seat<'_>, _said: &'a Said, _since: Instant) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn left(&self, _app: &App, _seat: &Seat<'_>) {}

    fn published(&self, _app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        vec![(user_id.to_owned(), frame)]
    }

    fn streamed(&self, _app: &App, frame: Value) -> Vec<Value> {
        vec![frame]
    }

    fn before_run<'a>(&'a self, _app: &'a App, _user_id: &'a str, _prompt: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}
