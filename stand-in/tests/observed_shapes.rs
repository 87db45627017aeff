//! The stand-in answers in the shapes that were observed on the real services, wherever those keep the contract.

mod support;

use std::collections::HashMap;

use netra_stand_in::Options;
use serde_json::{Value, json};
use support::{Received, World, bearer, token};

const FIXTURE: &str = include_str!("fixtures/observed.json");

#[tokio::test]
async fn http_answers_have_the_observed_shapes() {
    let world = World::start(Options::default());
    let mut kept = HashMap::new();
    let mut differences = Vec::new();
    let cases = cases("http");
    for case in &cases {
        let name = text(case, "case");
        let headers = credential(&world, text(case, "credential"), &kept);
        let path = filled(text(case, "path"), &kept);
        let body = case.get("body").filter(|body| !body.is_null());
        let body = body.map(|body| serde_json::from_str(&filled(&body.to_string(), &kept)).expect("still JSON"));
        let reply = world.send(text(case, "method"), &path, &headers, body.as_ref()).await;
        let mut found = Vec::new();
        if case["status"] != reply.status {
            found.push(format!("status: want {}, got {} with {}", case["status"], reply.status, reply.text));
        }
        for header in case["headers"].as_array().expect("headers").iter().filter_map(Value::as_str) {
            if !reply.headers.contains_key(header) {
                found.push(format!("header {header}: want it, got none"));
            }
        }
        compare("", &case["shape"], &reply.json(), &extra(case), &mut found);
        differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
        for (key, pointer) in case.get("keep").and_then(Value::as_object).into_iter().flatten() {
            let value = reply.json().pointer(pointer.as_str().expect("a pointer")).and_then(Value::as_str).map(str::to_owned);
            kept.insert(key.clone(), value.unwrap_or_else(|| panic!("{name}: nothing at {pointer} in {reply:?}")));
        }
    }
    assert!(cases.len() > 60, "only {} cases", cases.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn socket_frames_have_the_observed_shapes() {
    let world = World::start(Options::default());
    let mut differences = Vec::new();
    let cases = cases("websocket");
    for case in &cases {
        let name = text(case, "case");
        let mut headers = credential(&world, text(case, "credential"), &HashMap::new());
        for (header, value) in case["headers"].as_object().expect("headers") {
            headers.push((header, value.as_str().expect("a value").to_owned()));
        }
        let mut socket = world.connect(&headers).await;
        let mut frame = socket.receive().await.frame();
        if let Some(send) = case["send"].as_str() {
            socket.send(send).await;
            frame = socket.receive().await.frame();
        }
        let mut found = Vec::new();
        // As observed: where no subprotocol is offered, none is selected.
        if let Some(protocol) = &socket.protocol {
            found.push(format!("subprotocol: want none, got {protocol}"));
        }
        compare("", &case["shape"], &frame, &extra(case), &mut found);
        for (pointer, want) in case["values"].as_object().expect("values") {
            let got = frame.pointer(pointer).unwrap_or(&Value::Null);
            if got != want {
                found.push(format!("{pointer}: want {want}, got {got}"));
            }
        }
        if let Some(code) = case.get("close").and_then(Value::as_u64) {
            let got = socket.receive().await;
            if got != Received::Closed(u16::try_from(code).expect("a code")) {
                found.push(format!("close: want {code}, got {got:?}"));
            }
        }
        differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(cases.len() >= 13, "only {} cases", cases.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn cases(kind: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(FIXTURE).expect("the fixture is JSON");
    fixture[kind].as_array().expect("a list of cases").clone()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no {key} in {case}"))
}

/// Where more keys are allowed than are named.
fn extra(case: &Value) -> Vec<String> {
    let list = case.get("extra").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn filled(template: &str, kept: &HashMap<String, String>) -> String {
    kept.iter().fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}

fn credential(world: &World, kind: &str, kept: &HashMap<String, String>) -> Vec<(&'static str, String)> {
    let secret = world.stand_in.jwt_secret();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut claims = token::claims("observed-a");
        change(&mut claims);
        vec![bearer(&token::sign(&claims, secret))]
    };
    let without = |name: &str| changed(&|claims| drop(claims.as_object_mut().expect("claims").remove(name)));
    let with = |name: &str, value: Value| changed(&|claims| claims[name] = value.clone());
    match kind {
        "none" => Vec::new(),
        "user" => vec![bearer(&world.token("observed-a"))],
        "foreign" => vec![bearer(&world.token("observed-b"))],
        "newcomer" => vec![bearer(&world.token("observed-c"))],
        "kept" => vec![bearer(&kept["access_token"])],
        "basic" => vec![("authorization", "Basic dXNlcjpwYXNz".to_owned())],
        "lower case" => vec![("authorization", format!("bearer {}", world.token("observed-a")))],
        "key: right" => vec![("x-e2e-bypass-key", world.stand_in.e2e_key().to_owned())],
        "key: wrong" => vec![("x-e2e-bypass-key", "wrong".to_owned())],
        "token: malformed" => vec![bearer("abc")],
        "token: not a jwt" => vec![bearer("not-a-jwt")],
        "token: mock_token" => vec![bearer("mock_token")],
        "token: wrong secret" => vec![bearer(&token::sign(&token::claims("observed-a"), "another secret"))],
        "token: expired" => with("exp", json!(token::now() - 60)),
        "token: iat 25h ago" => with("iat", json!(token::now() - 25 * 3600)),
        "token: wrong iss" => with("iss", json!("someone-else")),
        "token: wrong aud" => with("aud", json!("elsewhere")),
        "token: env=production" => with("env", json!("production")),
        "token: refresh token" => with("token_type", json!("refresh")),
        "token: no token_type" => without("token_type"),
        "token: no jti" => without("jti"),
        "token: no aud" => without("aud"),
        "token: HS512" => {
            let header = json!({"alg": "HS512", "typ": "JWT"});
            vec![bearer(&token::sign_with_header(&header, &token::claims("observed-a"), secret))]
        }
        other => panic!("the fixture wants a credential nobody knows: {other}"),
    }
}

/// Compares key by key and type by type.
fn compare(at: &str, want: &Value, got: &Value, extra: &[String], found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, want) in want {
                match got.get(key) {
                    Some(got) => compare(&format!("{at}/{key}"), want, got, extra, found),
                    None => found.push(format!("{at}/{key}: want {want}, got nothing")),
                }
            }
            if !extra.iter().any(|pointer| pointer == at) {
                let more = got.keys().filter(|key| !want.contains_key(*key));
                found.extend(more.map(|key| format!("{at}/{key}: want nothing, got {}", got[key])));
            }
        }
        (Value::Array(want), Value::Array(got)) => match (want.first(), got.first()) {
            (None, None) => {}
            (Some(want), Some(got)) => compare(&format!("{at}/0"), want, got, extra, found),
            (want, got) => found.push(format!("{at}: want {want:?} in the list, got {got:?}")),
        },
        (Value::String(kinds), got) if kinds.split(" or ").any(|kind| is(got, kind)) => {}
        (want, got) => found.push(format!("{at}: want {want}, got {got}")),
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        _ => panic!("the fixture names a type nobody knows: {kind}"),
    }
}
