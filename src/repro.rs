//! One request again, by hand: the socket, or a token for curl.

use crate::check::{Area, Check};
use crate::config::{Environment, Places};
use crate::context::Cx;
use crate::diagnose::bypass::garbage;
use crate::diagnose::lab::Lab;
use crate::explain::Told;
use crate::secret::Secret;
use crate::suite::{Launch, Suite};
use crate::token::Claims;

static REPRO: Check =
    Check { id: 0, name: "repro", title: "one request again", area: Area::WebSocket, impact: "none", alone: false };

/// Opens the socket once and shows every frame.
///
/// # Errors
/// 1 if it is not welcomed; 2 for words that are not understood or a wrong configuration; 3 if the target cannot be reached.
pub fn socket(env: &Environment, launch: Launch, options: &[&str]) -> Told {
    let Shown { token, by } = parse(options)?;
    on_target(env, launch, async |cx| {
        let shown = match token {
            Some("none") => None,
            other => Some(fresh(cx, other).await?),
        };
        let dial = cx.dial().caller("repro", false);
        let dial = match (&shown, by) {
            (None, _) => dial,
            (Some(token), Some("subprotocol")) => dial.subprotocol(token.expose()),
            (Some(token), Some("query")) => dial.query(token.expose()),
            (Some(token), _) => dial.bearer(token.expose()),
        };
        let refusal = dial.refusal().await;
        let mut text: String = cx.recorder().all().iter().map(crate::report::exchange).collect();
        match refusal {
            Err(_) => Err((3, text)),
            Ok(it) if it.frames.iter().any(|frame| frame["data"]["event"] == "connection_established") => {
                text.push_str("welcomed");
                Ok(text)
            }
            Ok(it) => Err((1, format!("{text}not welcomed: {}", it.look()))),
        }
    })
}

/// What is shown, and how; each as its option says it.
#[derive(Default)]
struct Shown<'a> {
    token: Option<&'a str>,
    by: Option<&'a str>,
}

fn parse<'a>(options: &[&'a str]) -> Result<Shown<'a>, (u8, String)> {
    let mut shown = Shown::default();
    for pair in options.chunks(2) {
        match *pair {
            ["--token", what @ ("minted" | "issued" | "garbage" | "none")] => shown.token = Some(what),
            ["--by", how @ ("header" | "subprotocol" | "query")] => shown.by = Some(how),
            _ => return Err((2, format!("{:?} is not understood: see critical help", pair.join(" ")))),
        }
    }
    Ok(shown)
}

/// A fresh token, as a header for curl's `-H @-`.
///
/// # Errors
/// As [`socket`].
pub fn token(env: &Environment, launch: Launch, options: &[&str]) -> Told {
    let Shown { token, by: None } = parse(options)? else {
        return Err((2, "a token for curl goes into a header: --by is for critical ws".to_owned()));
    };
    on_target(env, launch, async |cx| fresh(cx, token).await.map(|token| format!("Authorization: Bearer {}", token.expose())))
}

/// A token of this source, or of the target's own.
async fn fresh(cx: &Cx, source: Option<&str>) -> Result<Secret, (u8, String)> {
    let (settings, target) = (cx.settings(), cx.target());
    let source = source.unwrap_or(match settings.token_source {
        crate::config::TokenSource::AuthService => "issued",
        crate::config::TokenSource::Mint => "minted",
        crate::config::TokenSource::Env => "env",
    });
    match (source, &target.jwt_secret) {
        ("none", _) => Err((2, "without a token there is nothing to print".to_owned())),
        ("garbage", _) => Ok(Secret::new(garbage())),
        ("issued", _) => Lab::new(cx).issue().await.map_err(|error| (1, error)),
        ("minted", Some(secret)) => {
            let (id, email) = settings.users.first().and_then(|user| user.split_once(' ')).unwrap_or(("e2e-critical-repro", ""));
            Ok(Secret::new(Claims::access(id, email).as_minted(&settings.mint).sign_minted(&settings.mint, secret)))
        }
        ("env", _) if !target.tokens.is_empty() => Ok(target.tokens[0].0.clone()),
        _ => Err((2, format!("{} is not set", settings.jwt_secret_env))),
    }
}

/// Sets the target up, away from the runs of the checks, and lets `body` use it.
fn on_target(env: &Environment, launch: Launch, body: impl AsyncFnOnce(&Cx) -> Told) -> Told {
    let mut places = Places::of(env);
    places.out.push("repro");
    let suite = Suite::set_up(env, &places, &[&REPRO], launch).map_err(|error| (2, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (2, format!("no runtime: {error}")))?;
    runtime.block_on(body(&Cx::new(std::sync::Arc::new(suite), &REPRO)))
}
