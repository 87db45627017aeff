//! 002: a valid token opens the socket, by each carrier; anything less is refused, cleanly, on the socket and over HTTP.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use netra_critical::history::same_sequence;
use netra_critical::identity::Credential;
use netra_critical::refusal::Refusal;
use netra_critical::token::{BadToken, Claims, bad_tokens};
use netra_critical::{Area, Check, Cx, Held, Outcome, Staging};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 2,
    name: "test_002_websocket_authentication_real",
    title: "a valid token opens the socket, anything less is refused",
    area: Area::WebSocket,
    impact: "strangers get in, or customers are locked out",
    alone: false,
};

/// A route that needs a token, and one where it is optional: a bad token is refused on both.
const ROUTES: [&str; 2] = ["/api/threads", "/api/mcp/servers"];

/// Bad tokens tried at the same time: enough to be quick over a slow network, too few to be a load.
const AT_ONCE: usize = 6;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_002_websocket_authentication_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let token = alice.access.expose();
            let _by_header = cx.socket(&alice).await?;
            let by_subprotocol =
                cx.dial().subprotocol(token).caller(format!("{} by subprotocol", alice.user_id), true).welcomed().await?;
            by_subprotocol
                .must("the server selects the subprotocol jwt-auth")
                .equal(&by_subprotocol.subprotocol, &Some("jwt-auth".to_owned()))?;
            control(cx, &alice.user_id, &alice.email).await?;

            // Without a token at all, or with none that counts as one.
            let none = cx.dial().caller("no token", false).refusal().await?;
            refused(cx, "no token is refused on the socket", &none, &["NO_TOKEN"])?;
            let empty = cx.dial().header("authorization", "Bearer ").caller("an empty token", false).refusal().await?;
            refused(cx, "an empty token is refused on the socket", &empty, &["NO_TOKEN", "INVALID_FORMAT"])?;
            let lower = cx
                .dial()
                .header("authorization", format!("bearer {token}"))
                .caller("bearer in lower case", false)
                .refusal()
                .await?;
            refused(cx, "bearer in lower case is refused on the socket", &lower, &["NO_TOKEN"])?;
            let reply = cx.anonymous().get(ROUTES[0]).send().await?;
            reply.must("no token is refused over HTTP").refused(&[401, 403])?;

            // Each bad token differs from the control in just one thing.
            let secret = cx.signing_secret()?;
            let probes = stream::iter(bad_tokens(&alice.user_id, &alice.email, &cx.settings().mint, secret))
                .map(|bad| async move { probe(cx, &bad).await });
            let looks: Vec<_> = probes.buffered(AT_ONCE).try_collect().await?;
            for code in ["INVALID_FORMAT", "VALIDATION_FAILED"] {
                let same: Vec<_> = looks.iter().filter(|(kind, _)| *kind == code).map(|(_, look)| without_numbers(look)).collect();
                let first = vec![same.first().cloned().unwrap_or_default(); same.len()];
                cx.must(format!("all refusals with {code} look the same")).hold(same_sequence(&first, &same))?;
            }

            // Other doors for a bad token: another carrier, and headers that ask for a test mode.
            let expired =
                || Claims::access(&alice.user_id, &alice.email).with("iat", 1_000_000_000).with("exp", 1_000_001_800).sign(secret);
            let refusal = cx.dial().subprotocol(&expired()).caller("a bad token by subprotocol", false).refusal().await?;
            refused(cx, "a bad token by subprotocol is refused", &refusal, &["VALIDATION_FAILED"])?;
            let mut dial = cx.dial().bearer(&expired()).caller("a bad token with test headers", false);
            for header in ["X-E2E-Test", "X-Test-Mode", "X-Staging-E2E", "X-E2E-Bypass"] {
                dial = dial.header(header, "true");
            }
            let dial = dial.header("X-Test-Type", "E2E").header("X-Test-Environment", "staging");
            refused(cx, "test headers do not help a bad token", &dial.refusal().await?, &["VALIDATION_FAILED"])
        })
        .await
}

/// The control: a token with every claim in order, signed with the shared secret. Without it, each refusal below could have
/// another reason than the one named.
async fn control(cx: &Cx, user_id: &str, email: &str) -> Held {
    let mint = &cx.settings().mint;
    let token = Claims::access(user_id, email).as_minted(mint).sign_minted(mint, cx.signing_secret()?);
    netra_critical::secret::remember(&token);
    let reply = cx.api(Credential::good(&format!("{user_id}, minted"), &token)).get(ROUTES[0]).send().await?;
    reply.must("a minted token with every claim in order is accepted over HTTP").status(200)?;
    let _socket = cx.dial().bearer(&token).caller(format!("{user_id}, minted"), true).welcomed().await?;
    Ok(())
}

/// Wants the clean refusal of the contract, section 2.2.
fn refused(cx: &Cx, name: impl Into<std::borrow::Cow<'static, str>>, refusal: &Refusal, codes: &[&str]) -> Held {
    cx.must(name).about([refusal.exchange]).hold(refusal.is_clean(codes, &cx.settings().environment))
}

/// Shows a bad token at every door, and gives the code and the look of the socket's refusal.
async fn probe(cx: &Cx, bad: &BadToken) -> Held<(&'static str, String)> {
    let label = format!("token {}", bad.kind);
    let refusal = cx.dial().bearer(&bad.token).caller(label.clone(), false).refusal().await?;
    refused(cx, format!("a {label} is refused on the socket"), &refusal, &[bad.code])?;
    for route in ROUTES {
        let reply = cx.api(Credential::bad(bad.kind, &bad.token)).get(route).send().await?;
        reply.must(format!("a {label} is refused by {route}")).refused(&[401])?;
    }
    Ok((bad.code, refusal.look()))
}

/// A refusal may say how long the token was; that tells nobody which rule it broke.
fn without_numbers(look: &str) -> String {
    look.chars().filter(|c| !c.is_ascii_digit()).collect()
}
