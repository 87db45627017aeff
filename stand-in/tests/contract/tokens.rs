//! Every kind of bad token is refused, on HTTP and on the socket, and every good one is taken.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use netra_stand_in::Options;
use serde_json::{Value, json};

use crate::support::{
    Received, World, bearer,
    token::{claims, now, sign, sign_with_header},
};

/// Tokens that must be refused, with the code the socket gives.
fn bad_tokens(secret: &str) -> Vec<(&'static str, String, &'static str)> {
    let good = sign(&claims("u"), secret);
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let with = |name: &str, value: Value| {
        let mut claims = claims("u");
        claims[name] = value;
        sign(&claims, secret)
    };
    let without = |name: &str| {
        let mut claims = claims("u");
        claims.as_object_mut().expect("claims").remove(name);
        sign(&claims, secret)
    };
    let algorithm = |alg: Value| sign_with_header(&json!({"alg": alg, "typ": "JWT"}), &claims("u"), secret);
    let changed = BASE64.encode(claims("someone-else").to_string());
    let (failed, format) = ("VALIDATION_FAILED", "INVALID_FORMAT");
    vec![
        ("one part", "abc".into(), format),
        ("two parts", format!("{header}.{payload}"), format),
        ("four parts", format!("{good}.{signature}"), format),
        ("an empty part", format!("{header}..{signature}"), format),
        ("stripped signature", format!("{header}.{payload}."), format),
        ("JSON serialization", json!({"payload": payload, "signature": signature}).to_string(), format),
        ("not base64", "a b.c!d.e?f".into(), failed),
        ("header that is no JSON", format!("{}.{payload}.{signature}", BASE64.encode("nonsense")), failed),
        ("bad signature", sign(&claims("u"), "another secret"), failed),
        ("changed payload", format!("{header}.{changed}.{signature}"), failed),
        ("shortened signature", format!("{header}.{payload}.{}", &signature[..signature.len() - 4]), failed),
        ("padded", format!("{good}="), failed),
        ("expired", with("exp", json!(now() - 1)), failed),
        ("exp is now", with("exp", json!(now())), failed),
        ("exp as text", with("exp", json!((now() + 100).to_string())), failed),
        ("iat in the future", with("iat", json!(now() + 60)), failed),
        ("older than a day", with("iat", json!(now() - 24 * 3600 - 2)), failed),
        ("no exp", without("exp"), failed),
        ("no iat", without("iat"), failed),
        ("no sub", without("sub"), failed),
        ("empty sub", with("sub", json!("")), failed),
        ("no jti", without("jti"), failed),
        ("jti that is no UUID", with("jti", json!("1")), failed),
        ("jti of another version", with("jti", json!("6fa459ea-ee8a-11d2-90d4-00c04fd430c8")), failed),
        ("no iss", without("iss"), failed),
        ("wrong iss", with("iss", json!("netra-auth-service ")), failed),
        ("wrong aud", with("aud", json!("elsewhere")), failed),
        ("wrong aud in a list", with("aud", json!(["elsewhere"])), failed),
        ("no token_type", without("token_type"), failed),
        ("refresh token", with("token_type", json!("refresh")), failed),
        ("service token", with("token_type", json!("service")), failed),
        ("type in place of token_type", with("token_type", Value::Null), failed),
        ("alg none", algorithm(json!("none")), failed),
        ("alg None", algorithm(json!("None")), failed),
        ("alg noNE", algorithm(json!("noNE")), failed),
        ("alg hs256", algorithm(json!("hs256")), failed),
        ("alg HS512", algorithm(json!("HS512")), failed),
        ("alg RS256", algorithm(json!("RS256")), failed),
        ("no alg", algorithm(Value::Null), failed),
        ("16 KiB", format!("{}.{payload}.{signature}", "a".repeat(16 * 1024)), failed),
    ]
}

#[tokio::test]
async fn bad_tokens_are_refused_with_401_on_http() {
    let world = World::start(Options::default());
    for (name, token, _) in bad_tokens(world.stand_in.jwt_secret()) {
        for path in ["/api/threads", "/api/mcp/servers", "/api/mcp/tools"] {
            let reply = world.send("GET", path, &[bearer(&token)], None).await;
            assert_eq!(reply.status, 401, "{name} on {path}: {reply:?}");
            assert_eq!(reply.json()["error_code"], "AUTH_FAILED", "{name} on {path}");
        }
    }
}

#[tokio::test]
async fn bad_tokens_are_refused_with_a_frame_and_1008_on_the_socket() {
    let world = World::start(Options::default());
    for (name, token, code) in bad_tokens(world.stand_in.jwt_secret()) {
        // What clients say of tests must not help them.
        let mut socket = world.connect(&[bearer(&token), ("x-e2e-test", "true".into())]).await;
        let frame = socket.receive().await.frame();
        assert_eq!((&frame["type"], &frame["error_code"]), (&json!("error_message"), &json!(code)), "{name}: {frame}");
        assert_eq!(frame["details"]["error_code"], code, "{name}");
        assert_eq!(socket.receive().await, Received::Closed(1008), "{name}");
    }
}

#[tokio::test]
async fn no_token_is_refused_too() {
    let world = World::start(Options::default());
    for headers in
        [vec![], vec![("authorization", "Basic eA==".into())], vec![("authorization", format!("bearer {}", world.token("u")))]]
    {
        assert_eq!(world.send("GET", "/api/threads", &headers, None).await.status, 403, "{headers:?}");
        assert_eq!(world.send("GET", "/api/mcp/tools", &headers, None).await.status, 200, "{headers:?}");
        let mut socket = world.connect(&headers).await;
        assert_eq!(socket.receive().await.frame()["error_code"], "NO_TOKEN", "{headers:?}");
        assert_eq!(socket.receive().await, Received::Closed(1008), "{headers:?}");
    }
    let empty = [("authorization", "Bearer ".to_owned())];
    assert_eq!(world.send("GET", "/api/threads", &empty, None).await.status, 401);
}

#[tokio::test]
async fn good_tokens_are_taken_however_they_are_presented() {
    let world = World::start(Options::default());
    let mut lists = claims("u");
    lists["aud"] = json!(["elsewhere", "netra-admin"]);
    let mut bare = claims("u");
    bare.as_object_mut()
        .expect("claims")
        .retain(|name, _| !["aud", "type", "env", "email", "permissions"].contains(&name.as_str()));
    for claims in [claims("u"), lists, bare] {
        let token = sign(&claims, world.stand_in.jwt_secret());
        let reply = world.send("GET", "/api/threads", &[bearer(&token)], None).await;
        assert_eq!(reply.status, 200, "{claims}: {reply:?}");
        let protocols = format!("jwt-auth, jwt.{}", BASE64.encode(&token));
        let mut socket = world.connect(&[("sec-websocket-protocol", protocols)]).await;
        assert_eq!(socket.protocol.as_deref(), Some("jwt-auth"));
        assert_eq!(socket.receive().await.frame()["data"]["user_id"], "u", "{claims}");
    }
}

#[tokio::test]
async fn an_ordinary_user_is_no_admin() {
    let world = World::start(Options::default());
    assert_eq!(world.send("GET", "/api/config", &[bearer(&world.token("first-request-ever"))], None).await.status, 403);
    assert_eq!(world.send("GET", "/api/config", &[], None).await.status, 403);
    let mut admin = claims("boss");
    admin["permissions"] = json!(["admin"]);
    let token = sign(&admin, world.stand_in.jwt_secret());
    assert_eq!(world.send("GET", "/api/config", &[bearer(&token)], None).await.status, 200);
}
