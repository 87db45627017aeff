//! Accepting connections: TCP, delay, TLS, then HTTP/1.1 or HTTP/2 with upgrades.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    latency,
    line::Lines,
    tasks::{Tasks, stopping},
};

/// A client that has not finished its TLS handshake by then is not coming.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may finish what it is at, once the server stops.
pub(crate) const GRACE: Duration = Duration::from_millis(300);
/// How long to wait when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// A token of 16 KiB is refused for what it is, not for its size, so headers may be larger than that.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// Who is at the other end; in the extensions of every request.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// One listening socket and what it serves.
pub(crate) struct Listener {
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) latency: Duration,
    /// What is wrong with each connection; nothing unless a fault says so.
    pub(crate) lines: Option<Lines>,
    pub(crate) tasks: Tasks,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Listener {
    /// Accepts until the server stops.
    pub(crate) async fn run(self, socket: TcpListener) {
        let listener = Arc::new(self);
        let mut stop = listener.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stopping(&mut stop) => return,
            };
            match accepted {
                Ok((connection, peer)) => {
                    let listener = Arc::clone(&listener);
                    let open = listener.tasks.enter();
                    tokio::spawn(async move {
                        listener.connection(connection, peer).await;
                        drop(open);
                    });
                }
                // Out of file descriptors, or the client is gone already: give others the chance to close.
                Err(_) => drop(timeout(ACCEPT_PAUSE, stopping(&mut stop)).await),
            }
        }
    }

    async fn connection(&self, connection: TcpStream, peer: SocketAddr) {
        if connection.set_nodelay(true).is_err() {
            return;
        }
        if let Some(lines) = &self.lines {
            lines.prepare(&connection);
        }
        if self.latency.is_zero() {
            self.encrypted(connection, peer).await;
        } else {
            self.encrypted(latency::delayed(connection, self.latency), peer).await;
        }
    }

    async fn encrypted(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        match &self.tls {
            None => self.http(stream, peer).await,
            Some(config) => {
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                if let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                    self.http(stream, peer).await;
                }
            }
        }
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        match &self.lines {
            None => self.serve(stream, peer).await,
            Some(lines) => self.serve(lines.over(stream), peer).await,
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            hyper::service::Service::call(&router, request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http2().max_header_list_size(MAX_HEADER_BYTES).enable_connect_protocol();
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut stop = self.stop.clone();
        tokio::select! {
            // How a connection ends is the client's business; there is nobody to report it to.
            _ = connection.as_mut() => {}
            () = stopping(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                drop(timeout(GRACE, connection).await);
            }
        }
    }
}
