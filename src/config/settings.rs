//! The keys of `staging.toml`, with the values that hold where it says nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConfigError;
use crate::token::Mint;

/// Everything that can be set for one target: the keys of `[targets.<name>]`. What is not set has the value given here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// True: start the embedded stand-in, and take the URLs and secrets from it.
    pub embedded: bool,
    /// Base URL of the HTTP API.
    pub api_url: String,
    /// URL of the WebSocket.
    pub ws_url: String,
    /// Base URL of the auth service.
    pub auth_url: String,
    /// The environment that the service must say it is.
    pub environment: String,
    /// Where tokens come from.
    pub token_source: TokenSource,
    /// Name of the variable with the signing secret.
    pub jwt_secret_env: String,
    /// Name of the variable with the key for `POST /auth/e2e/test-auth`.
    pub e2e_key_env: String,
    /// Names of the variables with ready access tokens, one user each, for `token_source = "env"`.
    pub access_token_envs: Vec<String>,
    /// Names of the variables with the refresh tokens of the same users.
    pub refresh_token_envs: Vec<String>,
    /// PEM file with a CA to trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Seeded users for `token_source = "mint"`, as `id e-mail`.
    pub users: Vec<String>,
    /// With `token_source = "mint"`: true if the service accepts any `sub`, so that each check gets users of its own.
    pub fresh_users: bool,
    /// Claims of tokens signed here that differ from the contract's; an empty text leaves a claim out, `alg` names the algorithm.
    pub mint: Mint,
    /// True if a refused token is searched for its cause: up to 24 requests a run, none of them on a pass.
    pub token_search: bool,
    /// Domain of the e-mail addresses of users made for a run.
    pub email_domain: String,
    /// Hosts that the service may advertise beside those of its URLs, over TLS; nothing is ever asked of them.
    pub advertised_hosts: Vec<String>,
    /// How long the service may go on accepting a used token after its logout, in seconds.
    pub logout_cache_s: u64,
    /// A heartbeat interval over this is not waited for, in seconds.
    pub heartbeat_wait_max_s: u64,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// Numbers of sockets, users, samples.
    pub load: Load,
    /// What agents are asked.
    pub prompts: Prompts,
    /// The harmless tool of check 010.
    pub tool: Tool,
    /// Service-level agreements per route: `"GET /health" = { median_ms = …, tail_ms = … }`; `WS welcome` is the time to the welcome.
    pub slas: BTreeMap<String, Sla>,
}

/// Deadlines in milliseconds, `check_s` in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// A whole check.
    pub check_s: u64,
    /// DNS, TCP, TLS together.
    pub connect_ms: u64,
    /// From the upgrade to the welcome, or to the refusal.
    pub welcome_ms: u64,
    /// From `ping` to `pong`.
    pub ping_ms: u64,
    /// From a request to the end of its response.
    pub reply_ms: u64,
    /// From a message to its acknowledgement.
    pub ack_ms: u64,
    /// From the start of an agent run to its end.
    pub run_ms: u64,
    /// How long a socket or stream is listened to for what must not come.
    pub quiet_ms: u64,
    /// The whole critical path of check 025, in milliseconds.
    pub path_ms: u64,
}

/// Sizes. The defaults are those of the list of checks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// 004: sockets of one user at once.
    pub sockets: usize,
    /// 004: users at once.
    pub users: usize,
    /// 004: connect/close cycles in a row.
    pub cycles: usize,
    /// 015: messages that are paged through.
    pub page_messages: usize,
    /// 011: agent runs that are timed.
    pub agent_samples: usize,
    /// 021: messages in one burst.
    pub burst_messages: usize,
    /// 023: samples per route, after one warm-up.
    pub sla_samples: usize,
    /// 024: users at once.
    pub concurrent_users: usize,
}

/// Prompts. `{word}` is replaced by a word made for the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompts {
    /// An ordinary question.
    pub question: String,
    /// A second one, on another subject.
    pub other: String,
    /// A third, for work with data.
    pub data: String,
    /// A fourth, for optimization.
    pub optimization: String,
    /// A question that takes long enough to look at the run and to stop it.
    pub long: String,
    /// A question whose answer must contain `{word}`.
    pub word: String,
    /// A question that only makes sense after `question`, in the same thread.
    pub follow_up: String,
    /// Name of an agent that does not exist: a run for it must fail.
    pub unknown_agent: String,
}

/// A harmless tool with two sets of arguments whose results differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// First arguments, a JSON object.
    pub first: String,
    /// What the first result must contain.
    pub first_result: String,
    /// Second arguments, a JSON object.
    pub second: String,
    /// What the second result must contain.
    pub second_result: String,
}

/// A service-level agreement for one route.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sla {
    /// The median of the samples may not exceed this.
    pub median_ms: f64,
    /// No more than one sample in twenty may exceed this.
    pub tail_ms: f64,
}

/// Where tokens come from. There is no fallback from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenSource {
    /// Signed by the suite with the shared secret.
    Mint,
    /// Issued by `POST /auth/e2e/test-auth`.
    AuthService,
    /// Handed in through variables.
    Env,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            embedded: false,
            api_url: String::new(),
            ws_url: String::new(),
            auth_url: String::new(),
            environment: "staging".to_owned(),
            token_source: TokenSource::AuthService,
            jwt_secret_env: "JWT_SECRET_STAGING".to_owned(),
            e2e_key_env: "E2E_OAUTH_SIMULATION_KEY".to_owned(),
            access_token_envs: Vec::new(),
            refresh_token_envs: Vec::new(),
            ca_file: None,
            users: Vec::new(),
            fresh_users: false,
            mint: Mint::new(),
            token_search: true,
            email_domain: "staging.netrasystems.ai".to_owned(),
            advertised_hosts: Vec::new(),
            logout_cache_s: 300,
            heartbeat_wait_max_s: 30,
            deadlines: Deadlines::default(),
            load: Load::default(),
            prompts: Prompts::default(),
            tool: Tool::default(),
            slas: BTreeMap::new(),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            check_s: 120,
            connect_ms: 10_000,
            welcome_ms: 10_000,
            ping_ms: 5_000,
            reply_ms: 15_000,
            ack_ms: 5_000,
            run_ms: 60_000,
            quiet_ms: 1_500,
            path_ms: 90_000,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            sockets: 5,
            users: 5,
            cycles: 8,
            page_messages: 40,
            agent_samples: 3,
            burst_messages: 20,
            sla_samples: 20,
            concurrent_users: 10,
        }
    }
}

impl Default for Prompts {
    fn default() -> Self {
        Self {
            question: "How can we lower the monthly cost of our GPU inference cluster without losing latency?".to_owned(),
            other: "Which database indexes speed up our slowest reporting queries on invoices?".to_owned(),
            data: "Summarise the trend in token consumption for customer support over the last quarter.".to_owned(),
            optimization: "Propose a caching policy for embeddings that halves repeated computation.".to_owned(),
            long: "Analyse in depth how our model routing affects quality, cost and latency, step by step.".to_owned(),
            word: "Write two sentences about reliable software and use the code word {word} in both of them.".to_owned(),
            follow_up: "Now turn that into a list of three actions for next week.".to_owned(),
            unknown_agent: "agent-that-does-not-exist".to_owned(),
        }
    }
}

impl Default for Tool {
    fn default() -> Self {
        Self {
            name: "calculator".to_owned(),
            first: r#"{"a":6,"b":7,"operation":"multiply"}"#.to_owned(),
            first_result: "42".to_owned(),
            second: r#"{"a":100,"b":58,"operation":"add"}"#.to_owned(),
            second_result: "158".to_owned(),
        }
    }
}

impl Deadlines {
    /// A number of milliseconds as a duration.
    #[must_use]
    pub fn of(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}

impl Prompts {
    /// The prompt that asks for a word.
    #[must_use]
    pub fn with_word(&self, word: &str) -> String {
        self.word.replace("{word}", word)
    }
}

impl Tool {
    /// Both sets of arguments, with what each result must contain.
    ///
    /// # Errors
    /// Text that is no JSON object, with the key.
    pub fn probes(&self) -> Result<[(Value, &str); 2], ConfigError> {
        let parse = |key: &str, text: &str| match serde_json::from_str::<Value>(text) {
            Ok(value) if value.is_object() => Ok(value),
            _ => Err(ConfigError::new(format!("tool.{key} = {text:?} is no JSON object"), "write an object, as in '{\"a\":1}'")),
        };
        Ok([
            (parse("first", &self.first)?, self.first_result.as_str()),
            (parse("second", &self.second)?, self.second_result.as_str()),
        ])
    }
}
