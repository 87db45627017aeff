//! 012: what was posted is there: unchanged, by id and in the list, on new connections, each time, and after a restart.

use std::collections::BTreeSet;

use netra_critical::expect::Trouble;
use netra_critical::history::{not_decreasing, same_sequence};
use netra_critical::http::Caller;
use netra_critical::suite::LaunchOptions;
use netra_critical::text::{AWKWARD, of_length};
use netra_critical::time::{moment, now};
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 12,
    name: "test_012_message_persistence_real",
    title: "posted messages are there, unchanged, each time they are read",
    area: Area::Messages,
    impact: "conversations are lost",
    alone: false,
};

/// How often everything is read back, each time on a connection of its own. A store with stale copies shows itself now and then.
const READS: usize = 8;
/// The longest message of the contract, in characters.
const LONGEST: usize = 8000;
/// The clocks of service and suite may differ by this much.
const CLOCK_SKEW_S: f64 = 300.0;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_012_message_persistence_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let thread = cx.thread(&alice, "persistence").await?;
            let api = cx.api(&alice);
            let texts = [&[of_length(1)], AWKWARD.map(str::to_owned).as_slice(), &[of_length(LONGEST)]].concat();
            let mut posted = post_all(&api, &thread, &alice.user_id, &texts).await?;

            let ids: BTreeSet<_> = posted.iter().map(|message| message["id"].as_str()).collect();
            cx.must("every message has an id of its own").that(
                ids.len() == posted.len(),
                format!("{} ids", posted.len()),
                format!("{ids:?}"),
            )?;
            for message in &posted {
                let age = moment(&message["timestamp"]).map(|at| now() - at);
                cx.must("a message bears the time of its posting").that(
                    age.is_some_and(|age| age.abs() < CLOCK_SKEW_S),
                    format!("a time within {CLOCK_SKEW_S} s of now"),
                    &message["timestamp"],
                )?;
            }
            cx.must("times do not decrease from message to message")
                .hold(not_decreasing(posted.iter().map(|message| &message["timestamp"])))?;

            for (length, name) in [(0, "an empty message is refused"), (LONGEST + 1, "a message that is too long is refused")] {
                let body = json!({"content": of_length(length), "thread_id": thread});
                api.post("/api/chat/messages", body).send().await?.must(name).invalid("content")?;
            }
            for _ in 0..READS {
                read_back(&cx.api_on_new_connection(&alice)?, &thread, &posted, "on each reading").await?;
            }

            // One from the middle, so that its neighbours are seen to stay.
            let gone = posted.remove(posted.len() / 2);
            let reply = api.delete(by_id(&gone)).send().await?;
            reply
                .must("a message can be deleted")
                .json(&[("/status", Is::exactly("deleted")), ("/message_id", Is::Exactly(gone["id"].clone()))])?;
            let fresh = cx.api_on_new_connection(&alice)?;
            fresh.get(by_id(&gone)).send().await?.must("a deleted message is gone").refused(&[404])?;
            read_back(&fresh, &thread, &posted, "after a deletion").await?;
            survives_a_restart(cx, &texts).await
        })
        .await
}

/// Posts each text to the thread, in order, and gives the messages as the service answered them.
async fn post_all(api: &Caller, thread: &str, user_id: &str, texts: &[String]) -> Held<Vec<Value>> {
    let mut posted = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let body = json!({"content": text, "thread_id": thread, "metadata": {"place": place}});
        let reply = api.post("/api/chat/messages", body).send().await?;
        reply.must("a posted message is answered as it was sent").json(&[
            ("/status", Is::exactly("created")),
            ("/message/id", Is::Text),
            ("/message/content", Is::exactly(text.as_str())),
            ("/message/thread_id", Is::exactly(thread)),
            ("/message/user_id", Is::exactly(user_id)),
            ("/message/timestamp", Is::Moment),
            ("/message/message_type", Is::Text),
            ("/message/metadata/place", Is::exactly(place)),
        ])?;
        posted.push(reply.json()["message"].clone());
    }
    Ok(posted)
}

/// Wants these messages, and no others, in the list of the thread, and each by its id. Their order is the subject of another check.
async fn read_back(api: &Caller, thread: &str, posted: &[Value], when: &str) -> Held {
    let list = api.get("/api/chat/messages").query("thread_id", thread).query("limit", 100).send().await?;
    let listed = list.must(format!("messages can be listed {when}")).list_at("/messages")?;
    list.must(format!("every message is listed once {when}")).hold(same_sequence(&ids_of(posted), &ids_of(&listed)))?;
    list.must(format!("total_count is right {when}")).fields(&[("/total_count", Is::exactly(posted.len()))])?;
    for message in posted {
        let found = listed.iter().find(|other| other["id"] == message["id"]).unwrap_or(&Value::Null);
        list.must(format!("a message is listed as it was posted {when}")).fields_of(found, &same_as(message))?;
        let reply = api.get(by_id(message)).send().await?;
        reply.must(format!("a message is read by id as it was posted {when}")).json(&same_as(message))?;
    }
    Ok(())
}

fn by_id(message: &Value) -> String {
    format!("/api/chat/messages/{}", message["id"].as_str().unwrap_or_default())
}

fn ids_of(messages: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = messages.iter().map(|message| message["id"].as_str().unwrap_or_default()).collect();
    ids.sort_unstable();
    ids
}

/// All that a message is made of.
fn same_as(message: &Value) -> Vec<(&'static str, Is)> {
    ["/id", "/content", "/user_id", "/thread_id", "/timestamp", "/message_type", "/metadata"]
        .map(|pointer| (pointer, Is::Exactly(message.pointer(pointer).cloned().unwrap_or_default())))
        .to_vec()
}

/// Writes to a server of its own, stops it, and reads from another one on the same data.
async fn survives_a_restart(cx: &Cx, texts: &[String]) -> Held {
    let folder = tempfile::tempdir().map_err(|error| Trouble::suite(error.to_string(), "make the temporary folder writable"))?;
    let secret = || format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    // The same secrets for both, so that the user's token outlives the first.
    let options =
        LaunchOptions { db: Some(folder.path().join("restart.sqlite")), secrets: Some((secret(), secret())), fault: None };
    let Some(first) = cx.private_server(options.clone())? else {
        cx.note("not tried: whether messages survive a restart of the server, which only the embedded stand-in allows");
        return Ok(());
    };
    let bob = first.user("bob").await?;
    let thread = first.api(&bob).post("/api/threads", json!({"title": cx.name("restart")})).send().await?;
    let thread_id = thread.must("a thread can be created before a restart").text_at("/id")?;
    let posted = post_all(&first.api(&bob), &thread_id, &bob.user_id, texts).await?;
    // Nobody else holds it: this stops the server.
    drop(first);

    let again = cx.private_server(options)?;
    let again = again.ok_or_else(|| Trouble::suite("the second server did not start again", "this is a defect of the suite"))?;
    let api = again.api(&bob);
    read_back(&api, &thread_id, &posted, "after a restart").await?;
    let thread_now = api.get(format!("/api/threads/{thread_id}")).send().await?;
    thread_now
        .must("a thread survives a restart")
        .json(&[("/title", Is::Exactly(thread.json()["title"].clone())), ("/metadata/user_id", Is::exactly(bob.user_id.as_str()))])
}
