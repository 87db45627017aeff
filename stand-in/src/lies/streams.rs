//! Lies about messages, streams, events, answers and times.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Answered, Asked, Family, Fault, Lies, Said, Seat};
use crate::{agent::AGENTS, app::App};

pub(super) struct Streams;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: None }
}

const FAULTS: &[Fault] = &[
    fault("stream-buffered", "all chunks of a stream come at once, at its end", &[20]),
    fault("chunk-lost", "one chunk of a stream is missing", &[20]),
    fault("chunks-swapped", "two chunks of a stream change places", &[20]),
    fault("single-chunk", "the whole answer comes in one chunk", &[20]),
    fault("event-missing-started", "agent_started is never sent", &[22]),
    fault("event-missing-thinking", "agent_thinking is never sent", &[22]),
    fault("event-missing-tool-executing", "tool_executing is never sent", &[22]),
    fault("event-missing-tool-completed", "tool_completed is never sent", &[22]),
    fault("event-missing-completed", "agent_completed is never sent", &[22]),
    fault("event-completed-twice", "a run ends with two terminal events", &[22]),
    fault("event-after-terminal", "agent_thinking follows agent_completed", &[22]),
    fault("tool-pair-mismatch", "tool_completed names another tool than tool_executing", &[22]),
    fault("second-run-mute", "the second run of a connection shows no events", &[22]),
    fault("error-not-delivered", "a run that fails shows nothing", &[22]),
    fault("fallback-events", "the five events come with canned text", &[22, 25]),
    fault("slow-health", "GET /health takes three times its SLA", &[23]),
    fault("slow-welcome", "the welcome of a socket takes three times its SLA", &[23]),
    fault("slow-threads", "/api/threads takes three times its SLA", &[23]),
    fault("slow-tail", "each tenth answer of a route takes five times its SLA", &[23]),
    fault("answer-empty", "agent_completed has an empty result", &[25]),
    fault("answer-echoes-prompt", "the result of a run is its prompt", &[25]),
    fault("answer-not-in-history", "the answer never reaches the history of its thread", &[25]),
    fault("path-half-open", "all goes well until the thread is archived: 500", &[25]),
];

/// The faults that keep back one kind of event.
const MISSING: [(&str, &str); 5] = [
    ("event-missing-started", "agent_started"),
    ("event-missing-thinking", "agent_thinking"),
    ("event-missing-tool-executing", "tool_executing"),
    ("event-missing-tool-completed", "tool_completed"),
    ("event-missing-completed", "agent_completed"),
];

/// Routes with an SLA: its median in milliseconds, and the fault that slows the route down.
const SLAS: [(&str, &str, u64, &str); 5] = [
    ("GET", "/health", 150, "slow-health"),
    ("GET", "/api/threads", 200, "slow-threads"),
    ("POST", "/api/threads", 200, "slow-threads"),
    ("GET", "/ws", 250, "slow-welcome"),
    ("POST", "/api/agents/execute", 1000, ""),
];

const CANNED_ANSWER: &str = "Fallback response: your request has been received and will be processed as soon as possible.";

impl Family for Streams {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if let Some(delay) = slowness(&app.lies, asked) {
                // Nothing ever comes of the pending one: this waits for the time alone.
                tokio::time::timeout(delay, std::future::pending::<()>()).await.ok();
            }
            if app.lies.tells("path-half-open") && asked.is("DELETE", "/api/threads/*") {
                let body = json!({"detail": "Internal server error"});
                return Some((StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response());
            }
            None
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        let history = asked.is("GET", "/api/threads/*/messages");
        if history && answered.status.is_success() {
            rewrite_history(&app.lies, &mut answered.body);
        }
        Box::pin(async {})
    }

    fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        let Said::Frame(frame) = said else { return vec![said] };
        if app.lies.tells("second-run-mute") && second_run(&app.lies, seat.connection_id, &frame) {
            return Vec::new();
        }
        vec![Said::Frame(frame)]
    }

    fn published(&self, app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        let (run, renumber) = (text(&frame, "run_id"), changes_events(&app.lies));
        let mut frames = rewritten(&app.lies, frame);
        // The numbers follow what is sent, so that only the lie itself shows.
        for frame in frames.iter_mut().filter(|_| renumber) {
            frame["sequence"] = app.lies.count(&format!("sequence {run}")).into();
        }
        frames.into_iter().map(|frame| (user_id.to_owned(), frame)).collect()
    }

    fn streamed(&self, app: &App, frame: Value) -> Vec<Value> {
        let run = text(&frame, "run_id");
        let chunk = frame["type"] == "response_chunk";
        let hold = |frame| app.lies.memory().held.entry(run.clone()).or_default().push(frame);
        let release = || app.lies.memory().held.remove(&run).unwrap_or_default();
        let place = |of: &str| if chunk && app.lies.tells(of) { app.lies.count(&format!("{of} {run}")) } else { 0 };

        if place("chunk-lost") == 2 {
            return Vec::new();
        }
        match place("chunks-swapped") {
            2 => {
                hold(frame);
                return Vec::new();
            }
            3 => return std::iter::once(frame).chain(release()).collect(),
            _ => {}
        }
        if app.lies.tells("stream-buffered") || app.lies.tells("single-chunk") {
            if chunk {
                hold(frame);
                return Vec::new();
            }
            // What follows the last chunk, in a good run and in a bad one.
            if matches!(frame["type"].as_str(), Some("response_complete" | "error" | "stream_end")) {
                let chunks = release();
                let chunks = if app.lies.tells("single-chunk") { joined(chunks) } else { chunks };
                return chunks.into_iter().chain([frame]).collect();
            }
        }
        vec![frame]
    }
}

/// How long a request is held up.
fn slowness(lies: &Lies, asked: &Asked) -> Option<Duration> {
    let (method, path, median, fault) =
        SLAS.into_iter().find(|(method, path, ..)| asked.service == "api" && asked.is(method, path))?;
    if lies.tells(fault) {
        return Some(Duration::from_millis(3 * median));
    }
    let unlucky = lies.tells("slow-tail") && lies.count(&format!("slow-tail {method} {path}")).is_multiple_of(10);
    unlucky.then(|| Duration::from_millis(5 * median))
}

/// Makes a thread's history agree with what the events said of the answers.
fn rewrite_history(lies: &Lies, body: &mut Value) {
    let Some(messages) = body["messages"].as_array_mut() else { return };
    if lies.tells("answer-not-in-history") {
        messages.retain(|message| message["role"] != "assistant");
        body["total"] = body["messages"].as_array().map_or(0, Vec::len).into();
        return;
    }
    let mut question = Value::default();
    for message in messages {
        if message["role"] != "assistant" {
            question = message["content"].clone();
        } else if lies.tells("answer-echoes-prompt") {
            message["content"] = question.clone();
        } else if lies.tells("answer-empty") {
            message["content"] = json!([{"type": "text", "text": {"value": ""}}]);
        }
    }
}

/// True for an event of the second run that this connection sees.
fn second_run(lies: &Lies, connection_id: &str, frame: &Value) -> bool {
    let run = text(frame, "run_id");
    let place = format!("second-run-mute {connection_id} {run}");
    if frame["type"] == "agent_started" {
        let count = lies.count(&format!("second-run-mute {connection_id}"));
        lies.memory().counts.insert(place.clone(), count);
    }
    lies.memory().counts.get(&place) == Some(&2)
}

/// True if a fault is told that sends more events or fewer.
fn changes_events(lies: &Lies) -> bool {
    ["event-completed-twice", "event-after-terminal", "fallback-events"].iter().any(|name| lies.tells(name))
        || MISSING.iter().any(|(name, _)| lies.tells(name))
}

/// What is sent in place of an event.
fn rewritten(lies: &Lies, mut frame: Value) -> Vec<Value> {
    let kind = text(&frame, "type");
    if MISSING.iter().any(|(name, missing)| kind == *missing && lies.tells(name)) {
        return Vec::new();
    }
    // A run for an agent that does not exist fails from the first event on.
    let failing = kind == "agent_error" || !AGENTS.contains(&text(&frame, "agent_name").as_str());
    if failing && lies.tells("error-not-delivered") {
        return Vec::new();
    }
    if kind == "tool_completed" && lies.tells("tool-pair-mismatch") {
        frame["payload"]["tool_name"] = "calculator".into();
    }
    if lies.tells("fallback-events") {
        return canned(&kind, frame);
    }
    if lies.tells("answer-echoes-prompt") && frame["payload"]["parameters"]["text"].is_string() {
        // The first tool reads the prompt: that is where an event shows it.
        lies.memory().notes.insert(text(&frame, "run_id"), frame["payload"]["parameters"]["text"].clone());
    }
    if kind == "agent_completed" && frame["payload"]["result"].is_string() {
        if lies.tells("answer-empty") {
            frame["payload"]["result"] = "".into();
        } else if lies.tells("answer-echoes-prompt") {
            frame["payload"]["result"] = lies.memory().notes.get(&text(&frame, "run_id")).cloned().unwrap_or_default();
        }
    }
    if matches!(kind.as_str(), "agent_completed" | "agent_error") && lies.tells("event-completed-twice") {
        return vec![frame.clone(), frame];
    }
    if kind == "agent_completed" && lies.tells("event-after-terminal") {
        let mut late = frame.clone();
        late["type"] = "agent_thinking".into();
        late["payload"] = json!({"reasoning": "looking at the answer once more", "step_number": 3});
        return vec![frame, late];
    }
    vec![frame]
}

/// The five events as a service shows them that does no work.
fn canned(kind: &str, mut frame: Value) -> Vec<Value> {
    match kind {
        "agent_started" => frame["payload"]["message"] = "Agent started".into(),
        "agent_thinking" => frame["payload"]["reasoning"] = "Processing your request".into(),
        "tool_completed" => frame["payload"]["result"] = json!({"status": "completed"}),
        "partial_result" => return Vec::new(),
        "agent_completed" => frame["payload"]["result"] = CANNED_ANSWER.into(),
        _ => {}
    }
    vec![frame]
}

/// The texts of all chunks in one, the last.
fn joined(mut chunks: Vec<Value>) -> Vec<Value> {
    let whole: String = chunks.iter().map(|chunk| text(chunk, "content")).collect();
    let last = chunks.pop().map(|mut chunk| {
        chunk["content"] = whole.into();
        chunk
    });
    last.into_iter().collect()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
