//! 014: switching between conversations mixes nothing: every event and every stored message belongs to its own thread.

use std::sync::Arc;

use netra_critical::event::{Run, events};
use netra_critical::history::same_sequence;
use netra_critical::identity::Identity;
use netra_critical::ws::Socket;
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 14,
    name: "test_014_thread_switching_real",
    title: "switching between conversations mixes nothing",
    area: Area::Messages,
    impact: "answers land in the wrong conversation",
    alone: false,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_014_thread_switching_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let first = cx.thread(&alice, "first").await?;
            let second = cx.thread(&alice, "second").await?;
            let socket = cx.socket(&alice).await?;
            let prompts = &cx.settings().prompts;

            // Where a run may be looked for: in either thread of this user, in case that it ends up in the wrong one.
            let threads = [first.as_str(), second.as_str()];
            let mut said_first = said(cx, &socket, threads, 0, &prompts.question).await?;
            let said_second = said(cx, &socket, threads, 1, &prompts.other).await?;
            history(cx, &alice, &first, "before switching back, the first thread has its own messages", &said_first).await?;
            let before =
                history(cx, &alice, &second, "before switching back, the second thread has its own messages", &said_second).await?;

            said_first.extend(said(cx, &socket, threads, 0, &prompts.follow_up).await?);
            let kept =
                history(cx, &alice, &first, "after switching back, the first thread has all its messages", &said_first).await?;
            let after =
                history(cx, &alice, &second, "after switching back, the second thread has its messages still", &said_second)
                    .await?;
            cx.must("switching back leaves the other thread as it was")
                .fields(&json!(after), &[("", Is::Exactly(json!(before)))])?;

            let shared: Vec<_> = kept.iter().filter(|one| after.iter().any(|other| other["id"] == one["id"])).collect();
            cx.must("no stored message is in two threads").that(shared.is_empty(), "no id in both histories", json!(shared))?;

            let all = events(&socket.quiet(0).await?);
            let stray = all.iter().find(|event| !threads.contains(&event.thread_id.as_str())).map(|event| event.frame.to_string());
            socket.must("no event is of another thread").that(stray.is_none(), json!(threads), stray.unwrap_or_default())?;
            let runs = threads.map(|thread| Run::of_thread(&all, thread).len());
            socket.must("each message has one run, in its own thread").equal(&runs, &[2, 1])
        })
        .await
}

/// Says something in one of the threads and waits for the end of a run in either; wants all of it in that one. Gives question and
/// answer as the history should hold them.
async fn said(cx: &Cx, socket: &Socket, threads: [&str; 2], to: usize, prompt: &str) -> Held<Vec<String>> {
    let (message_id, thread) = (uuid::Uuid::new_v4().to_string(), threads[to]);
    let mark = socket.mark();
    socket.say(&message_id, Some(thread), prompt);
    let wanted = "the acknowledgement of the message";
    let ack =
        socket.receive("a message is acknowledged", cx.ack_deadline(), wanted, |frame| frame.acknowledges(&message_id)).await?;
    socket
        .must("the acknowledgement names the thread that was written to")
        .fields(&ack.data, &[("/data/thread_id", Is::exactly(thread))])?;
    let run = socket
        .gather("the run of a message ends", cx.run_deadline(), "the terminal event of its run", |frames| {
            let since = events(&frames[mark..]);
            let end = since.iter().find(|event| event.is_terminal() && threads.contains(&event.thread_id.as_str()))?;
            Some(Run::pick(&since, &end.run_id))
        })
        .await?;
    socket.must("every event of a run names the thread of its message").hold(run.stays_in(thread))?;
    let end = run.events.last().map(|event| event.kind.as_str()).unwrap_or_default();
    socket.must("the run of a message completes").equal(end, "agent_completed")?;
    Ok(vec![format!("user: {prompt}"), format!("assistant: {}", run.answer())])
}

/// Reads the history of a thread on a new connection and wants it to be what was said, no more and no less. The order is the
/// subject of another check.
async fn history(cx: &Cx, who: &Arc<Identity>, thread: &str, name: &'static str, said: &[String]) -> Held<Vec<Value>> {
    let reply = cx.api_on_new_connection(who)?.get(format!("/api/threads/{thread}/messages")).query("limit", 100).send().await?;
    let messages = reply.must("the history of a thread can be read").list_at("/messages")?;
    reply.must("a history names its own thread").fields(&[("/thread_id", Is::exactly(thread))])?;
    let mut wanted = said.to_vec();
    let mut got: Vec<_> = messages.iter().map(as_said).collect();
    wanted.sort_unstable();
    got.sort_unstable();
    reply.must(name).hold(same_sequence(&wanted, &got))?;
    Ok(messages)
}

fn as_said(message: &Value) -> String {
    let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text: String = parts.iter().filter_map(|part| part["text"]["value"].as_str()).collect();
    format!("{}: {text}", message["role"].as_str().unwrap_or_default())
}
