//! How a run goes, step by step, at the pace the stand-in was started with.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    AGENTS,
    answer::{Findings, compose, pieces},
    runs::{Ended, Run, Status, millis},
    tools,
};
use crate::{
    app::App,
    store::history::{self, Role},
};

/// A prompt with these words makes a long run, so that it can be watched and stopped.
const IN_DEPTH: &str = "in depth";
const IN_DEPTH_STEPS: u64 = 12;
const IN_DEPTH_PAUSE: Duration = Duration::from_millis(70);
/// A prompt with these words makes the run fail.
const FAIL_ON_PURPOSE: &str = "fail on purpose";
/// Writing a piece takes so many times as long as a thought: most of a stream's time is its answer, as with real models, so that
/// the jitter of a network does not look like a stream that was held back.
const WRITING: u32 = 3;
/// Started, two thoughts, two tools (begun and done), and the pieces of the answer make up the progress.
const FIXED_STEPS: u64 = 7;
/// A usual English text has about four characters a token.
const CHARACTERS_A_TOKEN: u64 = 4;

/// What a run is to work on.
pub(crate) struct Job {
    pub(crate) prompt: String,
    /// Earlier questions of the same thread, newest first.
    pub(crate) earlier: Vec<String>,
    /// Whether the answer belongs in the thread's history.
    pub(crate) keep: bool,
}

/// How a run ended.
pub(crate) enum Outcome {
    Answered(String),
    Failed(String),
    /// Stopped or cancelled from outside.
    Halted,
}

/// Why a run does not come to an answer.
enum Broken {
    Ended,
    Failed(String),
}

impl From<Ended> for Broken {
    fn from(Ended: Ended) -> Self {
        Self::Ended
    }
}

/// Works on the job until the run has ended, in one way or another. Never leaves a run without its terminal event.
pub(crate) async fn perform(app: Arc<App>, run: Arc<Run>, job: Job) -> Outcome {
    app.lies.before_run(&app, &run.user_id, &job.prompt).await;
    let worked = AssertUnwindSafe(work(&app, &run, &job)).catch_unwind().await;
    let cause = match worked {
        Ok(Ok(answer)) => return Outcome::Answered(answer),
        Ok(Err(Broken::Ended)) => return Outcome::Halted,
        Ok(Err(Broken::Failed(cause))) => cause,
        Err(_panic) => "the agent broke down".to_owned(),
    };
    fail(&run, &cause);
    Outcome::Failed(cause)
}

async fn work(app: &App, run: &Run, job: &Job) -> Result<String, Broken> {
    let mut steps = Steps { run, made: 0, planned: planned(&job.prompt), pace: app.step };
    run.begin()?;
    steps.make(
        "agent_started",
        json!({"status": "running", "message": format!("the {} agent begins", run.agent_name)}),
        "starting",
    )?;
    steps.pause().await?;
    think(&mut steps, &job.prompt).await?;
    if !AGENTS.contains(&run.agent_name.as_str()) {
        return Err(Broken::Failed(format!("there is no agent '{}'; there are {}", run.agent_name, AGENTS.join(", "))));
    }
    let findings = use_tools(&mut steps, &job.prompt).await?;
    if job.prompt.to_lowercase().contains(FAIL_ON_PURPOSE) {
        return Err(Broken::Failed("the prompt asked the run to fail".to_owned()));
    }
    let answer = compose(&run.agent_name, &job.prompt, &job.earlier, &findings);
    write(&mut steps, &answer).await?;
    complete(app, run, job, &answer).await?;
    Ok(answer)
}

async fn think(steps: &mut Steps<'_>, prompt: &str) -> Result<(), Broken> {
    let words = prompt.split_whitespace().count();
    steps.think(&format!("reading {words} words and picking out what they are about")).await?;
    steps.think("deciding which tools give numbers for this").await?;
    for step in 0..in_depth_steps(prompt) {
        steps.make(
            "agent_thinking",
            json!({"reasoning": format!("going into depth, part {} of {IN_DEPTH_STEPS}", step + 1), "step_number": step + 3}),
            "thinking",
        )?;
        steps.pause_for(IN_DEPTH_PAUSE).await?;
    }
    Ok(())
}

async fn use_tools(steps: &mut Steps<'_>, prompt: &str) -> Result<Findings, Broken> {
    let statistics = steps.tool("text_statistics", &json!({"text": prompt})).await?;
    let tokens = statistics["characters"].as_u64().unwrap_or_default().div_ceil(CHARACTERS_A_TOKEN);
    let cost = steps.tool("token_cost_estimate", &json!({"model": "large", "tokens": tokens})).await?;
    Ok(Findings::of(&statistics, &cost))
}

async fn write(steps: &mut Steps<'_>, answer: &str) -> Result<(), Broken> {
    let pieces = pieces(answer);
    let last = pieces.len().saturating_sub(1);
    steps.planned = steps.made + u64::try_from(pieces.len()).unwrap_or(u64::MAX);
    for (index, piece) in pieces.into_iter().enumerate() {
        steps.make("partial_result", json!({"content": piece, "is_final": index == last}), "writing the answer")?;
        steps.pause_for(steps.pace * WRITING).await?;
    }
    Ok(())
}

/// Stores the answer, then says that it is there: whoever hears of it can read it.
async fn complete(app: &App, run: &Run, job: &Job, answer: &str) -> Result<(), Broken> {
    run.seal()?;
    if let (true, Some(thread_id)) = (job.keep, run.thread_id.clone()) {
        let (id, content) = (Uuid::new_v4().to_string(), answer.to_owned());
        let metadata = json!({"run_id": run.id, "agent_name": run.agent_name});
        app.store
            .call(move |db| history::add(db, &thread_id, &id, Role::Assistant, &content, &metadata))
            .await
            .map_err(|_| Broken::Failed("the answer could not be stored".to_owned()))?;
    }
    let payload = json!({"status": "completed", "result": answer, "execution_time_ms": millis(run.elapsed())});
    run.end(Status::Completed, "agent_completed", payload);
    Ok(())
}

fn fail(run: &Run, cause: &str) {
    let payload = json!({"status": "failed", "error_code": "AGENT_ERROR", "error_message": cause});
    run.end(Status::Failed, "agent_error", payload);
}

fn in_depth_steps(prompt: &str) -> u64 {
    if prompt.to_lowercase().contains(IN_DEPTH) { IN_DEPTH_STEPS } else { 0 }
}

/// A guess until the answer is there; [`write()`] corrects it.
fn planned(prompt: &str) -> u64 {
    FIXED_STEPS + in_depth_steps(prompt) + 8
}

/// The steps of a run: each is told, counts towards the progress, and takes its time.
struct Steps<'a> {
    run: &'a Run,
    made: u64,
    planned: u64,
    pace: Duration,
}

impl Steps<'_> {
    fn make(&mut self, kind: &'static str, payload: Value, task: &str) -> Result<(), Ended> {
        self.made += 1;
        let progress = u8::try_from(100 * self.made / self.planned.max(1)).unwrap_or(u8::MAX);
        self.run.step(kind, payload, progress, task)
    }

    async fn think(&mut self, reasoning: &str) -> Result<(), Ended> {
        // The first step was the start.
        self.make("agent_thinking", json!({"reasoning": reasoning, "step_number": self.made}), "thinking")?;
        self.pause().await
    }

    async fn tool(&mut self, name: &str, arguments: &Value) -> Result<Value, Broken> {
        let task = format!("running {name}");
        self.make("tool_executing", json!({"tool_name": name, "parameters": arguments}), &task)?;
        self.pause().await?;
        let outcome = tools::execute(name, arguments.as_object().unwrap_or(&Map::new()));
        let result = outcome.result.map_err(Broken::Failed)?;
        let payload = json!({"tool_name": name, "result": result, "execution_time_ms": millis(outcome.took)});
        self.make("tool_completed", payload, &task)?;
        Ok(result)
    }

    /// Thinking is quick beside writing, so that the answer begins to show early.
    async fn pause(&self) -> Result<(), Ended> {
        self.pause_for(self.pace / 2).await
    }

    async fn pause_for(&self, pause: Duration) -> Result<(), Ended> {
        match timeout(pause, self.run.ended()).await {
            Ok(()) => Err(Ended),
            Err(_elapsed) => Ok(()),
        }
    }
}
