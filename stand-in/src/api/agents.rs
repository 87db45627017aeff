//! `/api/agents/*`: work without a conversation. `/api/chat/agents/*` and `/api/agent/*`: watching and controlling runs.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{body::JsonBody, caller::Caller, error::ApiError, messages::LENGTHS};
use crate::{
    agent::{
        AGENTS,
        engine::{self, Job, Outcome},
        runs::{Run, Status},
    },
    app::App,
    clock,
};

type Answer = Result<Json<Value>, ApiError>;

pub(crate) async fn execute(State(app): State<Arc<App>>, caller: Caller, mut body: JsonBody) -> Answer {
    let agent = body.choice("type", &AGENTS);
    work(app, caller, &agent, body).await
}

pub(crate) async fn triage(State(app): State<Arc<App>>, caller: Caller, body: JsonBody) -> Answer {
    work(app, caller, "triage", body).await
}

pub(crate) async fn data(State(app): State<Arc<App>>, caller: Caller, body: JsonBody) -> Answer {
    work(app, caller, "data", body).await
}

pub(crate) async fn optimization(State(app): State<Arc<App>>, caller: Caller, body: JsonBody) -> Answer {
    work(app, caller, "optimization", body).await
}

async fn work(app: Arc<App>, caller: Caller, agent: &str, mut body: JsonBody) -> Answer {
    let prompt = body.text("message", LENGTHS.0, LENGTHS.1);
    body.optional_object("context");
    body.finish()?;
    let run = app.runs.create(&caller.user_id, None, agent, Box::new(|_| ()));
    let job = Job { prompt, earlier: Vec::new(), keep: false };
    // A task of its own, so that the run comes to its end even if the client does not wait for it.
    let outcome = tokio::spawn(engine::perform(Arc::clone(&app), Arc::clone(&run), job)).await;
    let (status, response, error) = match outcome.map_err(|_| ApiError::internal())? {
        Outcome::Answered(answer) => ("success", answer, None),
        Outcome::Failed(cause) => ("error", String::new(), Some(cause)),
        Outcome::Halted => ("error", String::new(), Some("the run was stopped".to_owned())),
    };
    Ok(Json(json!({
        "status": status,
        "agent": agent,
        "response": response,
        "execution_time": run.elapsed().as_secs_f64(),
        "circuit_breaker_state": "CLOSED",
        "error": error,
    })))
}

pub(crate) async fn status(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    Ok(Json(app.runs.of_user(&id, &caller.user_id)?.to_json()))
}

pub(crate) async fn stop(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    halt(&app, &caller, &id, Status::Stopped).await
}

pub(crate) async fn cancel(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    halt(&app, &caller, &id, Status::Cancelled).await
}

/// A run starts by itself, so there is nothing to do but to say how it stands.
pub(crate) async fn start(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    let run = app.runs.of_user(&id, &caller.user_id)?;
    Ok(Json(controlled(&run, run.status())))
}

async fn halt(app: &App, caller: &Caller, id: &str, status: Status) -> Answer {
    let run = app.runs.of_user(id, &caller.user_id)?;
    let status = run.halt(status).await;
    Ok(Json(controlled(&run, status)))
}

fn controlled(run: &Run, status: Status) -> Value {
    json!({
        "status": status.name(),
        "run_id": run.id,
        "user_id": run.user_id,
        "timestamp": clock::iso(),
        "message": format!("Agent run is {}", status.name()),
    })
}
