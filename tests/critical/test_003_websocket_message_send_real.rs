//! 003: a message sent over the socket is acknowledged, stored and answered; a bad frame gets an answer and harms nothing.

use netra_critical::text::AWKWARD;
use netra_critical::{Area, Check, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::json;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 3,
    name: "test_003_websocket_message_send_real",
    title: "a message sent over the socket is acknowledged, stored and answered",
    area: Area::WebSocket,
    impact: "messages vanish",
    alone: false,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_003_websocket_message_send_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let thread = cx.thread(&alice, "message").await?;
            let socket = cx.socket(&alice).await?;

            // One message with every awkward text in it: a run costs money.
            let content = format!("{} {}", cx.settings().prompts.question, AWKWARD.join(" | "));
            let asked = cx.ask(&socket, Some(&thread), &content).await?;
            socket.must("the acknowledgement names the message's own thread").equal(asked.thread_id.as_str(), thread.as_str())?;
            socket.must("the run of a message starts").hold(asked.run.starts_once())?;
            let end = asked.run.terminal().map(|event| event.kind.clone()).unwrap_or_default();
            socket.must("the run of a message completes").equal(end.as_str(), "agent_completed")?;

            let history = cx.api(&alice).get(format!("/api/threads/{thread}/messages")).send().await?;
            let messages = history.must("the thread's history can be read").list_at("/messages")?;
            let mine = messages.into_iter().filter(|message| message["role"] == "user").collect();
            let mine = history.must("the message stands in the thread's history, once").one(mine, "message of the user")?;
            history.must("the message is stored unchanged").fields_of(&mine, &[("/content/0/text/value", Is::exactly(content))])?;

            socket.send_text("this is not JSON");
            socket
                .receive("a frame that is not JSON is answered with FORMAT_ERROR", cx.ack_deadline(), "FORMAT_ERROR", |frame| {
                    frame.is_error("FORMAT_ERROR")
                })
                .await?;
            socket.ping("the socket is usable after a frame that is not JSON").await?;

            let limit = socket.max_message_size();
            socket.send_text(padded_ping(limit));
            socket.receive("a frame at the limit is taken", cx.ack_deadline(), "a pong", |frame| frame.kind() == "pong").await?;
            socket.send_text(padded_ping(limit + 1));
            socket
                .receive(
                    "a frame over the limit is answered with MESSAGE_TOO_LARGE",
                    cx.ack_deadline(),
                    "MESSAGE_TOO_LARGE",
                    |frame| frame.is_error("MESSAGE_TOO_LARGE"),
                )
                .await?;
            socket.ping("the socket is usable after a frame over the limit").await?;

            socket.send(&json!({"type": "no_such_type", "payload": {}}));
            socket
                .receive(
                    "a frame of an unknown type gets an answer",
                    cx.ack_deadline(),
                    "an error_message, or an ack that names the type",
                    |frame| {
                        frame.kind() == "error_message" || (frame.kind() == "ack" && frame.data["received_type"] == "no_such_type")
                    },
                )
                .await?;

            socket.send(&json!({"type": "ping", "timestamp": "2026-01-01T00:00:00Z"}));
            let answer = socket
                .receive(
                    "a frame with an ISO timestamp is taken or answered with FORMAT_ERROR",
                    cx.ack_deadline(),
                    "a pong, or FORMAT_ERROR",
                    |frame| frame.kind() == "pong" || frame.is_error("FORMAT_ERROR"),
                )
                .await?;
            cx.note(format!("an ISO timestamp is answered with {}", answer.kind()));
            Ok(())
        })
        .await
}

/// A ping of exactly this many bytes.
fn padded_ping(bytes: usize) -> String {
    let frame = |padding: usize| json!({"type": "ping", "payload": {"x": "y".repeat(padding)}}).to_string();
    frame(bytes - frame(0).len())
}
