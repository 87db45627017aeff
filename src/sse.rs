//! Server-sent events: a response that is read while it is still being made.

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::exchange::{FRAME_KEPT_CHARS, Frame, Kind, Recorder, keep, ms};
use crate::expect::{Expect, Held};
use crate::http::{BODY_LIMIT_BYTES, Request};
use crate::net::causes;
use crate::{io, poll};

/// One `data:` frame of a stream.
#[derive(Clone, Debug)]
pub struct StreamEvent {
    /// From the request to the arrival of the frame.
    pub at: Duration,
    /// The JSON that it carried.
    pub data: Value,
}

impl StreamEvent {
    /// Its `type`; empty if it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }
}

/// A stream that has come to its end.
#[derive(Clone, Debug)]
pub struct Streamed {
    recorder: Arc<Recorder>,
    /// Number of the exchange.
    pub exchange: u32,
    /// Status of the response.
    pub status: u16,
    /// Its content type.
    pub content_type: String,
    /// The frames in the order of their arrival.
    pub events: Vec<StreamEvent>,
    /// Lines that are neither `data:`, nor a field or comment of the format, nor JSON where JSON belongs.
    pub malformed: Vec<String>,
    /// From the request to the end of the stream.
    pub elapsed: Duration,
    /// The whole body, for a response that is no stream.
    pub body: String,
}

impl Streamed {
    /// Names an expectation about this stream.
    #[track_caller]
    pub fn must(&self, name: impl Into<Cow<'static, str>>) -> Expect<'_> {
        Expect::new(&self.recorder, name, vec![self.exchange], Location::caller())
    }

    /// The events of one type.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a StreamEvent> {
        self.events.iter().filter(move |event| event.kind() == kind)
    }

    /// The types in order, for a person.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(StreamEvent::kind).collect()
    }
}

impl Request {
    /// Sends it and reads the stream to its end, noting when each frame came.
    ///
    /// # Errors
    /// As [`Request::send`]; a stream that breaks off or does not end before the deadline is a failure.
    #[track_caller]
    pub fn stream(self) -> impl Future<Output = Held<Streamed>> {
        let at = Location::caller();
        async move {
            let (mut sent, response) = self.open(at, Kind::Sse).await?;
            let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            let status = response.status().as_u16();
            let started = sent.started;
            let (chunks, mut arrived) = mpsc::unbounded_channel();
            let _reader = io::spawn(forward(response, started, chunks));
            let mut parser = Parser::default();
            let (mut events, mut body, mut last) = (Vec::new(), Vec::new(), None);
            let waiting = sent.recorder.waiting(format!("the end of the stream {}", sent.what));
            loop {
                match poll::within(sent.left(), arrived.recv()).await {
                    Some(Some(Ok((at, chunk)))) => {
                        last = Some(at);
                        body.extend_from_slice(&chunk);
                        for data in parser.push(&chunk) {
                            let text = keep(&data.to_string(), FRAME_KEPT_CHARS);
                            sent.recorder.update(sent.id, |x| x.frames.push(Frame { at_ms: ms(at), sent: false, text }));
                            events.push(StreamEvent { at, data });
                        }
                    }
                    Some(Some(Err(error))) => return Err(sent.broken("a stream that ends by itself", &error)),
                    Some(None) => break,
                    None => {
                        let kind = events.last().map_or("no frame", StreamEvent::kind);
                        let so_far = format!("{} frames, the last is {kind}", events.len());
                        return Err(sent.late("a stream that ends", &so_far, last));
                    }
                }
            }
            drop(waiting);
            let text = String::from_utf8_lossy(&body).into_owned();
            let exchange = sent.id;
            let recorder = Arc::clone(&sent.recorder);
            drop(sent.finish(body));
            Ok(Streamed {
                recorder,
                exchange,
                status,
                content_type,
                events,
                malformed: parser.finish(),
                elapsed: started.elapsed(),
                body: text,
            })
        }
    }
}

/// Part of a body and when it came, from the start of its request.
type Chunk = Result<(Duration, Vec<u8>), String>;

/// Hands on a body as it comes, to its end, its failure or [`BODY_LIMIT_BYTES`].
pub(crate) async fn forward(mut response: reqwest::Response, started: Instant, chunks: mpsc::UnboundedSender<Chunk>) {
    let mut size = 0;
    loop {
        let item = match response.chunk().await {
            Ok(Some(chunk)) => {
                size += chunk.len();
                if size > BODY_LIMIT_BYTES {
                    Err(format!("more than {BODY_LIMIT_BYTES} bytes"))
                } else {
                    Ok((started.elapsed(), chunk.to_vec()))
                }
            }
            Ok(None) => return,
            Err(error) => Err(causes(&error)),
        };
        let failed = item.is_err();
        if chunks.send(item).is_err() || failed {
            return;
        }
    }
}

/// Reads the event-stream format (WHATWG HTML, section 9.2.6) as the contract uses it: `data: <json>` and an empty line.
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    data: Vec<String>,
    malformed: Vec<String>,
}

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<Value> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.line(line.trim_end_matches(['\n', '\r']), &mut events);
        }
        events
    }

    fn line(&mut self, line: &str, events: &mut Vec<Value>) {
        if line.is_empty() {
            if !self.data.is_empty() {
                let data = std::mem::take(&mut self.data).join("\n");
                match serde_json::from_str::<Value>(&data) {
                    Ok(value) if value.is_object() => events.push(value),
                    _ => self.malformed.push(keep(&data, 200)),
                }
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        match field {
            "data" => self.data.push(value.strip_prefix(' ').unwrap_or(value).to_owned()),
            "" | "event" | "id" | "retry" => {}
            _ => self.malformed.push(keep(line, 200)),
        }
    }

    /// What was malformed, an unfinished last event included.
    fn finish(mut self) -> Vec<String> {
        let rest = String::from_utf8_lossy(&self.buffer).into_owned();
        if !rest.trim().is_empty() || !self.data.is_empty() {
            self.malformed.push(format!("unfinished: {}", keep(&format!("{}{rest}", self.data.join("\n")), 200)));
        }
        self.malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_bytes_are_cut() {
        let text = b"data: {\"type\":\"a\"}\n\n: comment\r\ndata: {\"type\":\ndata: \"b\"}\r\n\r\n";
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&text[..cut]);
            events.extend(parser.push(&text[cut..]));
            let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
            assert_eq!(kinds, ["a", "b"], "cut at {cut}");
            assert!(parser.finish().is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_event_stream_is_named() {
        let mut parser = Parser::default();
        assert!(parser.push(b"{\"answer\":42}\n\ndata: not json\n\ndata: {\"type\":\"x\"}").is_empty());
        assert_eq!(parser.finish().len(), 3);
    }
}
