//! A connection that breaks: between TLS and HTTP, so that the bytes counted here are those of answers and frames, while what
//! comes of it (a reset, silence, an end) is seen on the wire. Only there when a fault says so.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use crate::lies::roll;

/// In which way each connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// TCP RST after some bytes of the server's; how many is each connection's own number.
    Reset,
    /// What the server says is swallowed, from the first byte on. The connection stays open.
    Mute,
    /// The same from the second frame of a socket on.
    MuteSocket,
    /// The second frame of a socket stops in its middle; then as above.
    HalfFrame,
    /// After some frames of a socket, or in place of its close frame, there is the end.
    NoCloseFrame,
    /// The end, when nothing has passed in either direction for so long.
    IdleCut(Duration),
}

/// From so many bytes up to so many pass before a reset: the answer to one request is longer than most of them.
const RESET_AFTER: (u64, u64) = (100, 1000);
/// From so many frames up to so many pass before the end.
const FRAMES_BEFORE_END: (u64, u64) = (2, 4);
/// What an upgrade is answered with (RFC 6455 §4.2.2).
const SWITCHING: &[u8] = b"HTTP/1.1 101";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// All connections of one listener.
pub(crate) struct Lines {
    flaw: Flaw,
    opened: AtomicU64,
}

impl Lines {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { flaw, opened: AtomicU64::new(0) }
    }

    /// Prepares a connection before its first byte: with a linger time of zero, letting go of it is a reset.
    pub(crate) fn prepare(&self, connection: &TcpStream) {
        if self.flaw == Flaw::Reset {
            // Without it there is a FIN: still an end in the middle of an answer.
            drop(connection.set_zero_linger());
        }
    }

    /// The connection with its flaw; the flaw's numbers follow from how many connections were opened before.
    pub(crate) fn over<S: Stream>(&self, stream: S) -> Line<S> {
        let ordinal = self.opened.fetch_add(1, Ordering::Relaxed);
        let idle = match self.flaw {
            Flaw::IdleCut(limit) => Some(Box::pin(sleep_until(Instant::now() + limit))),
            _ => None,
        };
        Line { stream: Some(stream), flaw: self.flaw, ordinal, state: State::Open, said: 0, frame: None, idle }
    }
}

/// Anything that bytes go over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// One connection with a flaw.
pub(crate) struct Line<S: Stream> {
    // Taken out only when this is dropped.
    stream: Option<S>,
    flaw: Flaw,
    ordinal: u64,
    state: State,
    /// How many bytes the server has said.
    said: u64,
    /// The frame that the server is at, once it has switched to a socket.
    frame: Option<Frame>,
    idle: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing that the server says gets out any more.
    Muted,
    /// Gone for the server; for the client as soon as the server lets go.
    Ended,
}

/// A frame from the server (RFC 6455 §5.2), as far as it was said.
#[derive(Clone, Default)]
struct Frame {
    /// From 1.
    number: u64,
    head: Vec<u8>,
    said: u64,
}

impl Frame {
    /// Kind and whole size, known as soon as its head is.
    fn kind_and_size(&self, next: &[u8]) -> Option<(u8, u64)> {
        let byte = |at: usize| self.head.get(at).or_else(|| next.get(at - self.head.len())).copied();
        let (kind, short) = (byte(0)? & 0x0f, u64::from(byte(1)? & 0x7f));
        let number = |bytes: usize| (2..2 + bytes).try_fold(0, |sum, at| Some(sum << 8 | u64::from(byte(at)?)));
        let (head, payload) = match short {
            126 => (4, number(2)?),
            127 => (10, number(8)?),
            short => (2, short),
        };
        Some((kind, head + payload))
    }
}

impl<S: Stream> Line<S> {
    /// How many of these bytes still get out, and what is then.
    fn passing(&self, bytes: &[u8]) -> (usize, State) {
        let all = bytes.len();
        let first = |n: u64| usize::try_from(n).unwrap_or(all).min(all);
        match self.flaw {
            Flaw::Reset => {
                let (least, most) = RESET_AFTER;
                let left = (least + roll(self.ordinal, 0, most - least)).saturating_sub(self.said);
                if left < bytes.len() as u64 { (first(left), State::Ended) } else { (all, State::Open) }
            }
            Flaw::Mute => (0, State::Muted),
            Flaw::IdleCut(_) => (all, State::Open),
            Flaw::MuteSocket | Flaw::HalfFrame | Flaw::NoCloseFrame => match &self.frame {
                Some(frame) => match frame.kind_and_size(bytes) {
                    Some((kind, size)) => self.passing_of_frame(frame, kind, size, all),
                    None => (all, State::Open),
                },
                None if bytes.starts_with(SWITCHING) => {
                    let head = bytes.windows(END_OF_HEAD.len()).position(|part| part == END_OF_HEAD);
                    (head.map_or(all, |at| at + END_OF_HEAD.len()), State::Open)
                }
                None => (all, State::Open),
            },
        }
    }

    fn passing_of_frame(&self, frame: &Frame, kind: u8, size: u64, all: usize) -> (usize, State) {
        const CLOSE: u8 = 8;
        let upto = |end: u64| usize::try_from(end.saturating_sub(frame.said)).unwrap_or(all).min(all);
        match self.flaw {
            Flaw::MuteSocket if frame.number > 1 => (0, State::Muted),
            Flaw::HalfFrame if frame.number > 1 => (upto(1 + roll(self.ordinal, 0, size - 1)), State::Muted),
            Flaw::NoCloseFrame => {
                let (least, most) = FRAMES_BEFORE_END;
                let over = frame.number > least + roll(self.ordinal, 0, most - least + 1);
                if over || kind == CLOSE { (0, State::Ended) } else { (upto(size), State::Open) }
            }
            _ => (upto(size), State::Open),
        }
    }

    /// Takes down what got out.
    fn note(&mut self, bytes: &[u8]) {
        self.said += bytes.len() as u64;
        match &mut self.frame {
            Some(frame) => {
                let size = frame.kind_and_size(bytes).map(|(_, size)| size);
                frame.head.extend(bytes.iter().take(10_usize.saturating_sub(frame.head.len())));
                frame.said += bytes.len() as u64;
                if size == Some(frame.said) {
                    *frame = Frame { number: frame.number + 1, ..Frame::default() };
                }
            }
            None if bytes.starts_with(SWITCHING) => self.frame = Some(Frame { number: 1, ..Frame::default() }),
            None => {}
        }
        self.passed();
    }

    /// Something has passed: the time without anything begins anew.
    fn passed(&mut self) {
        if let (Flaw::IdleCut(limit), Some(idle)) = (self.flaw, &mut self.idle) {
            idle.as_mut().reset(Instant::now() + limit);
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: Stream> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.state == State::Ended {
            return Poll::Ready(Ok(()));
        }
        let polled = self.stream()?.poll_read(cx, buf);
        if polled.is_ready() {
            self.passed();
        } else if self.idle.as_mut().is_some_and(|idle| idle.as_mut().poll(cx).is_ready()) {
            self.state = State::Ended;
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

impl<S: Stream> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.state {
            State::Muted => return Poll::Ready(Ok(bytes.len())),
            State::Ended => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            State::Open => {}
        }
        let (passing, then) = self.passing(bytes);
        if passing == 0 && then != State::Open {
            self.state = then;
            return self.poll_write(cx, bytes);
        }
        let written = ready!(self.stream()?.poll_write(cx, &bytes[..passing]))?;
        self.note(&bytes[..written]);
        if written == passing {
            self.state = then;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No goodbye of TLS either.
        if self.state == State::Open { self.stream()?.poll_shutdown(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<S: Stream> Drop for Line<S> {
    /// A muted connection stays open, whatever the server thinks, until the client lets go of it.
    fn drop(&mut self) {
        let muted = self.state == State::Muted;
        if let (true, Some(mut stream), Ok(runtime)) = (muted, self.stream.take(), Handle::try_current()) {
            runtime.spawn(async move {
                let mut heard = [0; 1024];
                while matches!(stream.read(&mut heard).await, Ok(n) if n > 0) {}
            });
        }
    }
}
