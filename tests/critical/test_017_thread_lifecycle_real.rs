//! 017: what is done to a conversation lasts: created, renamed, written to, archived; and it never changes its owner.

use netra_critical::http::Caller;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 17,
    name: "test_017_thread_lifecycle_real",
    title: "what is done to a conversation lasts",
    area: Area::Messages,
    impact: "housekeeping lies",
    alone: false,
};

/// Nobody's id, to which a thread must not pass over.
const STRANGER: &str = "e2e-critical-no-such-owner";

#[rstest]
#[test_log::test(tokio::test)]
async fn test_017_thread_lifecycle_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let api = cx.api(&alice);
            let mine = || Is::exactly(alice.user_id.as_str());
            let other = cx.thread(&alice, "stays").await?;
            let socket = cx.socket(&alice).await?;

            let created = api.post("/api/threads", json!({"title": cx.name("first title")})).send().await?;
            let id = created.must("a thread is created").text_at("/id")?;
            cx.archive_later(&alice, &id);
            let path = format!("/api/threads/{id}");
            let read = cx.api_on_new_connection(&alice)?.get(&path).send().await?;
            read.must("a created thread can be read").status(200)?;
            read.must("a thread is read as it was created").json(&[("", Is::Exactly(created.json().clone()))])?;

            let (title, word) = (cx.name("second title"), cx.word());
            let renamed = api.put(&path, json!({"title": title, "metadata": {"critical_word": word}})).send().await?;
            let wanted = [
                ("/id", Is::exactly(id.as_str())),
                ("/title", Is::exactly(title)),
                ("/metadata/critical_word", Is::exactly(word)),
                ("/metadata/user_id", mine()),
            ];
            renamed.must("a thread can be renamed").json(&wanted)?;
            let fresh = cx.api_on_new_connection(&alice)?;
            fresh.get(&path).send().await?.must("a new title and new metadata last").json(&wanted)?;
            let listed = listed(&fresh).await?;
            let listed = listed.iter().find(|thread| thread["id"] == id.as_str()).unwrap_or(&Value::Null);
            cx.must("a thread is listed with its new title").fields(listed, &wanted[..2])?;

            let taken = api.put(&path, json!({"user_id": STRANGER, "metadata": {"user_id": STRANGER}})).send().await?;
            taken.must("a change of the owner is ignored or refused").hold(match taken.status {
                200 if taken.json()["metadata"]["user_id"] == alice.user_id.as_str() => Ok(()),
                _ => refusal(&taken, "200 with the owner unchanged"),
            })?;
            let fresh = cx.api_on_new_connection(&alice)?;
            fresh.get(&path).send().await?.must("the owner of a thread cannot be changed").json(&wanted)?;

            let content = cx.name("message");
            let body = json!({"content": content, "thread_id": id});
            let posted = api.post("/api/chat/messages", body.clone()).send().await?;
            let message = posted.must("an active thread takes a message").text_at("/message/id")?;
            let fresh = cx.api_on_new_connection(&alice)?;
            let read = fresh.get(format!("/api/chat/messages/{message}")).send().await?;
            read.must("a message in a thread lasts")
                .json(&[("/content", Is::exactly(content)), ("/thread_id", Is::exactly(id.as_str()))])?;
            fresh.get(&path).send().await?.must("a message leaves the title as it was").json(&wanted)?;

            let archived = api.delete(&path).send().await?;
            archived.must("a thread can be archived").status_and_json(&[200], &[("/message", Is::Text)])?;
            let still = [("/metadata/status", Is::exactly("archived")), ("/metadata/user_id", mine())];
            let fresh = cx.api_on_new_connection(&alice)?;
            let ids: Vec<_> = listed_ids(&fresh).await?;
            cx.must("an archived thread is not listed").that(!ids.contains(&id), format!("no {id}"), format!("{ids:?}"))?;
            cx.must("archiving one thread leaves the others listed").that(ids.contains(&other), &other, format!("{ids:?}"))?;
            fresh.get(&path).send().await?.must("an archived thread says so").json(&still)?;
            let refused = fresh.post("/api/chat/messages", body).send().await?;
            refused.must("an archived thread takes no message over HTTP").hold(refusal(&refused, "a refusal"))?;

            let message_id = uuid::Uuid::new_v4().to_string();
            socket.say(&message_id, Some(&id), "too late");
            let answer = socket
                .receive("a socket message to an archived thread is answered", cx.ack_deadline(), "an error_message", |frame| {
                    frame.kind() == "error_message" || frame.acknowledges(&message_id)
                })
                .await?;
            let wanted = [("/type", Is::exactly("error_message")), ("/error_code", Is::exactly("THREAD_ARCHIVED"))];
            socket.must("a socket message to an archived thread is refused with THREAD_ARCHIVED").fields(&answer.data, &wanted)?;
            socket.ping("the socket is usable after a refused message").await?;

            api.delete(&path).send().await?.must("archiving twice is no error").status(200)?;
            let fresh = cx.api_on_new_connection(&alice)?;
            fresh.get(&path).send().await?.must("a thread archived twice is archived").json(&still)?;

            let unknown = format!("/api/threads/thread_{}", uuid::Uuid::new_v4().simple());
            api.get(&unknown).send().await?.must("an unknown thread cannot be read").refused(&[404])?;
            let body = json!({"title": cx.name("unknown")});
            api.put(&unknown, body).send().await?.must("an unknown thread cannot be renamed").refused(&[404])?;
            api.delete(&unknown).send().await?.must("an unknown thread cannot be archived").refused(&[404])
        })
        .await
}

/// Wants any 4xx but 401, in words that the API chose.
fn refusal(reply: &Reply, or: &str) -> Result<(), Mismatch> {
    let is_refusal = (400..500).contains(&reply.status) && reply.status != 401;
    let explained = reply.json()["error"] == true || reply.json()["detail"].is_array();
    if is_refusal && explained {
        Ok(())
    } else {
        Err(Mismatch::new(format!("{or}; any 4xx but 401 with a reason"), reply.summary()))
    }
}

async fn listed(api: &Caller) -> netra_critical::Held<Vec<Value>> {
    let list = api.get("/api/threads").query("limit", 100).send().await?;
    list.must("threads can be listed").list_at("")
}

async fn listed_ids(api: &Caller) -> netra_critical::Held<Vec<String>> {
    let threads = listed(api).await?;
    Ok(threads.iter().map(|thread| thread["id"].as_str().unwrap_or_default().to_owned()).collect())
}
