//! 023: every route of `staging.toml` answers within its service-level agreement, measured while no other check runs.

use std::time::{Duration, Instant};

use netra_critical::config::Sla;
use netra_critical::exchange::{Measured, ms};
use netra_critical::expect::Trouble;
use netra_critical::history::median;
use netra_critical::identity::Identity;
use netra_critical::{Area, Check, Class, Cx, Held, Is, Outcome, Staging, io};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 23,
    name: "test_023_response_time_slas_real",
    title: "every route answers within its service-level agreement",
    area: Area::Streams,
    impact: "slow is down",
    alone: true,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_023_response_time_slas_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let settings = cx.settings();
            if settings.slas.is_empty() {
                return Err(Trouble::suite("the target has no SLA", "add routes under [targets.<name>.slas] in staging.toml"));
            }
            let alice = std::sync::Arc::clone(&cx.user("alice").await?);
            cx.note(format!(
                "own overhead: {:.3} ms a request (median of 50 empty trips to the I/O runtime)",
                own_overhead().await
            ));
            for (route, sla) in &settings.slas {
                // A run of an agent costs money and has no connection to warm up that the others have not.
                let (n, warm_up) =
                    if route.contains("/api/agents/") { (settings.load.agent_samples, 0) } else { (settings.load.sla_samples, 1) };
                let mut samples = Vec::with_capacity(n);
                for at in 0..n + warm_up {
                    let elapsed = sample(cx, &alice, route).await?;
                    if at >= warm_up {
                        samples.push(ms(elapsed));
                    }
                }
                judge(cx, route, *sla, &samples)?;
            }
            Ok(())
        })
        .await
}

/// One timed request, from sending to the last byte, or one timed connection, from dialling to the welcome.
async fn sample(cx: &Cx, alice: &std::sync::Arc<Identity>, route: &str) -> Held<Duration> {
    if route == "WS welcome" {
        let started = Instant::now();
        let _socket = cx.socket(alice).await?;
        return Ok(started.elapsed());
    }
    let unknown = || {
        Trouble::suite(
            format!("slas: no request is known for {route:?}"),
            "use GET with a path, POST /api/threads, POST /api/agents/execute, or WS welcome",
        )
    };
    let (method, path) = route.split_once(' ').ok_or_else(unknown)?;
    let request = match (method, path) {
        ("GET", _) => cx.api(alice).get(path),
        ("POST", "/api/threads") => cx.api(alice).post(path, json!({"title": cx.name("sla")})),
        ("POST", "/api/agents/execute") => {
            let message = cx.settings().prompts.with_word(&cx.word());
            cx.api(alice).post(path, json!({"type": "triage", "message": message})).within(cx.run_deadline())
        }
        _ => return Err(unknown()),
    };
    let reply = request.send().await?;
    // A quick answer that says nothing is no sample.
    let well: Vec<(&str, Is)> = match (method, path) {
        ("GET", "/health") => vec![("/status", Is::exactly("healthy"))],
        ("GET", "/api/threads") => vec![("", Is::List)],
        ("POST", "/api/threads") => vec![("/id", Is::Text), ("/object", Is::exactly("thread"))],
        ("POST", _) => vec![("/status", Is::exactly("success")), ("/response", Is::Text)],
        _ => vec![("", Is::Present)],
    };
    reply.must(format!("{route}: every sample is answered well")).status_and_json(&[200, 201], &well)?;
    if path == "/api/threads"
        && let Some(id) = reply.json().get("id").and_then(Value::as_str)
    {
        cx.archive_later(alice, id);
    }
    Ok(reply.elapsed)
}

fn judge(cx: &Cx, route: &str, sla: Sla, samples: &[f64]) -> Held {
    let n = samples.len();
    let low = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let high = samples.iter().copied().fold(0.0, f64::max);
    let mid = median(samples);
    let told = format!("n = {n}, min {low:.1} ms, median {mid:.1} ms, max {high:.1} ms");
    cx.recorder().measure(Measured {
        route: route.to_owned(),
        samples_ms: samples.to_vec(),
        median_limit_ms: sla.median_ms,
        tail_limit_ms: sla.tail_ms,
    });
    cx.note(format!("{route}: {told}; SLA median {} ms, tail {} ms", sla.median_ms, sla.tail_ms));
    cx.must(format!("{route}: the median is within its SLA")).class(Class::Sla).that(
        n > 0 && mid <= sla.median_ms,
        format!("median ≤ {} ms", sla.median_ms),
        &told,
    )?;
    // One in twenty may be slow; of fewer than twenty, none.
    let slow = samples.iter().filter(|sample| **sample > sla.tail_ms).count();
    cx.must(format!("{route}: the tail is within its SLA")).class(Class::Sla).that(
        slow <= n / 20,
        format!("at most {} of {n} samples over {} ms", n / 20, sla.tail_ms),
        format!("{slow} over it; {told}"),
    )
}

/// What a request costs on our side alone: the trip from the check to the runtime that owns the sockets, and back.
async fn own_overhead() -> f64 {
    let mut trips = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        io::run(async {}).await;
        trips.push(ms(started.elapsed()));
    }
    median(&trips)
}
