//! Controls: what a sound service in a real network may do. No check may fail under any of them.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::header, response::Response};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use serde_json::Value;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedSender},
    },
    time::{Instant, sleep_until, timeout},
};

use super::{Asked, Family, Fault, Lies, Said, Seat, pause, roll};
use crate::app::App;

pub(super) struct Controls;

const JITTER: &str = "control-jitter";
const REORDER: &str = "control-reorder";

const fn control(name: &'static str, what: &'static str) -> Fault {
    Fault { name, what, kills: &[], reports: None }
}

const FAULTS: &[Fault] = &[
    control("control-no-op", "the layers of the faults are there, and change nothing"),
    control(JITTER, "each frame and each answer comes 0 to 80 ms later; each connection keeps its order"),
    control(REORDER, "answers overtake each other, and so do events of different runs; each run keeps its order"),
];

/// The longest pause before one frame or one answer, in milliseconds.
const JITTER_MS: u64 = 80;
/// The longest wait for something to be overtaken by.
const HELD: Duration = Duration::from_millis(60);
/// What overtakes is given this lead.
const LEAD: Duration = Duration::from_millis(10);

/// Who goes first, and who waits to be overtaken.
#[derive(Default)]
pub(super) struct Shuffle {
    answers: Turns,
    pieces: Arc<Turns>,
    frames: Turns,
    events: Arc<Turns>,
    /// The way of each run's events: they keep their order there.
    lanes: Mutex<HashMap<String, UnboundedSender<(String, Value)>>>,
}

/// Every other one that comes waits until a later one has gone, but not for long.
#[derive(Default)]
struct Turns {
    taken: AtomicU64,
    gone: Notify,
}

impl Turns {
    async fn take(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            if timeout(HELD, self.gone.notified()).await.is_ok() {
                pause(LEAD).await;
            }
        } else {
            self.gone.notify_waiters();
        }
    }

    async fn taken(self: Arc<Self>) {
        self.take().await;
    }
}

impl Shuffle {
    /// The event takes its run's own way to its user, and may be overtaken there by events of other runs.
    fn by_its_lane(&self, app: &App, user_id: &str, frame: Value) {
        let run_id = frame["run_id"].as_str().unwrap_or_default().to_owned();
        let last = matches!(frame["type"].as_str(), Some("agent_completed" | "agent_error"));
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(run_id.clone()).or_insert_with(|| {
            let (lane, mut events) = mpsc::unbounded_channel::<(String, Value)>();
            let (turns, hub) = (Arc::clone(&self.events), app.hub.clone());
            tokio::spawn(async move {
                while let Some((user_id, frame)) = events.recv().await {
                    turns.take().await;
                    hub.publish(&user_id, frame);
                }
            });
            lane
        });
        // The lane lives as long as its sender is kept here.
        drop(lane.send((user_id.to_owned(), frame)));
        if last {
            lanes.remove(&run_id);
        }
    }
}

impl Family for Controls {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn carried<'a>(&'a self, app: &'a App, _asked: &'a Asked, answer: Response) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let lies = Arc::clone(&app.lies);
            let streams = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            if lies.tells(JITTER) {
                pause(delay(ANSWERS, lies.count("jitter of answers"))).await;
                if streams {
                    let stream = STREAMS + lies.count("jitter of streams");
                    return answer.map(|body| travelling(body, stream));
                }
            }
            if lies.tells(REORDER) {
                lies.shuffle.answers.take().await;
                if streams {
                    let pieces = Arc::clone(&lies.shuffle.pieces);
                    return answer.map(|body| paced(body, move |_| Arc::clone(&pieces).taken()));
                }
            }
            answer
        })
    }

    fn before_frame<'a>(&'a self, app: &'a App, seat: &'a Seat<'_>, said: &'a Said, since: Instant) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if app.lies.tells(JITTER) {
                let at = app.lies.count(&format!("jitter at {}", seat.connection_id));
                // On the way since it set out: frames that follow each other closely do not add their delays up.
                sleep_until(since + delay(SOCKETS + ordinal(&app.lies, seat.connection_id), at)).await;
            }
            // The events of runs have overtaken each other already.
            let event = matches!(said, Said::Frame(frame) if frame["run_id"].is_string());
            if app.lies.tells(REORDER) && !event {
                app.lies.shuffle.frames.take().await;
            }
        })
    }

    fn published(&self, app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        if !app.lies.tells(REORDER) {
            return vec![(user_id.to_owned(), frame)];
        }
        app.lies.shuffle.by_its_lane(app, user_id, frame);
        Vec::new()
    }
}

/// Sequences of pauses: one for all answers, one for each stream, one for each socket.
const ANSWERS: u64 = 0;
const STREAMS: u64 = 1 << 32;
const SOCKETS: u64 = 2 << 32;

fn delay(sequence: u64, at: u64) -> Duration {
    Duration::from_millis(roll(sequence, at, JITTER_MS + 1))
}

/// The how many-th connection this is, so that each start pauses alike.
fn ordinal(lies: &Lies, connection_id: &str) -> u64 {
    let key = format!("jitter of {connection_id}");
    let known = lies.memory().counts.get(&key).copied();
    known.unwrap_or_else(|| {
        let ordinal = lies.count("jitter of sockets");
        lies.memory().counts.insert(key, ordinal);
        ordinal
    })
}

/// The body, each piece of it on the way for a time of its own since it set out: delays do not add up.
fn travelling(body: Body, sequence: u64) -> Body {
    let (sender, pieces) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut pieces = body.into_data_stream().enumerate();
        while let Some((at, piece)) = pieces.next().await {
            let due = Instant::now() + delay(sequence, at as u64);
            if sender.send((due, piece.unwrap_or_default())).is_err() {
                break;
            }
        }
    });
    Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
        let (due, piece) = pieces.recv().await?;
        sleep_until(due).await;
        Some((Ok::<_, Infallible>(piece), pieces))
    }))
}

/// The body, each piece of it after a wait of its own.
fn paced<F: Future<Output = ()> + Send + 'static>(body: Body, wait: impl Fn(u64) -> F + Send + 'static) -> Body {
    let mut at = 0;
    Body::from_stream(body.into_data_stream().then(move |piece| {
        at += 1;
        let waited = wait(at);
        async move {
            waited.await;
            Ok::<_, Infallible>(piece.unwrap_or_default())
        }
    }))
}
