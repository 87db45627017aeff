//! The doctor: looks at a target before the checks do. Configuration with the source of each value, the way to each host, clock,
//! health, a token by each source and carrier, and whether anybody gets in. A line each; what is wrong has its cause and remedy.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use crate::about::{Setting, configuration};
use crate::check::{Area, Check};
use crate::config::{Environment, Places, TokenSource};
use crate::context::Cx;
use crate::diagnose::changes::SKEW_FROM_S;
use crate::diagnose::lab::{Answer, Door, Lab, TEST_HEADERS, Trial};
use crate::diagnose::token::{Source, Subject, search};
use crate::diagnose::{Cause, Side, bypass, run, service, transport};
use crate::evidence::write_whole;
use crate::exchange::Phase;
use crate::expect::Class;
use crate::explain::Told;
use crate::secret::Secret;
use crate::suite::{Launch, Suite};
use crate::token::Claims;

static DOCTOR: Check =
    Check { id: 0, name: "doctor", title: "the target can be tested", area: Area::WebSocket, impact: "none", alone: false };

/// What the doctor has seen so far.
#[derive(Default)]
struct Chart {
    lines: Vec<String>,
    causes: Vec<Cause>,
}

impl Chart {
    fn good(&mut self, line: impl std::fmt::Display) {
        self.lines.push(format!("✓ {line}"));
    }

    fn bad(&mut self, line: impl std::fmt::Display, cause: Cause) {
        let cited = if cause.evidence.is_empty() { String::new() } else { format!(" ({})", cause.evidence.join(", ")) };
        self.lines.push(format!(
            "✗ {line}\n    cause: {}: {}{cited}\n    do:    {} ({})",
            cause.name,
            cause.what,
            cause.change,
            cause.side.words()
        ));
        self.causes.push(cause);
    }

    /// 0 sound, 1 the service, 2 the configuration, 3 the target cannot be reached.
    fn code(&self) -> u8 {
        match self.causes.first() {
            None => 0,
            Some(cause) if cause.class == Class::Transport => 3,
            Some(cause) if cause.side == Side::Ours => 2,
            Some(_) => 1,
        }
    }
}

/// Examines the target of this environment.
///
/// # Errors
/// The chart with exit code 1, 2 or 3, where something is wrong.
pub fn run(env: &Environment, launch: Launch) -> Told {
    let started = Instant::now();
    let mut places = Places::of(env);
    let config = places.config.clone();
    places.out.push("doctor");
    let suite = Suite::set_up(env, &places, &[&DOCTOR], launch)
        .map_err(|error| (2, format!("✗ configuration: {}\n    do:    {}", error.what, error.remedy)))?;
    let mut chart = Chart::default();
    for Setting { key, value, source } in configuration(env, &config, &suite.target) {
        chart.good(format!("{key} = {value} ({source})"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (2, format!("✗ no runtime: {error}")))?;
    let cx = Cx::new(Arc::new(suite), &DOCTOR);
    cx.recorder().enter(Phase::Diagnosis);
    runtime.block_on(examine(&mut chart, &cx));
    let path = cx.suite.folder.path.join("doctor.json");
    let left = json!({"lines": chart.lines, "causes": chart.causes, "exchanges": cx.recorder().all()});
    let kept = write_whole(&path, &left).map_or_else(|error| format!("not written: {error}"), |()| path.display().to_string());
    let sum = if chart.causes.is_empty() {
        "sound".to_owned()
    } else {
        format!("{} wrong, the first: {}", chart.causes.len(), chart.causes[0].name)
    };
    let text = format!("{}\n{sum}, after {:.1} s; every exchange: {kept}", chart.lines.join("\n"), started.elapsed().as_secs_f64());
    match chart.code() {
        0 => Ok(text),
        code => Err((code, text)),
    }
}

async fn examine(chart: &mut Chart, cx: &Cx) {
    let mut lab = Lab::new(cx);
    let target = cx.target().clone();
    let ways = [
        ("the API", &target.api, "CRITICAL_API_URL"),
        ("the auth service", &target.auth, "CRITICAL_AUTH_URL"),
        ("the socket", &target.ws, "CRITICAL_WS_URL"),
    ];
    let (api, auth, ws) =
        tokio::join!(transport::steps(&lab, ways[0].1), transport::steps(&lab, ways[1].1), transport::steps(&lab, ways[2].1));
    for ((whose, url, variable), steps) in ways.into_iter().zip([api, auth, ws]) {
        let host = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let ms = |step: Option<f64>| step.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        match steps {
            Ok(it) => {
                chart.good(format!("way to {whose}, {host}: DNS {}, TCP {}, TLS {}", ms(it.dns_ms), ms(it.tcp_ms), ms(it.tls_ms)));
            }
            Err(failed) => chart.bad(format!("way to {whose}, {host}"), transport::of_step(&failed, url, variable)),
        }
    }
    if !chart.causes.is_empty() {
        return;
    }
    health(chart, &mut lab).await;
    strangers(chart, &mut lab).await;
    let mut refused = None;
    for (name, source, token) in tokens(chart, cx, &mut lab).await {
        let mut answers = Vec::new();
        for door in [Door::Validate, Door::Http, Door::Header, Door::Subprotocol, Door::Query] {
            answers.extend(lab.show(name, token.expose(), door).await);
        }
        let needed = |door: Option<Door>| door != Some(Door::Query);
        let wrong = answers.iter().find(|trial| trial.answer != Answer::Accepted && needed(trial.door));
        let told = |trial: &Trial| trial.door.map_or(String::new(), |door| format!("{door} {}", trial.answer));
        let list: Vec<_> = answers.iter().map(told).collect();
        match wrong.and_then(|trial| trial.door) {
            None => chart.good(format!("{name}: {}", list.join(", "))),
            Some(_) if refused.is_some() => chart.lines.push(format!("✗ {name}: {} (searched above)", list.join(", "))),
            Some(door) => refused = Some((format!("{name}: {}", list.join(", ")), Subject { token, source, door, route: None })),
        }
    }
    let Some((line, subject)) = refused else { return };
    let found = search(&mut Lab::new(cx), subject).await;
    let mut causes = found.causes.into_iter();
    if let Some(first) = causes.next() {
        chart.bad(line, first);
    }
    for further in causes {
        chart.bad("and", further);
    }
}

async fn health(chart: &mut Chart, lab: &mut Lab<'_>) {
    let cx = lab.cx;
    for (who, request) in [
        ("API, /health", cx.anonymous().get("/health")),
        ("API, /health/ready", cx.anonymous().get("/health/ready")),
        ("auth service, /health", cx.auth().get("/health")),
    ] {
        let reply = lab.ask(who, request).await;
        let recorded = cx.recorder().all();
        let Some(shown) = recorded.last() else { continue };
        match reply {
            Some(reply) if reply.status == 200 => {
                let text = |key: &str| reply.json()[key].as_str().map(str::to_owned);
                let version = text("version").map_or(String::new(), |version| format!(", version {version}"));
                let status = text("status").unwrap_or_else(|| "no status".to_owned());
                chart.good(format!("{who}: {status}{version}, {:.1} ms", reply.elapsed.as_secs_f64() * 1e3));
                if who == "API, /health"
                    && let Some(cause) = service::wrong_environment(cx, shown)
                {
                    chart.bad("environment", cause);
                }
            }
            Some(reply) => {
                let mut causes = if who.starts_with("auth") {
                    vec![service::silent_auth_service(&reply.summary())]
                } else {
                    let class = if reply.status == 503 { Class::NotReady } else { Class::Application };
                    service::examine(lab, class, shown, "").await
                };
                let cause = if causes.is_empty() { unsound(&reply.summary()) } else { causes.remove(0) };
                chart.bad(who, cause.shown_in([reply.exchange]));
            }
            None if who.starts_with("auth") => {
                let said = lab.trials.last().map_or(String::new(), |trial| trial.said.clone());
                chart.bad(who, service::silent_auth_service(&said));
            }
            None => chart.bad(who, unsound(lab.trials.last().map_or("no answer", |trial| trial.said.as_str()))),
        }
    }
    match lab.skew() {
        Some(skew_s) if skew_s.abs() >= SKEW_FROM_S => chart.bad("clock", run::clock(skew_s)),
        Some(_) => chart.good(format!("clock: the service's is within {SKEW_FROM_S} s of ours")),
        None => chart.lines.push("- clock: the service sends no Date".to_owned()),
    }
}

fn unsound(said: &str) -> Cause {
    Cause::new("unhealthy", Class::Application, Side::Theirs, format!("the service is not healthy: {said}"), "the service: its log")
}

/// Garbage must be refused, with and without headers that ask for a test mode.
async fn strangers(chart: &mut Chart, lab: &mut Lab<'_>) {
    let mut plain = Vec::new();
    for door in [Door::Http, Door::Header] {
        plain.extend(lab.show("a garbage token", &bypass::garbage(), door).await);
    }
    if plain.iter().any(|trial| trial.answer == Answer::Accepted) {
        chart.bad("strangers", bypass::bypassed(&plain));
        return;
    }
    match bypass::by_header(lab).await {
        Some(cause) => chart.bad("strangers", cause),
        None => chart.good(format!("strangers: a garbage token is refused, also with {}", TEST_HEADERS.join(", "))),
    }
}

/// A token of each source that the configuration has.
async fn tokens(chart: &mut Chart, cx: &Cx, lab: &mut Lab<'_>) -> Vec<(&'static str, Source, Secret)> {
    let (target, mint) = (cx.target(), &cx.settings().mint);
    let mut all = Vec::new();
    let mut user = ("e2e-critical-doctor".to_owned(), String::new());
    if target.e2e_key.is_some() {
        match lab.issue().await {
            Ok(token) => {
                user.0 =
                    crate::token::decode(token.expose()).and_then(|it| it["sub"].as_str().map(str::to_owned)).unwrap_or(user.0);
                all.push(("a token of the auth service", Source::Issued, token));
            }
            Err(error) => {
                let recorded = cx.recorder().all();
                let known = recorded.last().and_then(|shown| service::simulation_key(cx, shown));
                chart.bad("a token of the auth service", known.unwrap_or_else(|| service::silent_auth_service(&error)));
            }
        }
    }
    if let Some((id, email)) =
        cx.settings().users.first().filter(|_| cx.settings().token_source == TokenSource::Mint).and_then(|it| it.split_once(' '))
    {
        user = (id.to_owned(), email.to_owned());
    }
    if let Some(secret) = &target.jwt_secret {
        let token = Claims::access(&user.0, &user.1).as_minted(mint).sign_minted(mint, secret);
        all.push(("a token minted here", Source::Minted, Secret::new(token)));
    }
    all.extend(target.tokens.first().map(|(access, _)| ("a token handed in", Source::HandedIn, access.clone())));
    all
}
