//! The bytes under a WebSocket: TCP or TLS, counted, and still readable after a handshake that was refused.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Bytes that crossed a connection, above TLS.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    heard: Mutex<Heard>,
}

/// A frame that is not whole by then, since its last byte, has stopped and is not just arriving.
const STOPPED: Duration = Duration::from_millis(500);

impl Counters {
    /// Sent, received.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn hear(&self, bytes: &[u8]) {
        self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }

    /// What is wrong with the connection itself, seen from what came over it: a frame that stopped in its middle, or silence
    /// for longer than the service promised to be silent (`heartbeat`, contract section 2.3).
    #[must_use]
    pub fn stalled(&self, heartbeat: Option<Duration>) -> Option<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = heard.last?.elapsed();
        let advice = "look at what lies between here and the service: proxy, load balancer, NAT, VPN";
        if let Some((came, size)) = heard.half_a_frame().filter(|_| silent > STOPPED) {
            let size = size.map_or(String::new(), |size| format!(" of {size}"));
            return Some(format!(
                "a frame stopped in its middle: {came}{size} bytes came, then nothing for {} ms; {advice}",
                silent.as_millis()
            ));
        }
        let promised = heartbeat.filter(|heartbeat| silent > heartbeat.mul_f64(1.25))?;
        Some(format!(
            "not a byte came for {} ms, although the service sends a ping every {} ms: the connection is half-open, or the \
             service hangs; {advice}",
            silent.as_millis(),
            promised.as_millis()
        ))
    }
}

/// Where the server is in what it sends: in the head of its answer to the upgrade, or in a frame (RFC 6455 §5.2).
#[derive(Debug, Default)]
struct Heard {
    last: Option<Instant>,
    /// How much of the empty line that ends the head has come.
    end_of_head: usize,
    /// The beginning of the current frame, as far as it says how long the frame is.
    start: Vec<u8>,
    /// Bytes of the current frame.
    came: u64,
}

impl Heard {
    fn take(&mut self, mut bytes: &[u8]) {
        const END: &[u8] = b"\r\n\r\n";
        if !bytes.is_empty() {
            self.last = Some(Instant::now());
        }
        while let (true, [byte, rest @ ..]) = (self.end_of_head < END.len(), bytes) {
            self.end_of_head = if *byte == END[self.end_of_head] { self.end_of_head + 1 } else { usize::from(*byte == END[0]) };
            bytes = rest;
        }
        while !bytes.is_empty() {
            // Byte by byte until the length is known, then as much as there is of the frame.
            let step = if let Some(size) = self.size() {
                usize::try_from(size - self.came).unwrap_or(bytes.len()).min(bytes.len())
            } else {
                self.start.push(bytes[0]);
                1
            };
            self.came += step as u64;
            bytes = &bytes[step..];
            if self.size() == Some(self.came) {
                self.start.clear();
                self.came = 0;
            }
        }
    }

    /// The size of the current frame with its head, once enough of it has come.
    fn size(&self) -> Option<u64> {
        let short = u64::from(self.start.get(1)? & 0x7f);
        let long = |bytes: usize| Some(self.start.get(2..2 + bytes)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        match short {
            126 => Some(4 + long(2)?),
            127 => Some(10_u64.saturating_add(long(8)?)),
            short => Some(2 + short),
        }
    }

    fn half_a_frame(&self) -> Option<(u64, Option<u64>)> {
        (self.came > 0).then(|| (self.came, self.size()))
    }
}

#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with two handles: tungstenite consumes one; the other reads what a refused handshake left behind.
#[derive(Clone, Debug)]
pub struct Wire {
    transport: Arc<Mutex<Transport>>,
    pub(crate) counters: Arc<Counters>,
}

impl Wire {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport: Arc::new(Mutex::new(transport)), counters: Arc::default() }
    }

    fn transport(&self) -> MutexGuard<'_, Transport> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads up to `bytes` more; what came before an end or an error is given.
    pub(crate) async fn read_rest(&mut self, bytes: usize) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.take(bytes as u64).read_to_end(&mut rest).await;
        rest
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut *self.transport() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.counters.hear(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut *self.transport() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if let Poll::Ready(Ok(written)) = polled {
            self.counters.sent.fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.transport() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.transport() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_frame_is_seen_wherever_the_bytes_are_cut() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n".to_vec();
        let frames = bytes.len();
        bytes.extend([0x81, 2, b'{', b'}', 0x81, 126, 0, 200]);
        bytes.extend([b'x'; 200]);
        for cut in 0..=bytes.len() {
            let mut heard = Heard::default();
            heard.take(&bytes[..cut]);
            let whole = cut <= frames || cut == frames + 4 || cut == bytes.len();
            assert_eq!(heard.half_a_frame().is_none(), whole, "cut at {cut}");
            if cut == frames + 108 {
                assert_eq!(heard.half_a_frame(), Some((104, Some(204))));
            }
            heard.take(&bytes[cut..]);
            assert_eq!(heard.half_a_frame(), None, "cut at {cut}");
        }
    }
}
