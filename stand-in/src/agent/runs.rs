//! Runs: their status, their events, and the one lock that keeps both in step.
//!
//! Every event of a run and every change of its status happens under the run's lock. So `sequence` has no gap, a stop and an
//! event cannot overtake each other, there is exactly one terminal event, and nothing follows it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::clock;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Running,
    Completed,
    Failed,
    Stopped,
    Cancelled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Something that happened in a run, in the canonical form.
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) run_id: String,
    pub(crate) thread_id: Option<String>,
    pub(crate) agent_name: String,
    pub(crate) sequence: u64,
    pub(crate) timestamp: f64,
    pub(crate) payload: Value,
}

impl Event {
    /// The event as the socket shows it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "type": self.kind,
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "agent_name": self.agent_name,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
            "payload": self.payload,
        })
    }
}

/// Where a run's events go.
pub(crate) type Sink = Box<dyn Fn(&Event) + Send + Sync>;

/// The run has ended (it was stopped, for instance): whoever works on it should stop too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

/// One piece of work of an agent.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) thread_id: Option<String>,
    pub(crate) agent_name: String,
    started_at: String,
    started: Instant,
    sink: Sink,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
}

struct State {
    status: Status,
    /// The answer is being stored: too late to stop.
    sealed: bool,
    progress: u8,
    current_task: String,
    sequence: u64,
}

impl Run {
    fn new(user_id: &str, thread_id: Option<&str>, agent_name: &str, sink: Sink) -> Self {
        let state =
            State { status: Status::Pending, sealed: false, progress: 0, current_task: "waiting to start".into(), sequence: 0 };
        Self {
            id: format!("run_{}", Uuid::new_v4().simple()),
            user_id: user_id.to_owned(),
            thread_id: thread_id.map(str::to_owned),
            agent_name: agent_name.to_owned(),
            started_at: clock::iso(),
            started: Instant::now(),
            sink,
            state: Mutex::new(state),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.state().status
    }

    /// How long the run has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The run as the status routes show it.
    pub(crate) fn to_json(&self) -> Value {
        let state = self.state();
        json!({
            "run_id": self.id,
            "status": state.status.name(),
            "user_id": self.user_id,
            "agent_name": self.agent_name,
            "progress": state.progress,
            "current_task": state.current_task,
            "started_at": self.started_at,
        })
    }

    /// Marks the run as running. A run that was stopped before it began stays stopped.
    pub(crate) fn begin(&self) -> Result<(), Ended> {
        let mut state = self.state();
        if state.status.is_final() {
            return Err(Ended);
        }
        state.status = Status::Running;
        Ok(())
    }

    /// Tells of a step that was made, and how far the run has come.
    pub(crate) fn step(&self, kind: &'static str, payload: Value, progress: u8, task: &str) -> Result<(), Ended> {
        let mut state = self.state();
        if state.status.is_final() {
            return Err(Ended);
        }
        // Never backwards, and 100 is for the end.
        state.progress = state.progress.max(progress.min(99));
        task.clone_into(&mut state.current_task);
        self.emit(&mut state, kind, payload);
        Ok(())
    }

    /// From here on the run can no longer be stopped; it is about to complete.
    pub(crate) fn seal(&self) -> Result<(), Ended> {
        let mut state = self.state();
        if state.status.is_final() {
            return Err(Ended);
        }
        state.sealed = true;
        Ok(())
    }

    /// Ends the run with its terminal event; `false` when it had ended before.
    pub(crate) fn end(&self, status: Status, kind: &'static str, payload: Value) -> bool {
        self.end_locked(self.state(), status, kind, payload)
    }

    /// Stops or cancels the run, and tells with which status it ended, which may be an earlier end.
    pub(crate) async fn halt(&self, status: Status) -> Status {
        self.halt_now(status);
        // A run that is just completing has its end before it.
        self.ended().await;
        self.status()
    }

    /// As [`Run::halt`], without waiting for a run that is just completing.
    pub(crate) fn halt_now(&self, status: Status) {
        let state = self.state();
        if !state.sealed {
            let payload = json!({"status": status.name(), "result": null, "execution_time_ms": millis(self.elapsed())});
            self.end_locked(state, status, "agent_completed", payload);
        }
    }

    fn end_locked(&self, mut state: MutexGuard<'_, State>, status: Status, kind: &'static str, payload: Value) -> bool {
        if state.status.is_final() {
            return false;
        }
        state.status = status;
        if status == Status::Completed {
            state.progress = 100;
        }
        status.name().clone_into(&mut state.current_task);
        self.emit(&mut state, kind, payload);
        drop(state);
        self.ended.send_replace(true);
        true
    }

    /// Waits for the end of the run.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as the run, so this waits for the value only.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }

    fn emit(&self, state: &mut State, kind: &'static str, payload: Value) {
        state.sequence += 1;
        (self.sink)(&Event {
            kind,
            run_id: self.id.clone(),
            thread_id: self.thread_id.clone(),
            agent_name: self.agent_name.clone(),
            sequence: state.sequence,
            timestamp: clock::unix(),
            payload,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All runs since the start, and how many there were.
#[derive(Default)]
pub(crate) struct Runs {
    runs: Mutex<HashMap<String, Arc<Run>>>,
    started: AtomicU64,
}

/// Why a user may not see or control a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unknown,
    Foreign,
}

impl Runs {
    pub(crate) fn create(&self, user_id: &str, thread_id: Option<&str>, agent_name: &str, sink: Sink) -> Arc<Run> {
        let run = Arc::new(Run::new(user_id, thread_id, agent_name, sink));
        self.started.fetch_add(1, Ordering::Relaxed);
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run.id.clone(), Arc::clone(&run));
        run
    }

    /// The run, if this user may see it.
    pub(crate) fn of_user(&self, id: &str, user_id: &str) -> Result<Arc<Run>, Refusal> {
        match self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            None => Err(Refusal::Unknown),
            Some(run) if run.user_id != user_id => Err(Refusal::Foreign),
            Some(run) => Ok(Arc::clone(run)),
        }
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

/// Milliseconds with a fraction, as the contract's `…_ms` fields want them.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
