//! 019: a run can be watched and stopped by its own user, by nobody else, and always comes to an end.

use netra_critical::event::{Event, Run, events};
use netra_critical::http::Request;
use netra_critical::identity::Credential;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 19,
    name: "test_019_agent_lifecycle_management_real",
    title: "a run can be stopped by its own user alone, and always ends",
    area: Area::Agents,
    impact: "runs cannot be controlled",
    alone: false,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_019_agent_lifecycle_management_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let [alice, bob] = cx.users(["alice", "bob"]).await?;
            let thread = cx.thread(&alice, "lifecycle").await?;
            let socket = cx.socket(&alice).await?;

            // First a run that is left alone. It may complete or fail, but it must end, and its status must say how.
            let ordinary = cx.ask(&socket, Some(&thread), &cx.settings().prompts.question).await?;
            let ending = ordinary.run.terminal().map(ended_as).unwrap_or_default();
            socket.must("a run that is left alone ends as completed or failed").that(
                ["completed", "failed"].contains(&ending.as_str()),
                "completed or failed",
                &ending,
            )?;
            let status = status_of(cx, &alice, &ordinary.run.id).send().await?;
            status.must("the status of an ended run agrees with its terminal event").status_and_json(
                &[200],
                &[("/run_id", Is::exactly(ordinary.run.id.clone())), ("/status", Is::exactly(ending.clone()))],
            )?;

            let message_id = uuid::Uuid::new_v4().to_string();
            socket.say(&message_id, Some(&thread), &cx.settings().prompts.long);
            let begun = socket
                .receive("a long run begins", cx.run_deadline(), "an event of a new run", |frame| {
                    Event::of(frame).is_some_and(|event| event.thread_id == thread && event.run_id != ordinary.run.id)
                })
                .await?;
            let run_id = Event::of(&begun).map(|event| event.run_id).unwrap_or_default();
            let status = status_of(cx, &alice, &run_id).send().await?;
            status.must("the status of a run that has begun is running").status_and_json(
                &[200],
                &[
                    ("/run_id", Is::exactly(run_id.clone())),
                    ("/status", Is::exactly("running")),
                    ("/user_id", Is::exactly(alice.user_id.clone())),
                ],
            )?;

            for action in ["stop", "cancel"] {
                let foreign = control(cx, &bob, &run_id, action).send().await?;
                foreign.must(format!("a foreign user may not {action} a run")).refused(&[403, 404])?;
            }
            let mark = socket.mark();
            let wanted = format!("another event of run {run_id}");
            let next = socket
                .gather("a run is heard of again after a foreign user tried to stop it", cx.run_deadline(), &wanted, |frames| {
                    let ended = Run::pick(&events(frames), &run_id).terminal().cloned();
                    let later = events(&frames[mark..]).into_iter().find(|event| event.run_id == run_id);
                    ended.or(later)
                })
                .await?;
            socket.must("a run goes on after a foreign user tried to stop it").that(
                !next.is_terminal(),
                "an event that does not end the run",
                &next.frame,
            )?;

            let stopped = control(cx, &alice, &run_id, "stop").send().await?;
            stopped.must("a user can stop its own run").status_and_json(
                &[200],
                &[
                    ("/status", Is::exactly("stopped")),
                    ("/run_id", Is::exactly(run_id.clone())),
                    ("/user_id", Is::exactly(alice.user_id.clone())),
                    ("/timestamp", Is::Moment),
                    ("/message", Is::Text),
                ],
            )?;
            let wanted = format!("the terminal event of run {run_id}");
            let end = socket
                .gather("a stopped run gets its terminal event", cx.ack_deadline(), &wanted, |frames| {
                    Run::pick(&events(frames), &run_id).terminal().cloned()
                })
                .await?;
            socket
                .must("the terminal event of a stopped run is agent_completed with status stopped")
                .equal(&(end.kind.as_str(), ended_as(&end).as_str()), &("agent_completed", "stopped"))?;
            let status = status_of(cx, &alice, &run_id).send().await?;
            status
                .must("the status of a stopped run is stopped")
                .status_and_json(&[200], &[("/status", Is::exactly("stopped"))])?;
            let again = control(cx, &alice, &run_id, "stop").send().await?;
            changes_nothing(cx, "stopping a run twice is no error", &again, "stopped")?;
            let late = control(cx, &alice, &ordinary.run.id, "stop").send().await?;
            changes_nothing(cx, "stopping a run that has ended by itself is no error", &late, &ending)?;

            let seen = events(&socket.quiet(0).await?);
            socket.must("nothing of a run follows its stop but one terminal event").hold(Run::pick(&seen, &run_id).ends_once())?;
            socket
                .must("nothing of a run follows the end that it came to by itself")
                .hold(Run::pick(&seen, &ordinary.run.id).ends_once())?;
            for (which, run_id, wanted) in [("stopped", &run_id, "stopped"), ("ended", &ordinary.run.id, ending.as_str())] {
                let status = status_of(cx, &alice, run_id).send().await?;
                status
                    .must(format!("the status of a run that was {which} stays for good"))
                    .status_and_json(&[200], &[("/status", Is::exactly(wanted))])?;
            }

            let unknown = format!("run_{}", uuid::Uuid::new_v4().simple());
            for action in ["stop", "cancel", "start"] {
                let reply = control(cx, &alice, &unknown, action).send().await?;
                reply.must(format!("{action} of an unknown run is refused")).refused(&[404])?;
            }
            let reply = status_of(cx, &alice, &unknown).send().await?;
            reply.must("the status of an unknown run is refused").refused(&[404])
        })
        .await
}

fn status_of(cx: &Cx, who: impl Into<Credential>, run_id: &str) -> Request {
    cx.api(who).get(format!("/api/chat/agents/{run_id}/status"))
}

fn control(cx: &Cx, who: impl Into<Credential>, run_id: &str, action: &str) -> Request {
    cx.api(who).request("POST", format!("/api/chat/agents/{run_id}/{action}"))
}

/// The status in which a terminal event says that its run ended.
fn ended_as(terminal: &Event) -> String {
    if terminal.kind == "agent_error" { "failed" } else { terminal.payload["status"].as_str().unwrap_or_default() }.to_owned()
}

/// An ended run is not stopped again: 200 with the status that it has, or 409 (both permitted).
#[track_caller]
fn changes_nothing(cx: &Cx, name: &'static str, reply: &Reply, status: &str) -> Held {
    cx.note(format!("{name}: answered with {}", reply.status));
    if reply.status == 409 {
        return reply.must(name).refused(&[409]);
    }
    reply.must(name).status_and_json(&[200], &[("/status", Is::exactly(status))])
}
