//! Runs: they are watched, stopped, and always end.

use std::time::{Duration, Instant};

use netra_stand_in::Options;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Socket, World, bearer};

async fn asked(world: &World, user: &str, content: &str) -> Socket {
    let mut socket = world.connect(&[bearer(&world.token(user))]).await;
    socket.receive().await.frame();
    socket.send(json!({"type": "user_message", "payload": {"content": content}}).to_string()).await;
    assert_eq!(socket.receive().await.frame()["data"]["status"], "acknowledged");
    socket
}

/// All events up to the terminal one.
async fn events(socket: &mut Socket) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        events.push(socket.receive().await.frame());
        if ["agent_completed", "agent_error"].contains(&events.last().expect("one")["type"].as_str().expect("a type")) {
            return events;
        }
    }
}

async fn status(world: &World, user: &str, run: &str) -> Value {
    let reply = world.send("GET", &format!("/api/chat/agents/{run}/status"), &[bearer(&world.token(user))], None).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test]
async fn a_stopped_run_sends_its_terminal_event_and_nothing_after() {
    for (verb, wanted) in [("stop", "stopped"), ("cancel", "cancelled")] {
        let world = World::start(Options::default());
        let (a, b) = ([bearer(&world.token("a"))], [bearer(&world.token("b"))]);
        let mut socket = asked(&world, "a", "Explain this in depth").await;
        let started = socket.receive().await.frame();
        let run = started["run_id"].as_str().expect("a run").to_owned();
        let path = format!("/api/chat/agents/{run}/{verb}");
        assert_eq!(world.send("POST", &path, &b, None).await.status, 403, "foreign");
        assert_eq!(world.send("POST", &format!("/api/chat/agents/run_none/{verb}"), &a, None).await.status, 404);
        let running = status(&world, "a", &run).await;
        assert_eq!((&running["status"], &running["user_id"]), (&json!("running"), &json!("a")), "a foreign stop does nothing");

        let stopped = world.send("POST", &path, &a, None).await;
        assert_eq!((stopped.status, &stopped.json()["status"]), (200, &json!(wanted)));
        let seen = events(&mut socket).await;
        assert_eq!(seen.last().expect("events")["payload"]["status"], wanted);
        assert_eq!(status(&world, "a", &run).await["status"], wanted);
        let again = world.send("POST", &format!("/api/chat/agents/{run}/stop"), &a, None).await;
        assert_eq!((again.status, &again.json()["status"]), (200, &json!(wanted)), "an ended run stays as it ended");
        // Whatever the run still had to say would come before the answer to this.
        let next = "Another question of 7 words, quite short";
        socket.send(json!({"type": "user_message", "payload": {"content": next}}).to_string()).await;
        let acknowledged = socket.receive().await.frame();
        assert_eq!(acknowledged["data"]["status"], "acknowledged", "{acknowledged}");
        assert!(events(&mut socket).await.iter().all(|event| event["run_id"] != run.as_str()));
        let thread = started["thread_id"].as_str().expect("a thread");
        let history = world.send("GET", &format!("/api/threads/{thread}/messages"), &a, None).await.json();
        assert_eq!(history["total"], 1, "a stopped run answers nothing: {history}");
    }
}

#[tokio::test]
async fn progress_never_falls_and_ends_at_100() {
    let world = World::start(Options::default());
    let mut socket = asked(&world, "a", "Look into costs in depth").await;
    let run = socket.receive().await.frame()["run_id"].as_str().expect("a run").to_owned();
    let mut last = 0;
    loop {
        let seen = status(&world, "a", &run).await;
        let progress = seen["progress"].as_i64().expect("a number");
        assert!((last..=100).contains(&progress), "{last} then {progress}");
        last = progress;
        if seen["status"] == "completed" {
            break;
        }
        socket.receive().await.frame();
    }
    assert_eq!(last, 100);
    let other = world.send("GET", &format!("/api/agent/{run}/status?user_id=a"), &[bearer(&world.token("b"))], None).await;
    assert_eq!(other.status, 403);
}

#[tokio::test]
async fn failing_runs_end_in_agent_error() {
    let world = World::start(Options::default());
    let mut socket = asked(&world, "a", "Please FAIL on purpose now").await;
    let seen = events(&mut socket).await;
    let last = seen.last().expect("events");
    assert_eq!((&last["type"], &last["payload"]["status"]), (&json!("agent_error"), &json!("failed")));
    assert_eq!(last["payload"]["error_code"], "AGENT_ERROR");
    socket.send(json!({"type": "start_agent", "payload": {"user_request": "x", "agent": "ghost"}}).to_string()).await;
    assert_eq!(events(&mut socket).await.last().expect("events")["type"], "agent_error");
    let body = json!({"message": "fail on purpose"});
    let failed = world.send("POST", "/api/agents/data", &[bearer(&world.token("a"))], Some(&body)).await.json();
    assert_eq!(failed["status"], "error", "{failed}");
}

#[tokio::test]
async fn every_agent_gives_an_answer_of_its_own_and_measures_its_time() {
    let world = World::start(Options::default());
    let mut answers = std::collections::HashSet::new();
    for agent in ["triage", "data", "optimization"] {
        for prompt in ["Compare zone-7 with zone-8", "Compare zone-7 with zone-9"] {
            let started = std::time::Instant::now();
            let body = json!({"type": agent, "message": prompt, "context": {}});
            let reply = world.send("POST", "/api/agents/execute", &[bearer(&world.token("a"))], Some(&body)).await.json();
            let (wall, reported) = (started.elapsed().as_secs_f64(), reply["execution_time"].as_f64().expect("seconds"));
            assert!(reported > 0.0 && reported <= wall, "{reported} of {wall}");
            assert_eq!((&reply["status"], &reply["agent"]), (&json!("success"), &json!(agent)));
            let answer = reply["response"].as_str().expect("text").to_owned();
            assert!(answer.contains("zone-7") && !answer.contains(prompt), "{answer}");
            assert!(answers.insert(answer), "the same answer twice");
        }
    }
    assert_eq!(world.stand_in.runs_started(), 6);
}

/// Reads until the text is there.
async fn read_until(connection: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut chunk = [0; 4096];
        let read = connection.read(&mut chunk).await.expect("bytes");
        assert!(read > 0, "ended before {wanted}: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
    text
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_cancelled() {
    let world = World::start(Options { plain: true, ..Options::default() });
    let me = [bearer(&world.token("a"))];
    let thread = world.send("POST", "/api/threads", &me, Some(&json!({}))).await.json()["id"].clone();
    let body = json!({"content": "Explain this in depth", "thread_id": thread}).to_string();
    let address = world.stand_in.api_url().trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "POST /api/chat/stream HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        me[0].1,
        body.len()
    );
    connection.write_all(request.as_bytes()).await.expect("a request");
    let text = read_until(&mut connection, "agent_thinking").await;
    let run = text.split("\"run_id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a run").to_owned();
    assert_eq!(status(&world, "a", &run).await["status"], "running");
    drop(connection);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let seen = status(&world, "a", &run).await;
        if seen["status"] != "running" {
            assert_eq!(seen["status"], "cancelled", "{seen}");
            break;
        }
        assert!(Instant::now() < deadline, "still {seen}");
    }
}
