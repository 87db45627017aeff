//! 025: the product works from end to end: sign in, connect, ask, watch, read the answer, ask again, come back, put away.

use std::time::{Duration, Instant};

use netra_critical::config::Deadlines;
use netra_critical::event::{Run, all_differ, is_real};
use netra_critical::history::same_sequence;
use netra_critical::http::Caller;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Class, Cx, Held, Is, Mismatch, Outcome, Staging, poll};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 25,
    name: "test_025_critical_path_completion_real",
    title: "the product works from end to end",
    area: Area::Streams,
    impact: "the product does not work",
    alone: false,
};

/// The five events that every run shows.
const FIVE: [&str; 5] = ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];
/// Between two looks at the history.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[rstest]
#[test_log::test(tokio::test)]
async fn test_025_critical_path_completion_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let began = Instant::now();
            let prompts = &cx.settings().prompts;
            let alice = cx.user("alice").await?;
            let socket = cx.socket(&alice).await?;
            let thread = cx.thread(&alice, "path").await?;

            let first = cx.ask(&socket, Some(&thread), &prompts.question).await?;
            socket.must("the five events of a run are delivered").hold(shows_all_five(&first.run))?;
            let answer = first.run.answer();
            socket.must("the answer is real work").hold(is_real(answer, &prompts.question))?;

            let api = cx.api(&alice);
            let history = conversation(cx, &api, &thread, 2).await?;
            history
                .must("the history holds the question as it was asked")
                .hold(same_sequence(&[&prompts.question], &said(&history, "user")))?;
            history
                .must("the history holds the answer, identical to the event's")
                .hold(same_sequence(&[answer], &said(&history, "assistant")))?;
            let elsewhere = cx.api_on_new_connection(&alice)?;
            let again = elsewhere.get(format!("/api/threads/{thread}/messages")).send().await?;
            again.must("a new connection reads the same history").that(
                again.status == 200 && again.json()["messages"] == history.json()["messages"],
                format!("200 with {}", history.json()["messages"]),
                again.summary(),
            )?;

            let second = cx.ask(&socket, Some(&thread), &prompts.follow_up).await?;
            socket.must("the five events of the second run are delivered").hold(shows_all_five(&second.run))?;
            let follow_up = second.run.answer();
            socket.must("the second answer is real work").hold(is_real(follow_up, &prompts.follow_up))?;
            socket.must("the second answer is another one").hold(all_differ([answer, follow_up]))?;
            let history = conversation(cx, &elsewhere, &thread, 4).await?;
            let asked = [prompts.question.as_str(), &prompts.follow_up];
            let wanted = [asked[0], answer, asked[1], follow_up];
            let held = same_sequence(&wanted, &said(&history, "")).and_then(|()| same_sequence(&asked, &said(&history, "user")));
            history.must("the thread holds both questions and both answers in order").hold(held)?;

            let archived = api.delete(format!("/api/threads/{thread}")).send().await?;
            archived.must("the thread can be archived").status_and_json(&[200], &[("/message", Is::Text)])?;
            let threads = api.get("/api/threads").send().await?;
            let listed = threads.must("the threads can be listed after archiving").list_at("")?;
            threads.must("an archived thread is no longer listed").that(
                listed.iter().all(|it| it["id"] != thread.as_str()),
                "a list without the archived thread",
                threads.summary(),
            )?;

            let budget = Deadlines::of(cx.settings().deadlines.path_ms);
            let took = began.elapsed();
            cx.note(format!("the whole path took {took:.3?} of {budget:?}"));
            cx.must("the whole path takes no longer than its budget").class(Class::Sla).that(
                took <= budget,
                format!("at most {budget:?}"),
                format!("{took:.3?}"),
            )
        })
        .await
}

/// Rule: a run shows each of the five events, in order, and ends once.
fn shows_all_five(run: &Run) -> Result<(), Mismatch> {
    let kinds = run.kinds();
    let missing: Vec<_> = FIVE.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    if !missing.is_empty() {
        return Err(Mismatch::new(FIVE.join(", "), format!("without {}: {kinds:?}", missing.join(", "))));
    }
    run.keeps_order()?;
    run.ends_once()
}

/// The thread's history, once this many messages stand in it: an answer may reach the store a moment after its event.
async fn conversation(cx: &Cx, api: &Caller, thread: &str, messages: usize) -> Held<Reply> {
    let began = Instant::now();
    let path = format!("/api/threads/{thread}/messages");
    let looked = poll::until(cx.ack_deadline(), LOOK_EVERY, async || match api.get(&path).send().await {
        Ok(reply) if reply.json()["messages"].as_array().is_some_and(|it| it.len() < messages) => Err(Ok(reply)),
        other => Ok(other),
    });
    let (Ok(last) | Err(last)) = looked.await;
    cx.note(format!("{messages} messages were looked for in the history for {:.0?}", began.elapsed()));
    last
}

/// The texts of the messages of one role, or of any (""), in the order of the history.
fn said<'a>(history: &'a Reply, role: &str) -> Vec<&'a str> {
    let messages = history.json()["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_role = messages.iter().filter(|message| role.is_empty() || message["role"] == role);
    of_role.map(|message| message["content"][0]["text"]["value"].as_str().unwrap_or_default()).collect()
}
