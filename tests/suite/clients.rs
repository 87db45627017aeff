//! The shared clients against servers that misbehave, and from many runtimes at once.

use std::net::TcpListener as StdListener;

use futures_util::SinkExt as _;
use netra_critical::check::NotPassed;
use netra_critical::expect::Class;
use netra_critical::identity::Credential;
use netra_critical::{Cx, Held, Verdict};
use netra_stand_in::{Options, StandIn};
use rstest::rstest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::{PROBE, Stage, told};

const SECRETS: [(&str, &str); 2] = [("JWT_SECRET_STAGING", "throw-away-secret"), ("E2E_OAUTH_SIMULATION_KEY", "throw-away-key")];

/// A throw-away secret that a test signs with.
const SIGNING: &str = "throw-away-signing-secret";

/// A stage whose three services are one plain address.
fn stage_at(port: u16) -> Stage {
    let (http, ws) = (format!("http://127.0.0.1:{port}"), format!("ws://127.0.0.1:{port}/ws"));
    let urls = [("CRITICAL_API_URL", http.as_str()), ("CRITICAL_WS_URL", &ws), ("CRITICAL_AUTH_URL", &http)];
    Stage::with(&[urls.as_slice(), &SECRETS].concat())
}

/// A server that reads a request head and answers each connection with these pieces, then closes.
async fn scripted(pieces: &[&'static str]) -> u16 {
    let pieces = pieces.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap_or(b'\n'));
            }
            for piece in &pieces {
                let _ = stream.write_all(piece.as_bytes()).await;
                let _ = stream.flush().await;
                tokio::task::yield_now().await;
            }
        }
    });
    port
}

async fn dial(cx: &Cx) -> Held {
    cx.dial().bearer("a.b.c").caller("alice", true).welcomed().await.map(drop)
}

#[tokio::test]
async fn a_refused_handshake_keeps_its_status_and_its_whole_body() {
    let port = scripted(&[
        "HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: 26\r\n\r\n<html>",
        "<b>firewall</b></html>",
    ])
    .await;
    let stage = stage_at(port);
    let text = told(PROBE.run(stage.staging.clone(), dial).await);
    assert!(text.contains("handshake refused with 403: <html><b>firewall</b></"), "{text}");
    assert!(text.contains("class         transport") && text.contains("answered with HTML"), "{text}");
    assert_eq!(stage.evidence().exchanges[0].status, Some(403));
}

#[rstest]
#[case::body_breaks_off(&["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"], "after 9 of 100 bytes of the body")]
#[case::no_response(&[""], "GET /health is answered")]
#[case::no_http(&["SSH-2.0-OpenSSH_9.2\r\n\r\n"], "GET /health is answered")]
#[tokio::test]
async fn a_connection_that_breaks_is_a_failure_of_transport(#[case] pieces: &'static [&'static str], #[case] part: &str) {
    let stage = stage_at(scripted(pieces).await);
    let text = told(PROBE.run(stage.staging.clone(), async |cx| cx.anonymous().get("/health").send().await.map(drop)).await);
    assert!(text.contains("FAILED") && text.contains("class         transport") && text.contains(part), "{text}");
}

#[tokio::test]
async fn an_upgrade_that_is_none_is_a_failure_of_transport() {
    let stage =
        stage_at(scripted(&["HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"]).await);
    let text = told(PROBE.run(stage.staging.clone(), dial).await);
    assert!(text.contains("the WebSocket handshake is answered") && text.contains("class         transport"), "{text}");
}

#[tokio::test]
async fn a_socket_that_is_cut_after_its_welcome_shows_1006() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stage = stage_at(listener.local_addr().expect("an address").port());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        let welcome = json!({"type": "system_message", "data": {"event": "connection_established"}});
        socket.send(tokio_tungstenite::tungstenite::Message::text(welcome.to_string())).await.expect("a welcome");
        // Dropped without a close frame.
    });
    let text = told(
        PROBE
            .run(stage.staging.clone(), async |cx| {
                let socket = cx.dial().bearer("a.b.c").caller("alice", true).welcomed().await?;
                socket.ping("a ping is answered").await.map(drop)
            })
            .await,
    );
    assert!(text.contains("the connection ended with 1006") && text.contains("class         transport"), "{text}");
}

#[tokio::test]
async fn a_closed_port_is_errored_with_a_remedy() {
    let port = StdListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let stage = stage_at(port);
    for outcome in [
        PROBE.run(stage.staging.clone(), dial).await,
        PROBE.run(stage.staging.clone(), async |cx| cx.user("alice").await.map(drop)).await,
    ] {
        let text = told(outcome);
        assert!(
            text.contains("ERRORED") && text.contains("onnection refused") && text.contains("start the server there"),
            "{text}"
        );
        assert_eq!(stage.evidence().verdict, Verdict::Errored);
        assert_eq!(stage.evidence().class, Some(Class::Transport));
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_errored_and_names_the_remedy() {
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let urls =
        [("CRITICAL_API_URL", server.api_url()), ("CRITICAL_WS_URL", server.ws_url()), ("CRITICAL_AUTH_URL", server.auth_url())];
    let stage = Stage::with(&[urls.as_slice(), &SECRETS].concat());
    for outcome in [
        PROBE.run(stage.staging.clone(), dial).await,
        PROBE.run(stage.staging.clone(), async |cx| cx.user("alice").await.map(drop)).await,
    ] {
        let text = told(outcome);
        assert!(text.contains("TLS handshake") && text.contains("UnknownIssuer") && text.contains("CRITICAL_CA_FILE"), "{text}");
    }
}

/// A plain server, and a stage that points at it with these keys of the target and these variables.
fn beside_server(keys: &str, variables: &[(&str, &str)]) -> (StandIn, Stage) {
    let options = Options { plain: true, jwt_secret: Some(SIGNING.to_owned()), ..Options::default() };
    let server = StandIn::start(options).expect("a stand-in");
    let config = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&config, format!("[targets.stand-in]\nembedded = true\n{keys}\n")).expect("settings");
    let mut env = vec![
        ("CRITICAL_CONFIG", config.path().to_str().expect("a path")),
        ("CRITICAL_API_URL", server.api_url()),
        ("CRITICAL_WS_URL", server.ws_url()),
        ("CRITICAL_AUTH_URL", server.auth_url()),
        ("JWT_SECRET_STAGING", server.jwt_secret()),
        ("E2E_OAUTH_SIMULATION_KEY", server.e2e_key()),
    ];
    env.extend(variables);
    let stage = Stage::with(&env);
    (server, stage)
}

/// Runs a check that needs a user, with secrets that differ from the server's in one place.
async fn with_wrong(variable: &str, source: &str) -> String {
    let keys = format!("token_source = \"{source}\"\nfresh_users = true");
    let (server, stage) = beside_server(&keys, &[(variable, "another-throw-away-secret")]);
    let outcome: Result<(), NotPassed> = PROBE
        .run(stage.staging.clone(), async |cx| {
            let alice = cx.user("alice").await?;
            cx.api(&alice).get("/api/threads").send().await?.must("threads can be listed").status(200)
        })
        .await;
    let text = told(outcome);
    assert!(!text.contains("another-throw-away-secret") && !text.contains(server.jwt_secret()), "{text}");
    text
}

#[tokio::test]
async fn a_wrong_signing_secret_is_told_from_a_broken_service() {
    let text = with_wrong("JWT_SECRET_STAGING", "mint").await;
    assert!(
        text.contains("class         auth_token")
            && text.contains("cause         secret: ")
            && text.contains("export JWT_SECRET_STAGING with the secret that the auth service of this target signs with"),
        "{text}"
    );
}

#[tokio::test]
async fn a_wrong_key_for_test_users_is_errored_and_named() {
    let text = with_wrong("E2E_OAUTH_SIMULATION_KEY", "auth-service").await;
    assert!(text.contains("ERRORED") && text.contains("correct E2E_OAUTH_SIMULATION_KEY"), "{text}");
}

#[tokio::test]
async fn another_host_is_never_contacted() {
    let other = StdListener::bind("127.0.0.1:0").expect("a port");
    other.set_nonblocking(true).expect("a socket");
    let stage = Stage::new();
    let port = other.local_addr().expect("an address").port();
    let text = told(
        PROBE
            .run(stage.staging.clone(), async |cx| {
                // A path that would make the URL point at another port.
                let sneaky = format!("@127.0.0.1:{port}/health");
                cx.anonymous().get(sneaky).send().await.map(drop)
            })
            .await,
    );
    assert!(text.contains("ERRORED") && text.contains("no host of target"), "{text}");
    assert_eq!(other.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn one_client_serves_many_runtimes_one_after_the_other() {
    const RUNTIMES: usize = 20;
    const REQUESTS: usize = 15;
    let stage = Stage::new();
    let mut connections = 0;
    for _ in 0..RUNTIMES {
        // As `#[tokio::test]` does: a runtime that dies with its test.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(PROBE.run(stage.staging.clone(), async |cx| {
            for _ in 0..REQUESTS {
                cx.anonymous().get("/health").send().await?.must("health answers").status(200)?;
            }
            Ok(())
        }));
        assert!(outcome.is_ok(), "{outcome:?}");
        connections += stage.evidence().exchanges.iter().filter(|exchange| exchange.timing.tls_ms.is_some()).count();
    }
    assert!(connections <= 2, "{connections} connections for {} requests", RUNTIMES * REQUESTS);
}

#[tokio::test]
async fn seeded_users_are_leased_and_too_few_are_named() {
    let users = "users = [\"seed-1 seed-1@example.test\", \"seed-2 seed-2@example.test\"]";
    let (_server, stage) = beside_server(&format!("token_source = \"mint\"\n{users}"), &[]);
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let [a, b] = cx.users(["alice", "bob"]).await?;
        cx.must("two seeded users are two").that(a.user_id != b.user_id, "two users", &a.user_id)?;
        cx.api(&a).get("/api/threads").send().await?.must("a minted token is accepted").status(200)
    });
    let outcome = outcome.await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let text = told(PROBE.run(stage.staging.clone(), async |cx| cx.users(["a", "b", "c"]).await.map(drop)).await);
    assert!(text.contains("needs 3 users at once; target `stand-in` has 2"), "{text}");
}

#[tokio::test]
async fn tokens_from_the_environment_are_used_as_they_are() {
    let secret = netra_critical::secret::Secret::new(SIGNING.to_owned());
    let token = netra_critical::token::Claims::access("handed-in", "handed@example.test").sign(&secret);
    let (server, stage) = beside_server("token_source = \"env\"\naccess_token_envs = [\"TOKEN_A\"]", &[("TOKEN_A", &token)]);
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let alice = cx.user("alice").await?;
        let socket = cx.socket(&alice).await?;
        socket
            .must("the user of the token is welcomed")
            .equal(socket.welcome()["data"]["user_id"].as_str().unwrap_or_default(), "handed-in")
    });
    let outcome = outcome.await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let written = std::fs::read_to_string(stage.out.path().join("run/evidence/probe.json")).expect("evidence");
    for part in [token.as_str(), token.rsplit('.').next().expect("a signature"), server.jwt_secret()] {
        assert!(!written.contains(part), "a secret stands in the evidence");
    }
}

#[tokio::test]
async fn a_secret_that_the_service_gives_away_is_named_and_kept_from_the_evidence() {
    let body = r#"{"note":"fine","db_password":"hunter2 \"quoted\" hunter2"}"#;
    let stage = stage_at(
        scripted(&[Box::leak(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_boxed_str())]).await,
    );
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let reply = cx.anonymous().get("/api/mcp/config").send().await?;
        let found = netra_critical::leak::leaks(&String::from_utf8_lossy(&reply.body));
        cx.recorder().redact_again();
        reply.must("nothing is given away").that(found.is_empty(), "no secret", format!("{} {found:?}", found[0]))
    });
    let text = told(outcome.await);
    let written = std::fs::read_to_string(stage.out.path().join("run/evidence/probe.json")).expect("evidence");
    for output in [&text, &written] {
        assert!(output.contains("/db_password") && output.contains("fine") && !output.contains("hunter2"), "{output}");
    }
}

#[tokio::test]
async fn a_close_keeps_its_code_and_reason() {
    let stage = Stage::new();
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let refusal = cx.dial().bearer("not.a.token").caller("a bad token", false).refusal().await?;
        cx.must("a bad token is refused").about([refusal.exchange]).hold(refusal.is_clean(&["VALIDATION_FAILED"], "staging"))?;
        let reply = cx.api(Credential::bad("malformed", "not.a.token")).get("/api/threads").send().await?;
        reply.must("a bad token is refused over HTTP").refused(&[401])
    });
    let outcome = outcome.await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let close = stage.evidence().exchanges[0].close.clone().expect("a close");
    assert_eq!(close.code, 1008);
    assert!(!close.reason.is_empty());
}
