//! What clients say over the socket, and what comes of it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{frames, session::Connection};
use crate::{
    agent::{
        DEFAULT_AGENT,
        engine::{self, Job},
        runs::{Event, Run},
    },
    clock,
    store::{
        history::{self, Role},
        threads::{self, Refusal, writable},
    },
};

/// Why a frame is answered with an `error_message`.
struct Rejected {
    code: &'static str,
    message: String,
}

type Handled = Result<(), Rejected>;
type Frame = Map<String, Value>;

/// Handles one text frame; every frame but a `pong` is answered somehow.
pub(super) async fn handle(connection: &Connection, text: &str) {
    if let Err(rejected) = dispatch(connection, text).await {
        connection.refuse(rejected.code, &rejected.message);
    }
}

async fn dispatch(connection: &Connection, text: &str) -> Handled {
    let frame = parse(text)?;
    let kind = frame.get("type").and_then(Value::as_str).ok_or_else(|| format_error("'type' must be a string"))?;
    match kind {
        "ping" => connection.say(frames::pong(&connection.user_id)),
        "pong" => {}
        "heartbeat" => connection.say(frames::heartbeat_ack()),
        "user_message" | "chat" | "chat_message" | "message" => user_message(connection, &frame).await?,
        "start_agent" => start_agent(connection, &frame).await?,
        other => connection.say(frames::unknown_type(other, &connection.user_id)),
    }
    Ok(())
}

fn parse(text: &str) -> Result<Frame, Rejected> {
    match serde_json::from_str(text) {
        Ok(Value::Object(frame)) => Ok(frame),
        Ok(_) => Err(format_error("a frame must be a JSON object")),
        Err(error) => Err(format_error(&format!("Invalid JSON: line {} column {}", error.line(), error.column()))),
    }
}

/// Stores the message, acknowledges it, and starts the run that answers it; in this order.
async fn user_message(connection: &Connection, frame: &Frame) -> Handled {
    check_timestamp(frame)?;
    let payload = payload(frame)?;
    let content = required_text(payload, "content")?;
    let message_id = optional_text(payload, "message_id")?.unwrap_or_else(|| Uuid::new_v4().to_string());
    let thread_id = optional_text(payload, "thread_id")?;

    let (id, prompt) = (message_id.clone(), content.clone());
    let metadata = payload.get("metadata").filter(|metadata| metadata.is_object()).cloned().unwrap_or_else(|| json!({}));
    let asked = in_thread(connection, thread_id, move |db, thread| {
        let earlier = history::questions(db, thread)?;
        history::add(db, thread, &id, Role::User, &prompt, &metadata)?;
        Ok(earlier)
    });
    let (thread_id, earlier) = asked.await?;
    connection.say(frames::acknowledged(&message_id, &thread_id));
    start(connection, &thread_id, DEFAULT_AGENT, Job { prompt: content, earlier, keep: true });
    Ok(())
}

/// Starts a run without storing a chat message; its events are the answer.
async fn start_agent(connection: &Connection, frame: &Frame) -> Handled {
    check_timestamp(frame)?;
    let payload = payload(frame)?;
    let prompt = required_text(payload, "user_request")?;
    let agent = optional_text(payload, "agent")?.unwrap_or_else(|| DEFAULT_AGENT.to_owned());
    let thread_id = optional_text(payload, "thread_id")?;
    let (thread_id, earlier) = in_thread(connection, thread_id, history::questions).await?;
    start(connection, &thread_id, &agent, Job { prompt, earlier, keep: false });
    Ok(())
}

/// Does something in the thread named, or in a new one, in one transaction; gives the thread's id as well.
async fn in_thread<T: Send + 'static>(
    connection: &Connection,
    thread_id: Option<String>,
    work: impl FnOnce(&rusqlite::Connection, &str) -> rusqlite::Result<T> + Send + 'static,
) -> Result<(String, T), Rejected> {
    let user = connection.user_id.clone();
    let done = connection.app.store.call(move |db| {
        let thread = match thread_id {
            None => Ok(threads::create(db, &user, None, Map::new())?),
            Some(id) => writable(threads::find(db, &id)?, &user),
        };
        match thread {
            Ok(thread) => work(db, &thread.id).map(|done| Ok((thread.id, done))),
            Err(refusal) => Ok(Err(refusal)),
        }
    });
    let done = done.await.map_err(|_| Rejected {
        code: "SERVICE_UNAVAILABLE",
        message: "the message could not be stored; send it again later".to_owned(),
    })?;
    done.map_err(Rejected::from)
}

fn start(connection: &Connection, thread_id: &str, agent: &str, job: Job) {
    let (app, user_id) = (&connection.app, &connection.user_id);
    let run = app.runs.create(user_id, Some(thread_id), agent, to_user(connection));
    tokio::spawn(perform(Arc::clone(app), run, job));
}

async fn perform(app: Arc<crate::app::App>, run: Arc<Run>, job: Job) {
    engine::perform(app, run, job).await;
}

/// Events go to every open connection of the user, also to those opened later, and outlive this one.
fn to_user(connection: &Connection) -> crate::agent::runs::Sink {
    let (app, user_id) = (Arc::clone(&connection.app), connection.user_id.clone());
    Box::new(move |event: &Event| {
        for (user_id, frame) in app.lies.published(&app, &user_id, event.to_json()) {
            app.hub.publish(&user_id, frame);
        }
    })
}

/// Seconds, or an ISO 8601 text, or nothing.
fn check_timestamp(frame: &Frame) -> Handled {
    match frame.get("timestamp") {
        None | Some(Value::Null | Value::Number(_)) => Ok(()),
        Some(Value::String(text)) if clock::is_iso(text) => Ok(()),
        Some(_) => Err(format_error("'timestamp' must be seconds since the epoch, or an ISO 8601 text")),
    }
}

fn payload(frame: &Frame) -> Result<&Frame, Rejected> {
    frame.get("payload").and_then(Value::as_object).ok_or_else(|| validation_error("'payload' must be an object"))
}

fn required_text(payload: &Frame, name: &str) -> Result<String, Rejected> {
    match payload.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::String(_)) => Err(validation_error(&format!("'payload.{name}' must not be empty"))),
        Some(_) => Err(validation_error(&format!("'payload.{name}' must be a string"))),
        None => Err(validation_error(&format!("'payload.{name}' is missing"))),
    }
}

fn optional_text(payload: &Frame, name: &str) -> Result<Option<String>, Rejected> {
    match payload.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(validation_error(&format!("'payload.{name}' must be a string"))),
    }
}

fn format_error(message: &str) -> Rejected {
    Rejected { code: "FORMAT_ERROR", message: message.to_owned() }
}

fn validation_error(message: &str) -> Rejected {
    Rejected { code: "VALIDATION_ERROR", message: message.to_owned() }
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        let (code, message) = match refusal {
            Refusal::Unknown => ("THREAD_NOT_FOUND", "there is no such thread"),
            Refusal::Foreign => ("THREAD_ACCESS_DENIED", "the thread belongs to another user"),
            Refusal::Archived => ("THREAD_ARCHIVED", "the thread is archived and takes no more messages"),
        };
        Self { code, message: message.to_owned() }
    }
}
