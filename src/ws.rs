//! The WebSocket client: a connection that keeps every frame with its time, and waits for frames by what they say.
//!
//! A task on the suite's runtime owns the socket and files what arrives; the check looks through the file. So no frame is lost
//! between two waits, and the order of arrival stays known.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::config::{Deadlines, Target};
use crate::exchange::{Close, Recorder, cut};
use crate::expect::{Expect, Held, Mismatch};
use crate::inbox::{Command, Inbox, Shared, drive};
use crate::wire::{Counters, Wire};
use crate::{io, poll};

pub use crate::inbox::Arrived;

/// Where a connection comes from: what the dialling knew.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) exchange: u32,
    pub(crate) started: Instant,
    pub(crate) target: Arc<Target>,
    pub(crate) caller: String,
}

/// An open connection. Dropping it closes it with 1000.
#[derive(Debug)]
pub struct Socket {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    target: Arc<Target>,
    caller: String,
    /// The subprotocol that the server selected.
    pub subprotocol: Option<String>,
    welcome: Value,
}

impl Socket {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn start(
        stream: WebSocketStream<Wire>,
        counters: Arc<Counters>,
        origin: Origin,
        subprotocol: Option<String>,
    ) -> Self {
        let Origin { recorder, exchange, started, target, caller } = origin;
        let (commands, queue) = mpsc::unbounded_channel();
        let inbox = Mutex::default();
        let shared = Arc::new(Shared { recorder, exchange, started, counters, inbox, changed: watch::Sender::new(0) });
        // Not bound to the handle: after a drop the task still says goodbye.
        io::detach(drive(stream, queue, Arc::clone(&shared)));
        Self { shared, commands, target, caller, subprotocol, welcome: Value::Null }
    }

    pub(crate) fn set_welcome(&mut self, welcome: Value) {
        self.welcome = welcome;
    }

    /// Number of the exchange.
    #[must_use]
    pub fn exchange(&self) -> u32 {
        self.shared.exchange
    }

    /// The welcome frame; null before it came.
    #[must_use]
    pub fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The id that the welcome gave to this connection.
    #[must_use]
    pub fn connection_id(&self) -> &str {
        self.welcome["data"]["connection_id"].as_str().unwrap_or_default()
    }

    /// The frame limit that the welcome announced, in bytes; the contract's 8 KiB if it announced none.
    #[must_use]
    pub fn max_message_size(&self) -> usize {
        let announced = self.welcome["data"]["config"]["max_message_size"].as_u64();
        announced.and_then(|size| usize::try_from(size).ok()).unwrap_or(8192)
    }

    /// How often the service sends a ping, as the welcome announced it.
    fn heartbeat(&self) -> Option<Duration> {
        self.welcome["data"]["config"]["heartbeat_interval"].as_u64().map(Duration::from_secs)
    }

    /// Names an expectation about this connection.
    #[track_caller]
    pub fn must(&self, name: impl Into<Cow<'static, str>>) -> Expect<'_> {
        Expect::new(&self.shared.recorder, name, vec![self.shared.exchange], Location::caller())
    }

    /// Sends a JSON frame. A connection that is gone shows itself in the next wait.
    pub fn send(&self, frame: &Value) {
        self.send_text(frame.to_string());
    }

    /// Sends any text frame.
    pub fn send_text(&self, text: impl Into<String>) {
        let _ = self.commands.send(Command::Send(Message::text(text.into())));
    }

    /// Sends a `user_message` (contract, section 2.4).
    pub fn say(&self, message_id: &str, thread_id: Option<&str>, content: &str) {
        let mut payload = json!({"content": content, "message_id": message_id});
        if let Some(thread_id) = thread_id {
            payload["thread_id"] = json!(thread_id);
        }
        self.send(&json!({"type": "user_message", "payload": payload, "timestamp": crate::time::now()}));
    }

    /// Everything that has arrived so far, in order.
    #[must_use]
    pub fn frames(&self) -> Vec<Arrived> {
        self.shared.inbox().frames.iter().map(|(frame, _)| frame.clone()).collect()
    }

    /// How many frames have arrived so far: a mark for [`Socket::frames_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.inbox().frames.len()
    }

    /// The frames that arrived after a mark.
    #[must_use]
    pub fn frames_since(&self, mark: usize) -> Vec<Arrived> {
        self.frames().split_off(mark)
    }

    /// How the connection ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Close> {
        self.shared.inbox().close.clone()
    }

    /// Waits for the first frame not yet taken that fits, and takes it. `name` becomes an expectation.
    ///
    /// # Errors
    /// *Failed* when the deadline passes or the connection ends first, with what came instead.
    #[track_caller]
    pub fn receive(
        &self,
        name: impl Into<Cow<'static, str>>,
        within: Duration,
        wanted: &str,
        fits: impl Fn(&Arrived) -> bool,
    ) -> impl Future<Output = Held<Arrived>> {
        let expect = self.must(name);
        let wanted = wanted.to_owned();
        async move {
            let result = self.wait(within, &wanted, |inbox| {
                let (frame, taken) = inbox.frames.iter_mut().find(|(frame, taken)| !*taken && fits(frame))?;
                *taken = true;
                Some(frame.clone())
            });
            expect.hold(result.await)
        }
    }

    /// Waits until `enough` gives something of all frames so far (taken ones included). `name` becomes an expectation.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    #[track_caller]
    pub fn gather<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        within: Duration,
        wanted: &str,
        enough: impl Fn(&[Arrived]) -> Option<T>,
    ) -> impl Future<Output = Held<T>> {
        let expect = self.must(name);
        let wanted = wanted.to_owned();
        async move {
            let result = self.wait(within, &wanted, |inbox| {
                let frames: Vec<_> = inbox.frames.iter().map(|(frame, _)| frame.clone()).collect();
                enough(&frames)
            });
            expect.hold(result.await)
        }
    }

    /// As [`Socket::gather`], with a deadline that starts again with each frame that `restarts` it: for much that comes over one
    /// connection, where only the next frame has a time of its own.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    #[track_caller]
    pub fn gather_while<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        within: Duration,
        wanted: &str,
        restarts: impl Fn(&Arrived) -> bool,
        enough: impl Fn(&[Arrived]) -> Option<T>,
    ) -> impl Future<Output = Held<T>> {
        let expect = self.must(name);
        let wanted = wanted.to_owned();
        async move {
            let result = self.wait_while(within, &wanted, restarts, |inbox| {
                let frames: Vec<_> = inbox.frames.iter().map(|(frame, _)| frame.clone()).collect();
                enough(&frames)
            });
            expect.hold(result.await)
        }
    }

    async fn wait<T>(&self, within: Duration, wanted: &str, look: impl FnMut(&mut Inbox) -> Option<T>) -> Result<T, Mismatch> {
        self.wait_while(within, wanted, |_| false, look).await
    }

    async fn wait_while<T>(
        &self,
        within: Duration,
        wanted: &str,
        restarts: impl Fn(&Arrived) -> bool,
        mut look: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<T, Mismatch> {
        let mark = self.mark();
        let (mut started, mut seen) = (Instant::now(), mark);
        let mut changes = self.shared.changed.subscribe();
        let _waiting = self.shared.recorder.waiting(format!("{wanted} on the socket of {}", self.caller));
        loop {
            changes.mark_unchanged();
            let ended = {
                let mut inbox = self.shared.inbox();
                if let Some(found) = look(&mut inbox) {
                    return Ok(found);
                }
                if inbox.frames[seen..].iter().any(|(frame, _)| restarts(frame)) {
                    started = Instant::now();
                }
                seen = inbox.frames.len();
                inbox.close.clone()
            };
            if let Some(close) = ended {
                return Err(self.nothing(mark, wanted, &format!("the connection ended with {} {:?}", close.code, close.reason)));
            }
            if poll::within(within.saturating_sub(started.elapsed()), changes.changed()).await.is_none() {
                return Err(self.nothing(mark, wanted, &format!("nothing that fits within {} ms", within.as_millis())));
            }
        }
    }

    fn nothing(&self, mark: usize, wanted: &str, how: &str) -> Mismatch {
        let since = self.frames_since(mark);
        let mut got = format!("{how}; {} frames came meanwhile", since.len());
        if let Some(stall) = self.ended().is_none().then(|| self.shared.counters.stalled(self.heartbeat())).flatten() {
            let _ = write!(got, "; {stall}");
            self.shared.recorder.update(self.shared.exchange, |x| x.error = Some(stall));
        }
        if let Some(last) = self.frames().last() {
            let _ = write!(got, "; the last frame seen: {}", cut(&last.data.to_string(), 300));
        }
        Mismatch { wanted: wanted.to_owned(), got }
    }

    /// Sends `ping` and waits for the `pong`. `name` becomes an expectation.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    #[track_caller]
    pub fn ping(&self, name: impl Into<Cow<'static, str>>) -> impl Future<Output = Held<Arrived>> {
        self.send(&json!({"type": "ping"}));
        self.receive(name, Deadlines::of(self.target.settings.deadlines.ping_ms), "a pong", |frame| frame.kind() == "pong")
    }

    /// Listens for `quiet_ms`, until an own `ping` is answered at least, and gives the frames that came after the mark. What a
    /// server sent before the pong has arrived by then, since frames of one connection keep their order.
    ///
    /// # Errors
    /// As [`Socket::receive`], when the ping is not answered.
    #[track_caller]
    pub fn quiet(&self, mark: usize) -> impl Future<Output = Held<Vec<Arrived>>> {
        let at = Location::caller();
        async move {
            let quiet = Deadlines::of(self.target.settings.deadlines.quiet_ms);
            let mut changes = self.shared.changed.subscribe();
            let listened = async { while changes.changed().await.is_ok() {} };
            poll::within(quiet, listened).await;
            self.send(&json!({"type": "ping"}));
            let within = Deadlines::of(self.target.settings.deadlines.ping_ms);
            let pong = self.wait(within, "a pong after listening", |inbox| {
                let (_, taken) = inbox.frames.iter_mut().find(|(frame, taken)| !*taken && frame.kind() == "pong")?;
                *taken = true;
                Some(())
            });
            Expect::new(&self.shared.recorder, "the socket still answers after listening", vec![self.shared.exchange], at)
                .hold(pong.await)?;
            Ok(self.frames_since(mark))
        }
    }

    /// Resolves when the connection ends; never before. For waiting that such an end would cut short.
    pub async fn closed_early(&self) {
        let mut changes = self.shared.changed.subscribe();
        while self.ended().is_none() && changes.changed().await.is_ok() {}
    }

    /// Waits for the end of the connection. `name` becomes an expectation.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    #[track_caller]
    pub fn closed(&self, name: impl Into<Cow<'static, str>>, within: Duration) -> impl Future<Output = Held<Close>> {
        let expect = self.must(name);
        async move { expect.hold(self.until_closed(within).await) }
    }

    /// The first frame that fits, taken ones included and without a name of its own.
    pub(crate) async fn first(&self, within: Duration, fits: impl Fn(&Arrived) -> bool) -> Result<Arrived, Mismatch> {
        self.wait(within, "a welcome", |inbox| {
            let (frame, taken) = inbox.frames.iter_mut().find(|(frame, _)| fits(frame))?;
            *taken = true;
            Some(frame.clone())
        })
        .await
    }

    pub(crate) async fn until_closed(&self, within: Duration) -> Result<Close, Mismatch> {
        let ended = self.wait(within, "the end of the connection", |inbox| inbox.close.clone());
        ended.await
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2) and waits for its end. `name` becomes an expectation: the answer is a
    /// close frame with the same code.
    ///
    /// # Errors
    /// *Failed* without an answer, or with another code.
    #[track_caller]
    pub fn close(self, name: impl Into<Cow<'static, str>>, code: u16) -> impl Future<Output = Held> {
        let at = Location::caller();
        let name = name.into();
        async move {
            let _ = self.commands.send(Command::Close(code));
            let close = self.until_closed(Deadlines::of(self.target.settings.deadlines.ping_ms)).await;
            let expect = Expect::new(&self.shared.recorder, name, vec![self.shared.exchange], at);
            let wanted = format!("a close frame with code {code}");
            expect.hold(match close {
                Ok(close) if close.code == code => Ok(()),
                Ok(close) => Err(Mismatch::new(wanted, format!("{} {:?}", close.code, close.reason))),
                Err(mismatch) => Err(Mismatch { wanted, ..mismatch }),
            })
        }
    }
}
