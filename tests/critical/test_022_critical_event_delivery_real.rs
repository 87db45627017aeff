//! 022: every run shows what it does, in five events, in order, complete, once, and a failing run shows that it failed.

use netra_critical::event::{Event, Run, all_differ, events, is_real};
use netra_critical::expect::fields;
use netra_critical::ws::{Arrived, Socket};
use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::json;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 22,
    name: "test_022_critical_event_delivery_real",
    title: "every run shows what it does, and a failing run that it failed",
    area: Area::Streams,
    impact: "users see nothing happen",
    alone: false,
};

/// What every run must show before its end.
const ON_THE_WAY: [&str; 4] = ["agent_started", "agent_thinking", "tool_executing", "tool_completed"];

#[rstest]
#[test_log::test(tokio::test)]
async fn test_022_critical_event_delivery_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let thread = cx.thread(&alice, "events").await?;
            let socket = cx.socket(&alice).await?;
            let prompts = &cx.settings().prompts;

            let first = follow(cx, &socket, "first run", &thread, &prompts.question).await?;
            let second = follow(cx, &socket, "second run", &thread, &prompts.other).await?;
            let failing = json!({"user_request": prompts.question, "thread_id": thread, "agent": prompts.unknown_agent});
            socket.send(&json!({"type": "start_agent", "payload": failing}));
            let wanted = "agent_error of a new run, or error_message AGENT_ERROR";
            let failed = socket
                .receive("a failing run is not silent", cx.run_deadline(), wanted, |frame| {
                    let known = [&first, &second];
                    let ends = |event: Event| event.is_terminal() && event.thread_id == thread && !known.contains(&&event.run_id);
                    frame.is_error("AGENT_ERROR") || Event::of(frame).is_some_and(ends)
                })
                .await?;

            // What follows a terminal event has come by now; so only now anything is judged.
            let all = events(&socket.quiet(0).await?);
            let (first, second) = (Run::pick(&all, &first), Run::pick(&all, &second));
            judge(&socket, "first run", &first, &thread, &alice.user_id)?;
            socket.must("first run: the answer is real work").hold(is_real(first.answer(), &prompts.question))?;
            judge(&socket, "second run", &second, &thread, &alice.user_id)?;
            socket.must("second run: the answer is real work").hold(is_real(second.answer(), &prompts.other))?;
            socket.must("the two runs give different answers").hold(all_differ([first.answer(), second.answer()]))?;

            cx.note(format!("a run for an agent that does not exist is answered with {}", failed.kind()));
            socket.must("a failing run delivers agent_error").hold(tells_of_failure(&failed))?;
            if let Some(event) = Event::of(&failed) {
                let run = Run::pick(&all, &event.run_id);
                socket.must("a failing run ends once, and nothing follows").hold(run.ends_once())?;
                socket.must("a failing run stays in its thread").hold(run.stays_in(&thread))?;
                socket.must("a failing run's events have their fields").hold(run.is_complete())?;
                name_nobody_else(&socket, "a failing run", &run, &alice.user_id)?;
            }
            let runs: Vec<_> = Run::of_thread(&all, &thread).into_iter().map(|run| run.id).collect();
            let asked = if Event::of(&failed).is_some() { 3 } else { 2 };
            socket.must("no run is heard of but those asked for").that(
                runs.len() == asked,
                format!("{asked} runs"),
                format!("{runs:?}"),
            )?;
            let stray = all.iter().find(|event| event.thread_id != thread).map(|event| event.frame.to_string());
            socket.must("no event of anybody else reaches the socket").that(
                stray.is_none(),
                "events of this thread alone",
                stray.unwrap_or_default(),
            )
        })
        .await
}

/// Asks, and waits until a new run has ended. Gives the run's id.
async fn follow(cx: &Cx, socket: &Socket, which: &str, thread: &str, prompt: &str) -> Held<String> {
    let known: Vec<_> = events(&socket.frames()).into_iter().map(|event| event.run_id).collect();
    socket.say(&uuid::Uuid::new_v4().to_string(), Some(thread), prompt);
    let wanted = "the terminal event of a new run";
    let end = socket
        .gather(format!("{which}: agent_completed is delivered"), cx.run_deadline(), wanted, |frames| {
            let new = |event: &Event| event.thread_id == thread && !known.contains(&event.run_id);
            events(frames).into_iter().find(|event| event.is_terminal() && new(event))
        })
        .await?;
    socket.must(format!("{which}: it completes and does not fail")).that(
        end.kind == "agent_completed" && end.payload["status"] == "completed",
        "agent_completed with the status completed",
        &end.frame,
    )?;
    Ok(end.run_id)
}

fn judge(socket: &Socket, which: &str, run: &Run, thread: &str, user_id: &str) -> Held {
    for kind in ON_THE_WAY {
        socket.must(format!("{which}: {kind} is delivered")).that(
            run.events.iter().any(|event| event.kind == kind),
            kind,
            format!("{:?}", run.kinds()),
        )?;
    }
    socket.must(format!("{which}: agent_started comes first, once")).hold(run.starts_once())?;
    socket.must(format!("{which}: one terminal event comes, and nothing after it")).hold(run.ends_once())?;
    socket.must(format!("{which}: agent_thinking comes before tools and results")).hold(run.thinks())?;
    socket.must(format!("{which}: each tool_executing has its tool_completed")).hold(run.tools_pair())?;
    socket.must(format!("{which}: the events come in the order of the contract")).hold(run.keeps_order())?;
    socket.must(format!("{which}: every event has its fields")).hold(run.is_complete())?;
    socket.must(format!("{which}: every event names its thread")).hold(run.stays_in(thread))?;
    name_nobody_else(socket, which, run, user_id)
}

fn name_nobody_else(socket: &Socket, which: &str, run: &Run, user_id: &str) -> Held {
    let named = run.events.iter().flat_map(|event| [&event.frame["user_id"], &event.payload["user_id"]]);
    let foreign: Vec<_> = named.filter_map(|named| named.as_str()).filter(|named| *named != user_id).collect();
    socket.must(format!("{which}: no event names another user")).that(foreign.is_empty(), user_id, format!("{foreign:?}"))
}

/// Rule: the user is told that the run failed, and why. Both ways of the contract (section 2.4) are permitted.
fn tells_of_failure(frame: &Arrived) -> Result<(), Mismatch> {
    match Event::of(frame) {
        None => fields(&frame.data, &[("/error_code", Is::exactly("AGENT_ERROR")), ("/error_message", Is::Text)]),
        Some(event) if event.kind == "agent_error" => {
            fields(&event.payload, &[("/status", Is::Text), ("/error_code", Is::Text), ("/error_message", Is::Text)])
        }
        Some(event) => Err(Mismatch::new("agent_error, or error_message AGENT_ERROR", &event.frame)),
    }
}
