//! `/api/chat/stream`: one question, answered as server-sent events while the agent works.

use std::{pin::Pin, sync::Arc, task::Poll};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use uuid::Uuid;

use super::{body::JsonBody, caller::Caller, error::ApiError, messages::LENGTHS};
use crate::{
    agent::{
        DEFAULT_AGENT,
        engine::{self, Job},
        runs::{Event, Run, Status},
    },
    app::App,
    clock,
    store::{
        history::{self, Role},
        threads::{self, writable},
    },
};

pub(crate) async fn stream(State(app): State<Arc<App>>, caller: Caller, mut body: JsonBody) -> Result<Response, ApiError> {
    let content = body.text("content", LENGTHS.0, LENGTHS.1);
    let thread_id = body.text("thread_id", 1, 200);
    body.optional_text("message_type");
    body.finish()?;
    let earlier = ask(&app, &caller.user_id, &thread_id, &content).await?;

    let (frames, queue) = mpsc::unbounded_channel();
    let (sink, teller) = (frames.clone(), Arc::clone(&app));
    let run = app.runs.create(
        &caller.user_id,
        Some(&thread_id),
        DEFAULT_AGENT,
        Box::new(move |event| {
            for frame in frames_of(event).into_iter().flat_map(|frame| teller.lies.streamed(&teller, frame)) {
                // The client may have left; the stream cancels the run then.
                drop(sink.send(frame));
            }
            if matches!(event.kind, "agent_completed" | "agent_error") {
                drop(sink.send(END));
            }
        }),
    );
    let opening = Frames { run_id: &run.id, thread_id: &thread_id };
    for frame in [opening.frame("stream_start", json!({})), opening.frame("user_message", json!({"message": content}))] {
        app.lies.streamed(&app, frame).into_iter().for_each(|frame| drop(frames.send(frame)));
    }
    tokio::spawn(engine::perform(Arc::clone(&app), Arc::clone(&run), Job { prompt: content, earlier, keep: true }));

    let mut response = Response::new(Body::from_stream(Stream { queue, run }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Stores the question; gives the earlier ones.
async fn ask(app: &App, user: &str, thread_id: &str, content: &str) -> Result<Vec<String>, ApiError> {
    let (user, thread_id, content) = (user.to_owned(), thread_id.to_owned(), content.to_owned());
    let asked = app.store.call(move |db| {
        if let Err(refusal) = writable(threads::find(db, &thread_id)?, &user) {
            return Ok(Err(refusal));
        }
        let earlier = history::questions(db, &thread_id)?;
        history::add(db, &thread_id, &Uuid::new_v4().to_string(), Role::User, &content, &json!({}))?;
        Ok(Ok(earlier))
    });
    Ok(asked.await??)
}

/// Makes frames that all name the same run and thread.
struct Frames<'a> {
    run_id: &'a str,
    thread_id: &'a str,
}

impl Frames<'_> {
    fn frame(&self, kind: &str, fields: Value) -> Value {
        let mut frame = Map::new();
        frame.insert("type".into(), kind.into());
        frame.insert("run_id".into(), self.run_id.into());
        frame.insert("thread_id".into(), self.thread_id.into());
        if let Value::Object(fields) = fields {
            frame.extend(fields);
        }
        frame.insert("timestamp".into(), clock::unix().into());
        Value::Object(frame)
    }
}

/// What the stream shows of an event of the run.
fn frames_of(event: &Event) -> Vec<Value> {
    let frames = Frames { run_id: &event.run_id, thread_id: event.thread_id.as_deref().unwrap_or_default() };
    let payload = &event.payload;
    match event.kind {
        "agent_started" => {
            let fields = json!({"agent_name": event.agent_name, "status": payload["status"], "message": payload["message"]});
            vec![frames.frame("agent_started", fields)]
        }
        "agent_thinking" => {
            let fields = json!({"thought": payload["reasoning"], "step_number": payload["step_number"]});
            vec![frames.frame("agent_thinking", fields)]
        }
        "partial_result" => vec![frames.frame("response_chunk", payload.clone())],
        "agent_completed" if payload["status"] == "completed" => vec![
            frames.frame("response_complete", json!({"message": payload["result"]})),
            completed(&frames, payload),
            frames.frame("stream_end", json!({"status": "success"})),
        ],
        "agent_completed" => {
            vec![completed(&frames, payload), frames.frame("stream_end", json!({"status": payload["status"]}))]
        }
        "agent_error" => {
            let fields = json!({"error_code": payload["error_code"], "message": payload["error_message"]});
            vec![frames.frame("error", fields), frames.frame("stream_end", json!({"status": "error"}))]
        }
        kind => vec![frames.frame(kind, payload.clone())],
    }
}

fn completed(frames: &Frames<'_>, payload: &Value) -> Value {
    let fields = json!({"result": payload["result"], "status": payload["status"], "duration_ms": payload["execution_time_ms"]});
    frames.frame("agent_completed", fields)
}

/// What ends the body; no frame is null.
const END: Value = Value::Null;

/// The body: each frame as soon as it is there. A client that leaves cancels the run.
struct Stream {
    queue: UnboundedReceiver<Value>,
    run: Arc<Run>,
}

impl futures_util::Stream for Stream {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = self.queue.poll_recv(context).map(|frame| frame.filter(|frame| *frame != END));
        frame.map(|frame| frame.map(|frame| Ok(Bytes::from(format!("data: {frame}\n\n")))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.run.halt_now(Status::Cancelled);
    }
}
