//! `staging.toml` and the environment. The only module that reads environment variables, and the guard of the border:
//! which hosts may be contacted, and which never.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::secret::Secret;

mod settings;

pub use settings::{Deadlines, Load, Prompts, Settings, Sla, TokenSource, Tool};

/// The whole of `staging.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    targets: BTreeMap<String, Settings>,
}

/// A chosen target: its name, its settings, its three addresses.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name in `staging.toml`.
    pub name: String,
    /// Settings, after the environment had its say.
    pub settings: Settings,
    /// Base URL of the HTTP API.
    pub api: Url,
    /// URL of the WebSocket.
    pub ws: Url,
    /// Base URL of the auth service.
    pub auth: Url,
    /// Signing secret, where one is given.
    pub jwt_secret: Option<Secret>,
    /// Key for test users, where one is given.
    pub e2e_key: Option<Secret>,
    /// Ready tokens: access, and refresh where given.
    pub tokens: Vec<(Secret, Option<Secret>)>,
    /// PEM of a CA to trust beside the public ones.
    pub ca_pem: Option<String>,
    /// True for a stand-in inside this process.
    pub embedded: bool,
}

/// What a started stand-in tells about itself.
#[derive(Debug)]
pub struct Launched {
    /// Base URL of the HTTP API.
    pub api_url: String,
    /// URL of the WebSocket.
    pub ws_url: String,
    /// Base URL of the auth service.
    pub auth_url: String,
    /// Its CA.
    pub ca_pem: Option<String>,
    /// Its throw-away signing secret.
    pub jwt_secret: String,
    /// Its throw-away key for test users.
    pub e2e_key: String,
}

/// Something in the configuration that a person must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, with file, line and key where there is one.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl ConfigError {
    /// An error with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  remedy: {}", self.what, self.remedy)
    }
}

/// The variables that the suite reads, as a map, so that tests can bring their own.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Values that are no Unicode are left out.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// A variable that is set and not blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The target that is asked for.
    #[must_use]
    pub fn target_name(&self) -> &str {
        self.get("CRITICAL_TARGET").unwrap_or("stand-in")
    }

    /// A secret that must be there.
    fn secret(&self, name: &str, target: &str, purpose: &str) -> Result<Secret, ConfigError> {
        self.get(name).map(|value| Secret::new(value.to_owned())).ok_or_else(|| {
            ConfigError::new(
                format!("{name} is not set; target `{target}` needs it {purpose}"),
                format!("export {name}=… (the value lives in your secret store), or choose another `token_source` or target"),
            )
        })
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// Where things are: found once, from the environment.
#[derive(Clone, Debug)]
pub struct Places {
    /// The suite's own folder.
    pub root: PathBuf,
    /// The settings file.
    pub config: PathBuf,
    /// The folder that runs are written to: `target/critical`.
    pub out: PathBuf,
    /// The run id given from outside, else none: `CRITICAL_RUN_ID`, or nextest's own, which all its processes share.
    pub run_id: Option<String>,
}

impl Places {
    /// Reads them.
    #[must_use]
    pub fn of(env: &Environment) -> Self {
        let package = env.get("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR"));
        let root = if Path::new("staging.toml").is_file() { PathBuf::new() } else { PathBuf::from(package) };
        let target_dir = env.get("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let nextest = env.get("NEXTEST_RUN_ID").map(|id| format!("nextest-{id}"));
        Self {
            root: root.clone(),
            config: env.get("CRITICAL_CONFIG").map_or_else(|| root.join("staging.toml"), PathBuf::from),
            out: env.get("CRITICAL_OUT_DIR").map_or_else(|| target_dir.join("critical"), PathBuf::from),
            run_id: env.get("CRITICAL_RUN_ID").map(str::to_owned).or(nextest),
        }
    }
}

/// Where the output of a run goes, and what else runs it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Colours are not wanted (`NO_COLOR`, whatever its value but an empty one).
    pub no_color: bool,
    /// GitHub Actions runs it.
    pub github: Option<GitHub>,
    /// A runner with a process a check runs it (nextest).
    pub process_per_check: bool,
    /// libtest runs one check after the other.
    pub one_thread: bool,
    /// What libtest was told: filters and options.
    pub arguments: Vec<String>,
}

/// A job of GitHub Actions.
#[derive(Clone, Debug)]
pub struct GitHub {
    /// The file that becomes the job's summary.
    pub step_summary: Option<PathBuf>,
}

impl Surroundings {
    /// Reads them.
    #[must_use]
    pub fn of(env: &Environment, arguments: Vec<String>) -> Self {
        let told = |option: &str| {
            let after = arguments.iter().skip_while(|it| *it != option).nth(1);
            after.cloned().or_else(|| arguments.iter().find_map(|it| it.strip_prefix(option)?.strip_prefix('=').map(str::to_owned)))
        };
        let threads = told("--test-threads").or_else(|| env.get("RUST_TEST_THREADS").map(str::to_owned));
        Self {
            no_color: env.get("NO_COLOR").is_some(),
            github: (env.get("GITHUB_ACTIONS") == Some("true"))
                .then(|| GitHub { step_summary: env.get("GITHUB_STEP_SUMMARY").map(PathBuf::from) }),
            process_per_check: env.get("NEXTEST").is_some(),
            one_thread: threads.as_deref() == Some("1"),
            arguments,
        }
    }
}

/// Names a fault that the embedded stand-in is started with.
pub const FAULT: &str = "CRITICAL_FAULT";

/// True if evidence and reports are not wanted, for a benchmark. A run that judges a deployment always leaves them.
pub(crate) fn reports_off(env: &Environment, embedded: bool) -> Result<bool, ConfigError> {
    const VARIABLE: &str = "CRITICAL_REPORTS";
    match env.get(VARIABLE) {
        None => Ok(false),
        Some("off") if embedded => Ok(true),
        Some("off") => Err(ConfigError::new(
            format!("{VARIABLE}=off is for benchmarks of the embedded stand-in: a run without evidence proves nothing"),
            format!("unset {VARIABLE}"),
        )),
        Some(other) => Err(ConfigError::new(format!("{VARIABLE}={other:?} is not understood"), format!("unset {VARIABLE}"))),
    }
}

/// Finds the target: `staging.toml`, then the environment, then, for an embedded target, the stand-in that `launch` starts.
///
/// # Errors
/// A text that names file, line, key, variable or host, and what to do.
pub fn load(config: &Path, env: &Environment, launch: impl FnOnce() -> Result<Launched, String>) -> Result<Target, ConfigError> {
    let file = read(config)?;
    let name = env.target_name().to_owned();
    let Some(mut settings) = file.targets.get(&name).cloned() else {
        let known: Vec<_> = file.targets.keys().map(String::as_str).collect();
        return Err(ConfigError::new(
            format!("CRITICAL_TARGET={name}: no such target in {}", config.display()),
            format!("choose one of: {}; or add [targets.{name}]", known.join(", ")),
        ));
    };
    let overridden = override_urls(&mut settings, env, &name)?;
    let embedded = settings.embedded && !overridden;
    if let Some(fault) = env.get(FAULT).filter(|_| !embedded) {
        return Err(ConfigError::new(
            format!("{FAULT}={fault} is for the embedded stand-in; this run goes to {}", settings.api_url),
            format!("unset {FAULT}, or run without CRITICAL_TARGET and the CRITICAL_*_URL variables"),
        ));
    }
    let launched =
        if embedded {
            Some(launch().map_err(|error| {
                ConfigError::new(format!("the embedded stand-in did not start: {error}"), "see the cause above")
            })?)
        } else {
            None
        };
    if let Some(it) = &launched {
        settings.api_url.clone_from(&it.api_url);
        settings.ws_url.clone_from(&it.ws_url);
        settings.auth_url.clone_from(&it.auth_url);
    }
    if settings.token_source != TokenSource::Env
        && (!settings.access_token_envs.is_empty() || !settings.refresh_token_envs.is_empty())
    {
        return Err(ConfigError::new(
            format!("targets.{name}: access_token_envs is set, but token_source is not \"env\""),
            "set token_source = \"env\", or remove the list: tokens are never taken from a second source",
        ));
    }
    sensible_sizes(&name, &settings)?;
    sensible_mint(&name, &settings)?;
    refuse_production(&name, &settings)?;
    let mut target = Target {
        api: address(&name, "api_url", &settings.api_url, ["https", "http"])?,
        ws: address(&name, "ws_url", &settings.ws_url, ["wss", "ws"])?,
        auth: address(&name, "auth_url", &settings.auth_url, ["https", "http"])?,
        jwt_secret: None,
        e2e_key: None,
        tokens: Vec::new(),
        ca_pem: launched.as_ref().and_then(|it| it.ca_pem.clone()),
        embedded,
        name,
        settings,
    };
    if let Some(it) = launched {
        target.jwt_secret = Some(Secret::new(it.jwt_secret));
        target.e2e_key = Some(Secret::new(it.e2e_key));
    } else {
        target.read_secrets(env)?;
    }
    if let Some(path) = &target.settings.ca_file {
        target.ca_pem = Some(std::fs::read_to_string(path).map_err(|error| {
            ConfigError::new(format!("CA file {}: {error}", path.display()), "correct CRITICAL_CA_FILE or ca_file, or remove it; a stand-in takes its own CA file away when it stops: start it again and use what it prints")
        })?);
    }
    Ok(target)
}

fn read(config: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(config).map_err(|error| {
        ConfigError::new(
            format!("settings file {}: {error}", config.display()),
            "run from the package's folder, or set CRITICAL_CONFIG to a staging.toml",
        )
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        ConfigError::new(
            format!("{}:{line}: {}", config.display(), error.to_string().trim_end()),
            "correct the key or the value, or delete the line; staging.toml documents every key in place",
        )
    })
}

/// The keys that the settings file states for a target; what it does not state has its default.
#[must_use]
pub fn stated_keys(config: &Path, target: &str) -> Vec<String> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let file: toml::Table = text.parse().unwrap_or_default();
    let section = file.get("targets").and_then(|targets| targets.get(target)).and_then(toml::Value::as_table);
    section.map_or_else(Vec::new, |section| section.keys().cloned().collect())
}

/// Takes the URLs of the environment; true if there are any.
fn override_urls(settings: &mut Settings, env: &Environment, name: &str) -> Result<bool, ConfigError> {
    let given = [
        ("CRITICAL_API_URL", &mut settings.api_url),
        ("CRITICAL_WS_URL", &mut settings.ws_url),
        ("CRITICAL_AUTH_URL", &mut settings.auth_url),
    ];
    let (mut any, mut missing) = (false, Vec::new());
    for (variable, slot) in given {
        match env.get(variable) {
            Some(url) => {
                url.clone_into(slot);
                any = true;
            }
            None if slot.is_empty() => missing.push(variable),
            None => {}
        }
    }
    if let Some(path) = env.get("CRITICAL_CA_FILE") {
        settings.ca_file = Some(PathBuf::from(path));
    }
    if (any || !settings.embedded) && !missing.is_empty() {
        return Err(ConfigError::new(
            format!("target `{name}` has no {}", missing.join(", ")),
            "give all three URLs, in staging.toml or in the environment; parts of a target are never mixed with the stand-in",
        ));
    }
    Ok(any)
}

fn address(target: &str, key: &str, text: &str, [secure, plain]: [&str; 2]) -> Result<Url, ConfigError> {
    let wrong = |what: String, remedy: &str| ConfigError::new(format!("targets.{target}.{key} = {text:?}: {what}"), remedy);
    let url = Url::parse(text).map_err(|error| wrong(error.to_string(), "write a full URL, as in https://api.example.test"))?;
    if url.scheme() == plain && !is_loopback(&url) {
        return Err(wrong(
            format!("plain {plain} is for loopback addresses only"),
            &format!("use {secure}; a private CA can be trusted with CRITICAL_CA_FILE"),
        ));
    }
    if url.scheme() != secure && url.scheme() != plain {
        return Err(wrong(format!("scheme {:?}", url.scheme()), &format!("use {secure}")));
    }
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong("a host, and neither user nor query, belongs here".to_owned(), "write scheme, host, port and path only"));
    }
    Ok(url)
}

/// True for `localhost` and the loopback ranges, as literal addresses.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A size under which a check could not fail is no setting but a mistake.
fn sensible_sizes(name: &str, settings: &Settings) -> Result<(), ConfigError> {
    let load = &settings.load;
    let least = [
        ("sockets", load.sockets, 2),
        ("users", load.users, 2),
        ("cycles", load.cycles, 1),
        ("page_messages", load.page_messages, 8),
        ("agent_samples", load.agent_samples, 2),
        ("burst_messages", load.burst_messages, 6),
        ("sla_samples", load.sla_samples, 3),
        ("concurrent_users", load.concurrent_users, 2),
    ];
    match least.into_iter().find(|(_, size, least)| size < least) {
        None => Ok(()),
        Some((key, size, least)) => Err(ConfigError::new(
            format!("targets.{name}.load.{key} = {size}: a check of that size could not fail"),
            format!("set it to {least} or more"),
        )),
    }
}

/// Only HMACs can be signed with a shared secret.
fn sensible_mint(name: &str, settings: &Settings) -> Result<(), ConfigError> {
    match settings.mint.get("alg") {
        None => Ok(()),
        Some(alg) if alg.as_str().is_some_and(|alg| ["HS256", "HS384", "HS512"].contains(&alg)) => Ok(()),
        Some(alg) => Err(ConfigError::new(
            format!("targets.{name}.mint.alg = {alg}: no algorithm with a shared secret"),
            "write HS256, HS384 or HS512, or remove it",
        )),
    }
}

/// The suite makes users, threads and load; it is never let loose on production.
fn refuse_production(name: &str, settings: &Settings) -> Result<(), ConfigError> {
    let says_so = |text: &str| {
        text.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|word| matches!(word, "prod" | "production" | "prd"))
    };
    let product_live = |url: &str| {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_lowercase)).unwrap_or_default();
        (host == "netrasystems.ai" || host.ends_with(".netrasystems.ai")) && !host.split('.').any(|label| label == "staging")
    };
    let named = [("name", name), ("environment", settings.environment.as_str())];
    let urls = [("api_url", &settings.api_url), ("ws_url", &settings.ws_url), ("auth_url", &settings.auth_url)];
    let culprit = named
        .into_iter()
        .find(|(_, text)| says_so(text))
        .or_else(|| urls.into_iter().map(|(key, url)| (key, url.as_str())).find(|(_, url)| says_so(url) || product_live(url)));
    match culprit {
        None => Ok(()),
        Some((key, text)) => Err(ConfigError::new(
            format!("target `{name}` is refused: its {key} {text:?} says production"),
            "point the suite at a staging environment: it creates users, threads and load, and is never run against production",
        )),
    }
}

impl Target {
    /// Points a target at another stand-in.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn replace_by(&mut self, it: Launched) -> Result<(), ConfigError> {
        self.api = address(&self.name, "api_url", &it.api_url, ["https", "http"])?;
        self.ws = address(&self.name, "ws_url", &it.ws_url, ["wss", "ws"])?;
        self.auth = address(&self.name, "auth_url", &it.auth_url, ["https", "http"])?;
        self.ca_pem = it.ca_pem;
        self.jwt_secret = Some(Secret::new(it.jwt_secret));
        self.e2e_key = Some(Secret::new(it.e2e_key));
        Ok(())
    }

    fn read_secrets(&mut self, env: &Environment) -> Result<(), ConfigError> {
        let settings = &self.settings;
        let signing = "to sign the tokens that must be refused (check 002)";
        match settings.token_source {
            TokenSource::Mint => {
                self.jwt_secret =
                    Some(env.secret(&settings.jwt_secret_env, &self.name, "to sign tokens (token_source = \"mint\")")?);
            }
            TokenSource::AuthService => {
                self.e2e_key = Some(env.secret(
                    &settings.e2e_key_env,
                    &self.name,
                    "to ask the auth service for users (token_source = \"auth-service\")",
                )?);
                self.jwt_secret = Some(env.secret(&settings.jwt_secret_env, &self.name, signing)?);
            }
            TokenSource::Env => {
                if settings.access_token_envs.is_empty() {
                    return Err(ConfigError::new(
                        format!("targets.{}: token_source = \"env\", but access_token_envs names no variable", self.name),
                        "name one variable per user; checks 016 and 024 need several users",
                    ));
                }
                for (at, variable) in settings.access_token_envs.iter().enumerate() {
                    let access = env.secret(variable, &self.name, "as an access token (token_source = \"env\")")?;
                    let refresh = match settings.refresh_token_envs.get(at) {
                        Some(variable) => Some(env.secret(variable, &self.name, "as a refresh token")?),
                        None => None,
                    };
                    self.tokens.push((access, refresh));
                }
                self.jwt_secret = Some(env.secret(&settings.jwt_secret_env, &self.name, signing)?);
            }
        }
        if self.e2e_key.is_none() {
            // No source of tokens here: only to compare a refused token with one of the auth service's own.
            self.e2e_key = env.get(&self.settings.e2e_key_env).map(|key| Secret::new(key.to_owned()));
        }
        Ok(())
    }

    /// True if this URL is on one of the target's three hosts, with scheme and port. Nothing else is ever contacted.
    #[must_use]
    pub fn owns(&self, url: &Url) -> bool {
        [&self.api, &self.ws, &self.auth].into_iter().any(|own| {
            let same_transport = is_secure(own) == is_secure(url);
            same_transport && own.host_str() == url.host_str() && own.port_or_known_default() == url.port_or_known_default()
        })
    }

    /// True if the service may advertise this URL: it is the target's own, or over TLS on a host that the settings name.
    #[must_use]
    pub fn may_advertise(&self, url: &Url) -> bool {
        let named = |host: &str| self.settings.advertised_hosts.iter().any(|named| named == host);
        self.owns(url) || (is_secure(url) && url.host_str().is_some_and(named))
    }

    /// True for a target on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_loopback(&self.api)
    }
}

fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
}
