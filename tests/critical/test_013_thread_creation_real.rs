//! 013: a conversation can be started: what comes back is what was asked for, stored, listed first, and the caller's own.

use std::time::{Duration, Instant};

use netra_critical::expect::Trouble;
use netra_critical::reply::Reply;
use netra_critical::time::now_seconds;
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging, poll};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 13,
    name: "test_013_thread_creation_real",
    title: "a conversation can be started",
    area: Area::Messages,
    impact: "nothing can be started",
    alone: false,
};

/// The clocks of service and suite may differ by this much.
const CLOCK_SKEW_S: i64 = 300;
/// Threads bear their time in whole seconds: only when this much lies between them is one surely newer.
const STAMP: Duration = Duration::from_secs(1);

#[rstest]
#[test_log::test(tokio::test)]
async fn test_013_thread_creation_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let api = cx.api(&alice);
            let title = format!("{} Gespräch 信頼 🎉", cx.name("titled"));
            let word = cx.word();
            let asked = json!({"title": title, "metadata": {"critical_word": word, "critical_list": [1, "two", null]}});
            let titled = api.post("/api/threads", asked.clone()).send().await?;
            let made = Instant::now();
            let titled_id = well_formed(cx, &titled, "a thread with title and metadata", &alice.user_id)?;
            cx.archive_later(&alice, &titled_id);
            titled.must("a thread has the title that was asked for").fields(&[("/title", Is::exactly(title.as_str()))])?;
            titled.must("a thread has the metadata that was asked for").fields(&[
                ("/metadata/critical_word", Is::exactly(word)),
                ("/metadata/critical_list", Is::Exactly(asked["metadata"]["critical_list"].clone())),
            ])?;

            for (field, value) in [("title", json!(42)), ("metadata", json!("text"))] {
                let mut body = json!({"title": cx.name("refused"), "metadata": {}});
                body[field] = value;
                let reply = api.post("/api/threads", body).send().await?;
                reply.must(format!("a {field} of the wrong type is refused")).invalid(field)?;
            }
            let reply = cx.anonymous().post("/api/threads", json!({"title": cx.name("anonymous")})).send().await?;
            reply.must("nobody without a token creates a thread").refused(&[401, 403])?;

            poll::until(STAMP * 2, Duration::from_millis(20), async || {
                let stands_still = || Trouble::suite("the clock of this machine stands still", "repair it");
                if made.elapsed() >= STAMP { Ok(()) } else { Err(stands_still()) }
            })
            .await?;
            let bare = api.post("/api/threads", json!({})).send().await?;
            let bare_id = well_formed(cx, &bare, "a thread with neither title nor metadata", &alice.user_id)?;
            cx.archive_later(&alice, &bare_id);
            bare.must("a title that was not given is null or a default").fields(&[("/title", Is::TextOrNull)])?;
            cx.must("two threads have different ids").about([titled.exchange, bare.exchange]).that(
                titled_id != bare_id,
                "two ids",
                format!("twice {titled_id:?}"),
            )?;

            let fresh = cx.api_on_new_connection(&alice)?;
            for (created, id) in [(&titled, &titled_id), (&bare, &bare_id)] {
                let read = fresh.get(format!("/api/threads/{id}")).send().await?;
                read.must("a created thread can be read").status(200)?;
                read.must("a thread is read as it was answered when created").json(&[("", Is::Exactly(created.json().clone()))])?;
            }

            let list = fresh.get("/api/threads").query("limit", 100).send().await?;
            let threads = list.must("threads can be listed").list_at("")?;
            for (created, id) in [(&titled, &titled_id), (&bare, &bare_id)] {
                let mine = threads.iter().filter(|thread| thread["id"] == id.as_str()).collect();
                let mine: &Value = list.must("a created thread is listed exactly once").one(mine, "thread with its id")?;
                list.must("a thread is listed with its title and owner").fields_of(
                    mine,
                    &[
                        ("/title", Is::Exactly(created.json()["title"].clone())),
                        ("/metadata/user_id", Is::exactly(alice.user_id.as_str())),
                    ],
                )?;
            }
            // Nothing in between either: what was refused above has made no thread.
            let first: Vec<_> = threads.iter().take(2).map(|thread| thread["id"].as_str().unwrap_or_default()).collect();
            list.must("the newest thread is listed first")
                .equal(first.as_slice(), [bare_id.as_str(), titled_id.as_str()].as_slice())
        })
        .await
}

/// Wants the thread of the contract, new, active and this user's; gives its id.
fn well_formed(cx: &Cx, reply: &Reply, what: &str, user_id: &str) -> Held<String> {
    let now = now_seconds();
    let recently = format!("a time within {CLOCK_SKEW_S} s of now");
    reply.must(format!("{what} is created")).json(&[
        ("/id", Is::Text),
        ("/object", Is::exactly("thread")),
        ("/created_at", Is::IntFrom(1)),
        ("/metadata", Is::Object),
        ("/metadata/status", Is::exactly("active")),
        ("/metadata/created_at", Is::Present),
        ("/message_count", Is::exactly(0)),
    ])?;
    let thread = reply.json();
    let updated = thread.get("updated_at");
    reply.must(format!("{what} says when it was updated, or null")).that(
        updated.is_some_and(|at| at.is_null() || at.is_i64()),
        "updated_at: an integer or null",
        thread,
    )?;
    reply.must(format!("{what} belongs to its caller")).fields(&[("/metadata/user_id", Is::exactly(user_id))])?;
    reply.must(format!("{what} bears the time of its creation")).that(
        thread["created_at"].as_i64().is_some_and(|at| (now - at).abs() < CLOCK_SKEW_S),
        recently,
        &thread["created_at"],
    )?;
    let id = thread["id"].as_str().unwrap_or_default();
    cx.must(format!("{what} has an id with exactly one thread_ prefix")).about([reply.exchange]).that(
        id.strip_prefix("thread_").is_some_and(|rest| !rest.is_empty() && !rest.contains("thread_")),
        "thread_ once, and something after it",
        id,
    )?;
    Ok(id.to_owned())
}
