//! What every request shares.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{agent::runs::Runs, api::limit::Limiter, lies::Lies, socket::hub::Hub, store::Store, tasks::Tasks, token::Tokens};

/// The largest frame a client may send over the socket.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8192;
/// The version the stand-in says it is.
pub(crate) const VERSION: &str = "1.0.0";

/// Where the stand-in is reached.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) api: String,
    pub(crate) ws: String,
    pub(crate) auth: String,
    pub(crate) api_port: u16,
    pub(crate) auth_port: u16,
}

/// What every request shares: one per started stand-in, nothing is global.
pub(crate) struct App {
    pub(crate) environment: String,
    pub(crate) e2e_key: String,
    pub(crate) heartbeat: Duration,
    pub(crate) step: Duration,
    pub(crate) urls: Urls,
    pub(crate) lies: Arc<Lies>,
    pub(crate) tokens: Tokens,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) runs: Runs,
    pub(crate) limiter: Limiter,
    pub(crate) tasks: Tasks,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) started: Instant,
}

impl App {
    /// The heartbeat as it is announced: whole seconds, at least one.
    pub(crate) fn heartbeat_seconds(&self) -> u64 {
        self.heartbeat.as_secs().max(1)
    }
}
