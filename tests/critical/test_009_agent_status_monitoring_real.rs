//! 009: a run can be watched from its start to its end, health tells the truth, and every answer can be traced.

use std::collections::BTreeSet;
use std::time::Instant;

use netra_critical::event::events;
use netra_critical::expect::{Trouble, fields};
use netra_critical::http::Caller;
use netra_critical::identity::Credential;
use netra_critical::reply::Reply;
use netra_critical::time::{moment, now};
use netra_critical::ws::Socket;
use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging, poll};
use rstest::rstest;
use serde_json::json;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 9,
    name: "test_009_agent_status_monitoring_real",
    title: "runs, health and traces show what really happens",
    area: Area::Agents,
    impact: "nobody sees that it is broken",
    alone: false,
};

/// The statuses of a run: it goes through the first two, and from `ENDED` on it has come to an end, for good.
const STATUSES: [&str; 6] = ["pending", "running", "completed", "failed", "stopped", "cancelled"];
const ENDED: usize = 2;
/// How far the clock of the service may be from ours.
const CLOCK_SKEW_S: f64 = 300.0;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_009_agent_status_monitoring_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let [alice, bob] = cx.users(["alice", "bob"]).await?;
            let (api, anyone) = (cx.api(&alice), cx.anonymous());

            // What business calls show, and what readiness says right after them.
            let created = api.post("/api/threads", json!({"title": cx.name("status")})).send().await?;
            let thread = created.json()["id"].as_str().unwrap_or("none").to_owned();
            cx.archive_later(&alice, &thread);
            let read = api.get(format!("/api/threads/{thread}")).send().await?;
            let ready = anyone.get("/health/ready").send().await?;
            let works = created.status < 500 && read.status < 500;
            let says = ready.status == 200 && ready.json()["status"] == "ready";
            cx.must("/health/ready agrees with what business calls show")
                .about([created.exchange, read.exchange, ready.exchange])
                .that(
                    works == says,
                    format!("ready: {works}, since creating a thread gives {} and reading it {}", created.status, read.status),
                    format!("ready: {says}, {}", ready.summary()),
                )?;
            created.must("a thread can be created").status_in(&[200, 201])?;
            ready.must("/health/ready names the environment and every store").json(&[
                ("/environment", Is::exactly(cx.settings().environment.as_str())),
                ("/core_db", Is::Text),
                ("/redis_db", Is::Text),
                ("/clickhouse_db", Is::Text),
            ])?;

            let socket = cx.socket(&alice).await?;
            let before = now();
            socket.say(&uuid::Uuid::new_v4().to_string(), Some(&thread), &cx.settings().prompts.long);
            let begun = socket.gather("a run begins", cx.run_deadline(), "an event of a run in the thread", |frames| {
                events(frames).into_iter().find(|event| event.thread_id == thread && !event.run_id.is_empty())
            });
            let run = begun.await?.run_id;
            let status = format!("/api/chat/agents/{run}/status");
            let looks = watch(cx, &api, &socket, &run, &status).await?;
            let agents = anyone.get("/health/agents").send().await?;
            let after = cx.api_on_new_connection(&alice)?.get(&status).send().await?;

            every(&looks, "the status of a run is readable, and is that run's", &[("/run_id", Is::exactly(run.as_str()))])?;
            every(&looks, "the run belongs to the user who asked", &[("/user_id", Is::exactly(alice.user_id.as_str()))])?;
            every(
                &looks,
                "the status has every field",
                &[
                    ("/status", Is::OneOf(&STATUSES)),
                    ("/agent_name", Is::Text),
                    ("/progress", Is::Within(0.0, 100.0)),
                    ("/current_task", Is::Present),
                    ("/started_at", Is::Moment),
                ],
            )?;
            let last = looks.last().map(Reply::json).cloned().unwrap_or_default();
            let shown = cx.must("the run is seen at work before it ends").about([looks[0].exchange]);
            shown.that(looks.iter().any(|look| stage(look) < ENDED), "pending or running at first", looks[0].summary())?;
            cx.must("the status never goes back").hold(rising("stages of the status", looks.iter().map(stage)))?;
            let progress = looks.iter().filter_map(|look| look.json()["progress"].as_f64());
            cx.must("progress never falls").hold(rising("progress", progress))?;
            let started_at = moment(&last["started_at"]).unwrap_or_default();
            let sane = before - CLOCK_SKEW_S..now() + CLOCK_SKEW_S;
            cx.must("started_at is about the time of the question").that(
                sane.contains(&started_at),
                format!("{sane:?}"),
                started_at,
            )?;
            every(&looks, "started_at stays the same", &[("/started_at", Is::Exactly(last["started_at"].clone()))])?;

            after.must("the run comes to its end, completed").json(&[("/status", Is::exactly("completed"))])?;
            after.must("progress ends at 100").json(&[("/progress", Is::Within(100.0, 100.0))])?;
            agents.must("/health/agents lists the agents").json(&[("/agents", Is::Object)])?;
            agents
                .must("/health/agents agrees with the run that has just completed")
                .json(&[("/status", Is::exactly("healthy")), ("/fallback_mode", Is::exactly(false))])?;

            let unknown = api.get(format!("/api/chat/agents/run_{}/status", uuid::Uuid::new_v4().simple())).send().await?;
            unknown.must("an unknown run is not found").refused(&[404])?;
            let foreign = cx.api(&bob).get(&status).send().await?;
            foreign.must("a run of another user cannot be watched").refused(&[403, 404])?;
            let nobody = anyone.get(&status).send().await?;
            nobody.must("a run cannot be watched without a token").refused(&[401, 403])?;
            let forged = cx.api(Credential::forged(&alice)).get(&status).send().await?;
            forged.must("a run cannot be watched with a forged token").refused(&[401])?;

            // Further errors, for the sake of their headers alone.
            let invalid = api.post("/api/threads", json!({"title": [42]})).send().await?;
            let no_route = anyone.get("/api/no-such-route").send().await?;
            let no_method = api.request("PATCH", &status).send().await?;
            let mut all = vec![created, read, ready, agents, after, unknown, foreign, nobody, forged, invalid, no_route, no_method];
            all.extend(looks);
            traceable(cx, &all)
        })
        .await
}

/// Looks at the status of a run until it says that it has ended, or, once the run has told its end, for `ack_ms` more.
async fn watch(cx: &Cx, api: &Caller, socket: &Socket, run: &str, status: &str) -> Held<Vec<Reply>> {
    let mut looks: Vec<Reply> = Vec::new();
    let mut ended = None;
    let looked = poll::until(cx.run_deadline(), cx.run_deadline() / 200, async || {
        if ended.is_none() && events(&socket.frames()).iter().any(|event| event.run_id == run && event.is_terminal()) {
            ended = Some(Instant::now());
        }
        let reply = match api.get(status).send().await {
            Ok(reply) => reply,
            Err(stop) => return Ok(Err(stop)),
        };
        let over = reply.status != 200 || stage(&reply) == ENDED || ended.is_some_and(|since| since.elapsed() > cx.ack_deadline());
        looks.push(reply);
        if over { Ok(Ok(())) } else { Err(()) }
    });
    looked.await.unwrap_or(Ok(()))?;
    if looks.is_empty() { Err(Trouble::suite("the run was not looked at", "raise run_ms")) } else { Ok(looks) }
}

fn stage(look: &Reply) -> usize {
    STATUSES.iter().position(|status| look.json()["status"] == *status).map_or(0, |place| place.min(ENDED))
}

/// Wants these fields of every look; judges the first that is different, else the last.
fn every(looks: &[Reply], name: &'static str, wanted: &[(&str, Is)]) -> Held {
    let different = |look: &&Reply| look.status != 200 || fields(look.json(), wanted).is_err();
    let shown = looks.iter().find(different).or(looks.last());
    shown.map_or(Ok(()), |look| look.must(name).status_and_json(&[200], wanted))
}

fn rising<T: PartialOrd + std::fmt::Debug>(what: &str, values: impl Iterator<Item = T>) -> Result<(), Mismatch> {
    let values: Vec<_> = values.collect();
    if values.is_sorted() { Ok(()) } else { Err(Mismatch::new(format!("{what}, never falling"), format!("{values:?}"))) }
}

/// Every answer, good or bad, can be found again in the logs of the service.
fn traceable(cx: &Cx, all: &[Reply]) -> Held {
    let mut seen = BTreeSet::new();
    let environment = cx.settings().environment.as_str();
    none(cx, "every answer has a trace id", all, |reply| reply.header("x-trace-id").is_empty())?;
    none(cx, "no two answers have the same trace id", all, |reply| !seen.insert(reply.header("x-trace-id").to_owned()))?;
    let mut seen = BTreeSet::new();
    none(cx, "no two errors name the same trace id", all, |reply| {
        reply.json()["trace_id"].as_str().is_some_and(|id| !seen.insert(id.to_owned()))
    })?;
    none(cx, "every answer echoes the request id", all, |reply| {
        reply.headers.get("x-request-id") != reply.request_headers.get("x-request-id")
    })?;
    none(cx, "every answer names the environment", all, |reply| reply.header("x-environment") != environment)
}

/// Wants no answer that breaks the rule, and shows the first ones that do, with their headers.
fn none(cx: &Cx, rule: &'static str, all: &[Reply], breaks: impl FnMut(&&Reply) -> bool) -> Held {
    const SHOWN: usize = 3;
    let broken: Vec<_> = all.iter().filter(breaks).collect();
    let shown: Vec<_> =
        broken.iter().take(SHOWN).map(|reply| format!("{} {} {:?}", reply.what, reply.status, reply.headers)).collect();
    cx.must(rule).about(broken.iter().take(SHOWN).map(|reply| reply.exchange)).that(
        broken.is_empty(),
        format!("that of all {} answers", all.len()),
        format!("not so for {}, as in {}", broken.len(), shown.join("; ")),
    )
}
