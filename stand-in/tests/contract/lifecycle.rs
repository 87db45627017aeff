//! Starting and stopping: restarts, two at once, latency.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use netra_stand_in::{Options, StandIn};
use serde_json::json;

use crate::support::{Received, World, bearer};

#[tokio::test]
async fn everything_that_was_answered_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        db: Some(folder.path().join("stand-in.sqlite")),
        jwt_secret: Some("the same secret".into()),
        ..Options::default()
    };
    let world = World::start(options.clone());
    let me = [bearer(&world.token("u"))];
    let thread = world.send("POST", "/api/threads", &me, Some(&json!({"title": "kept"}))).await.json();
    let id = thread["id"].as_str().expect("an id").to_owned();
    let gone = world.send("POST", "/api/threads", &me, Some(&json!({}))).await.json();
    let gone = format!("/api/threads/{}", gone["id"].as_str().expect("an id"));
    assert_eq!(world.send("DELETE", &gone, &me, None).await.status, 200);
    let message = json!({"content": "grüße 🌍 \u{200f}שלום", "thread_id": id});
    let posted = world.send("POST", "/api/chat/messages", &me, Some(&message)).await.json();
    let account = json!({"email": "ann@example.test", "password": "correct horse"});
    let registered = world.send("POST", "auth:/auth/register", &[], Some(&account)).await.json();
    let logged_out = registered["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(world.send("POST", "auth:/auth/logout", &[bearer(&logged_out)], None).await.status, 200);
    let refresh = json!({"refresh_token": registered["refresh_token"]});
    assert_eq!(world.send("POST", "auth:/auth/refresh", &[], Some(&refresh)).await.status, 200);
    world.stand_in.stop();

    let world = World::start(options);
    assert_eq!(world.send("GET", &format!("/api/threads/{id}"), &me, None).await.json(), thread);
    assert_eq!(world.send("GET", "/api/threads", &me, None).await.json(), json!([thread]));
    assert_eq!(world.send("GET", &gone, &me, None).await.json()["metadata"]["status"], "archived");
    let list = world.send("GET", &format!("/api/chat/messages?thread_id={id}"), &me, None).await.json();
    assert_eq!(list["messages"], json!([posted["message"]]));
    assert_eq!(world.send("POST", "auth:/auth/login", &[], Some(&account)).await.status, 200);
    assert_eq!(world.send("GET", "/api/threads", &[bearer(&logged_out)], None).await.status, 401);
    assert_eq!(world.send("POST", "auth:/auth/refresh", &[], Some(&refresh)).await.status, 401);
}

#[tokio::test]
async fn two_stand_ins_in_one_process_have_nothing_in_common() {
    let one = World::start(Options::default());
    let two = World::start(Options { plain: true, environment: "elsewhere".into(), ..Options::default() });
    assert!(one.stand_in.ca_pem().is_some() && two.stand_in.ca_pem().is_none());
    assert!(two.stand_in.api_url().starts_with("http://") && two.stand_in.ws_url().starts_with("ws://"));
    let token = one.token("u");
    assert_eq!(one.send("GET", "/api/threads", &[bearer(&token)], None).await.status, 200);
    assert_eq!(two.send("GET", "/api/threads", &[bearer(&token)], None).await.status, 401);
    assert_eq!(one.send("GET", "/", &[], None).await.headers["x-environment"], "staging");
    assert_eq!(two.send("GET", "/", &[], None).await.headers["x-environment"], "elsewhere");
    assert_eq!(two.send("POST", "/api/agents/data", &[bearer(&two.token("u"))], Some(&json!({"message": "hi"}))).await.status, 200);
    assert_eq!((one.stand_in.runs_started(), two.stand_in.runs_started()), (0, 1));
    let mut socket = two.connect(&[bearer(&two.token("u"))]).await;
    assert_eq!(socket.receive().await.frame()["data"]["environment"], "elsewhere");
}

#[tokio::test]
async fn stopping_closes_sockets_with_1001_within_a_second() {
    let world = World::start(Options::default());
    let mut socket = world.connect(&[bearer(&world.token("u"))]).await;
    socket.receive().await.frame();
    let started = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || world.stand_in.stop());
    assert_eq!(socket.receive().await, Received::Closed(1001));
    stopped.await.expect("no panic");
    assert!(started.elapsed() < Duration::from_millis(1500), "took {:?}", started.elapsed());
}

#[tokio::test]
async fn latency_delays_each_way_and_does_not_throttle() {
    const LATENCY: Duration = Duration::from_millis(60);
    let world = World::start(Options { latency: LATENCY, ..Options::default() });
    world.send("GET", "/health", &[], None).await;
    let started = Instant::now();
    world.send("GET", "/health", &[], None).await;
    let took = started.elapsed();
    assert!(took >= 2 * LATENCY, "a round trip took {took:?}");

    let mut socket = world.connect(&[bearer(&world.token("u"))]).await;
    socket.receive().await.frame();
    let started = Instant::now();
    for _ in 0..50 {
        socket.send(r#"{"type":"ping"}"#).await;
    }
    for _ in 0..50 {
        assert_eq!(socket.receive().await.frame()["type"], "pong");
    }
    let took = started.elapsed();
    assert!(took >= 2 * LATENCY && took < 20 * LATENCY, "50 pings at once took {took:?}");
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_says_when_a_port_is_taken() {
    let refused = StandIn::start(Options { listen: "0.0.0.0:0".parse().expect("an address"), ..Options::default() });
    let text = refused.expect_err("not loopback").to_string();
    assert!(text.contains("0.0.0.0:0") && text.contains("127.0.0.1"), "{text}");
    let taken = World::start(Options::default());
    let address = taken.stand_in.api_url().trim_start_matches("https://").to_owned();
    let refused = StandIn::start(Options { listen: address.parse().expect("an address"), ..Options::default() });
    let text = refused.expect_err("taken").to_string();
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
    let nowhere = Options { db: Some("/no/such/folder/file".into()), ..Options::default() };
    let text = StandIn::start(nowhere).expect_err("no such folder").to_string();
    assert!(text.contains("/no/such/folder/file"), "{text}");
}

#[tokio::test]
async fn when_the_store_fails_readiness_says_what_business_calls_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("stand-in.sqlite");
    let world = World::start(Options { db: Some(file.clone()), ..Options::default() });
    let me = [bearer(&world.token("u"))];
    assert_eq!(world.send("GET", "/health/ready", &[], None).await.status, 200);
    let saboteur = rusqlite::Connection::open(file).expect("the file");
    saboteur.execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE threads").expect("done");
    let ready = world.send("GET", "/health/ready", &[], None).await;
    assert_eq!((ready.status, &ready.json()["core_db"]), (503, &json!("disconnected")));
    let refused = world.send("GET", "/api/threads", &me, None).await;
    assert_eq!((refused.status, &refused.json()["error_code"]), (503, &json!("SERVICE_UNAVAILABLE")));
    assert!(!refused.text.contains("table") && !refused.text.contains("sqlite"), "{refused:?}");
    assert_eq!(world.send("GET", "auth:/health", &[], None).await.status, 503);
}

#[tokio::test]
async fn twenty_five_users_at_once_lose_nothing() {
    const USERS: usize = 25;
    const MESSAGES: usize = 20;
    let world = World::start(Options::default());
    let one_user = async |user: usize| {
        let me = [bearer(&world.token(&format!("u{user}")))];
        let thread = world.send("POST", "/api/threads", &me, Some(&json!({}))).await.json()["id"].clone();
        for n in 0..MESSAGES {
            let body = json!({"content": format!("{user}-{n}"), "thread_id": thread});
            assert_eq!(world.send("POST", "/api/chat/messages", &me, Some(&body)).await.status, 200);
        }
        let list = world.send("GET", "/api/chat/messages?limit=100", &me, None).await.json();
        let contents = list["messages"].as_array().expect("messages").iter().map(|message| message["content"].clone());
        assert!(contents.eq((0..MESSAGES).map(|n| json!(format!("{user}-{n}")))), "{list}");
    };
    join_all((0..USERS).map(one_user)).await;
}

#[test]
fn it_starts_and_stops_in_no_time_also_inside_another_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let started = Instant::now();
        drop(StandIn::start(Options::default()).expect("a start"));
        assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
    });
}
