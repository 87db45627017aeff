//! 011: every run of an agent is real work, done within the service-level agreement, and honest about its time.

use netra_critical::config::Sla;
use netra_critical::event::{all_differ, is_real};
use netra_critical::exchange::ms;
use netra_critical::expect::Trouble;
use netra_critical::history::median;
use netra_critical::reply::Reply;
use netra_critical::{Area, Check, Class, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::json;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 11,
    name: "test_011_agent_performance_real",
    title: "agents answer in time, every time",
    area: Area::Agents,
    impact: "users wait, then leave",
    alone: false,
};

const ROUTE: &str = "/api/agents/execute";
/// Below this many samples the 95th percentile is just the maximum.
const SAMPLES_FOR_P95: usize = 20;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_011_agent_performance_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let sla = *cx.settings().slas.get(&format!("POST {ROUTE}")).ok_or_else(|| {
                Trouble::suite(
                    format!("target `{}` has no SLA for POST {ROUTE}", cx.target().name),
                    "add it under [targets.<name>.slas] in staging.toml",
                )
            })?;
            let api = cx.api(&cx.user("alice").await?);
            let mut runs = Vec::new();
            for _ in 0..cx.settings().load.agent_samples {
                let prompt = cx.settings().prompts.with_word(&cx.word());
                let body = json!({"type": "triage", "message": prompt});
                let reply = api.post(ROUTE, body).within(cx.run_deadline()).send().await?;
                real_work(&reply, &prompt)?;
                runs.push(reply);
            }
            let exchanges = runs.iter().map(|reply| reply.exchange);
            let answers = runs.iter().map(|reply| reply.json()["response"].as_str().unwrap_or_default());
            cx.must("different prompts get different answers").about(exchanges).hold(all_differ(answers))?;
            in_time(cx, sla, &runs)?;

            let reported: Vec<_> = runs.iter().map(|reply| reply.json()["execution_time"].to_string()).collect();
            if runs.len() < 2 {
                cx.note("one sample: whether the reported time is constant cannot be told");
                return Ok(());
            }
            cx.must("the reported time is not constant").that(
                reported.iter().any(|time| *time != reported[0]),
                "different times for different runs",
                format!("{reported:?}"),
            )
        })
        .await
}

/// Wants the answer of an agent that has worked on this very prompt, and an honest time.
fn real_work(reply: &Reply, prompt: &str) -> Held {
    let success = [("/status", Is::exactly("success")), ("/agent", Is::exactly("triage"))];
    reply.must("every run succeeds").status_and_json(&[200], &success)?;
    let answer = reply.json()["response"].as_str().unwrap_or_default();
    reply.must("every answer is the agent's own work").hold(is_real(answer, prompt))?;
    let (took, wall) = (reply.json()["execution_time"].as_f64().unwrap_or(-1.0), ms(reply.elapsed) / 1000.0);
    reply.must("every reported time is more than none").that(took > 0.0, "more than 0 s", format!("{took} s"))?;
    let within = format!("at most {wall} s");
    reply.must("every reported time is no more than was waited").that(took <= wall, within, format!("{took} s"))
}

fn in_time(cx: &Cx, sla: Sla, runs: &[Reply]) -> Held {
    let mut waited: Vec<_> = runs.iter().map(|reply| ms(reply.elapsed)).collect();
    waited.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (waited.first(), waited.last()) else {
        return Err(Trouble::suite("load.agent_samples is 0", "set it to 1 or more: nothing was measured"));
    };
    let (n, mid) = (waited.len(), median(&waited));
    let p95 = if n < SAMPLES_FOR_P95 {
        format!("no percentile from so few (p95 from {SAMPLES_FOR_P95} on)")
    } else {
        format!("p95 {:.1} ms", waited[(n * 95).div_ceil(100) - 1])
    };
    let told = format!("n = {n}, min {min:.1} ms, median {mid:.1} ms, max {max:.1} ms, {p95}");
    cx.note(format!("POST {ROUTE}: {told}; SLA median {} ms, tail {} ms", sla.median_ms, sla.tail_ms));
    let slow: Vec<_> = runs.iter().filter(|reply| ms(reply.elapsed) > sla.tail_ms).map(|reply| reply.exchange).collect();
    cx.must("every run ends within the SLA").class(Class::Sla).about(slow.iter().copied()).that(
        slow.is_empty(),
        format!("every run within {} ms", sla.tail_ms),
        format!("{} of {n} are not; {told}", slow.len()),
    )?;
    cx.must("the median of the runs is within the SLA").class(Class::Sla).about(runs.iter().map(|reply| reply.exchange)).that(
        mid <= sla.median_ms,
        format!("median ≤ {} ms", sla.median_ms),
        &told,
    )
}
