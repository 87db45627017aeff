//! Starting and stopping: sockets, runtime, store.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{net::TcpSocket, runtime::Runtime, sync::watch};
use uuid::Uuid;

use crate::{
    Options,
    agent::runs::Runs,
    api,
    api::limit::Limiter,
    app::{App, Urls},
    auth_service,
    lies::{Lies, UnknownFault},
    line::Lines,
    listener::Listener,
    socket::hub::Hub,
    store::Store,
    tasks::Tasks,
    tls,
    token::Tokens,
};

/// Stopping takes no longer than this, whatever the clients do.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Why a stand-in could not be started. The text says what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The address is not a loopback address.
    NotLoopback(SocketAddr),
    /// The address could not be listened on.
    Listen(SocketAddr, io::Error),
    /// The database could not be opened.
    Store(PathBuf, String),
    /// The certificate could not be made.
    Certificate(String),
    /// A fault was asked for that does not exist.
    Fault(UnknownFault),
    /// Threads or a temporary folder could not be had.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => {
                write!(
                    f,
                    "will not listen on {address}: this is a test double with throw-away secrets, for loopback only; use 127.0.0.1 or [::1]"
                )
            }
            Self::Listen(address, cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: the port is in use; stop what listens there, or choose another port (0 takes a free one)"
                )
            }
            Self::Listen(address, cause) => write!(f, "cannot listen on {address}: {cause}; choose another address or port"),
            Self::Store(path, cause) => {
                write!(
                    f,
                    "cannot use the database {}: {cause}; name a file in a folder that exists and can be written to",
                    path.display()
                )
            }
            Self::Certificate(cause) => write!(f, "cannot make a certificate: {cause}"),
            Self::Fault(unknown) => unknown.fmt(f),
            Self::System(cause) => write!(f, "cannot start: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(_, cause) | Self::System(cause) => Some(cause),
            _ => None,
        }
    }
}

/// A running stand-in. Dropping it stops it.
pub struct StandIn {
    app: Arc<App>,
    jwt_secret: String,
    ca_pem: Option<String>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    _closed_port: Option<TcpSocket>,
    // Removed when this is dropped, after the store is closed.
    _temp: Option<TempDir>,
}

impl StandIn {
    /// Starts a stand-in on threads of its own. When this returns, its sockets are bound and connections are taken.
    #[expect(clippy::needless_pass_by_value, reason = "callers build options for one start: `Options { …, ..Options::default() }`")]
    pub fn start(options: Options) -> Result<Self, StartError> {
        let lies =
            Arc::new(Lies::of(&options.faults, options.db.as_ref().is_some_and(|db| db.exists())).map_err(StartError::Fault)?);
        let (api_port, api_address) = if lies.port_is_closed() { closed(options.listen)? } else { bind(options.listen)? };
        let (auth_port, auth_address) = bind(options.auth_address())?;
        let plain_socket = lies.socket_is_plain().then(|| bind(SocketAddr::new(options.listen.ip(), 0))).transpose()?;
        let authority = if options.plain { None } else { Some(tls::Authority::fresh().map_err(StartError::Certificate)?) };
        let identity = |flaw| authority.as_ref().map(|it| it.identity(flaw)).transpose().map_err(StartError::Certificate);
        let auth_tls = identity(None)?;
        let api_tls = match lies.certificate() {
            None if lies.speaks_no_tls() => None,
            None => auth_tls.clone(),
            flaw => identity(flaw)?,
        };
        let (db, temp) = database(&options)?;
        let store = Store::open(&db).map_err(|cause| StartError::Store(db, cause))?;
        let jwt_secret = options.jwt_secret.clone().unwrap_or_else(fresh_secret);
        let tokens = Tokens::new(&jwt_secret, &options.environment, store.revoked_at_open(), Arc::clone(&lies));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("stand-in")
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App {
            environment: options.environment.clone(),
            e2e_key: options.e2e_key.clone().unwrap_or_else(fresh_secret),
            heartbeat: options.heartbeat.max(Duration::from_millis(10)),
            step: options.step,
            urls: urls(options.plain, api_address, plain_socket.as_ref().map(|(_, address)| *address), auth_address),
            lies,
            tokens,
            store,
            hub: Hub::default(),
            runs: Runs::default(),
            limiter: Limiter::new(options.rate_limit_per_minute),
            tasks: Tasks::default(),
            stop: stopped,
            started: Instant::now(),
        });
        let flawed = app.lies.line(app.heartbeat).map(Lines::new);
        let api = (api_port, api::router(Arc::clone(&app)), api_tls, flawed);
        let auth = (auth_port, auth_service::router(Arc::clone(&app)), auth_tls, None);
        let plain_socket = plain_socket.map(|(port, _)| (port, api::router(Arc::clone(&app)), None, None));
        let mut closed_port = None;
        for (port, router, tls, lines) in [api, auth].into_iter().chain(plain_socket) {
            let socket = match port {
                Port::Open(socket) => socket,
                Port::Closed(socket) => {
                    closed_port = Some(socket);
                    continue;
                }
            };
            let listener =
                Listener { router, tls, latency: options.latency, lines, tasks: app.tasks.clone(), stop: app.stop.clone() };
            let entered = runtime.enter();
            let socket = tokio::net::TcpListener::from_std(socket);
            drop(entered);
            match socket {
                Ok(socket) => drop(runtime.spawn(listener.run(socket))),
                Err(cause) => {
                    // Dropping it instead would panic inside another runtime.
                    runtime.shutdown_background();
                    return Err(StartError::System(cause));
                }
            }
        }
        let ca_pem = authority.map(|authority| authority.pem);
        Ok(Self { app, jwt_secret, ca_pem, stop, runtime: Some(runtime), _closed_port: closed_port, _temp: temp })
    }

    /// Base URL of the API, without a slash at its end.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.app.urls.api
    }

    /// URL of the WebSocket.
    #[must_use]
    pub fn ws_url(&self) -> &str {
        &self.app.urls.ws
    }

    /// Base URL of the auth service, without a slash at its end.
    #[must_use]
    pub fn auth_url(&self) -> &str {
        &self.app.urls.auth
    }

    /// The authority that signed the certificate, as PEM; `None` when plain.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The secret that signs tokens.
    #[must_use]
    pub fn jwt_secret(&self) -> &str {
        &self.jwt_secret
    }

    /// The key of `/auth/e2e/test-auth`.
    #[must_use]
    pub fn e2e_key(&self) -> &str {
        &self.app.e2e_key
    }

    /// How many agent runs, of all kinds, were started since the start.
    #[must_use]
    pub fn runs_started(&self) -> u64 {
        self.app.runs.started()
    }

    /// Stops: sockets are closed with 1001, requests may finish, and after a second at most everything is gone.
    pub fn stop(self) {
        // Everything happens in `drop`, so that a stand-in that is merely dropped stops as well.
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.app.tasks.wait(STOP_LIMIT);
        if let Some(runtime) = self.runtime.take() {
            // Never blocks, so a stand-in may be dropped inside another runtime.
            runtime.shutdown_background();
        }
        self.app.store.close();
    }
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandIn").field("urls", &self.app.urls).finish_non_exhaustive()
    }
}

/// A port that is ours.
enum Port {
    Open(TcpListener),
    /// Nobody else gets it, and nothing listens on it.
    Closed(TcpSocket),
}

fn bind(address: SocketAddr) -> Result<(Port, SocketAddr), StartError> {
    on_loopback(address, || {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok((Port::Open(socket), address))
    })
}

fn closed(address: SocketAddr) -> Result<(Port, SocketAddr), StartError> {
    on_loopback(address, || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(address)?;
        let address = socket.local_addr()?;
        Ok((Port::Closed(socket), address))
    })
}

fn on_loopback<T>(address: SocketAddr, bound: impl FnOnce() -> io::Result<T>) -> Result<T, StartError> {
    if !address.ip().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }
    bound().map_err(|cause| StartError::Listen(address, cause))
}

fn database(options: &Options) -> Result<(PathBuf, Option<TempDir>), StartError> {
    if let Some(file) = &options.db {
        return Ok((file.clone(), None));
    }
    let folder = tempfile::Builder::new().prefix("netra-stand-in-").tempdir().map_err(StartError::System)?;
    Ok((folder.path().join("stand-in.sqlite"), Some(folder)))
}

fn urls(plain: bool, api: SocketAddr, plain_socket: Option<SocketAddr>, auth: SocketAddr) -> Urls {
    let http = if plain { "http" } else { "https" };
    let ws = if plain || plain_socket.is_some() { "ws" } else { "wss" };
    let socket = plain_socket.unwrap_or(api);
    Urls {
        api: format!("{http}://{api}"),
        ws: format!("{ws}://{socket}/ws"),
        auth: format!("{http}://{auth}"),
        api_port: api.port(),
        auth_port: auth.port(),
    }
}

fn fresh_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
