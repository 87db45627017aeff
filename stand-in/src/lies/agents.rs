//! Lies about agents: where they are found, how they are configured, what they do and how they are controlled.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answered, Asked, Family, Fault, Lies};
use crate::{
    agent::tools::TOOLS,
    api::error::{ApiError, Ids},
    app::App,
    clock,
    token::{Claims, Kind, Refused},
};

pub(super) struct Agents;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: None }
}

const FAULTS: &[Fault] = &[
    fault("discovery-empty", "the list of MCP servers is empty, with a 200", &[5]),
    fault("discovery-double-prefix", "discovery is under /api/api, and not found where it is documented", &[5]),
    fault("discovery-localhost", "the URLs of the services point to localhost", &[5]),
    fault("tools-count-wrong", "the count of MCP tools is not their number", &[5]),
    fault("config-leaks-secret", "the MCP configuration has the value of a secret", &[6]),
    fault("config-wrong-environment", "the public configuration names another environment", &[6]),
    fault("admin-config-open", "an ordinary user reads the admin configuration", &[6]),
    fault("ws-config-disagrees", "the configured limits of the socket are not those of the welcome", &[6]),
    fault("execute-500", "the general agent route answers 500", &[7]),
    fault("execute-renamed-field", "the general agent route wants agent_type where type is documented", &[7]),
    fault("execute-mock-answer", "a mock answers in place of the agent, with success", &[7, 11]),
    fault("execute-fallback-answer", "a fallback answers in place of the agent, with success", &[7]),
    fault("execute-anonymous", "agents work without a token", &[7]),
    fault("execute-missing-field-500", "a missing message is a 500 and not a 422", &[7]),
    fault("stream-500", "the stream answers 500", &[8, 20]),
    fault("stream-not-sse", "the stream is a JSON body", &[8]),
    fault("stream-no-end", "the stream has no stream_end", &[8, 20]),
    fault("stream-error-inside-200", "the stream begins with 200 and breaks off with an error frame", &[8, 20]),
    fault("stream-starts-without-start", "the stream has no stream_start", &[8]),
    fault("status-constant", "the progress is 75 for every run, known or not", &[9]),
    fault("status-goes-backwards", "the progress of a run falls", &[9]),
    fault("health-lies", "business calls fail for want of the store, and the service says that it is ready", &[9]),
    fault("trace-id-constant", "every response has the same trace id", &[9]),
    fault("tools-list-500", "the list of tools answers 500", &[10]),
    fault("unknown-tool-succeeds", "a tool that does not exist succeeds", &[10]),
    fault("tool-anonymous", "tools run without a token", &[10]),
    fault("tool-error-as-success", "a tool that failed succeeds, with no result", &[10]),
    fault("agent-slow", "every run takes three times as long as agreed", &[11, 23]),
    fault("execution-time-constant", "the reported time of every run is 0", &[11]),
    fault("stop-unknown-succeeds", "a run that does not exist is stopped", &[19]),
    fault("stop-foreign-succeeds", "a user stops the run of another", &[19]),
    fault("stop-does-not-stop", "a run is said to be stopped, and goes on", &[19]),
    fault("run-dies-silently", "a run starts, and is never heard of again", &[19, 22]),
];

/// With its own work a run then takes about three times the second that is agreed for the stand-in, and still ends before
/// nobody waits for it any more: it is to be found too slow, not lost.
const SLOW: Duration = Duration::from_secs(3);
/// The lies that need to know whose run is stopped.
const STOPS: [&str; 2] = ["stop-foreign-succeeds", "stop-does-not-stop"];
const CONSTANT_TRACE: &str = "00000000-0000-4000-8000-000000000000";
const CONSTANT_PROGRESS: u64 = 75;

impl Family for Agents {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if !app.lies.any() {
                return None;
            }
            mislead(app, asked);
            in_its_place(app, asked)
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for lie in [discovery, configuration, work, tools, runs, health] {
                lie(app, asked, answered);
            }
        })
    }

    fn token(&self, lies: &Lies, _token: &str, _kind: Kind, honest: Result<Claims, Refused>) -> Result<Claims, Refused> {
        let mut claims = honest?;
        if lies.tells("admin-config-open") {
            claims.permissions.push("admin".to_owned());
        }
        Ok(claims)
    }

    fn published(&self, app: &App, user_id: &str, frame: Value) -> Vec<(String, Value)> {
        if app.lies.tells("run-dies-silently") && frame["type"] != "agent_started" {
            return Vec::new();
        }
        if let (true, Some(run_id)) = (STOPS.iter().any(|stop| app.lies.tells(stop)), frame["run_id"].as_str()) {
            let (note, notes) = (owner_note(run_id), &mut app.lies.memory().notes);
            // There is nothing to lie about the stop of a run that has ended.
            let ended = frame["type"] == "agent_completed" || frame["type"] == "agent_error";
            drop(if ended { notes.remove(&note) } else { notes.insert(note, user_id.into()) });
        }
        vec![(user_id.to_owned(), frame)]
    }

    fn streamed(&self, app: &App, frame: Value) -> Vec<Value> {
        let drops = |fault, kind| app.lies.tells(fault) && frame["type"] == kind;
        if drops("stream-starts-without-start", "stream_start") {
            return Vec::new();
        }
        if drops("stream-no-end", "stream_end") {
            // The body ends, without its last frame.
            return vec![Value::Null];
        }
        if app.lies.tells("stream-error-inside-200") && frame["type"] == "agent_started" {
            let ids = |mut fields: Value| {
                fields["run_id"] = frame["run_id"].clone();
                fields["thread_id"] = frame["thread_id"].clone();
                fields
            };
            let error = ids(json!({"type": "error", "error_code": "AGENT_ERROR", "message": "the agent is not available"}));
            let end = ids(json!({"type": "stream_end", "status": "error"}));
            return vec![frame, error, end];
        }
        vec![frame]
    }

    fn before_run<'a>(&'a self, app: &'a App, _user_id: &'a str, _prompt: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if app.lies.tells("agent-slow") {
                tokio::time::timeout(SLOW, std::future::pending::<()>()).await.ok();
            }
        })
    }
}

/// Changes the request, so that the honest service does the wrong thing.
fn mislead(app: &App, asked: &mut Asked) {
    let tells = |name| app.lies.tells(name);
    let anonymous = !asked.headers.contains_key("authorization");
    let opened = tells("execute-anonymous") && asked.is("POST", "/api/agents/*")
        || tells("tool-anonymous") && asked.is("POST", "/api/tools/execute");
    if anonymous && opened {
        asked.become_user(app, "anonymous");
    }
    if tells("execute-renamed-field")
        && asked.is("POST", "/api/agents/execute")
        && let Some(fields) = asked.body.as_object_mut()
    {
        fields.remove("type");
        if let Some(agent) = fields.remove("agent_type") {
            fields.insert("type".to_owned(), agent);
        }
    }
    if tells("stop-foreign-succeeds")
        && asked.is("POST", "/api/chat/agents/*/stop")
        && signed_in(app, asked)
        && let Some(owner) = owner(app, asked.segment(3))
    {
        asked.become_user(app, &owner);
    }
}

/// Answers in the place of the honest service, where nothing of its answer is left.
fn in_its_place(app: &App, asked: &Asked) -> Option<Response> {
    let tells = |name| app.lies.tells(name);
    if !signed_in(app, asked) {
        return None;
    }
    if let (true, Some(content)) = (asked.is("POST", "/api/chat/stream"), asked.body["content"].as_str()) {
        if tells("stream-500") {
            let refusal = ApiError::internal();
            return Some(answer(app, asked, refusal.status, |ids| refusal.to_json(ids)));
        }
        if tells("stream-not-sse") {
            let message = format!("An answer of {} words is ready.", content.split_whitespace().count());
            return Some(answer(app, asked, StatusCode::OK, |_| json!({"status": "success", "message": message})));
        }
    }
    let run_id = asked.segment(3);
    let stops = tells("stop-does-not-stop") && asked.is("POST", "/api/chat/agents/*/stop");
    // Only of the user's own run, that has not ended: else the honest answer is the right one.
    (stops && owner(app, run_id)? == asked.user_id).then(|| answer(app, asked, StatusCode::OK, |_| stopped(asked, run_id)))
}

fn stopped(asked: &Asked, run_id: &str) -> Value {
    json!({
        "status": "stopped",
        "run_id": run_id,
        "user_id": asked.user_id,
        "timestamp": clock::iso(),
        "message": "Agent run is stopped",
    })
}

/// With the headers that every answer has.
fn answer(app: &App, asked: &Asked, status: StatusCode, body: impl FnOnce(&Ids<'_>) -> Value) -> Response {
    let (trace, request) = (Uuid::new_v4().to_string(), asked.headers.get("x-request-id"));
    let body = body(&Ids { trace: &trace, request: request.and_then(|id| id.to_str().ok()) });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let known = [("content-type", "application/json"), ("x-trace-id", &trace), ("x-environment", &app.environment)];
    let values = known.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)));
    response.headers_mut().extend(
        values.chain(request.map(|id| ("x-request-id", id.clone()))).map(|(name, value)| (HeaderName::from_static(name), value)),
    );
    response
}

fn discovery(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    if tells("discovery-double-prefix") {
        let documented = asked.is("GET", "/api/discovery/services") || asked.is("GET", "/api/mcp/*");
        let doubled = asked.path.strip_prefix("/api").filter(|path| path.starts_with("/api/"));
        let note = |path: &str| format!("discovery-double-prefix {path}");
        if documented {
            // What is withheld here is what the doubled path has.
            app.lies.memory().notes.insert(note(&asked.path), answered.body.clone());
            refuse(answered, &ApiError::of_status(StatusCode::NOT_FOUND));
        } else if let Some(body) = doubled.and_then(|path| app.lies.memory().notes.get(&note(path)).cloned()) {
            (answered.status, answered.body) = (StatusCode::OK, body);
        }
    }
    if tells("discovery-empty") && asked.is("GET", "/api/mcp/servers") {
        answered.body["data"] = json!([]);
    }
    if tells("tools-count-wrong") && asked.is("GET", "/api/mcp/tools") {
        answered.body["count"] = json!(TOOLS.len() + 1);
    }
    if tells("discovery-localhost") && asked.is("GET", "/api/discovery/services") {
        let services = &mut answered.body["services"];
        for (name, port) in [("backend", 8000), ("frontend", 3000), ("auth", 8081)] {
            services[name]["port"] = port.into();
            for (field, url) in [("url", "http://localhost:"), ("api_url", "http://localhost:"), ("ws_url", "ws://localhost:")] {
                if services[name][field].is_string() {
                    services[name][field] = format!("{url}{port}").into();
                }
            }
        }
    }
}

fn configuration(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    if tells("config-leaks-secret") && asked.is("GET", "/api/mcp/config") {
        // The value of a variable in place of its name.
        answered.body["claude"]["mcpServers"]["netra"]["env"]["NETRA_API_KEY"] = app.e2e_key.clone().into();
    }
    if tells("config-wrong-environment") && asked.is("GET", "/api/config/public") {
        answered.body["environment"] = "development".into();
    }
    if tells("ws-config-disagrees") && asked.is("GET", "/ws/config") {
        let limits = &mut answered.body["websocket"]["limits"];
        for (name, value) in limits.as_object_mut().into_iter().flatten() {
            *value = if name.starts_with("heartbeat") { app.heartbeat_seconds() + 30 } else { 1024 * 1024 }.into();
        }
    }
}

/// `/api/agents/*`.
fn work(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    if !asked.is("POST", "/api/agents/*") {
        return;
    }
    let (execute, worked) = (asked.segment(2) == "execute", answered.status.is_success());
    let invalid = answered.status == StatusCode::UNPROCESSABLE_ENTITY;
    if tells("execute-500") && execute && worked || tells("execute-missing-field-500") && invalid && asked.body["message"].is_null()
    {
        refuse(answered, &ApiError::internal());
    } else if tells("execute-renamed-field") && execute && invalid {
        for problem in answered.body["detail"].as_array_mut().into_iter().flatten() {
            if problem["loc"][1] == "type" {
                problem["loc"][1] = "agent_type".into();
            }
        }
    } else if worked {
        let agent = answered.body["agent"].as_str().unwrap_or_default().to_owned();
        if tells("execute-mock-answer") {
            let message = asked.body["message"].as_str().unwrap_or_default();
            answered.body["response"] = format!("Mock {agent} agent response for: {message}").into();
        }
        if tells("execute-fallback-answer") {
            answered.body["response"] =
                format!("Fallback response of the {agent} agent: it cannot be reached right now, and your question was noted")
                    .into();
        }
        if tells("execution-time-constant") {
            answered.body["execution_time"] = 0.into();
        }
    }
}

fn tools(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    if tells("tools-list-500") && asked.is("GET", "/api/tools") && answered.status.is_success() {
        refuse(answered, &ApiError::internal());
    }
    if asked.is("POST", "/api/tools/execute") && answered.body["status"] == "error" {
        let known = TOOLS.iter().any(|tool| asked.body["tool_name"] == tool.name);
        let result = if known && tells("tool-error-as-success") {
            Value::Null
        } else if !known && tells("unknown-tool-succeeds") {
            json!({"message": "the tool was executed"})
        } else {
            return;
        };
        answered.body.as_object_mut().map(|fields| fields.remove("error"));
        answered.body["status"] = "success".into();
        answered.body["result"] = result;
    }
}

/// Watching and controlling runs.
fn runs(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    let unknown = answered.status == StatusCode::NOT_FOUND;
    if asked.is("GET", "/api/chat/agents/*/status") || asked.is("GET", "/api/agent/*/status") {
        if tells("status-constant") && unknown {
            answered.status = StatusCode::OK;
            answered.body = json!({
                "run_id": asked.path.rsplit('/').nth(1),
                "status": "running",
                "user_id": asked.user_id,
                "agent_name": "triage",
                "current_task": "thinking",
                "started_at": clock::iso(),
            });
        }
        if tells("status-constant") && answered.status.is_success() {
            answered.body["progress"] = CONSTANT_PROGRESS.into();
        }
        if let (true, "running", Some(progress)) = (
            tells("status-goes-backwards"),
            answered.body["status"].as_str().unwrap_or_default(),
            answered.body["progress"].as_u64(),
        ) {
            // What is left, in place of what is done.
            answered.body["progress"] = 100_u64.saturating_sub(progress).into();
        }
    }
    if tells("stop-unknown-succeeds") && unknown && asked.is("POST", "/api/chat/agents/*/stop") {
        answered.status = StatusCode::OK;
        answered.body = stopped(asked, asked.segment(3));
    }
}

fn health(app: &App, asked: &Asked, answered: &mut Answered) {
    let tells = |name| app.lies.tells(name);
    let stored = asked.service == "api" && ["/api/threads", "/api/chat/"].iter().any(|start| asked.path.starts_with(start));
    if tells("health-lies") && stored && answered.status.is_success() {
        let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "The service is not available right now");
        refuse(answered, &ApiError::new(status, "SERVICE_UNAVAILABLE", message));
    }
    if tells("trace-id-constant") {
        answered.headers.insert("x-trace-id", HeaderValue::from_static(CONSTANT_TRACE));
        if let Some(named) = answered.body.get_mut("trace_id") {
            *named = CONSTANT_TRACE.into();
        }
    }
}

/// Turns an answer into this refusal; its headers stay.
fn refuse(answered: &mut Answered, refusal: &ApiError) {
    let header = |name: &str| answered.headers.get(name).and_then(|value| value.to_str().ok());
    let body = refusal.to_json(&Ids { trace: header("x-trace-id").unwrap_or_default(), request: header("x-request-id") });
    (answered.status, answered.body) = (refusal.status, body);
}

/// True for a token that the honest service takes: lies about owners are for users, not for anybody.
fn signed_in(app: &App, asked: &Asked) -> bool {
    let header = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    token.is_some_and(|token| app.tokens.verify(token, Kind::Access).is_ok())
}

/// Whose run this is, if it goes on.
fn owner(app: &App, run_id: &str) -> Option<String> {
    app.lies.memory().notes.get(&owner_note(run_id)).and_then(Value::as_str).map(str::to_owned)
}

fn owner_note(run_id: &str) -> String {
    format!("owner of {run_id}")
}
