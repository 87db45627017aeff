//! Agent events: the variants of the contract (section 2.5) made one, and the rules that a run must keep.

use std::time::Duration;

use serde_json::Value;

use crate::expect::Mismatch;
use crate::ws::Arrived;

/// The types of agent events, in the order of a run.
pub const KINDS: [&str; 7] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "partial_result", "agent_completed", "agent_error"];

/// One agent event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it arrived.
    pub at: Duration,
    /// Its type, one of [`KINDS`].
    pub kind: String,
    /// The run; empty if the event names none.
    pub run_id: String,
    /// The thread; empty if the event names none.
    pub thread_id: String,
    /// The agent; empty if the event names none.
    pub agent_name: String,
    /// Place in the run, from 1; none where the service sends none (permitted).
    pub sequence: Option<i64>,
    /// The event's own time, epoch seconds.
    pub timestamp: Option<f64>,
    /// Fields of `payload`, else of `data`, else of the frame itself.
    pub payload: Value,
    /// The frame as it came.
    pub frame: Value,
}

impl Event {
    /// The event in a frame; none if the frame is something else.
    #[must_use]
    pub fn of(arrived: &Arrived) -> Option<Self> {
        let frame = &arrived.data;
        let kind = arrived.kind();
        if !KINDS.contains(&kind) {
            return None;
        }
        let payload =
            ["payload", "data"].into_iter().find_map(|key| frame.get(key).filter(|inner| inner.is_object())).unwrap_or(frame);
        // Identifiers stand in the frame, or inside with the other fields.
        let text = |key: &str| frame[key].as_str().or(payload[key].as_str()).unwrap_or_default().to_owned();
        Some(Self {
            at: arrived.at,
            kind: kind.to_owned(),
            run_id: text("run_id"),
            thread_id: text("thread_id"),
            agent_name: text("agent_name"),
            sequence: frame["sequence"].as_i64(),
            timestamp: crate::time::moment(&frame["timestamp"]),
            payload: payload.clone(),
            frame: frame.clone(),
        })
    }

    /// True for `agent_completed` and `agent_error`.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.kind.as_str(), "agent_completed" | "agent_error")
    }

    /// The answer in an `agent_completed`: a string, or the string inside an object.
    #[must_use]
    pub fn answer(&self) -> &str {
        let result = &self.payload["result"];
        let inner = ["response", "content", "text", "message"].into_iter().find_map(|key| result[key].as_str());
        result.as_str().or(inner).or(self.payload["final_response"].as_str()).unwrap_or_default()
    }
}

/// All events among some frames, in order.
#[must_use]
pub fn events(frames: &[Arrived]) -> Vec<Event> {
    frames.iter().filter_map(Event::of).collect()
}

/// The events of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its events in the order of their arrival, anything after the terminal one included.
    pub events: Vec<Event>,
}

impl Run {
    /// Picks the events of one run from all.
    #[must_use]
    pub fn pick(all: &[Event], run_id: &str) -> Self {
        Self { id: run_id.to_owned(), events: all.iter().filter(|event| event.run_id == run_id).cloned().collect() }
    }

    /// All runs of one thread, in the order of their first events.
    #[must_use]
    pub fn of_thread(all: &[Event], thread_id: &str) -> Vec<Self> {
        let mut ids: Vec<&str> = Vec::new();
        for event in all.iter().filter(|event| event.thread_id == thread_id) {
            if !ids.contains(&event.run_id.as_str()) {
                ids.push(&event.run_id);
            }
        }
        ids.into_iter().map(|id| Self::pick(all, id)).collect()
    }

    /// The types in order, for a person.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.kind.as_str()).collect()
    }

    /// The first terminal event.
    #[must_use]
    pub fn terminal(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.is_terminal())
    }

    /// The answer of the completed run; empty without one.
    #[must_use]
    pub fn answer(&self) -> &str {
        self.events.iter().find(|event| event.kind == "agent_completed").map(Event::answer).unwrap_or_default()
    }

    /// The partial results, joined.
    #[must_use]
    pub fn partials(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| event.kind == "partial_result").collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    /// Rule: `agent_started` is the first event, once.
    pub fn starts_once(&self) -> Result<(), Mismatch> {
        let first = self.events.first().is_some_and(|event| event.kind == "agent_started");
        self.rule(first && self.count("agent_started") == 1, "agent_started first, exactly once")
    }

    /// Rule: at least one `agent_thinking`, before any tool or result.
    pub fn thinks(&self) -> Result<(), Mismatch> {
        self.rule(
            self.events.get(1).is_some_and(|event| event.kind == "agent_thinking"),
            "agent_thinking right after agent_started",
        )
    }

    /// Rule: at least one tool runs; each `tool_executing` is followed by one `tool_completed` of the same tool.
    pub fn tools_pair(&self) -> Result<(), Mismatch> {
        let mut open: Option<String> = None;
        let mut pairs = 0;
        for event in self.events.iter().filter(|event| event.kind.starts_with("tool_")) {
            let tool = event.payload["tool_name"].as_str().unwrap_or_default().to_owned();
            match (event.kind.as_str(), open.take()) {
                ("tool_executing", None) if !tool.is_empty() => open = Some(tool),
                ("tool_completed", Some(executing)) if executing == tool => pairs += 1,
                (kind, executing) => {
                    let got = format!(
                        "{kind} of {tool:?} after {}",
                        executing.map_or("no tool".to_owned(), |t| format!("tool_executing of {t:?}"))
                    );
                    return Err(Mismatch::new("each tool_executing followed by one tool_completed of the same tool", got));
                }
            }
        }
        self.rule(pairs > 0 && open.is_none(), "at least one tool_executing, each with its tool_completed")
    }

    /// Rule: no event but partial results between the last tool and the terminal event, and none of them before a tool.
    pub fn keeps_order(&self) -> Result<(), Mismatch> {
        let rank = |event: &Event| match event.kind.as_str() {
            "agent_started" => 0,
            "agent_thinking" => 1,
            "tool_executing" | "tool_completed" => 2,
            "partial_result" => 3,
            _ => 4,
        };
        let ranks: Vec<_> = self.events.iter().map(rank).collect();
        self.rule(ranks.is_sorted(), "the order started, thinking, tools, partial results, terminal event")
    }

    /// Rule: exactly one terminal event, and nothing after it.
    pub fn ends_once(&self) -> Result<(), Mismatch> {
        let last = self.events.last().is_some_and(Event::is_terminal);
        let once = self.events.iter().filter(|event| event.is_terminal()).count() == 1;
        self.rule(last && once, "exactly one terminal event, the last of all")
    }

    /// Rule: `sequence` starts at 1 and has no gap, where the service sends it.
    pub fn counts_without_gap(&self) -> Result<(), Mismatch> {
        let numbers: Vec<_> = self.events.iter().map(|event| event.sequence).collect();
        let none = numbers.iter().all(Option::is_none);
        let right = numbers.iter().zip(1..).all(|(number, wanted)| *number == Some(wanted));
        if none || right {
            Ok(())
        } else {
            Err(Mismatch::new("sequence 1, 2, 3, … without a gap (or none at all)", format!("{numbers:?}")))
        }
    }

    /// Rule: every event names this thread.
    pub fn stays_in(&self, thread_id: &str) -> Result<(), Mismatch> {
        let stray = self.events.iter().find(|event| event.thread_id != thread_id);
        match stray {
            None => self.rule(!self.events.is_empty(), "at least one event"),
            Some(event) => Err(Mismatch::new(
                format!("thread {thread_id:?} in every event"),
                format!("{:?} in {}", event.thread_id, event.kind),
            )),
        }
    }

    /// Rule: the payload of each event has the fields of the contract.
    pub fn is_complete(&self) -> Result<(), Mismatch> {
        use crate::expect::{Is, fields};
        let took = || Is::Within(0.0, f64::MAX);
        for event in &self.events {
            let wanted: &[(&str, Is)] = match event.kind.as_str() {
                "agent_started" => &[("/status", Is::Text), ("/message", Is::Text)],
                "agent_thinking" => &[("/reasoning", Is::Text), ("/step_number", Is::IntFrom(1))],
                "tool_executing" => &[("/tool_name", Is::Text), ("/parameters", Is::Object)],
                "tool_completed" => &[("/tool_name", Is::Text), ("/result", Is::Present), ("/execution_time_ms", took())],
                "partial_result" => &[("/content", Is::Present), ("/is_final", Is::Bool)],
                "agent_completed" => &[("/status", Is::Text), ("/result", Is::Present), ("/execution_time_ms", took())],
                _ => &[("/status", Is::Text), ("/error_code", Is::Text), ("/error_message", Is::Text)],
            };
            fields(&event.payload, wanted)
                .map_err(|mismatch| Mismatch { wanted: format!("{} with {}", event.kind, mismatch.wanted), ..mismatch })?;
            if event.run_id.is_empty() || event.agent_name.is_empty() || event.timestamp.is_none() {
                return Err(Mismatch::new(format!("{} with run_id, agent_name and timestamp", event.kind), &event.frame));
            }
        }
        Ok(())
    }

    fn rule(&self, holds: bool, wanted: &str) -> Result<(), Mismatch> {
        if holds { Ok(()) } else { Err(Mismatch::new(wanted, format!("{:?}", self.kinds()))) }
    }
}

/// Judges an answer: real work on this prompt, not a canned form (contract, end of section 2.5).
///
/// # Errors
/// The form that gives it away.
pub fn is_real(answer: &str, prompt: &str) -> Result<(), Mismatch> {
    let text = answer.trim();
    let lower = text.to_lowercase();
    let prompt = prompt.trim().to_lowercase();
    let canned_start =
        ["mock ", "fallback ", "degraded mode", "error executing"].into_iter().find(|start| lower.starts_with(start));
    let canned_part = ["agent processed your message", "i understand you said:"].into_iter().find(|part| lower.contains(part));
    // An echo is the prompt itself, or the prompt with hardly anything around it.
    let echo = !prompt.is_empty() && lower.contains(&prompt) && text.chars().count() < 2 * prompt.chars().count();
    let got = match (canned_start, canned_part) {
        _ if text.is_empty() => "an empty answer".to_owned(),
        (Some(start), _) => format!("a canned answer that starts with {start:?}: {text:?}"),
        (_, Some(part)) => format!("a canned answer that contains {part:?}: {text:?}"),
        _ if echo => format!("an echo of the prompt: {text:?}"),
        _ => return Ok(()),
    };
    Err(Mismatch::new("an answer that is the agent's own work", got))
}

/// Judges answers to different prompts: no two are the same.
///
/// # Errors
/// The text that came twice.
pub fn all_differ<'a>(answers: impl IntoIterator<Item = &'a str>) -> Result<(), Mismatch> {
    let mut seen = std::collections::BTreeSet::new();
    for answer in answers {
        if !seen.insert(answer.trim()) {
            return Err(Mismatch::new("different answers to different prompts", format!("twice the same: {answer:?}")));
        }
    }
    Ok(())
}
