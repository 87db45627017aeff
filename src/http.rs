//! The HTTP client: a request, who asks, and everything that came back.
//!
//! Two layers: [`Caller`] says who asks and where, [`Request`] what. Every exchange is recorded before anything is judged,
//! so a failure never loses the body.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

use crate::config::{Deadlines, Target};
use crate::exchange::{BODY_KEPT_CHARS, Kind, Recorder, Timing, keep, ms};
use crate::expect::{Class, Failure, Held, Stop, Trouble};
use crate::identity::Credential;
use crate::net::{Watch, causes, unreachable_target};
use crate::reply::Reply;
use crate::secret::redact;
use crate::sse::forward;
use crate::{io, poll};

/// Response bodies are read up to this size; more is a failure, not a memory problem.
pub const BODY_LIMIT_BYTES: usize = 8 * 1024 * 1024;
/// An answer whose last bytes came so short a time before its deadline was still coming.
const STILL_COMING: Duration = Duration::from_secs(1);

/// Someone who asks one of the target's two HTTP services.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) target: Arc<Target>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) client: reqwest::Client,
    pub(crate) base: Url,
    pub(crate) who: Credential,
    /// Prefix of `x-request-id`: run and check.
    pub(crate) request_prefix: String,
}

impl Caller {
    /// `GET path`.
    pub fn get(&self, path: impl Into<String>) -> Request {
        self.request("GET", path)
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, path: impl Into<String>, body: impl Into<Value>) -> Request {
        self.request("POST", path).json(body)
    }

    /// `PUT path` with a JSON body.
    pub fn put(&self, path: impl Into<String>, body: impl Into<Value>) -> Request {
        self.request("PUT", path).json(body)
    }

    /// `DELETE path`.
    pub fn delete(&self, path: impl Into<String>) -> Request {
        self.request("DELETE", path)
    }

    /// Any method, no body.
    pub fn request(&self, method: &'static str, path: impl Into<String>) -> Request {
        Request {
            caller: self.clone(),
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            deadline: Deadlines::of(self.target.settings.deadlines.reply_ms),
        }
    }

    /// The same caller with other credentials.
    #[must_use]
    pub fn with(&self, who: Credential) -> Self {
        Self { who, ..self.clone() }
    }
}

/// A request that has not been sent yet.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    caller: Caller,
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<(Vec<u8>, &'static str)>,
    deadline: Duration,
}

impl Request {
    /// Adds a query parameter; it is percent-encoded.
    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called: query(\"limit\", 7)")]
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: impl Into<Value>) -> Self {
        self.body = Some((body.into().to_string().into_bytes(), "application/json"));
        self
    }

    /// Allows more time than `reply_ms`, for a request that waits for an agent.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends it and reads the whole response.
    ///
    /// # Errors
    /// *Errored* when the target cannot be reached or lies outside the target's hosts; *failed* when a connection broke or
    /// the deadline passed. Any status is a reply.
    #[track_caller]
    pub fn send(self) -> impl Future<Output = Held<Reply>> {
        let at = Location::caller();
        async move {
            let (sent, response) = self.open(at, Kind::Http).await?;
            sent.whole(response).await
        }
    }

    /// Sends it and gives the response as soon as its head is there.
    pub(crate) async fn open(self, at: &'static Location<'static>, kind: Kind) -> Held<(Sent, reqwest::Response)> {
        let Self { caller, method, path, query, headers, body, deadline } = self;
        let url = build_url(&caller.base, &path, &query)?;
        let recorder = Arc::clone(&caller.recorder);
        let id = recorder.begin(kind, &caller.who.label(), caller.who.is_good(), method, url.as_str());
        let started = Instant::now();
        if !caller.target.owns(&url) {
            return Err(Trouble::suite(
                format!(
                    "the suite was about to contact {} which is no host of target `{}`",
                    redact(url.as_str()),
                    caller.target.name
                ),
                "this is a defect of the check: it must never follow a URL to another host",
            ));
        }
        let mut map = HeaderMap::new();
        let request_id = format!("{}-{id}", caller.request_prefix);
        let mut all = vec![("x-request-id".to_owned(), request_id), ("traceparent".to_owned(), traceparent())];
        if let Some(authorization) = caller.who.authorization() {
            all.push(("authorization".to_owned(), authorization));
        }
        if let Some((_, content_type)) = &body {
            all.push(("content-type".to_owned(), (*content_type).to_owned()));
        }
        all.extend(headers);
        for (name, value) in &all {
            let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) else {
                return Err(Trouble::suite(
                    format!("header {name} cannot be sent with this value"),
                    "this is a defect of the check",
                ));
            };
            // Whatever a library logs of it, it logs without the value.
            let secret = value.to_str().is_ok_and(|text| redact(text) != text);
            value.set_sensitive(secret);
            map.insert(name, value);
        }
        let body = body.map(|(bytes, _)| bytes).unwrap_or_default();
        recorder.update(id, |x| {
            x.request_headers = all.iter().map(|(name, value)| (name.clone(), redact(value))).collect();
            x.request_body = (!body.is_empty()).then(|| keep(&String::from_utf8_lossy(&body), BODY_KEPT_CHARS));
        });
        let size = method.len() + url.as_str().len() + body.len() + all.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>();
        let request_headers = map.clone();
        let request =
            caller.client.request(method.parse().unwrap_or_default(), url.clone()).headers(map).body(body).build().map_err(
                |error| {
                    Trouble::suite(format!("request {method} {}: {error}", redact(url.as_str())), "this is a defect of the check")
                },
            )?;
        let what = format!("{method} {}", redact(url.path()));
        let sent = Sent {
            recorder,
            id,
            started,
            at,
            deadline,
            what,
            size,
            request_headers,
            reply: None,
            target: Arc::clone(&caller.target),
        };
        // Boxed, since some requests at once would make a future of many kilobytes.
        Box::pin(sent.dispatch(caller.client, request)).await
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) id: u32,
    pub(crate) started: Instant,
    at: &'static Location<'static>,
    deadline: Duration,
    pub(crate) what: String,
    size: usize,
    request_headers: HeaderMap,
    reply: Option<(u16, HeaderMap, Duration)>,
    target: Arc<Target>,
}

impl Sent {
    async fn dispatch(mut self, client: reqwest::Client, request: reqwest::Request) -> Held<(Self, reqwest::Response)> {
        let watch = Watch::default();
        let waiting = self.recorder.waiting(format!("the response to {}", self.what));
        let watched = watch.clone();
        let port = request.url().port_or_known_default().unwrap_or_default();
        let to = format!("{}:{port}", request.url().host_str().unwrap_or_default());
        tracing::debug!(exchange = self.id, "> {}", self.what);
        let exchange = io::run(async move { watched.over(client.execute(request)).await });
        let outcome = poll::within(self.deadline, exchange).await;
        drop(waiting);
        let first_byte = self.started.elapsed();
        let mut timing = Timing::default();
        let tls = watch.read(self.started, &mut timing);
        self.recorder.update(self.id, |x| {
            x.timing = timing;
            x.tls = tls;
        });
        let response = match outcome {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                let text = causes(&error);
                if error.is_connect() || error.is_timeout() {
                    return Err(self.unreachable(&format!("{} {to} failed: {text}", watch.step())));
                }
                self.count_sent();
                return Err(self.broken("a response", &text));
            }
            None => {
                self.count_sent();
                let ms = self.deadline.as_millis();
                let got = "no byte of a response until the deadline, on a connection that stands: it is half-open, or what \
                           answers there hangs";
                return Err(self.broken(&format!("a response within {ms} ms"), got));
            }
        };
        self.count_sent();
        let status = response.status().as_u16();
        tracing::debug!(exchange = self.id, "< {status} {}", self.what);
        let headers = response.headers().clone();
        let head: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
        self.recorder.update(self.id, |x| {
            x.timing.first_byte_ms = Some(ms(first_byte));
            x.status = Some(status);
            x.peer = response.remote_addr();
            x.http_version = Some(format!("{:?}", response.version()));
            x.bytes_received += (head + 12) as u64;
            x.response_headers =
                headers.iter().map(|(n, v)| (n.to_string(), redact(&String::from_utf8_lossy(v.as_bytes())))).collect();
        });
        self.reply = Some((status, headers, first_byte));
        Ok((self, response))
    }

    async fn whole(mut self, response: reqwest::Response) -> Held<Reply> {
        let recorder = Arc::clone(&self.recorder);
        let _waiting = recorder.waiting(format!("the rest of the body of {}", self.what));
        let (chunks, mut arrived) = mpsc::unbounded_channel();
        let _reader = io::spawn(forward(response, self.started, chunks));
        let (mut body, mut last) = (Vec::new(), None);
        let broken = loop {
            match poll::within(self.left(), arrived.recv()).await {
                Some(Some(Ok((at, chunk)))) => {
                    body.extend_from_slice(&chunk);
                    last = Some(at);
                }
                Some(Some(Err(error))) => {
                    break self.broken("its whole body", &format!("{error} after {}", self.so_far(body.len())));
                }
                Some(None) => return Ok(self.finish(body)),
                None => break self.late("its whole body", &self.so_far(body.len()), last),
            }
        };
        self.keep_body(&body);
        Err(broken)
    }

    /// What is left of the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.started.elapsed())
    }

    fn count_sent(&self) {
        self.recorder.update(self.id, |x| x.bytes_sent = self.size as u64);
    }

    fn keep_body(&self, body: &[u8]) {
        let total = self.started.elapsed();
        self.recorder.update(self.id, |x| {
            x.timing.total_ms = Some(ms(total));
            x.bytes_received += body.len() as u64;
            x.response_body = Some(keep(&String::from_utf8_lossy(body), BODY_KEPT_CHARS));
        });
    }

    pub(crate) fn finish(&mut self, body: Vec<u8>) -> Reply {
        self.keep_body(&body);
        let (status, headers, first_byte) = self.reply.take().unwrap_or_default();
        let json = serde_json::from_slice(&body).ok();
        Reply {
            recorder: Arc::clone(&self.recorder),
            exchange: self.id,
            what: std::mem::take(&mut self.what),
            status,
            headers,
            request_headers: std::mem::take(&mut self.request_headers),
            elapsed: self.started.elapsed(),
            first_byte,
            body,
            json,
        }
    }

    fn unreachable(&self, what: &str) -> Stop {
        self.recorder.update(self.id, |x| x.error = Some(what.to_owned()));
        unreachable_target(&self.target, what, self.id)
    }

    /// How much of the body came, of how much that was announced.
    fn so_far(&self, bytes: usize) -> String {
        let headers = self.reply.as_ref().map(|(_, headers, _)| headers);
        let announced = headers.and_then(|headers| headers.get("content-length")?.to_str().ok());
        announced.map_or(format!("{bytes} bytes of the body"), |all| format!("{bytes} of {all} bytes of the body"))
    }

    /// The deadline passed in the middle of an answer, whose last bytes came at `last`. What still comes is only too slow.
    pub(crate) fn late(&self, wanted: &str, so_far: &str, last: Option<Duration>) -> Stop {
        let head = self.reply.as_ref().map(|(_, _, first_byte)| *first_byte);
        let silent = self.started.elapsed().saturating_sub(last.or(head).unwrap_or_default());
        let (within, silent_ms) = (self.deadline.as_millis(), silent.as_millis());
        if silent < STILL_COMING {
            let got = format!("{so_far} within {within} ms, and more was still coming: it is sound, and too slow");
            return self.broken_as(Class::Sla, wanted, &got);
        }
        let got = format!("{so_far}, then nothing for {silent_ms} ms: it stopped in its middle, here or on the way");
        self.broken(wanted, &got)
    }

    /// A connection that was there and broke: the service's (or its gateway's) failure.
    pub(crate) fn broken(&self, wanted: &str, got: &str) -> Stop {
        self.broken_as(Class::Transport, wanted, got)
    }

    fn broken_as(&self, class: Class, wanted: &str, got: &str) -> Stop {
        let got = redact(got);
        let total = self.started.elapsed();
        self.recorder.update(self.id, |x| {
            x.error = Some(got.clone());
            x.timing.total_ms = Some(ms(total));
        });
        Stop::Failed(Box::new(Failure {
            expectation: format!("{} is answered", self.what),
            wanted: wanted.to_owned(),
            got,
            at: format!("{}:{}", self.at.file(), self.at.line()),
            class: Some(class),
            about: vec![self.id],
        }))
    }
}

fn build_url(base: &Url, path: &str, query: &[(String, String)]) -> Held<Url> {
    let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let mut url =
        Url::parse(&text).map_err(|error| Trouble::suite(format!("URL {text}: {error}"), "this is a defect of the check"))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// A W3C `traceparent` (Trace Context, section 3.2), sampled.
pub(crate) fn traceparent() -> String {
    let id = || uuid::Uuid::new_v4().simple().to_string();
    format!("00-{}-{}-01", id(), &id()[..16])
}
