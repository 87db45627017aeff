//! 006: the configuration leads the front end to the target and to nothing else, agrees with the service, and keeps its secrets.

use netra_critical::config::TokenSource;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;

use crate::staging;
use netra_critical::advertised::{advertised, foreign};
use netra_critical::leak::leaks;

pub(crate) static CHECK: Check = Check {
    id: 6,
    name: "test_006_agent_configuration_real",
    title: "the configuration is the target's own, and keeps its secrets",
    area: Area::Agents,
    impact: "the front end is misconfigured, or secrets leak",
    alone: false,
};

const ADMIN: &str = "/api/config";
const PUBLIC: &str = "/api/config/public";
const MCP: &str = "/api/mcp/config";
const WS: &str = "/ws/config";
const SERVICES: &str = "/api/discovery/services";

#[rstest]
#[test_log::test(tokio::test)]
async fn test_006_agent_configuration_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            // The very first request of this user: the service has nothing cached about her yet.
            if cx.settings().token_source != TokenSource::AuthService && !cx.settings().fresh_users {
                cx.note("a seeded user: her first request of this check may not be her first at all");
            }
            let first = cx.api(&alice).get(ADMIN).send().await?;
            first.must("the admin configuration is refused to an ordinary user on the first request").refused(&[403])?;
            let later = cx.api(&alice).get(ADMIN).send().await?;
            later.must("the admin configuration is refused to an ordinary user on a later request").refused(&[403])?;
            let nobody = cx.anonymous().get(ADMIN).send().await?;
            nobody.must("the admin configuration is refused without a token").refused(&[401, 403])?;

            let anyone = cx.anonymous();
            let (public, mcp, ws, services) = tokio::try_join!(
                anyone.get(PUBLIC).send(),
                anyone.get(MCP).send(),
                anyone.get(WS).send(),
                anyone.get(SERVICES).send()
            )?;
            public.must("the public configuration has every field").json(&[
                ("/app_name", Is::Text),
                ("/version", Is::Text),
                ("/features", Is::Present),
            ])?;
            public
                .must("the public configuration names the environment")
                .fields(&[("/environment", Is::exactly(cx.settings().environment.as_str()))])?;

            mcp.must("the MCP configuration has every part").json(&[
                ("/claude", Is::Object),
                ("/cursor", Is::Object),
                ("/http", Is::Object),
                ("/websocket", Is::Object),
            ])?;
            let strangers = foreign(cx.target(), &advertised(mcp.json()));
            mcp.must("every URL of the MCP configuration is on a host of the target").that(
                strangers.is_empty(),
                "no URL on any other host, nor over another kind of transport",
                format!("{strangers} (not contacted)"),
            )?;
            for (part, scheme) in [("http", "http"), ("websocket", "ws")] {
                let urls = advertised(&mcp.json()[part]);
                let there = urls.iter().any(|url| url.text.starts_with(scheme));
                mcp.must(format!("the MCP configuration has a URL for {part}")).that(there, "at least one", format!("{urls:?}"))?;
            }

            ws.must("the WebSocket configuration has every field").json(&[
                ("/websocket/endpoint", Is::Text),
                ("/websocket/version", Is::Text),
                ("/websocket/authentication", Is::Present),
                ("/websocket/supported_auth_methods", Is::FilledList),
                ("/websocket/features", Is::Object),
                ("/websocket/limits/max_message_size", Is::IntFrom(1)),
                ("/websocket/limits/heartbeat_interval", Is::IntFrom(1)),
            ])?;
            let (endpoint, own) = (ws.json()["websocket"]["endpoint"].as_str().unwrap_or_default(), &cx.target().ws);
            ws.must("the WebSocket configuration names the target's own endpoint").that(
                endpoint == own.path() || endpoint == own.as_str(),
                format!("{} or {own}", own.path()),
                endpoint,
            )?;

            for (path, reply) in [(PUBLIC, &public), (MCP, &mcp), (WS, &ws), (SERVICES, &services)] {
                no_secret_in(cx, path, reply)?;
            }
            for reply in [&first, &later, &nobody] {
                no_secret_in(cx, "a refusal of the admin configuration", reply)?;
            }

            let socket = cx.socket(&alice).await?;
            for limit in ["max_message_size", "heartbeat_interval"] {
                let announced = ws.json()["websocket"]["limits"][limit].clone();
                cx.must(format!("the configured {limit} is that of the welcome"))
                    .about([ws.exchange, socket.exchange()])
                    .fields(socket.welcome(), &[(&format!("/data/config/{limit}"), Is::Exactly(announced))])?;
            }
            Ok(())
        })
        .await
}

/// Wants no value that looks like a secret, nor any that the suite knows to be one. What is found is not shown.
fn no_secret_in(cx: &Cx, what: &str, reply: &Reply) -> Held {
    let body = String::from_utf8_lossy(&reply.body);
    let mut found: Vec<_> = leaks(&body).iter().map(ToString::to_string).collect();
    for (name, secret) in [("signing secret", &cx.target().jwt_secret), ("key for test users", &cx.target().e2e_key)] {
        if secret.as_ref().is_some_and(|secret| body.contains(secret.expose())) {
            found.push(format!("the target's own {name}"));
        }
    }
    if !found.is_empty() {
        // Known now, but recorded before.
        cx.recorder().redact_again();
    }
    reply.must(format!("{what} gives no secret away")).that(found.is_empty(), "no value that looks like a secret", found.join("; "))
}
