//! What is one user's is nobody else's.

use netra_stand_in::Options;
use serde_json::{Value, json};

use crate::support::{Socket, World, bearer};

async fn thread_of(world: &World, user: &str) -> String {
    let reply = world.send("POST", "/api/threads", &[bearer(&world.token(user))], Some(&json!({"title": "mine"}))).await;
    reply.json()["id"].as_str().expect("an id").to_owned()
}

async fn connected(world: &World, user: &str) -> Socket {
    let mut socket = world.connect(&[bearer(&world.token(user))]).await;
    assert_eq!(socket.receive().await.frame()["data"]["user_id"], user);
    socket
}

/// All frames up to the pong that answers a ping sent now.
async fn drained(socket: &mut Socket) -> Vec<Value> {
    socket.send(r#"{"type":"ping"}"#).await;
    let mut frames = Vec::new();
    loop {
        let frame = socket.receive().await.frame();
        if frame["type"] == "pong" {
            return frames;
        }
        frames.push(frame);
    }
}

#[tokio::test]
async fn a_foreign_thread_is_403_for_every_verb_and_unchanged_after() {
    let world = World::start(Options::default());
    let id = thread_of(&world, "a").await;
    let (a, b) = ([bearer(&world.token("a"))], [bearer(&world.token("b"))]);
    let path = format!("/api/threads/{id}");
    let before = world.send("GET", &path, &a, None).await.json();
    let post = json!({"content": "hi", "thread_id": id, "user_id": "a"});
    let attempts = [
        ("GET", path.clone(), None),
        ("GET", format!("{path}?user_id=a"), None),
        ("GET", format!("{path}/messages"), None),
        ("PUT", path.clone(), Some(json!({"title": "stolen", "metadata": {"user_id": "b"}}))),
        ("POST", format!("{path}/auto-rename"), None),
        ("DELETE", path.clone(), None),
        ("POST", "/api/chat/messages".into(), Some(post.clone())),
        ("POST", "/api/chat/stream".into(), Some(post)),
    ];
    for (method, path, body) in &attempts {
        let headers = [b[0].clone(), ("x-user-id", "a".to_owned())];
        let reply = world.send(method, path, &headers, body.as_ref()).await;
        assert_eq!(reply.status, 403, "{method} {path}: {reply:?}");
        assert_eq!(reply.json()["message"], "Access denied", "{method} {path}");
    }
    assert_eq!(world.send("GET", "/api/threads?user_id=a", &b, None).await.json(), json!([]));
    assert_eq!(world.send("GET", &path, &a, None).await.json(), before);
    let unknown = world.send("GET", "/api/threads/thread_none", &a, None).await;
    assert_eq!((unknown.status, &unknown.json()["error_code"]), (404, &json!("DB_RECORD_NOT_FOUND")));
}

#[tokio::test]
async fn foreign_messages_are_neither_listed_nor_read_nor_deleted() {
    let world = World::start(Options::default());
    let id = thread_of(&world, "a").await;
    let (a, b) = ([bearer(&world.token("a"))], [bearer(&world.token("b"))]);
    let body = json!({"content": "secret", "thread_id": id, "metadata": {"k": 1}});
    let posted = world.send("POST", "/api/chat/messages", &a, Some(&body)).await.json();
    let path = format!("/api/chat/messages/{}", posted["message"]["id"].as_str().expect("an id"));
    assert_eq!(world.send("GET", &path, &b, None).await.status, 403);
    assert_eq!(world.send("DELETE", &path, &b, None).await.status, 403);
    let listed = world.send("GET", &format!("/api/chat/messages?thread_id={id}"), &b, None).await.json();
    assert_eq!((&listed["messages"], &listed["total_count"]), (&json!([]), &json!(0)));
    assert_eq!(world.send("GET", &path, &a, None).await.json(), posted["message"]);
    assert_eq!(world.send("DELETE", &path, &a, None).await.json()["status"], "deleted");
    assert_eq!(world.send("GET", &path, &a, None).await.status, 404);
}

#[tokio::test]
async fn events_reach_every_socket_of_the_user_and_no_other_users() {
    let world = World::start(Options::default());
    let (mut one, mut two, mut other) = (connected(&world, "a").await, connected(&world, "a").await, connected(&world, "b").await);
    one.send(json!({"type": "user_message", "payload": {"content": "the word is kiwi-42"}}).to_string()).await;
    assert_eq!(one.receive().await.frame()["data"]["status"], "acknowledged");
    let mut seen = [Vec::new(), Vec::new()];
    for (socket, seen) in [&mut one, &mut two].into_iter().zip(&mut seen) {
        while seen.last().is_none_or(|event: &Value| event["type"] != "agent_completed") {
            seen.push(socket.receive().await.frame());
        }
    }
    assert_eq!(seen[0], seen[1], "both sockets get the same events");
    assert!(seen[0].last().expect("events")["payload"]["result"].as_str().expect("text").contains("kiwi-42"));
    assert_eq!(drained(&mut other).await, Vec::<Value>::new(), "events of another user");

    drop(one);
    two.send(r#"{"type":"ping"}"#).await;
    assert_eq!(two.receive().await.frame()["type"], "pong", "closing one socket left the other");
}

#[tokio::test]
async fn messages_to_foreign_archived_and_unknown_threads_are_refused_on_the_socket() {
    let world = World::start(Options::default());
    let (foreign, archived) = (thread_of(&world, "a").await, thread_of(&world, "b").await);
    let gone = world.send("DELETE", &format!("/api/threads/{archived}"), &[bearer(&world.token("b"))], None).await;
    assert_eq!(gone.status, 200);
    let mut socket = connected(&world, "b").await;
    for (thread, code) in
        [(foreign.as_str(), "THREAD_ACCESS_DENIED"), (&archived, "THREAD_ARCHIVED"), ("thread_none", "THREAD_NOT_FOUND")]
    {
        for kind in ["user_message", "start_agent"] {
            let payload = json!({"content": "hi", "user_request": "hi", "thread_id": thread});
            socket.send(json!({"type": kind, "payload": payload}).to_string()).await;
            assert_eq!(socket.receive().await.frame()["error_code"], code, "{kind}");
        }
    }
    assert_eq!(world.stand_in.runs_started(), 0);
    let post = json!({"content": "hi", "thread_id": archived});
    assert_eq!(world.send("POST", "/api/chat/messages", &[bearer(&world.token("b"))], Some(&post)).await.status, 409);
}
