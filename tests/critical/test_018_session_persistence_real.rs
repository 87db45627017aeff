//! 018: a session lasts as long as its user wants: it survives a reconnect, can be refreshed, and ends with the logout.

use std::sync::Arc;
use std::time::Duration;

use netra_critical::event::Event;
use netra_critical::expect::Trouble;
use netra_critical::history::same_sequence;
use netra_critical::http::Request;
use netra_critical::identity::{Credential, Identity};
use netra_critical::reply::Reply;
use netra_critical::token::decode;
use netra_critical::ws::Arrived;
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging, poll, secret, time};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 18,
    name: "test_018_session_persistence_real",
    title: "a session survives a reconnect, can be refreshed, and ends with the logout",
    area: Area::Messages,
    impact: "users are thrown out, or never are",
    alone: false,
};

/// Between two looks at a state that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A longer cache of accepted tokens is not waited for.
const LONGEST_CACHE_S: u64 = 10;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_018_session_persistence_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let [alice, bob] = cx.users(["alice", "bob"]).await?;
            let question = cx.settings().prompts.question.as_str();

            // Alice has a conversation and leaves. Meanwhile Bob leaves in the middle of a run, so that somewhere events
            // may be queued that nobody has seen.
            let thread = cx.thread(&alice, "conversation").await?;
            let socket = cx.socket(&alice).await?;
            let asked = cx.ask(&socket, Some(&thread), question).await?;
            let history = || cx.api(&alice).get(format!("/api/threads/{thread}/messages"));
            let before = settled(cx, history).await?;
            let before = before.must("the history can be read before the reconnect").list_at("/messages")?;
            cx.must("the conversation stands in its thread before the reconnect").that(
                before.iter().any(|message| message["role"] == "user"),
                "the user's message",
                format!("{before:?}"),
            )?;
            let threads = cx.api(&alice).get("/api/threads").send().await?;
            let threads = ids(threads.must("the threads can be listed before the reconnect").list_at("")?);
            drop(socket);
            let foreign = interrupted_run(cx, &bob).await?;

            let again = cx.socket(&alice).await?;
            let returned = cx.socket(&bob).await?;
            let (frames, others) = tokio::try_join!(again.quiet(0), returned.quiet(0))?;
            let own = |event: &Event| event.run_id == asked.run.id;
            let marks = [bob.user_id.as_str(), foreign.as_str()];
            let strange = frames.iter().find(|frame| Event::of(frame).is_some_and(|event| !own(&event)) || names(frame, &marks));
            let shown = |frame: Option<&Arrived>| frame.map_or("none".to_owned(), |frame| frame.data.to_string());
            again.must("a reconnect brings no foreign event").that(strange.is_none(), "none", shown(strange))?;
            let twice = frames.iter().find(|frame| Event::of(frame).is_some_and(|event| own(&event)));
            again.must("a reconnect brings no event a second time").that(twice.is_none(), "none", shown(twice))?;
            let strange = others.iter().find(|frame| names(frame, &[&alice.user_id, &thread]));
            returned.must("the other user's reconnect brings no foreign event").that(strange.is_none(), "none", shown(strange))?;

            let fresh = cx.api_on_new_connection(&alice)?;
            let after = fresh.get("/api/threads").send().await?;
            let listed = after.must("the threads can be listed after the reconnect").list_at("")?;
            after.must("the same threads are there after the reconnect").hold(same_sequence(&threads, &ids(listed)))?;
            let after = fresh.get(format!("/api/threads/{thread}/messages")).send().await?;
            let messages = after.must("the history can be read after the reconnect").list_at("/messages")?;
            after.must("the same history is there after the reconnect").hold(same_sequence(&texts(&before), &texts(&messages)))?;

            // Refreshing. The old access token is used no more: a service may take it back.
            let first = refresh_token(&alice)?;
            let junk = refresh(cx, "refresh_token", "this-is-no-token").await?;
            junk.must("junk is refused as refresh token").status_and_json(&[401], &[("/detail", Is::Text)])?;
            let wrong = refresh(cx, "refresh_token", alice.access.expose()).await?;
            wrong.must("an access token is refused as refresh token").status_and_json(&[401], &[("/detail", Is::Text)])?;
            let missing = cx.auth().post("/auth/refresh", json!({})).send().await?;
            missing.must("a refresh without a token is refused as invalid").status_and_json(&[422], &[("/detail", Is::Present)])?;
            let reply = refresh(cx, "refresh_token", first).await?;
            let access = reply.must("a refresh token gives a new access token").text_at("/access_token")?;
            let second = reply.must("a refresh token gives a new refresh token").text_at("/refresh_token")?;
            reply.must("the new tokens differ from the old ones").that(
                access != alice.access.expose() && second != first,
                "two new tokens",
                "an old one",
            )?;
            let old = decode(alice.access.expose()).unwrap_or_default();
            let same_user = [("/sub", Is::exactly(old["sub"].clone())), ("/email", Is::exactly(old["email"].clone()))];
            let claims = decode(&access).unwrap_or_default();
            reply.must("the new access token belongs to the same user").fields_of(&claims, &same_user)?;
            reply
                .must("the new access token is one, and lives")
                .fields_of(&claims, &[("/token_type", Is::exactly("access")), ("/exp", Is::IntFrom(time::now_seconds() + 60))])?;
            reply
                .must("the new refresh token belongs to the same user")
                .fields_of(&decode(&second).unwrap_or_default(), &same_user)?;
            let refreshed = cx.api(Credential::good("alice, refreshed", &access)).get("/api/threads").send().await?;
            let listed = refreshed.must("the new access token works over HTTP").list_at("")?;
            refreshed.must("the new access token reads the same user's threads").hold(same_sequence(&threads, &ids(listed)))?;
            let socket = cx.dial().bearer(&access).caller("alice, refreshed", true).welcomed().await?;
            socket
                .must("the new access token opens a socket of the same user")
                .fields(socket.welcome(), &[("/data/user_id", Is::exactly(alice.user_id.clone()))])?;
            let reply = refresh(cx, "refreshToken", &second).await?;
            let unused = reply.must("a refresh token is also taken as refreshToken").text_at("/access_token")?;
            let reused = refresh(cx, "refresh_token", first).await?;
            reused.must("a refresh token works only once").status_and_json(&[401], &[("/detail", Is::Text)])?;

            // Logging out comes last: it may end more than one token.
            log_out(cx, "an unused token", &unused).await?;
            let refused = cx.api(Credential::bad("logged out", &unused)).get("/api/threads").send().await?;
            refused.must("an unused token is refused over HTTP at once after its logout").refused(&[401])?;
            let refusal = cx.dial().bearer(&unused).caller("token logged out", false).refusal().await?;
            cx.must("an unused token is refused on the socket at once after its logout")
                .about([refusal.exchange])
                .hold(refusal.is_clean(&["VALIDATION_FAILED"], &cx.settings().environment))?;
            let reply = refresh(cx, "refresh_token", refresh_token(&bob)?).await?;
            let used = reply.must("the other user's refresh token gives a new access token").text_at("/access_token")?;
            let threads = cx.api(Credential::good("bob, refreshed", &used)).get("/api/threads").send().await?;
            threads.must("one user's logout leaves another user signed in").status(200)?;
            log_out(cx, "a used token", &used).await?;
            let cache_s = cx.settings().logout_cache_s;
            if cache_s > LONGEST_CACHE_S {
                cx.note(format!("a used token may be accepted for {cache_s} s after its logout (logout_cache_s): not waited for"));
                return Ok(());
            }
            let api = cx.api(Credential::bad("logged out", &used));
            // One look more than fits, so that the last one comes after the cache time, not shortly before its end.
            let within = Duration::from_secs(cache_s) + LOOK_EVERY;
            let looked = poll::until(within, LOOK_EVERY, async || match api.get("/api/threads").send().await {
                Ok(reply) if reply.status != 401 => Err(Ok(reply)),
                other => Ok(other),
            });
            let (Ok(last) | Err(last)) = looked.await;
            last?.must("a used token is refused within the cache time after its logout").refused(&[401])
        })
        .await
}

/// True if a frame names any of these, wherever it does.
fn names(frame: &Arrived, marks: &[&str]) -> bool {
    let text = frame.data.to_string();
    marks.iter().any(|mark| text.contains(mark))
}

/// Starts a run, leaves in the middle of it, and waits until it has ended. Gives the thread.
async fn interrupted_run(cx: &Cx, user: &Arc<Identity>) -> Held<String> {
    let thread = cx.thread(user, "interrupted").await?;
    let socket = cx.socket(user).await?;
    socket.say(&uuid::Uuid::new_v4().to_string(), Some(&thread), &cx.settings().prompts.other);
    let own = |frame: &Arrived| Event::of(frame).is_some_and(|event| event.thread_id == thread);
    let begun = socket.receive("the other user's run begins", cx.run_deadline(), "an event of the run", own).await?;
    let run_id = Event::of(&begun).map(|event| event.run_id).unwrap_or_default();
    drop(socket);
    let running = |reply: &Reply| reply.status == 200 && ["pending", "running"].iter().any(|it| reply.json()["status"] == *it);
    let looked = poll::until(cx.run_deadline(), LOOK_EVERY, async || {
        match cx.api(user).get(format!("/api/chat/agents/{run_id}/status")).send().await {
            Ok(reply) if running(&reply) => Err(Ok(reply)),
            other => Ok(other),
        }
    });
    // Only waited for: how runs end is judged elsewhere.
    let (Ok(last) | Err(last)) = looked.await;
    last.map(|_| thread)
}

/// The history, once question and answer stand in it: the answer may reach the store a moment after its event. Without an
/// answer the last state is as good as any.
async fn settled(cx: &Cx, history: impl Fn() -> Request) -> Held<Reply> {
    let looked = poll::until(cx.ack_deadline(), LOOK_EVERY, async || match history().send().await {
        Ok(reply) if reply.json()["messages"].as_array().is_some_and(|messages| messages.len() < 2) => Err(Ok(reply)),
        other => Ok(other),
    });
    let (Ok(last) | Err(last)) = looked.await;
    last
}

fn refresh_token(user: &Identity) -> Held<&str> {
    let missing = || {
        let remedy = "name the variables with the refresh tokens of the same users in refresh_token_envs of the target";
        Trouble::suite(format!("there is no refresh token for {}", user.label), remedy)
    };
    user.refresh.as_ref().map(secret::Secret::expose).ok_or_else(missing)
}

async fn refresh(cx: &Cx, field: &str, token: &str) -> Held<Reply> {
    let reply = cx.auth().post("/auth/refresh", json!({ field: token })).send().await?;
    for token in ["access_token", "refresh_token"] {
        secret::remember(reply.json()[token].as_str().unwrap_or_default());
    }
    Ok(reply)
}

async fn log_out(cx: &Cx, what: &str, token: &str) -> Held {
    let reply = cx.auth().with(Credential::good(what, token)).request("POST", "/auth/logout").send().await?;
    reply
        .must(format!("{what} can be logged out"))
        .status_and_json(&[200], &[("/status", Is::exactly("success")), ("/message", Is::Text)])
}

fn ids(items: Vec<Value>) -> Vec<String> {
    items.into_iter().map(|item| item["id"].as_str().unwrap_or_default().to_owned()).collect()
}

fn texts(items: &[Value]) -> Vec<String> {
    items.iter().map(Value::to_string).collect()
}
