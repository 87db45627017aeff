//! The auth service: tokens are made, refreshed once, and taken back.

use netra_stand_in::Options;
use serde_json::{Value, json};

use crate::support::{Reply, World, bearer};

async fn sign_in(world: &World, email: &str) -> Value {
    let key = [("x-e2e-bypass-key", world.stand_in.e2e_key().to_owned())];
    let reply = world.send("POST", "auth:/auth/e2e/test-auth", &key, Some(&json!({"email": email}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn refresh(world: &World, token: &Value) -> Reply {
    world.send("POST", "auth:/auth/refresh", &[], Some(&json!({"refresh_token": token}))).await
}

fn token<'a>(pair: &'a Value, kind: &str) -> &'a str {
    pair[kind].as_str().expect("a token")
}

#[tokio::test]
async fn a_refresh_token_works_once_and_for_the_same_user() {
    let world = World::start(Options::default());
    let first = sign_in(&world, "ann@example.test").await;
    assert_eq!(first["user"]["id"], "e2e-ann");
    let second = refresh(&world, &first["refresh_token"]).await;
    assert_eq!(second.status, 200, "{second:?}");
    let second = second.json();
    let me = world.send("GET", "auth:/auth/me", &[bearer(token(&second, "access_token"))], None).await.json();
    assert_eq!((&me["user_id"], &me["email"]), (&json!("e2e-ann"), &json!("ann@example.test")));
    assert_eq!(refresh(&world, &first["refresh_token"]).await.status, 401, "used twice");
    assert_eq!(refresh(&world, &first["access_token"]).await.status, 401, "an access token is no refresh token");
    let other_name = json!({"refreshToken": second["refresh_token"]});
    assert_eq!(world.send("POST", "auth:/auth/refresh", &[], Some(&other_name)).await.status, 200);
    assert_eq!(world.send("POST", "auth:/auth/refresh", &[], Some(&json!({}))).await.status, 422);
}

#[tokio::test]
async fn after_logout_the_token_is_refused_everywhere() {
    let world = World::start(Options::default());
    let pair = sign_in(&world, "bob@example.test").await;
    let access = token(&pair, "access_token");
    assert_eq!(world.send("GET", "/api/threads", &[bearer(access)], None).await.status, 200);
    assert_eq!(world.send("POST", "auth:/auth/logout", &[bearer(access)], None).await.json()["status"], "success");
    assert_eq!(world.send("GET", "/api/threads", &[bearer(access)], None).await.status, 401);
    assert_eq!(world.send("GET", "auth:/auth/me", &[bearer(access)], None).await.status, 401);
    let verified = world.send("GET", "auth:/auth/verify", &[bearer(access)], None).await;
    assert_eq!((verified.status, &verified.json()["valid"]), (200, &json!(false)));
    let validated = world.send("POST", "auth:/auth/validate", &[], Some(&json!({"token": access}))).await;
    assert_eq!((validated.status, &validated.json()["valid"]), (200, &json!(false)));
    let mut socket = world.connect(&[bearer(access)]).await;
    assert_eq!(socket.receive().await.frame()["error_code"], "VALIDATION_FAILED");
}

#[tokio::test]
async fn accounts_are_registered_once_and_need_their_password() {
    let world = World::start(Options::default());
    let account = json!({"email": "cleo@example.test", "password": "correct horse", "name": "Cleo"});
    let send = async |path: &str, body: Value| world.send("POST", path, &[], Some(&body)).await;
    assert_eq!(send("auth:/auth/register", account.clone()).await.status, 200);
    let again = send("auth:/auth/register", account.clone()).await;
    assert_eq!(again.status, 409, "{again:?}");
    assert!(again.json()["detail"].is_string());
    let login = send("auth:/auth/login", account).await;
    assert_eq!(login.status, 200);
    assert_eq!(login.json()["user"]["name"], "Cleo");
    let wrong = json!({"email": "cleo@example.test", "password": "wrong horse"});
    assert_eq!(send("auth:/auth/login", wrong).await.status, 401);
    assert_eq!(send("auth:/auth/login", json!({"email": "no address", "password": "x"})).await.status, 422);
}

#[tokio::test]
async fn there_is_no_test_login_in_production_or_without_a_key() {
    let body = json!({"email": "eve@example.test"});
    let production = World::start(Options { environment: "production".into(), ..Options::default() });
    let key = [("x-e2e-bypass-key", production.stand_in.e2e_key().to_owned())];
    assert_eq!(production.send("POST", "auth:/auth/e2e/test-auth", &key, Some(&body)).await.status, 403);
    let unset = World::start(Options { e2e_key: Some(String::new()), ..Options::default() });
    let key = [("x-e2e-bypass-key", String::new())];
    assert_eq!(unset.send("POST", "auth:/auth/e2e/test-auth", &key, Some(&body)).await.status, 503);
}
