//! 007: each agent that can be asked over HTTP does real work, says honestly how long it took, and works for nobody unknown.

use netra_critical::event::{all_differ, is_real};
use netra_critical::exchange::ms;
use netra_critical::http::{Caller, Request};
use netra_critical::identity::Credential;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Held, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 7,
    name: "test_007_agent_execution_endpoints_real",
    title: "every agent route does real work, for users only",
    area: Area::Agents,
    impact: "paid work is not done",
    alone: false,
};

/// A route, the agent that works there, and what it is asked.
#[derive(Clone, Copy)]
struct Job<'a> {
    route: &'static str,
    agent: &'static str,
    prompt: &'a str,
}

impl Job<'_> {
    /// A body that is in order.
    fn body(self) -> Value {
        if self.route == "execute" {
            return json!({"type": self.agent, "message": self.prompt});
        }
        json!({"message": self.prompt})
    }

    fn post(self, caller: &Caller, body: Value) -> Request {
        caller.post(format!("/api/agents/{}", self.route), body)
    }
}

#[rstest]
#[test_log::test(tokio::test)]
async fn test_007_agent_execution_endpoints_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let api = cx.api(&alice);
            let prompts = &cx.settings().prompts;
            // The general route is asked for an agent that it would hardly choose by itself.
            let execute = Job { route: "execute", agent: "optimization", prompt: &prompts.question };
            let jobs = [
                execute,
                Job { route: "triage", agent: "triage", prompt: &prompts.other },
                Job { route: "data", agent: "data", prompt: &prompts.data },
                Job { route: "optimization", agent: "optimization", prompt: &prompts.optimization },
            ];
            let run = |job: Job<'_>| job.post(&api, job.body()).within(cx.run_deadline()).send();
            let (first, second, third, fourth) = tokio::try_join!(run(jobs[0]), run(jobs[1]), run(jobs[2]), run(jobs[3]))?;
            let replies = [first, second, third, fourth];
            for (job, reply) in jobs.iter().zip(&replies) {
                real_work(*job, reply)?;
            }
            let answers = replies.iter().map(|reply| reply.json()["response"].as_str().unwrap_or_default());
            cx.must("different prompts get different answers")
                .about(replies.iter().map(|reply| reply.exchange))
                .hold(all_differ(answers))?;

            // None of these starts a run.
            for job in jobs {
                let route = job.route;
                let reply = job.post(&api, without(job.body(), "message")).send().await?;
                reply.must(format!("{route}: a missing message is invalid")).invalid("message")?;
                let reply = job.post(&api, with(job.body(), "message", json!(42))).send().await?;
                reply.must(format!("{route}: a message that is no text is invalid")).invalid("message")?;
                let reply = job.post(&cx.anonymous(), job.body()).send().await?;
                reply.must(format!("{route}: no token is refused")).refused(&[401, 403])?;
                let reply = job.post(&cx.api(Credential::forged(&alice)), job.body()).send().await?;
                reply.must(format!("{route}: a forged token is refused")).refused(&[401])?;
            }
            let reply = execute.post(&api, without(execute.body(), "type")).send().await?;
            reply.must("execute: a missing type is invalid").invalid("type")?;
            let reply = execute.post(&api, with(execute.body(), "type", json!(["triage"]))).send().await?;
            reply.must("execute: a type that is no text is invalid").invalid("type")
        })
        .await
}

/// Wants the answer of an agent that has worked on this very prompt.
fn real_work(Job { route, agent, prompt }: Job<'_>, reply: &Reply) -> Held {
    reply.must(format!("{route}: the run succeeds")).status_and_json(&[200], &[("/status", Is::exactly("success"))])?;
    reply.must(format!("{route}: the answer has every field")).fields(&[
        ("/agent", Is::Text),
        ("/response", Is::Text),
        ("/execution_time", Is::Number),
        ("/circuit_breaker_state", Is::Present),
        ("/error", Is::Exactly(Value::Null)),
    ])?;
    reply.must(format!("{route}: the agent is the one that was asked")).fields(&[("/agent", Is::exactly(agent))])?;
    let answer = reply.json()["response"].as_str().unwrap_or_default();
    reply.must(format!("{route}: the answer is the agent's own work")).hold(is_real(answer, prompt))?;
    let (took, wall) = (reply.json()["execution_time"].as_f64().unwrap_or(-1.0), ms(reply.elapsed) / 1000.0);
    reply.must(format!("{route}: the reported time is more than none")).that(took > 0.0, "more than 0 s", format!("{took} s"))?;
    reply.must(format!("{route}: the reported time is no more than was waited")).that(
        took <= wall,
        format!("at most {wall} s"),
        format!("{took} s"),
    )
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().map(|fields| fields.remove(field));
    body
}
