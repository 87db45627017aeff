//! The agent: a small deterministic engine that really works on the prompt, and the runs it makes.

pub(crate) mod answer;
pub(crate) mod engine;
pub(crate) mod runs;
pub(crate) mod terms;
pub(crate) mod tools;

/// The agents there are.
pub(crate) const AGENTS: [&str; 4] = ["triage", "data", "optimization", "chat"];
/// Who answers when nobody in particular is asked.
pub(crate) const DEFAULT_AGENT: &str = "chat";
