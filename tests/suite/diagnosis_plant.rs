//! A cause, planted in the stand-in or in the configuration, and a check that fails for it.

use netra_critical::evidence::Evidence;
use netra_critical::identity::Credential;
use netra_critical::token::{Claims, bad_tokens};
use netra_critical::{Cx, Held, Staging};
use netra_stand_in::{Options, StandIn};
use serde_json::json;
use tempfile::TempDir;

use crate::PROBE;

/// A variable's value, given the stand-in.
type Value = Box<dyn Fn(&StandIn) -> String>;

/// Everything that a cause can be planted in.
pub(crate) struct Plant {
    options: Options,
    /// Keys of the target, as TOML, over those of staging.toml.
    settings: toml::Table,
    /// Variables over those that point at the stand-in; given its secret and URLs.
    env: Vec<(&'static str, Value)>,
    stopped: bool,
}

impl Plant {
    pub(crate) fn new() -> Self {
        Self { options: Options::default(), settings: toml::Table::new(), env: Vec::new(), stopped: false }
    }

    pub(crate) fn fault(mut self, name: &str) -> Self {
        self.options.faults.push(name.to_owned());
        self
    }

    pub(crate) fn option(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) fn set(mut self, settings: &str) -> Self {
        let settings: toml::Table = settings.parse().expect("settings");
        for (key, value) in settings {
            match (self.settings.get_mut(&key).and_then(toml::Value::as_table_mut), &value) {
                (Some(section), toml::Value::Table(more)) => section.extend(more.clone()),
                _ => drop(self.settings.insert(key, value)),
            }
        }
        self
    }

    /// Tokens are signed here, for users of each check's own, with these claims changed.
    pub(crate) fn mint(self, claims: &str) -> Self {
        self.set(&format!("token_source = \"mint\"\nfresh_users = true\n[mint]\n{claims}"))
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Fn(&StandIn) -> String + 'static) -> Self {
        self.env.push((name, Box::new(value)));
        self
    }

    pub(crate) fn stopped(mut self) -> Self {
        self.stopped = true;
        self
    }

    /// Runs a body against what is planted.
    pub(crate) async fn run(self, body: Body) -> (Evidence, String, TempDir) {
        let out = tempfile::tempdir().expect("a temporary folder");
        let mut file: toml::Table = include_str!("../../staging.toml").parse().expect("staging.toml is TOML");
        let target = file["targets"]["stand-in"].as_table_mut().expect("a target");
        let deadlines = target["deadlines"].as_table_mut().expect("deadlines");
        for (key, ms) in [("reply_ms", 3000), ("welcome_ms", 2000), ("connect_ms", 2000)] {
            deadlines.insert(key.to_owned(), toml::Value::Integer(ms));
        }
        target.extend(self.settings);
        let config = out.path().join("staging.toml");
        std::fs::write(&config, file.to_string()).expect("settings");
        let server = StandIn::start(self.options).expect("a stand-in");
        let ca = out.path().join("ca.pem");
        std::fs::write(&ca, server.ca_pem().unwrap_or_default()).expect("a CA file");
        let mut env = vec![
            ("CRITICAL_CONFIG", config.display().to_string()),
            ("CRITICAL_OUT_DIR", out.path().display().to_string()),
            ("CRITICAL_RUN_ID", "run".to_owned()),
            ("CRITICAL_API_URL", server.api_url().to_owned()),
            ("CRITICAL_WS_URL", server.ws_url().to_owned()),
            ("CRITICAL_AUTH_URL", server.auth_url().to_owned()),
            ("CRITICAL_CA_FILE", ca.display().to_string()),
            ("JWT_SECRET_STAGING", server.jwt_secret().to_owned()),
            ("E2E_OAUTH_SIMULATION_KEY", server.e2e_key().to_owned()),
        ];
        if server.ca_pem().is_none() {
            env.retain(|(name, _)| *name != "CRITICAL_CA_FILE");
        }
        for (name, value) in self.env {
            let value = value(&server);
            env.retain(|(other, _)| *other != name);
            env.push((name, value));
        }
        let env = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let staging = Staging::of(&env, &[&PROBE], crate::stand_in::launch);
        let mut running = Some(server);
        if self.stopped {
            drop(running.take());
        }
        let outcome = PROBE.run(staging, async |cx| body.run(cx).await).await;
        let text = outcome.err().map_or(String::new(), |told| format!("{told:?}"));
        (crate::evidence(out.path()), text, out)
    }
}

/// What the check does that a cause breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// A user, a reading over HTTP, a socket by header and one by subprotocol.
    Login,
    /// A user, and a socket at once.
    Socket,
    /// A token signed here beside the auth service's own.
    Control,
    /// Bad tokens must be refused.
    Refusals,
    /// Sockets opened and closed in a row.
    Cycles,
    /// An agent's answer.
    Agent,
    /// The answer to a message over the socket.
    Chat,
    /// The list of tools.
    Tools,
    /// A thread that is read several times.
    Thread,
    /// A message with its time.
    Message,
    /// A documented route.
    Route,
    /// A route within its agreed time.
    Pace,
}

impl Body {
    async fn run(self, cx: &Cx) -> Held {
        let alice = cx.user("alice").await?;
        let api = cx.api(&alice);
        match self {
            Self::Login => {
                let reply = api.get("/api/threads").send().await?;
                reply.must("a good token is accepted over HTTP").status(200)?;
                cx.socket(&alice).await?;
                let dial = cx.dial().subprotocol(alice.access.expose()).caller("alice by subprotocol", true);
                let socket = dial.welcomed().await?;
                let environment = cx.settings().environment.clone();
                socket
                    .must("the welcome names the environment")
                    .equal(&socket.welcome()["data"]["environment"], &json!(environment))
            }
            Self::Socket => cx.socket(&alice).await.map(drop),
            Self::Control => {
                let mint = &cx.settings().mint;
                let token = Claims::access(&alice.user_id, &alice.email).as_minted(mint).sign_minted(mint, cx.signing_secret()?);
                netra_critical::secret::remember(&token);
                let reply = cx.api(Credential::good("alice, minted", &token)).get("/api/threads").send().await?;
                reply.must("a minted token is accepted over HTTP").status(200)
            }
            Self::Refusals => {
                let secret = cx.signing_secret()?;
                let expired = Claims::access(&alice.user_id, "").with("iat", 1_000_000_000).with("exp", 1_000_001_800).sign(secret);
                let mut dial = cx.dial().bearer(&expired).caller("an expired token with test headers", false);
                for header in ["X-E2E-Test", "X-Test-Mode"] {
                    dial = dial.header(header, "true");
                }
                let refusal = dial.refusal().await?;
                let clean = refusal.is_clean(&["VALIDATION_FAILED"], &cx.settings().environment);
                cx.must("test headers do not help a bad token").about([refusal.exchange]).hold(clean)?;
                for bad in bad_tokens(&alice.user_id, &alice.email, &cx.settings().mint, secret) {
                    let reply = cx.api(Credential::bad(bad.kind, &bad.token)).get("/api/threads").send().await?;
                    reply.must(format!("a token {} is refused", bad.kind)).refused(&[401])?;
                }
                Ok(())
            }
            Self::Cycles => {
                for _ in 0..9 {
                    let socket = cx.socket(&alice).await?;
                    socket.close("the closing handshake is answered with 1000", 1000).await?;
                }
                Ok(())
            }
            Self::Agent => {
                let prompt = cx.settings().prompts.question.clone();
                let reply = api.post("/api/agents/execute", json!({"type": "triage", "message": prompt})).send().await?;
                let answer = reply.json()["response"].as_str().unwrap_or_default().to_owned();
                reply.must("the agent works").hold(netra_critical::event::is_real(&answer, &prompt))
            }
            Self::Chat => {
                let (socket, prompt) = (cx.socket(&alice).await?, &cx.settings().prompts.question);
                let asked = cx.ask(&socket, None, prompt).await?;
                let answer = asked.run.terminal().map_or("", |event| event.answer());
                socket.must("the agent works").hold(netra_critical::event::is_real(answer, prompt))
            }
            Self::Tools => api.get("/api/tools").send().await?.must("tools can be listed").status(200),
            Self::Thread => {
                let thread = cx.thread(&alice, "read").await?;
                for _ in 0..4 {
                    let reply = api.get(format!("/api/threads/{thread}")).send().await?;
                    reply.must("a thread can be read each time").status(200)?;
                }
                Ok(())
            }
            Self::Message => {
                let thread = cx.thread(&alice, "time").await?;
                let reply = api.post("/api/chat/messages", json!({"content": "hello", "thread_id": thread})).send().await?;
                let at = netra_critical::time::moment(&reply.json()["message"]["timestamp"]).unwrap_or_default();
                let age = netra_critical::time::now() - at;
                reply.must("a message bears the time of its posting").that(age.abs() < 300.0, "now", age)
            }
            Self::Pace => {
                let reply = cx.anonymous().get("/health").send().await?;
                let took = reply.first_byte.as_millis();
                let must = cx.must("the service is quick").about([reply.exchange]).class(netra_critical::Class::Sla);
                must.that(took < 100, "less than 100 ms", took)
            }
            Self::Route => {
                let reply = cx.anonymous().get("/api/config/public").send().await?;
                reply.must("the public configuration is there").status(200)
            }
        }
    }
}
