//! 001: a customer can open the chat: healthy service, TLS, welcome, ping and pong, an orderly goodbye.

use std::time::Duration;

use netra_critical::{Area, Check, Is, Outcome, Staging, poll};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 1,
    name: "test_001_websocket_connection_real",
    title: "a customer can open the chat",
    area: Area::WebSocket,
    impact: "users cannot open the chat at all",
    alone: false,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_001_websocket_connection_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let environment = cx.settings().environment.as_str();
            let health = cx.anonymous().get("/health").send().await?;
            health.must("/health answers 200").status(200)?;
            health.must("/health is JSON").header_has("content-type", "application/json")?;
            health.must("/health comes from the expected environment").header_has("x-environment", environment)?;
            health.must("/health says healthy").fields(&[
                ("/status", Is::exactly("healthy")),
                ("/service", Is::Text),
                ("/version", Is::Text),
                ("/timestamp", Is::Moment),
            ])?;

            let alice = cx.user("alice").await?;
            let socket = cx.socket(&alice).await?;
            let dialled = cx.recorder().exchanges(&[socket.exchange()]).pop().and_then(|it| it.tls);
            socket.must("the socket is reached over TLS where the API is").that(
                dialled.is_some() || cx.target().api.scheme() == "http",
                "TLS from the first byte of the handshake",
                format!("{} without TLS", cx.target().ws),
            )?;
            socket.must("the welcome has every field of the contract").fields(
                socket.welcome(),
                &[
                    ("/data/connection_id", Is::Text),
                    ("/data/user_id", Is::Text),
                    ("/data/server_time", Is::IsoTime),
                    ("/data/startup_complete", Is::Bool),
                    ("/data/config/heartbeat_interval", Is::IntFrom(1)),
                    ("/data/config/max_message_size", Is::IntFrom(1)),
                    ("/timestamp", Is::Moment),
                    ("/server_id", Is::TextOrNull),
                    ("/correlation_id", Is::TextOrNull),
                ],
            )?;
            socket
                .must("the welcome says that the connection is ready")
                .fields(socket.welcome(), &[("/data/connection_ready", Is::exactly(true))])?;
            socket
                .must("the welcome names the token's own user")
                .fields(socket.welcome(), &[("/data/user_id", Is::exactly(alice.user_id.clone()))])?;
            socket
                .must("the welcome names the expected environment")
                .fields(socket.welcome(), &[("/data/environment", Is::exactly(environment))])?;

            let second = cx.socket(&alice).await?;
            cx.must("two connections have different ids").about([socket.exchange(), second.exchange()]).that(
                socket.connection_id() != second.connection_id(),
                "two ids",
                format!("twice {:?}", socket.connection_id()),
            )?;

            let pong = socket.ping("a ping is answered by a pong").await?;
            socket
                .must("the pong carries the user's own id and a time")
                .fields(&pong.data, &[("/data/user_id", Is::exactly(alice.user_id.clone())), ("/data/timestamp", Is::Moment)])?;

            let interval = socket.welcome()["data"]["config"]["heartbeat_interval"].as_u64().unwrap_or(0);
            if interval <= cx.settings().heartbeat_wait_max_s {
                poll::within(Duration::from_secs(interval), socket.closed_early()).await;
                socket.must("the socket is open after one heartbeat interval").that(
                    socket.ended().is_none(),
                    "open",
                    format!("{:?}", socket.ended()),
                )?;
                socket
                    .receive("the server sends its heartbeat", cx.ack_deadline(), "a ping from the server", |frame| {
                        frame.kind() == "ping"
                    })
                    .await?;
                socket.ping("the socket answers after one heartbeat interval").await?;
            } else {
                cx.note(format!("the heartbeat interval is {interval} s: over heartbeat_wait_max_s, not waited for"));
            }
            socket.close("the closing handshake is answered with 1000", 1000).await
        })
        .await
}
