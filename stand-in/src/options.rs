//! How a stand-in is to be started.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// How a stand-in is to be started. [`Options::default`] listens on free loopback ports and keeps nothing.
#[derive(Clone)]
pub struct Options {
    /// Where API and WebSocket listen; must be a loopback address. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the auth service listens; by default on the same address, one port further (or on a free one).
    pub listen_auth: Option<SocketAddr>,
    /// `http`/`ws` instead of `https`/`wss`.
    pub plain: bool,
    /// Delay of every byte, each way, on every connection. Delays, does not throttle.
    pub latency: Duration,
    /// The `SQLite` file; `None` is a temporary one, removed at stop.
    pub db: Option<PathBuf>,
    /// The secret that signs tokens; `None` is a fresh random one.
    pub jwt_secret: Option<String>,
    /// The key of `/auth/e2e/test-auth`; `None` is a fresh random one, an empty one means "not configured" (503).
    pub e2e_key: Option<String>,
    /// The name of the environment. In `production` there is no test login.
    pub environment: String,
    /// How often the server pings; announced in whole seconds, so whole seconds are best.
    pub heartbeat: Duration,
    /// The pace of an agent's steps.
    pub step: Duration,
    /// Requests a user (or, without a token, a peer) may make in a minute before 429.
    pub rate_limit_per_minute: u32,
    /// Names of faults: ways in which it breaks the contract on purpose. None by default.
    pub faults: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen_auth: None,
            plain: false,
            latency: Duration::ZERO,
            db: None,
            jwt_secret: None,
            e2e_key: None,
            environment: "staging".to_owned(),
            heartbeat: Duration::from_secs(1),
            step: Duration::from_millis(15),
            rate_limit_per_minute: 20_000,
            faults: Vec::new(),
        }
    }
}

impl Options {
    /// The address of the auth service, as asked for or derived from [`Options::listen`].
    pub(crate) fn auth_address(&self) -> SocketAddr {
        self.listen_auth.unwrap_or_else(|| {
            let port = match self.listen.port() {
                0 => 0,
                port => port.checked_add(1).unwrap_or(0),
            };
            SocketAddr::new(self.listen.ip(), port)
        })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = |secret: &Option<String>| secret.as_ref().map(|_| "[redacted]");
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("listen_auth", &self.listen_auth)
            .field("plain", &self.plain)
            .field("latency", &self.latency)
            .field("db", &self.db)
            .field("jwt_secret", &redacted(&self.jwt_secret))
            .field("e2e_key", &redacted(&self.e2e_key))
            .field("environment", &self.environment)
            .field("heartbeat", &self.heartbeat)
            .field("step", &self.step)
            .field("rate_limit_per_minute", &self.rate_limit_per_minute)
            .field("faults", &self.faults)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let options = Options { jwt_secret: Some("hush-1".into()), e2e_key: Some("hush-2".into()), ..Options::default() };
        let shown = format!("{options:?}");
        assert!(!shown.contains("hush"), "a secret in {shown}");
        assert!(shown.contains("[redacted]"));
    }
}
