//! What crossed the wire, and what was expected of it: the record that one check leaves behind.
//!
//! Nothing here judges. [`Recorder`] is shared by everything a check touches; `evidence.rs` writes it out.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::secret::redact;

/// A body is kept up to this many characters; its true length stands beside it.
pub const BODY_KEPT_CHARS: usize = 16_384;
/// A WebSocket frame is kept up to this many characters.
pub const FRAME_KEPT_CHARS: usize = 4_096;

/// One request with its answer, or one WebSocket connection with all its frames.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// Number within the check, from 1; shown as `#1`.
    pub id: u32,
    /// Which protocol.
    pub kind: Kind,
    /// Why it was made: for the check, to clean up, or to find a cause.
    pub phase: Phase,
    /// Who asked, and with what: `alice`, `nobody`, `alice, token expired`.
    pub caller: String,
    /// True when the credential was believed to be good: a refusal is then a finding about authentication.
    pub credential_good: bool,
    /// Milliseconds from the start of the check to the start of this exchange.
    pub started_ms: f64,
    /// `GET`, `POST`, …; `GET` for a WebSocket handshake.
    pub method: String,
    /// The full URL, redacted.
    pub url: String,
    /// Request headers as sent, redacted.
    pub request_headers: Vec<(String, String)>,
    /// Request body, redacted and cut at [`BODY_KEPT_CHARS`].
    pub request_body: Option<String>,
    /// Status of the answer; 101 for an accepted handshake; none if no answer came.
    pub status: Option<u16>,
    /// Response headers, redacted.
    pub response_headers: Vec<(String, String)>,
    /// Response body, redacted and cut.
    pub response_body: Option<String>,
    /// Frames of a WebSocket, or events of a stream, in order.
    pub frames: Vec<Frame>,
    /// How a WebSocket ended.
    pub close: Option<Close>,
    /// What went wrong below HTTP, with the step that failed.
    pub error: Option<String>,
    /// Where the time went.
    pub timing: Timing,
    /// Peer address of the connection.
    pub peer: Option<SocketAddr>,
    /// TLS of the connection, where this exchange opened it.
    pub tls: Option<Tls>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub http_version: Option<String>,
    /// Bytes sent: request line, headers and body as HTTP carries them before compression; raw socket bytes for a WebSocket.
    pub bytes_sent: u64,
    /// Bytes received, counted likewise.
    pub bytes_received: u64,
}

/// The protocol of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One request, one response.
    Http,
    /// A `text/event-stream` response.
    Sse,
    /// A WebSocket connection.
    WebSocket,
}

/// Why an exchange was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Part of the check; counts for its verdict.
    Check,
    /// Cleaning up afterwards.
    Cleanup,
    /// An experiment that looks for the cause of a failure.
    Diagnosis,
}

/// One frame or stream event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Milliseconds since the exchange started.
    pub at_ms: f64,
    /// True for frames that we sent.
    pub sent: bool,
    /// Text, redacted and cut at [`FRAME_KEPT_CHARS`]; for control frames a word in angle brackets.
    pub text: String,
}

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The close code (RFC 6455 §7.4); 1005 for a close frame without one, 1006 when no close frame came at all.
    pub code: u16,
    /// The reason given with it.
    pub reason: String,
}

/// Durations in milliseconds; `None` where the step did not happen (a reused connection has no DNS, TCP or TLS).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Name resolution.
    pub dns_ms: Option<f64>,
    /// TCP connection.
    pub tcp_ms: Option<f64>,
    /// TLS handshake.
    pub tls_ms: Option<f64>,
    /// From the start to the first byte of the response head.
    pub first_byte_ms: Option<f64>,
    /// From the start to the last byte, or to the close.
    pub total_ms: Option<f64>,
}

/// What TLS agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// SHA-256 of the server's certificate (DER), hexadecimal.
    pub certificate_sha256: String,
}

/// One expectation that was judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// Its name: a sentence that holds of a sound service.
    pub name: String,
    /// Whether it held.
    pub held: bool,
    /// `file:line` in the check.
    pub at: String,
    /// Exchanges it speaks of.
    pub about: Vec<u32>,
}

/// Timed samples of one route, with the agreement that they were held against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// `GET /health`, `WS welcome`.
    pub route: String,
    /// In the order they were taken, in milliseconds.
    pub samples_ms: Vec<f64>,
    /// The median may not exceed this, in milliseconds.
    pub median_limit_ms: f64,
    /// No more than one sample in twenty may exceed this, in milliseconds.
    pub tail_limit_ms: f64,
}

/// Collects what one check does. Shared by its clients; every method may be called from any thread.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    exchanges: Vec<Exchange>,
    judged: Vec<Judged>,
    notes: Vec<String>,
    measured: Vec<Measured>,
    waiting: Vec<(u64, String)>,
    next_wait: u64,
    phase: Option<Phase>,
}

/// Everything that was recorded.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Exchanges in order of their start.
    pub exchanges: Vec<Exchange>,
    /// Expectations in the order they were judged.
    pub judged: Vec<Judged>,
    /// Remarks: which permitted variant was seen, what was not tried and why.
    pub notes: Vec<String>,
    /// Routes that were timed against an agreement.
    pub measured: Vec<Measured>,
}

impl Recorder {
    /// An empty record whose clock starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an exchange and returns its number.
    pub fn begin(&self, kind: Kind, caller: &str, credential_good: bool, method: &str, url: &str) -> u32 {
        let started_ms = ms(self.started.elapsed());
        let mut state = self.state();
        let id = u32::try_from(state.exchanges.len() + 1).unwrap_or(u32::MAX);
        let phase = state.phase.unwrap_or(Phase::Check);
        state.exchanges.push(Exchange {
            id,
            kind,
            phase,
            caller: caller.to_owned(),
            credential_good,
            started_ms,
            method: method.to_owned(),
            url: redact(url),
            request_headers: Vec::new(),
            request_body: None,
            status: None,
            response_headers: Vec::new(),
            response_body: None,
            frames: Vec::new(),
            close: None,
            error: None,
            timing: Timing::default(),
            peer: None,
            tls: None,
            http_version: None,
            bytes_sent: 0,
            bytes_received: 0,
        });
        id
    }

    /// Changes an exchange that is under way.
    pub fn update(&self, id: u32, change: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = self.state().exchanges.iter_mut().find(|x| x.id == id) {
            change(exchange);
        }
    }

    /// Exchanges begun from now on belong to this phase.
    pub fn enter(&self, phase: Phase) {
        self.state().phase = Some(phase);
    }

    /// Adds a judged expectation.
    pub fn judge(&self, judged: Judged) {
        self.state().judged.push(judged);
    }

    /// Adds a remark for the evidence.
    pub fn note(&self, note: impl Into<String>) {
        let note = redact(&note.into());
        let mut state = self.state();
        if !state.notes.contains(&note) {
            state.notes.push(note);
        }
    }

    /// Adds the timed samples of a route.
    pub fn measure(&self, measured: Measured) {
        self.state().measured.push(measured);
    }

    /// Redacts once more what is already recorded, after secrets became known that the service gave away.
    pub fn redact_again(&self) {
        for exchange in &mut self.state().exchanges {
            let body = exchange.response_body.iter_mut();
            let frames = exchange.frames.iter_mut().map(|frame| &mut frame.text);
            let headers = exchange.response_headers.iter_mut().map(|(_, value)| value);
            body.chain(frames).chain(headers).for_each(|text| *text = redact(text));
        }
    }

    /// Says what is being waited for until the guard is dropped; a check that times out reports it.
    #[must_use]
    pub fn waiting(&self, what: impl Into<String>) -> Waiting<'_> {
        let mut state = self.state();
        state.next_wait += 1;
        let id = state.next_wait;
        state.waiting.push((id, what.into()));
        Waiting { recorder: self, id }
    }

    /// What is being waited for now, newest last.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        self.state().waiting.iter().map(|(_, what)| what.clone()).collect()
    }

    /// A copy of some exchanges.
    #[must_use]
    pub fn exchanges(&self, ids: &[u32]) -> Vec<Exchange> {
        self.state().exchanges.iter().filter(|exchange| ids.contains(&exchange.id)).cloned().collect()
    }

    /// The number of the newest exchange; 0 before the first.
    #[must_use]
    pub fn last_id(&self) -> u32 {
        self.state().exchanges.last().map_or(0, |exchange| exchange.id)
    }

    /// A copy of all exchanges so far.
    #[must_use]
    pub fn all(&self) -> Vec<Exchange> {
        self.state().exchanges.clone()
    }

    /// The expectations judged so far.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.state().judged.clone()
    }

    /// Takes everything out: for the end of a check, when nothing more comes.
    #[must_use]
    pub fn take(&self) -> Snapshot {
        let mut state = self.state();
        let State { exchanges, judged, notes, measured, .. } = std::mem::take(&mut *state);
        Snapshot { exchanges, judged, notes, measured }
    }

    /// Bytes sent and received within the check's own phase.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let state = self.state();
        let own = state.exchanges.iter().filter(|x| x.phase == Phase::Check);
        own.fold((0, 0), |(sent, received), x| (sent + x.bytes_sent, received + x.bytes_received))
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`Recorder::waiting`].
#[derive(Debug)]
pub struct Waiting<'a> {
    recorder: &'a Recorder,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A wait that is cut short by the check's deadline is dropped too; the runner reads the list before that happens.
        self.recorder.state().waiting.retain(|(id, _)| *id != self.id);
    }
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The text cut after `chars` characters, with a word about what is missing.
#[must_use]
pub fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… [cut: {} of {} bytes shown]", &text[..end], end, text.len()),
    }
}

/// Redacts, then cuts: in this order, so that no half of a secret survives at the edge.
#[must_use]
pub fn keep(text: &str, chars: usize) -> String {
    cut(&redact(text), chars)
}
