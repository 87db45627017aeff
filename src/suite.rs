//! Once per process: the target, the run's folder, the shared clients.
//!
//! All checks of a process share one [`Suite`]; the last one to finish lets go of it, and with it the embedded stand-in stops.
//! A set-up that failed is an error of every check, with its cause, never a panic of the first and "poisoned" for the rest.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::ClientConfig;

use crate::check::Check;
use crate::config::{self, ConfigError, Deadlines, Environment, Launched, Places, Surroundings, Target};
use crate::evidence::RunFolder;
use crate::net;

/// How the suite gets a stand-in. The suite knows no server: whoever owns the checks brings one.
pub type Launch = fn(LaunchOptions) -> Result<(Launched, Running), String>;

/// A running stand-in; dropping it stops it.
pub type Running = Box<dyn Any + Send + Sync>;

/// What a stand-in is started with.
#[derive(Clone, Debug, Default)]
pub struct LaunchOptions {
    /// Where it keeps its data; a file of its own if none.
    pub db: Option<PathBuf>,
    /// Secrets to start with, so that tokens outlive a restart; fresh ones if none.
    pub secrets: Option<(String, String)>,
    /// A way in which it breaks the contract, from `CRITICAL_FAULT`.
    pub fault: Option<String>,
}

/// What every check is given: the suite, or why there is none.
#[derive(Clone, Debug)]
pub struct Staging {
    pub(crate) suite: Result<Arc<Suite>, NoSuite>,
}

/// Why there is no suite, and where to say so.
#[derive(Clone, Debug)]
pub struct NoSuite {
    /// What a person must change.
    pub error: ConfigError,
    /// The run's folder, if it could be made.
    pub folder: Option<RunFolder>,
    pub(crate) around: Option<Surroundings>,
}

/// Everything that the checks of one process share.
pub struct Suite {
    /// The target.
    pub target: Arc<Target>,
    /// Where the run is written.
    pub folder: RunFolder,
    /// The HTTP client that all checks share.
    pub(crate) http: reqwest::Client,
    /// TLS for HTTP, to make clients with connections of their own.
    pub(crate) http_tls: ClientConfig,
    /// TLS for WebSockets: HTTP/1.1 only, as the upgrade wants it (RFC 6455 §4.1).
    pub(crate) ws_tls: Arc<ClientConfig>,
    /// Where the run is told as it goes on; nowhere for a suite that is not the process's own.
    pub(crate) around: Option<Surroundings>,
    launch: Launch,
    embedded: Option<Mutex<Running>>,
    fault: Option<String>,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("target", &self.target.name).field("folder", &self.folder).finish_non_exhaustive()
    }
}

enum Shared {
    Nothing,
    Suite(Weak<Suite>),
    /// A configuration does not become right while the process runs.
    Failed(NoSuite),
}

static SHARED: Mutex<Shared> = Mutex::new(Shared::Nothing);

impl Staging {
    /// The suite of this process, made by the first check that asks. Reads `staging.toml` and the environment.
    #[must_use]
    pub fn shared(roster: &[&Check], launch: Launch) -> Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let living = match &*shared {
            Shared::Nothing => None,
            Shared::Suite(suite) => suite.upgrade().map(Ok),
            Shared::Failed(failed) => Some(Err(failed.clone())),
        };
        if let Some(suite) = living {
            return Self { suite };
        }
        let mut made = Self::of(&Environment::of_process(), roster, launch);
        let around = Surroundings::of(&Environment::of_process(), std::env::args().skip(1).collect());
        match &mut made.suite {
            Ok(suite) => drop(Arc::get_mut(suite).map(|suite| suite.around = Some(around))),
            Err(none) => none.around = Some(around),
        }
        *shared = match &made.suite {
            Ok(suite) => Shared::Suite(Arc::downgrade(suite)),
            Err(failed) => Shared::Failed(failed.clone()),
        };
        made
    }

    /// A suite of its own, from this environment.
    #[must_use]
    pub fn of(env: &Environment, roster: &[&Check], launch: Launch) -> Self {
        let places = Places::of(env);
        let suite = Suite::set_up(env, &places, roster, launch).map(Arc::new).map_err(|error| {
            let folder = RunFolder::open(env, &places, roster, None).ok();
            NoSuite { error, folder, around: None }
        });
        Self { suite }
    }

    /// The suite, or why there is none.
    ///
    /// # Errors
    /// What a person must change in the configuration.
    pub fn suite(&self) -> Result<&Arc<Suite>, &NoSuite> {
        self.suite.as_ref()
    }
}

impl Suite {
    /// Makes a suite from an environment.
    ///
    /// # Errors
    /// What a person must change in the configuration.
    pub fn set_up(env: &Environment, places: &Places, roster: &[&Check], launch: Launch) -> Result<Self, ConfigError> {
        let mut running = None;
        let fault = env.get(config::FAULT).map(str::to_owned);
        let target = config::load(&places.config, env, || {
            let (launched, handle) = launch(LaunchOptions { fault: fault.clone(), ..LaunchOptions::default() })?;
            running = Some(handle);
            Ok(launched)
        })?;
        let folder = RunFolder::open(env, places, roster, Some(&target))?;
        Self::over(target, folder, launch, (running, fault))
    }

    fn over(
        target: Target,
        folder: RunFolder,
        launch: Launch,
        (running, fault): (Option<Running>, Option<String>),
    ) -> Result<Self, ConfigError> {
        let http_tls = net::client_config(target.ca_pem.as_deref(), &["h2", "http/1.1"])?;
        let ws_tls = Arc::new(net::client_config(target.ca_pem.as_deref(), &["http/1.1"])?);
        let http = net::http_client(&http_tls, Deadlines::of(target.settings.deadlines.connect_ms))?;
        Ok(Self {
            target: Arc::new(target),
            folder,
            http,
            http_tls,
            ws_tls,
            around: None,
            launch,
            embedded: running.map(Mutex::new),
            fault,
        })
    }

    /// True if the target is a stand-in of this process.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// A second stand-in beside the first, for a check that restarts its server; none if the target is not embedded.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn private(&self, options: LaunchOptions) -> Result<Option<Self>, ConfigError> {
        if !self.is_embedded() {
            return Ok(None);
        }
        let cannot = |error: String| ConfigError::new(format!("a second stand-in did not start: {error}"), "see the cause above");
        let fault = self.fault.clone();
        let (launched, running) = (self.launch)(LaunchOptions { fault: fault.clone(), ..options }).map_err(cannot)?;
        let mut target = Target::clone(&self.target);
        target.replace_by(launched)?;
        Self::over(target, self.folder.clone(), self.launch, (Some(running), fault)).map(Some)
    }
}
