//! A WebSocket client.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest as _,
        http::{HeaderName, HeaderValue},
    },
};

/// Longer than anything a stand-in does.
const DEADLINE: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    /// The subprotocol the server selected.
    pub(crate) protocol: Option<String>,
}

/// What came over a socket.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Frame(Value),
    /// Closed with this code; 1006 is a connection that ended without a close.
    Closed(u16),
}

impl Received {
    /// The frame; panics when the socket was closed instead.
    pub(crate) fn frame(self) -> Value {
        match self {
            Self::Frame(frame) => frame,
            Self::Closed(code) => panic!("wanted a frame, the socket was closed with {code}"),
        }
    }
}

impl Socket {
    pub(super) async fn open(url: &str, tls: Arc<ClientConfig>, headers: &[(&str, String)]) -> Self {
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let address = request.uri().authority().expect("an address").to_string();
        let connection = TcpStream::connect(address).await.expect("a connection");
        let stream: Box<dyn Stream> = if url.starts_with("wss") {
            let name = ServerName::try_from("127.0.0.1").expect("a name");
            Box::new(TlsConnector::from(tls).connect(name, connection).await.expect("TLS"))
        } else {
            Box::new(connection)
        };
        let (stream, response) = client_async(request, stream).await.expect("an upgrade");
        let protocol = response.headers().get("sec-websocket-protocol").map(|p| p.to_str().expect("text").to_owned());
        Self { stream, protocol }
    }

    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.expect("the socket takes frames");
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            let message = timeout(DEADLINE, self.stream.next()).await.expect("wanted a frame or a close, got silence");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if frame["type"] != "ping" {
                        return Received::Frame(frame);
                    }
                }
                Some(Ok(Message::Close(Some(close)))) => return Received::Closed(close.code.into()),
                Some(Ok(Message::Close(None))) => return Received::Closed(1005),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(1006),
            }
        }
    }
}
