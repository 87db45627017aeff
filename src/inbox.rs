//! What arrived over a socket: the task that owns it files each frame with its time, and notes how it ended.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::exchange::{Close, FRAME_KEPT_CHARS, Frame, Recorder, keep, ms};
use crate::wire::{Counters, Wire};

/// A frame that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// From the start of the connection to the arrival.
    pub at: Duration,
    /// The JSON in it; null if it was none.
    pub data: Value,
}

impl Arrived {
    /// Its `type`; empty if it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }

    /// True for an `error_message` with this code.
    #[must_use]
    pub fn is_error(&self, code: &str) -> bool {
        self.kind() == "error_message" && self.data["error_code"] == code
    }

    /// True for the acknowledgement of this message.
    #[must_use]
    pub fn acknowledges(&self, message_id: &str) -> bool {
        self.is_acknowledgement() && self.data["data"]["original_message_id"] == message_id
    }

    /// True for the acknowledgement of any message.
    #[must_use]
    pub fn is_acknowledgement(&self) -> bool {
        self.kind() == "system_message" && self.data["data"]["status"] == "acknowledged"
    }

    /// True for the welcome.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.kind() == "system_message" && self.data["data"]["event"] == "connection_established"
    }
}

/// Frames, each with whether a wait has taken it, and the end.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) frames: Vec<(Arrived, bool)>,
    pub(crate) close: Option<Close>,
}

/// What the handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Message),
    Close(u16),
}

/// What task and handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) exchange: u32,
    pub(crate) started: Instant,
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, sent: bool, text: &str) -> Duration {
        let at = self.started.elapsed();
        let text = keep(text, FRAME_KEPT_CHARS);
        tracing::debug!(exchange = self.exchange, "{} {text}", if sent { '>' } else { '<' });
        self.recorder.update(self.exchange, |x| {
            x.frames.push(Frame { at_ms: ms(at), sent, text });
            (x.bytes_sent, x.bytes_received) = self.counters.read();
        });
        at
    }

    fn file(&self, text: &str) -> Value {
        let at = self.record(false, text);
        let data: Value = serde_json::from_str(text).unwrap_or_default();
        self.inbox().frames.push((Arrived { at, data: data.clone() }, false));
        self.changed.send_modify(|version| *version += 1);
        data
    }

    fn closed(&self, code: u16, reason: &str) {
        let mut inbox = self.inbox();
        if inbox.close.is_none() {
            let close = Close { code, reason: reason.to_owned() };
            inbox.close = Some(close.clone());
            let total = self.started.elapsed();
            self.recorder.update(self.exchange, |x| {
                x.close = Some(close);
                x.timing.total_ms = Some(ms(total));
                (x.bytes_sent, x.bytes_received) = self.counters.read();
            });
        }
        drop(inbox);
        self.changed.send_modify(|version| *version += 1);
    }
}

/// How a connection ended that was not closed, in the words of TCP where it has them.
fn broken_off(error: &WsError) -> String {
    let kind = match error {
        WsError::Io(error) => Some(error.kind()),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Some(ErrorKind::UnexpectedEof),
        _ => None,
    };
    match kind {
        Some(ErrorKind::UnexpectedEof) => "TCP ended (FIN) without a close frame".to_owned(),
        Some(ErrorKind::ConnectionReset) => "TCP was reset (RST) without a close frame".to_owned(),
        _ => error.to_string(),
    }
}

/// Owns the connection until it ends or its handle is gone.
pub(crate) async fn drive(mut stream: WebSocketStream<Wire>, mut commands: mpsc::UnboundedReceiver<Command>, shared: Arc<Shared>) {
    loop {
        tokio::select! {
            arrived = stream.next() => match arrived {
                Some(Ok(Message::Text(text))) => {
                    let data = shared.file(text.as_str());
                    if data["type"] == "ping" {
                        let pong = json!({"type": "pong"}).to_string();
                        shared.record(true, &pong);
                        // A pong that cannot be sent shows itself in the next read.
                        let _ = stream.send(Message::text(pong)).await;
                    }
                }
                Some(Ok(Message::Binary(bytes))) => { shared.file(&format!("<binary frame of {} bytes>", bytes.len())); }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (u16::from(f.code), f.reason.to_string()));
                    shared.closed(code, &reason);
                }
                Some(Ok(_)) => {}
                None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed)) => break shared.closed(1006, "the stream ended without a close frame"),
                Some(Err(error)) => break shared.closed(1006, &broken_off(&error)),
            },
            command = commands.recv() => match command {
                Some(Command::Send(message)) => {
                    shared.record(true, message.to_text().unwrap_or("<binary>"));
                    if let Err(error) = stream.send(message).await {
                        shared.record(true, &format!("<not sent: {error}>"));
                    }
                }
                Some(Command::Close(code)) => {
                    shared.record(true, &format!("<close {code}>"));
                    let _ = stream.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() })).await;
                }
                None => {
                    let _ = stream.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await;
                    break;
                }
            },
        }
    }
}
