//! Causes in the service itself, each found by an experiment that repeats what failed or asks beside it.

use serde_json::Value;

use super::lab::{Answer, Door, Lab, ROUTE};
use super::rules::{frame_says, header};
use super::{Cause, Side};
use crate::context::Cx;
use crate::exchange::{Exchange, Kind, Phase};
use crate::expect::Class;
use crate::identity::Credential;
use crate::secret::recall;

/// A service that has been up for less is still in its first minute.
const FIRST_MINUTE_S: f64 = 60.0;
/// An auth service that needs longer than this makes the backend give up on it.
pub(crate) const SLOW_MS: f64 = 2_000.0;
/// Routes that every build of the contract has, and that need no token.
const ROUTES: [&str; 4] = ["/api/config/public", "/api/discovery/services", "/api/mcp/config", "/ws/config"];
/// A round trip over this is slow, in milliseconds.
const SLOW_TRIP_MS: f64 = 50.0;
/// A clock that is off by more than this breaks what is compared with ours, in seconds.
const CLOCK_S: f64 = 60.0;
/// Connections that are opened one after the other to find a leak.
const CYCLES: usize = 8;
/// Readings of one thing, to find answers that alternate.
const READINGS: usize = 6;

/// Looks for the cause of a failure that is no refused token and no broken way.
pub(crate) async fn examine(lab: &mut Lab<'_>, class: Class, shown: &Exchange, got: &str) -> Vec<Cause> {
    let mut all = Vec::new();
    all.extend(wrong_environment(lab.cx, shown));
    if shown.url.contains("/auth/e2e/test-auth") {
        all.extend(simulation_key(lab.cx, shown));
    }
    if !all.is_empty() {
        return all;
    }
    if shown.url.starts_with(lab.cx.target().auth.as_str()) && shown.status.is_none_or(|status| status >= 500) {
        return auth_service(lab, shown).await;
    }
    if class == Class::Sla {
        return too_slow(lab, shown).await;
    }
    if class == Class::NotReady {
        return vec![not_ready(lab, shown).await];
    }
    if shown.status == Some(429) {
        let what = format!("#{} was refused for too many requests", shown.id);
        let change = "the rate limit of this environment for test users, or fewer checks at once (RUST_TEST_THREADS)";
        return vec![Cause::new("rate-limit", Class::Contract, Side::Theirs, what, change).shown_in([shown.id])];
    }
    if shown.status == Some(404) || shown.status == Some(405) {
        all.extend(missing_route(lab, shown).await);
    }
    if shown.kind == Kind::WebSocket && shown.close.as_ref().is_some_and(|close| close.code == 1011) {
        all.extend(internal_close(lab, shown).await);
    }
    if all.is_empty() && says_canned(shown, got) {
        all.push(canned_agents(lab, shown).await);
    }
    if all.is_empty() && shown.kind == Kind::Http && shown.method == "GET" {
        all.extend(alternating(lab, shown).await);
    }
    if all.is_empty() && matches!(class, Class::Contract | Class::Application) {
        let request = lab.cx.anonymous().get("/health");
        lab.ask("/health", request).await;
        let off = lab.skew().filter(|skew_s| skew_s.abs() >= CLOCK_S);
        all.extend(off.map(|skew_s| Cause { class, ..super::run::clock(skew_s) }));
    }
    all
}

/// Every answer says which environment it is of.
pub(crate) fn wrong_environment(cx: &Cx, shown: &Exchange) -> Option<Cause> {
    let wanted = &cx.settings().environment;
    let own = cx.recorder().all();
    let stranger = own
        .iter()
        .filter(|x| x.phase != Phase::Cleanup && !header(x, "x-environment").is_empty())
        .find(|x| header(x, "x-environment") != wanted)?;
    let says = header(stranger, "x-environment");
    let what = format!("the service says that it is {says:?} (x-environment), and {wanted:?} is wanted");
    let change = format!(
        "the URLs of target {} if they lead to another environment, its `environment` in staging.toml, or the deployment's setting",
        cx.target().name
    );
    Some(Cause::new("wrong-environment", Class::Contract, Side::Between, what, change).shown_in([stranger.id, shown.id]))
}

pub(crate) fn simulation_key(cx: &Cx, shown: &Exchange) -> Option<Cause> {
    let key = &cx.settings().e2e_key_env;
    let body = shown.response_body.as_deref().unwrap_or_default();
    let cause = match shown.status {
        Some(401) => {
            let what = format!("the auth service does not take the key for test users ({key})");
            Cause::new(
                "simulation-key",
                Class::Suite,
                Side::Ours,
                what,
                format!("export {key} with the key that the auth service of this target was started with"),
            )
        }
        Some(403) => Cause::new(
            "simulation-forbidden",
            Class::Suite,
            Side::Ours,
            "the auth service makes no test users: it says that it is a production environment",
            "the URL of the auth service: this is no staging environment",
        ),
        Some(503) if body.contains("not configured") => Cause::new(
            "simulation-key-not-configured",
            Class::NotReady,
            Side::Theirs,
            "the auth service has no key for test users",
            format!("{key} in the deployment of the auth service"),
        ),
        _ => return None,
    };
    Some(cause.shown_in([shown.id]))
}

/// An auth service without an answer that can be used, from what it said.
pub(crate) fn silent_auth_service(said: &str) -> Cause {
    let (name, class, what) = if said.starts_with("503") || said.starts_with("502") {
        ("auth-service-down", Class::NotReady, "the auth service is up, and says that it cannot work")
    } else if said.contains("until the deadline") || said.contains("in time") || said.contains("no answer within") {
        ("auth-service-frozen", Class::NotReady, "the auth service takes requests and answers none")
    } else if said.contains("cannot be reached") {
        ("auth-service-unreachable", Class::Transport, "the auth service cannot be reached")
    } else {
        ("auth-service-broken", Class::Application, "the auth service gives no answer that can be used")
    };
    let change = "the auth service: its instances, its database, its log; nothing that needs a token works until then";
    Cause::new(name, class, Side::Theirs, format!("{what}: {said}"), change)
}

/// An auth service that answers too late for those who ask it.
pub(crate) fn slow_auth_service(took_ms: f64) -> Cause {
    let what = format!("the auth service is sound but slow: {:.1} s for one answer; who asks it gives up before", took_ms / 1e3);
    let change = "the auth service: its instances (a cold start?), its database, its load; then the backend's patience with it";
    Cause::new("auth-service-slow", Class::NotReady, Side::Theirs, what, change)
}

/// The auth service failed: is it down, slow or frozen as a whole?
pub(crate) async fn auth_service(lab: &mut Lab<'_>, shown: &Exchange) -> Vec<Cause> {
    let request = lab.cx.auth().get("/health");
    let reply = lab.ask("health of the auth service", request).await;
    let failed = shown.error.clone().unwrap_or_else(|| format!("{} at #{}", shown.status.unwrap_or_default(), shown.id));
    let cause = match reply {
        Some(reply) if reply.status == 200 && reply.elapsed.as_secs_f64() * 1e3 >= SLOW_MS => {
            slow_auth_service(reply.elapsed.as_secs_f64() * 1e3).shown_in([reply.exchange])
        }
        Some(reply) if reply.status == 200 => Cause::new(
            "auth-service-broken",
            Class::Application,
            Side::Theirs,
            format!("the auth service is healthy by its own account and failed at #{}: {failed}", shown.id),
            "the route of the auth service that failed: its log at that moment",
        )
        .shown_in([reply.exchange]),
        Some(reply) => silent_auth_service(&reply.summary()).shown_in([reply.exchange]),
        None => silent_auth_service(lab.trials.last().map_or("no answer", |trial| trial.said.as_str()))
            .shown_in([lab.cx.recorder().last_id()]),
    };
    vec![cause.shown_in([shown.id])]
}

async fn not_ready(lab: &mut Lab<'_>, shown: &Exchange) -> Cause {
    let mut seen = Vec::new();
    let mut uptime = None;
    for path in ["/health/ready", "/health"] {
        let request = lab.cx.anonymous().get(path);
        if let Some(reply) = lab.ask(path, request).await {
            seen.push(format!("{path} {}", reply.summary()));
            uptime = uptime.or(reply.json()["uptime_seconds"].as_f64());
        }
    }
    let startup = frame_says(shown, "STARTUP_INCOMPLETE");
    let missing = shown.frames.iter().find_map(|frame| {
        let frame: Value = serde_json::from_str(&frame.text).ok()?;
        frame["details"]["missing_service"].as_str().map(str::to_owned)
    });
    let mut what = if startup { "the service is still starting" } else { "the service says that it is not ready" }.to_owned();
    if let Some(missing) = missing {
        what = format!("{what}: it waits for {missing}");
    }
    if uptime.is_some_and(|up| up < FIRST_MINUTE_S) {
        what = format!("{what}, and is in its first minute");
    }
    let name = if startup { "startup-incomplete" } else { "not-ready" };
    let what = format!("{what}; {}", seen.join("; "));
    let change = "wait until /health/ready says ready, then run again; if it never does, the service that it waits for";
    Cause::new(name, Class::NotReady, Side::Theirs, what, change)
        .shown_in([shown.id])
        .shown_by(lab.trials.iter().filter(|trial| trial.door.is_none()))
}

/// Is it the service that is slow, or the way to it? The handshakes of TCP
/// and TLS 1.3 (RFC 8446 §2) are one round trip each, and no work for the service.
async fn too_slow(lab: &mut Lab<'_>, shown: &Exchange) -> Vec<Cause> {
    let api = lab.cx.target().api.clone();
    let Ok(timing) = super::transport::steps(lab, &api).await else { return Vec::new() };
    let trip_ms = timing.tcp_ms.unwrap_or_default().max(timing.tls_ms.unwrap_or_default());
    let request = lab.cx.anonymous().get("/health");
    let Some(reply) = lab.ask("/health on an open connection", request).await else { return Vec::new() };
    let answer_ms = reply.first_byte.as_secs_f64() * 1e3;
    let measured = format!(
        "one round trip takes {trip_ms:.0} ms, /health {answer_ms:.0} ms, #{} {:.0} ms",
        shown.id,
        shown.timing.first_byte_ms.unwrap_or_default()
    );
    let cause = if trip_ms >= SLOW_TRIP_MS && answer_ms < 2.0 * trip_ms {
        let change = "where the suite runs, or the way from there; or the SLAs in staging.toml, if this way is meant";
        Cause::new("slow-network", Class::Sla, Side::Between, format!("the way is slow, not the service: {measured}"), change)
    } else {
        let change = "the service's work for this route: its queries, its locks, its instances (a cold start?)";
        Cause::new("slow-service", Class::Sla, Side::Theirs, format!("the service is slow, not the way: {measured}"), change)
    };
    vec![cause.shown_in([shown.id, reply.exchange])]
}

/// 404 on a documented path: one route, the whole build, or another service behind the URL?
async fn missing_route(lab: &mut Lab<'_>, shown: &Exchange) -> Vec<Cause> {
    let unknown = |body: &str| body.contains("\"detail\":\"Not Found\"") || body.contains("\"detail\": \"Not Found\"");
    if shown.kind != Kind::WebSocket && !shown.response_body.as_deref().is_some_and(unknown) {
        return Vec::new();
    }
    let request = lab.cx.anonymous().get("/health");
    let health = lab.ask("/health", request).await;
    let text = |key: &str| health.as_ref().and_then(|reply| reply.json()[key].as_str()).unwrap_or("?").to_owned();
    if text("service") == "auth-service" {
        let what = "what answers as the API is the auth service".to_owned();
        let change = "CRITICAL_API_URL, or api_url in staging.toml: it has the auth service's address";
        return vec![Cause::new("urls-swapped", Class::Suite, Side::Ours, what, change).shown_by(lab.trials.last())];
    }
    if shown.kind == Kind::WebSocket {
        let what = format!("the socket's path is unknown there: {} gives 404", shown.url);
        let change = "CRITICAL_WS_URL, or ws_url in staging.toml: path and port of the socket (the contract has /ws)";
        return vec![Cause::new("wrong-ws-url", Class::Suite, Side::Ours, what, change).shown_in([shown.id])];
    }
    let mut missing = Vec::new();
    for route in ROUTES {
        let request = lab.cx.anonymous().get(route);
        if lab.ask(route, request).await.is_some_and(|reply| reply.status == 404) {
            missing.push(route);
        }
    }
    let path = url::Url::parse(&shown.url).map(|url| url.path().to_owned()).unwrap_or_default();
    let others: Vec<_> = missing.iter().filter(|route| **route != path).copied().collect();
    let version = text("version");
    let (name, what) = if others.is_empty() {
        ("route-missing", format!("the service (version {version}) does not know {path}; other routes are there"))
    } else {
        (
            "stale-build",
            format!("version {version} does not know {path}, nor {}: an older build, or another product", others.join(", ")),
        )
    };
    let change = "the deployment: which revision gets the traffic, and whether it is the one that was built last";
    vec![Cause::new(name, Class::Contract, Side::Theirs, what, change).shown_in([shown.id]).shown_by(lab.trials.iter().skip(1))]
}

/// 1011 for a good token: always, or only after some connections?
async fn internal_close(lab: &mut Lab<'_>, shown: &Exchange) -> Vec<Cause> {
    let Ok(token) = lab.issue().await else { return Vec::new() };
    let mut answers = Vec::new();
    for n in 1..=CYCLES {
        let Some(trial) = lab.show(&format!("connection {n} in a row of a fresh user"), token.expose(), Door::Header).await else {
            break;
        };
        let accepted = trial.answer == Answer::Accepted;
        answers.push(trial);
        if !accepted {
            break;
        }
    }
    let accepted = answers.iter().filter(|trial| trial.answer == Answer::Accepted).count();
    let http = if accepted == 0 { lab.show("a fresh user", token.expose(), Door::Http).await } else { None };
    let cause = match (accepted, answers.last().map(|trial| trial.answer)) {
        (0, _) => Cause::new(
            "internal-error-after-authentication",
            Class::Application,
            Side::Theirs,
            "the socket closes with 1011 right after authentication, for every user: the token is good, what comes after it fails",
            "what the backend sets up for a connection after authentication (its factories and managers): the log at that moment",
        ),
        (_, Some(Answer::Accepted)) => return Vec::new(),
        (n, _) => Cause::new(
            "connection-leak",
            Class::Application,
            Side::Theirs,
            format!("closed connections are not given back: after {n} in a row, connection {} of a user is refused", n + 1),
            "the backend's count of connections of a user: it must go down when a socket closes, however it closes",
        ),
    };
    vec![cause.shown_in([shown.id]).shown_by(&answers).shown_by(&http)]
}

/// By the words of the matchers that judge answers, or by the service's own admission.
fn says_canned(shown: &Exchange, got: &str) -> bool {
    let judged =
        ["a canned answer", "an echo of the prompt", "twice the same", "an empty answer"].iter().any(|words| got.contains(words));
    let admitted = shown.frames.iter().filter(|frame| !frame.sent).any(|frame| {
        let frame: Value = serde_json::from_str(&frame.text).unwrap_or_default();
        frame["data"]["fallback_active"] == true
    });
    judged || admitted
}

async fn canned_agents(lab: &mut Lab<'_>, shown: &Exchange) -> Cause {
    let request = lab.cx.anonymous().get("/health/agents");
    let reply = lab.ask("health of the agents", request).await;
    let by_health = match reply.as_ref().map(|reply| &reply.json()["fallback_mode"]) {
        Some(Value::Bool(true)) => "/health/agents admits it (fallback_mode)",
        Some(Value::Bool(false)) => "/health/agents says otherwise (fallback_mode: false)",
        _ => "/health/agents says nothing about it",
    };
    let what = format!("agents answer with canned text (a mock or a fallback), no work is done; {by_health}");
    let change = "the agents of the deployment: the model's key and quota, and the switch that turns mocks or fallbacks on";
    Cause::new("canned-agents", Class::Application, Side::Theirs, what, change).shown_in([shown.id]).shown_by(lab.trials.last())
}

/// The same reading several times, on connections of their own: do the answers alternate, as between instances with a store each?
async fn alternating(lab: &mut Lab<'_>, shown: &Exchange) -> Vec<Cause> {
    let credential = shown.request_headers.iter().find(|(name, _)| name == "authorization").and_then(|(_, value)| recall(value));
    let Ok(url) = url::Url::parse(&shown.url) else { return Vec::new() };
    if !shown.url.starts_with(lab.cx.target().api.as_str()) || !url.path().starts_with(ROUTE.trim_end_matches("/threads")) {
        return Vec::new();
    }
    let who = credential.map_or(Credential::Nobody, |token| Credential::good("the same user", token.expose()));
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut looks = Vec::new();
    for n in 1..=READINGS {
        let Ok(caller) = lab.cx.api_on_new_connection(who.clone()) else { return Vec::new() };
        let Some(reply) = lab.ask(&format!("reading {n} of {}", url.path()), caller.get(path.clone())).await else { break };
        looks.push(look(reply.status, reply.json()));
    }
    let changes = looks.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if changes < 2 {
        return Vec::new();
    }
    let what = format!(
        "{} readings of {} on connections of their own change {changes} times between {}",
        looks.len(),
        url.path(),
        different(&looks)
    );
    let change = "the store: each instance (or worker) keeps its own; put what users make into one that all instances share";
    let shown_by: Vec<_> = lab.trials.iter().rev().take(looks.len()).cloned().collect();
    vec![Cause::new("store-per-process", Class::Application, Side::Theirs, what, change).shown_in([shown.id]).shown_by(&shown_by)]
}

/// What two readings are told apart by: status, and how many items there are.
fn look(status: u16, body: &Value) -> String {
    let items = body.as_array().or_else(|| body["messages"].as_array()).or_else(|| body["threads"].as_array());
    items.map_or_else(|| status.to_string(), |items| format!("{status} with {} items", items.len()))
}

fn different(looks: &[String]) -> String {
    let mut all: Vec<_> = looks.iter().map(String::as_str).collect();
    all.sort_unstable();
    all.dedup();
    all.join(" and ")
}
