//! Frames on the socket: order, limits, and an answer to everything.

use std::collections::HashMap;

use netra_stand_in::Options;
use serde_json::{Value, json};

use crate::support::{Socket, World, bearer};

async fn connected(world: &World, user: &str) -> Socket {
    let mut socket = world.connect(&[bearer(&world.token(user))]).await;
    socket.receive().await.frame();
    socket
}

#[tokio::test]
async fn a_burst_is_acknowledged_and_stored_in_order_and_every_run_is_whole() {
    const BURST: usize = 20;
    let world = World::start(Options::default());
    let me = [bearer(&world.token("u"))];
    let thread = world.send("POST", "/api/threads", &me, Some(&json!({}))).await.json()["id"].clone();
    let mut socket = connected(&world, "u").await;
    for n in 0..BURST {
        let payload = json!({"content": format!("question number {n}"), "thread_id": thread, "message_id": format!("m-{n}")});
        socket.send(json!({"type": "user_message", "payload": payload}).to_string()).await;
    }
    let (mut acknowledged, mut runs, mut ended) = (Vec::new(), HashMap::<String, Vec<Value>>::new(), 0);
    while ended < BURST {
        let frame = socket.receive().await.frame();
        if frame["type"] == "system_message" {
            acknowledged.push(frame["data"]["original_message_id"].as_str().expect("an id").to_owned());
        } else {
            ended += usize::from(frame["type"] == "agent_completed");
            runs.entry(frame["run_id"].as_str().expect("a run").to_owned()).or_default().push(frame);
        }
    }
    let sent: Vec<String> = (0..BURST).map(|n| format!("m-{n}")).collect();
    assert_eq!(acknowledged, sent);
    let path = format!("/api/threads/{}/messages?limit=100", thread.as_str().expect("an id"));
    let history = world.send("GET", &path, &me, None).await.json();
    let messages = history["messages"].as_array().expect("messages");
    let questions: Vec<&str> = messages.iter().filter(|m| m["role"] == "user").map(|m| m["id"].as_str().expect("id")).collect();
    assert_eq!(questions, sent);
    assert_eq!(history["total"], 2 * BURST);
    for events in runs.values() {
        check_run(events);
        let answer = &events.last().expect("events")["payload"]["result"];
        assert!(messages.iter().any(|m| m["content"][0]["text"]["value"] == *answer), "not in the history: {answer}");
    }
}

/// The rules every completed run keeps.
fn check_run(events: &[Value]) {
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!((kinds[0], kinds[1]), ("agent_started", "agent_thinking"));
    let sequence: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().expect("a number")).collect();
    assert_eq!(sequence, (1..=events.len() as u64).collect::<Vec<_>>());
    let named = |kind: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["type"] == kind).map(|event| &event["payload"]["tool_name"]).collect()
    };
    assert!(!named("tool_executing").is_empty());
    assert_eq!(named("tool_executing"), named("tool_completed"));
    let pieces: Vec<&Value> = events.iter().filter(|e| e["type"] == "partial_result").map(|e| &e["payload"]).collect();
    let text: String = pieces.iter().map(|piece| piece["content"].as_str().expect("text")).collect();
    assert!(pieces.len() >= 4);
    assert_eq!(text, events.last().expect("events")["payload"]["result"]);
    assert!(pieces.iter().rev().skip(1).all(|piece| piece["is_final"] == false));
    assert_eq!(pieces.last().expect("pieces")["is_final"], true);
}

#[tokio::test]
async fn frames_that_cannot_be_handled_are_answered_and_the_socket_stays_open() {
    let world = World::start(Options::default());
    let mut socket = connected(&world, "u").await;
    let at = |timestamp: Value| json!({"type": "user_message", "payload": {"content": "x"}, "timestamp": timestamp}).to_string();
    for (frame, code) in [
        ("not json".to_owned(), "FORMAT_ERROR"),
        ("[1, 2]".to_owned(), "FORMAT_ERROR"),
        (r#"{"hello": "world"}"#.to_owned(), "FORMAT_ERROR"),
        (at(json!("yesterday")), "FORMAT_ERROR"),
        (at(json!({})), "FORMAT_ERROR"),
        (r#"{"type": "user_message"}"#.to_owned(), "VALIDATION_ERROR"),
        (r#"{"type": "chat", "payload": {"content": 5}}"#.to_owned(), "VALIDATION_ERROR"),
        (r#"{"type": "message", "payload": {"content": ""}}"#.to_owned(), "VALIDATION_ERROR"),
        (r#"{"type": "start_agent", "payload": {}}"#.to_owned(), "VALIDATION_ERROR"),
        ("x".repeat(8193), "MESSAGE_TOO_LARGE"),
    ] {
        socket.send(frame.clone()).await;
        let answer = socket.receive().await.frame();
        assert_eq!(answer["error_code"], code, "{frame:.60}");
        assert_eq!(answer["details"]["error_code"], code, "{frame:.60}");
    }
    socket.send(at(json!("2026-11-22T17:02:17+00:00"))).await;
    assert_eq!(socket.receive().await.frame()["data"]["status"], "acknowledged");
}

#[tokio::test]
async fn a_frame_at_the_limit_is_taken() {
    let world = World::start(Options::default());
    let mut socket = connected(&world, "u").await;
    let frame = |content: &str| json!({"type": "user_message", "payload": {"content": content}}).to_string();
    let room = 8192 - frame("").len();
    socket.send(frame(&"y".repeat(room))).await;
    assert_eq!(socket.receive().await.frame()["data"]["status"], "acknowledged");
}

#[tokio::test]
async fn the_agent_remembers_the_thread() {
    let world = World::start(Options::default());
    let mut socket = connected(&world, "u").await;
    let mut thread = Value::Null;
    let mut answers = Vec::new();
    for content in ["The project is called lima-77", "What should we do next?"] {
        socket.send(json!({"type": "user_message", "payload": {"content": content, "thread_id": thread}}).to_string()).await;
        loop {
            let frame = socket.receive().await.frame();
            if frame["type"] == "agent_completed" {
                answers.push(frame["payload"]["result"].as_str().expect("text").to_owned());
                break;
            }
            thread = frame.get("thread_id").unwrap_or(&thread).clone();
        }
    }
    assert!(answers[1].contains("lima-77"), "{answers:?}");
}

#[tokio::test]
async fn eight_connections_one_after_the_other_and_together() {
    let world = World::start(Options::default());
    let mut ids = std::collections::HashSet::new();
    for _ in 0..8 {
        let mut socket = world.connect(&[bearer(&world.token("u"))]).await;
        assert!(ids.insert(socket.receive().await.frame()["data"]["connection_id"].to_string()));
    }
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(connected(&world, "u").await);
    }
    for socket in &mut open {
        socket.send(r#"{"type":"ping"}"#).await;
        assert_eq!(socket.receive().await.frame()["data"]["user_id"], "u");
    }
}
