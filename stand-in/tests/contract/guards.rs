//! What every request passes: marks, path guard, limits, methods, sizes, validation.

use std::collections::HashSet;

use netra_stand_in::Options;
use serde_json::{Value, json};

use crate::support::{World, bearer};

#[tokio::test]
async fn every_response_is_marked_and_an_error_names_its_ids() {
    let world = World::start(Options::default());
    let mut traces = HashSet::new();
    for (method, path) in [("GET", "/health"), ("GET", "/nope"), ("PUT", "/health"), ("GET", "/api/threads"), ("GET", "/api/x?../")]
    {
        let reply = world.send(method, path, &[("x-request-id", "mine-1".into())], None).await;
        let trace = reply.headers["x-trace-id"].to_str().expect("text").to_owned();
        assert_eq!(reply.headers["x-environment"], "staging", "{path}");
        assert_eq!(reply.headers["x-request-id"], "mine-1", "{path}");
        assert!(reply.headers.contains_key("date"), "{path}");
        if reply.json()["error"] == true {
            assert_eq!(reply.json()["trace_id"], trace.as_str(), "{path}");
            assert_eq!(reply.json()["request_id"], "mine-1", "{path}");
        }
        assert!(traces.insert(trace), "{path}: a trace id twice");
    }
    assert!(!world.send("GET", "/health", &[], None).await.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn traversal_is_refused_with_403() {
    let world = World::start(Options::default());
    for path in
        ["/api/x%2e%2e/threads", "/api/threads/.env", "/api/threads?x=..", "/x%2fetc%2fpasswd", "/api/x?f=%252e%252e", "/a?b=./c"]
    {
        let reply = world.send("GET", path, &[], None).await;
        assert_eq!(reply.status, 403, "{path}: {reply:?}");
        assert_eq!(reply.json()["details"]["status_code"], 403, "{path}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_say_so() {
    let world = World::start(Options::default());
    let reply = world.send("GET", "/api/nope", &[], None).await;
    assert_eq!((reply.status, reply.json()), (404, json!({"detail": "Not Found"})));
    let reply = world.send("PATCH", "/api/threads", &[bearer(&world.token("u"))], None).await;
    assert_eq!((reply.status, reply.json()), (405, json!({"detail": "Method Not Allowed"})));
    let allowed = reply.headers["allow"].to_str().expect("text");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn over_the_rate_limit_there_is_429_with_retry_after() {
    let world = World::start(Options { rate_limit_per_minute: 3, ..Options::default() });
    let me = [bearer(&world.token("u"))];
    for _ in 0..3 {
        assert_eq!(world.send("GET", "/api/threads", &me, None).await.status, 200);
    }
    let reply = world.send("GET", "/api/threads", &me, None).await;
    assert_eq!(reply.status, 429, "{reply:?}");
    let wait: u64 = reply.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(reply.json()["error_code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(world.send("GET", "/api/threads", &[bearer(&world.token("other"))], None).await.status, 200);
    assert_eq!(world.send("GET", "/health", &[], None).await.status, 200, "a peer has a limit of its own");
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_refused_with_413() {
    let world = World::start(Options::default());
    let me = [bearer(&world.token("u"))];
    let body = json!({"title": "x".repeat(1024 * 1024)});
    let reply = world.send("POST", "/api/threads", &me, Some(&body)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(reply.json()["details"]["status_code"], 413);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_listed() {
    let world = World::start(Options::default());
    let me = [bearer(&world.token("u"))];
    let problems = async |method: &str, path: &str, body: Option<Value>| {
        let reply = world.send(method, path, &me, body.as_ref()).await;
        assert_eq!(reply.status, 422, "{method} {path}: {reply:?}");
        reply.json()["detail"].clone()
    };
    let missing = problems("POST", "/api/agents/execute", Some(json!({}))).await;
    assert_eq!(missing[0]["loc"], json!(["body", "type"]));
    assert_eq!(missing[1]["loc"], json!(["body", "message"]));
    assert_eq!(problems("POST", "/api/agents/data", Some(json!({"message": 1}))).await[0]["type"], "string_type");
    assert_eq!(problems("POST", "/api/agents/execute", Some(json!({"type": "no", "message": "x"}))).await[0]["type"], "enum");
    assert_eq!(problems("POST", "/api/threads", Some(json!([1]))).await[0]["loc"], json!(["body"]));
    assert_eq!(problems("POST", "/api/threads", None).await[0]["type"], "missing");
    for list in ["/api/threads", "/api/chat/messages"] {
        for (query, kind) in [
            ("limit=0", "greater_than_equal"),
            ("limit=101", "less_than_equal"),
            ("limit=x", "int_parsing"),
            ("offset=-1", "greater_than_equal"),
        ] {
            assert_eq!(problems("GET", &format!("{list}?{query}"), None).await[0]["type"], kind, "{list}?{query}");
        }
    }
    let thread = world.send("POST", "/api/threads", &me, Some(&json!({}))).await.json()["id"].clone();
    let message = |length: usize| json!({"content": "é".repeat(length), "thread_id": thread});
    assert_eq!(problems("POST", "/api/chat/messages", Some(message(0))).await[0]["type"], "string_too_short");
    assert_eq!(problems("POST", "/api/chat/messages", Some(message(8001))).await[0]["type"], "string_too_long");
    assert_eq!(world.send("POST", "/api/chat/messages", &me, Some(&message(8000))).await.status, 200);
    assert_eq!(problems("POST", "/api/chat/stream", Some(json!({"content": ""}))).await[1]["loc"], json!(["body", "thread_id"]));
}

#[tokio::test]
async fn tools_answer_by_their_arguments_and_never_succeed_by_accident() {
    let world = World::start(Options::default());
    let me = [bearer(&world.token("u"))];
    let list = world.send("GET", "/api/tools", &me, None).await.json();
    assert_eq!(list["total_tools"], list["tools"].as_array().expect("tools").len());
    let run = async |name: &str, arguments: Value| {
        let body = json!({"tool_name": name, "arguments": arguments});
        let reply = world.send("POST", "/api/tools/execute", &me, Some(&body)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    assert_eq!(run("calculator", json!({"a": 6, "b": 7, "operation": "multiply"})).await["result"], 42);
    assert_eq!(run("calculator", json!({"a": 6, "b": 7, "operation": "subtract"})).await["result"], -1);
    for (name, arguments, named) in [("calculator", json!({"a": 1}), "b"), ("no_such_tool", json!({}), "no_such_tool")] {
        let answer = run(name, arguments).await;
        assert_eq!(answer["status"], "error", "{answer}");
        assert!(answer["error"].as_str().expect("text").contains(named), "{answer}");
    }
    let anonymous = world.send("POST", "/api/tools/execute", &[], Some(&json!({"tool_name": "calculator", "arguments": {}}))).await;
    assert_eq!(anonymous.status, 403);
}
