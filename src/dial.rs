//! Opening a WebSocket: which carrier the token takes, and what became of it.

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use crate::config::{Deadlines, Target};
use crate::exchange::{BODY_KEPT_CHARS, Kind, Recorder, Timing, Tls, keep, ms};
use crate::expect::{Class, Expect, Failure, Held, Mismatch, Stop, Trouble};
use crate::http::traceparent;
use crate::net::{Watch, causes, unreachable_target};
use crate::refusal::Refusal;
use crate::secret::redact;
use crate::wire::{Transport, Wire};
use crate::ws::{Arrived, Origin, Socket};
use crate::{io, poll};

/// A WebSocket handshake that has not been sent yet.
#[derive(Clone, Debug)]
#[must_use = "nothing is dialled until it is opened"]
pub struct Dial {
    pub(crate) target: Arc<Target>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) caller: String,
    pub(crate) good: bool,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Option<String>,
    /// Prefix of `x-request-id`: run and check.
    pub(crate) request_prefix: String,
    /// What being welcomed proves, as an expectation.
    pub(crate) proves: Cow<'static, str>,
}

/// What a handshake led to.
#[derive(Debug)]
pub enum Handshake {
    /// 101.
    Open(Box<Socket>),
    /// Any other status, with its body.
    Refused {
        /// The status.
        status: u16,
        /// The body, as text.
        body: String,
        /// Number of the exchange.
        exchange: u32,
    },
}

impl Dial {
    /// Sends the token as `Authorization: Bearer` (contract, section 2.1, first carrier).
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Offers the token as subprotocol `jwt.<base64url>` beside `jwt-auth` (second carrier).
    pub fn subprotocol(self, token: &str) -> Self {
        self.header("sec-websocket-protocol", format!("jwt-auth, jwt.{}", URL_SAFE_NO_PAD.encode(token)))
    }

    /// Sends the token as query parameter (third carrier).
    pub fn query(mut self, token: &str) -> Self {
        self.query = Some(token.to_owned());
        self
    }

    /// Adds any header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Says for the evidence who dials with what, and whether that should be accepted.
    pub fn caller(mut self, label: impl Into<String>, good: bool) -> Self {
        self.caller = label.into();
        self.good = good;
        self
    }

    /// Names the expectation that [`Dial::welcomed`] judges, where being welcomed proves more than that the token is valid.
    pub fn proving(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.proves = name.into();
        self
    }

    /// Opens it and wants the welcome within its deadline.
    ///
    /// # Errors
    /// *Errored* when the target cannot be reached; *failed* when the handshake is refused or anything but pings and service
    /// messages comes before the welcome (contract, section 2.2).
    #[track_caller]
    pub fn welcomed(self) -> impl Future<Output = Held<Socket>> {
        let at = Location::caller();
        async move {
            let within = Deadlines::of(self.target.settings.deadlines.welcome_ms);
            let recorder = Arc::clone(&self.recorder);
            let wanted = "101 and the welcome";
            let name = self.proves.clone();
            let mut socket = match self.open_at(at).await? {
                Handshake::Open(socket) => *socket,
                Handshake::Refused { status, body, exchange } => {
                    let got = format!("handshake refused with {status}: {}", keep(&body, 400));
                    return Expect::new(&recorder, name, vec![exchange], at).hold(Err(Mismatch::new(wanted, got)));
                }
            };
            let before = |frame: &Arrived| {
                frame.kind() == "ping" || (frame.kind() == "system_message" && frame.data["data"]["event"] == "service_info")
            };
            let first = socket.first(within, |frame| !before(frame)).await;
            let result = first.and_then(|frame| {
                if frame.is_welcome() { Ok(frame) } else { Err(Mismatch::new(wanted, format!("as first frame: {}", frame.data))) }
            });
            let welcome = Expect::new(&recorder, name, vec![socket.exchange()], at).hold(result)?;
            if socket.frames().iter().any(|frame| frame.data["data"]["fallback_active"] == true) {
                recorder.note("service_info says fallback_active: true, so the agents' answers are canned");
            }
            socket.set_welcome(welcome.data);
            Ok(socket)
        }
    }

    /// Opens it, expecting to be refused, and collects all there is to judge that by. Ends at the close, or, when the
    /// connection stays open, at the deadline for a welcome.
    ///
    /// # Errors
    /// Only when the target cannot be reached or the connection broke.
    #[track_caller]
    pub fn refusal(self) -> impl Future<Output = Held<Refusal>> {
        let at = Location::caller();
        async move {
            let within = Deadlines::of(self.target.settings.deadlines.welcome_ms);
            Ok(match self.open_at(at).await? {
                Handshake::Refused { status, exchange, .. } => Refusal { exchange, status, frames: Vec::new(), close: None },
                Handshake::Open(socket) => {
                    // A welcome decides it at once: the token was accepted, nothing else needs to be waited for.
                    let _ = socket.first(within, Arrived::is_welcome).await;
                    let frames = socket.frames().into_iter().map(|frame| frame.data).collect();
                    Refusal { exchange: socket.exchange(), status: 101, frames, close: socket.ended() }
                }
            })
        }
    }

    /// Opens it, whatever comes of it.
    ///
    /// # Errors
    /// *Errored* when the target cannot be reached; *failed* when the connection breaks or stalls during the handshake.
    #[track_caller]
    pub fn open(self) -> impl Future<Output = Held<Handshake>> {
        self.open_at(Location::caller())
    }

    async fn open_at(self, at: &'static Location<'static>) -> Held<Handshake> {
        let Self { target, recorder, tls, caller, good, headers, query, request_prefix, .. } = self;
        let mut url = target.ws.clone();
        if let Some(token) = &query {
            url.query_pairs_mut().append_pair("token", token);
        }
        let exchange = recorder.begin(Kind::WebSocket, &caller, good, "GET", url.as_str());
        let request = build(&url, &headers, format!("{request_prefix}-{exchange}"))?;
        recorder.update(exchange, |x| {
            let sent = request.headers().iter();
            x.request_headers = sent.map(|(n, v)| (n.to_string(), redact(&String::from_utf8_lossy(v.as_bytes())))).collect();
        });
        let started = Instant::now();
        let waiting = recorder.waiting(format!("the WebSocket handshake of {caller}"));
        let deadline = Deadlines::of(target.settings.deadlines.connect_ms);
        let connected = poll::within(deadline, io::run(connect(url, tls))).await;
        let connected = connected.unwrap_or_else(|| Err(format!("connecting: no answer within {} ms", deadline.as_millis())));
        let (mut wire, timing, peer, agreed) = connected.map_err(|what| {
            recorder.update(exchange, |x| x.error = Some(redact(&what)));
            unreachable_target(&target, &what, exchange)
        })?;
        recorder.update(exchange, |x| {
            x.timing = timing;
            x.peer = peer;
            x.tls = agreed;
            x.http_version = Some("HTTP/1.1".to_owned());
        });
        let ours = wire.clone();
        let upgrade = io::run(async move { client_async_with_config(request, ours, Some(small_buffers())).await });
        let within = Deadlines::of(target.settings.deadlines.welcome_ms);
        let upgraded = poll::within(within, upgrade).await;
        drop(waiting);
        let head = |status: u16, headers: &HeaderMap| {
            let counts = wire.counters.read();
            recorder.update(exchange, |x| {
                x.status = Some(status);
                x.timing.first_byte_ms = Some(ms(started.elapsed()));
                x.response_headers =
                    headers.iter().map(|(n, v)| (n.to_string(), redact(&String::from_utf8_lossy(v.as_bytes())))).collect();
                (x.bytes_sent, x.bytes_received) = counts;
            });
        };
        let broke = |got: String| {
            let counts = wire.counters.read();
            recorder.update(exchange, |x| {
                x.error = Some(redact(&got));
                (x.bytes_sent, x.bytes_received) = counts;
            });
            Stop::Failed(Box::new(Failure {
                expectation: "the WebSocket handshake is answered".to_owned(),
                wanted: "101, or a refusal with a status".to_owned(),
                got: redact(&got),
                at: format!("{}:{}", at.file(), at.line()),
                class: Some(Class::Transport),
                about: vec![exchange],
            }))
        };
        match upgraded {
            None => Err(broke(format!("no answer to the upgrade within {} ms", within.as_millis()))),
            Some(Ok((stream, response))) => {
                head(101, response.headers());
                let selected = response.headers().get("sec-websocket-protocol").and_then(|v| v.to_str().ok()).map(str::to_owned);
                let counters = Arc::clone(&wire.counters);
                let origin = Origin { recorder, exchange, started, target, caller };
                Ok(Handshake::Open(Box::new(Socket::start(stream, counters, origin, selected))))
            }
            Some(Err(WsError::Http(response))) => {
                let status = response.status().as_u16();
                head(status, response.headers());
                let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
                let mut body = response.into_body().unwrap_or_default();
                let missing = length.unwrap_or(BODY_KEPT_CHARS).saturating_sub(body.len()).min(BODY_KEPT_CHARS);
                if missing > 0 {
                    let rest = io::run(async move { wire.read_rest(missing).await });
                    body.extend(poll::within(Duration::from_secs(1), rest).await.unwrap_or_default());
                }
                let body = String::from_utf8_lossy(&body).into_owned();
                recorder.update(exchange, |x| x.response_body = Some(keep(&body, BODY_KEPT_CHARS)));
                Ok(Handshake::Refused { status, body, exchange })
            }
            // A 101 without the subprotocol that was offered: the client refuses it, but it is the contract that is broken.
            Some(Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(error)))) => {
                Expect::new(&recorder, "the server selects the subprotocol jwt-auth", vec![exchange], at)
                    .class(Class::Contract)
                    .hold(Err(Mismatch::new("101 with sec-websocket-protocol: jwt-auth", error)))
            }
            Some(Err(error)) => Err(broke(causes(&error))),
        }
    }
}

/// The library's own buffers of 128 KiB a socket would make up most of the process.
fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(0)
}

fn build(url: &Url, headers: &[(String, String)], request_id: String) -> Held<Request> {
    let defect = |what: String| Trouble::suite(what, "this is a defect of the check");
    let mut request = url.as_str().into_client_request().map_err(|error| defect(format!("handshake request: {error}")))?;
    let trace = [("x-request-id".to_owned(), request_id), ("traceparent".to_owned(), traceparent())];
    for (name, value) in headers.iter().chain(&trace) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) else {
            return Err(defect(format!("header {name} cannot be sent with this value")));
        };
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

type Connected = (Wire, Timing, Option<std::net::SocketAddr>, Option<Tls>);

/// DNS, TCP, TLS, each timed; the error names the step.
pub(crate) async fn connect(url: Url, tls: Arc<ClientConfig>) -> Result<Connected, String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let mut timing = Timing::default();
    let started = Instant::now();
    let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|error| format!("DNS lookup of {host} failed: {error}"))?
        .collect();
    timing.dns_ms = Some(ms(started.elapsed()));
    let started = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the one place where the suite opens a socket by hand")]
    let tcp = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| format!("TCP connection to {host}:{port} failed: {error}"))?;
    let _ = tcp.set_nodelay(true);
    timing.tcp_ms = Some(ms(started.elapsed()));
    let peer = tcp.peer_addr().ok();
    if url.scheme() == "ws" {
        return Ok((Wire::new(Transport::Plain(tcp)), timing, peer, None));
    }
    let name = ServerName::try_from(host.clone()).map_err(|error| format!("TLS server name {host}: {error}"))?;
    let started = Instant::now();
    let watch = Watch::default();
    let stream = watch.over(TlsConnector::from(tls).connect(name, tcp)).await;
    let stream =
        stream.map_err(|error| format!("TLS handshake with {host}:{port} failed: {error}{}", watch.refused_certificate()))?;
    timing.tls_ms = Some(ms(started.elapsed()));
    let agreed = watch.read(started, &mut Timing::default());
    Ok((Wire::new(Transport::Tls(Box::new(stream))), timing, peer, agreed))
}
