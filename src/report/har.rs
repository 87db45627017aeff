//! `run.har`: every exchange, for tools that read HTTP archives.
//!
//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>) with what Chromium's DevTools add to it: `_resourceType`,
//! `_webSocketMessages`, `_error`, `_transferSize`. A page is a check. Each exchange is written out once, when its check ends;
//! the file only joins them.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Run;
use super::digest::within;
use crate::evidence::Evidence;
use crate::exchange::{Exchange, Frame, Kind, Phase, Timing};

/// Entries take up to this many bytes together: viewers and pull requests take files of 5 MiB.
const BUDGET_BYTES: usize = 4_718_592;
/// A body is shown up to this many characters; the evidence file keeps more.
const BODY_CHARS: usize = 4_000;
/// Frames of one connection take up to this many bytes together: the last ones, where failures are.
const FRAMES_BYTES: usize = 65_536;
/// What is unknown or did not happen.
const NONE: f64 = -1.0;
/// The type of a body that says none.
const UNKNOWN: &str = "x-unknown";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log<'a> {
    version: &'static str,
    creator: Creator<'a>,
    pages: Vec<Page>,
    comment: String,
}

#[derive(Serialize)]
struct Creator<'a> {
    name: &'static str,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    started_date_time: String,
    id: String,
    title: String,
    page_timings: PageTimings,
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageTimings {
    on_load: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    /// Stands first and has a fixed width, so that entries sort by time as texts.
    started_date_time: String,
    time: f64,
    pageref: String,
    request: Request<'a>,
    response: Response<'a>,
    cache: Cache,
    timings: Timings,
    #[serde(rename = "serverIPAddress", skip_serializing_if = "Option::is_none")]
    server_ip_address: Option<String>,
    /// The server's port, as the format permits where the connection is not known otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    comment: String,
    #[serde(rename = "_resourceType")]
    resource_type: &'static str,
    #[serde(rename = "_webSocketMessages", skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    method: &'a str,
    url: String,
    http_version: &'a str,
    cookies: [(); 0],
    headers: Vec<Pair<&'a str>>,
    query_string: Vec<Pair<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_data: Option<Text<'a>>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    status: u16,
    status_text: &'static str,
    http_version: &'a str,
    cookies: [(); 0],
    headers: Vec<Pair<&'a str>>,
    content: Content<'a>,
    #[serde(rename = "redirectURL")]
    redirect_url: &'a str,
    headers_size: i64,
    body_size: i64,
    #[serde(rename = "_transferSize")]
    transfer_size: u64,
    #[serde(rename = "_error", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Content<'a> {
    size: i64,
    #[serde(flatten)]
    text: Text<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    mime_type: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
struct Pair<T> {
    name: T,
    value: T,
}

#[derive(Serialize)]
struct Cache {}

/// Milliseconds; [`NONE`] where a step did not happen.
#[derive(Debug, PartialEq, Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    ssl: f64,
    send: f64,
    wait: f64,
    receive: f64,
}

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    /// Seconds since 1970.
    time: f64,
    /// RFC 6455 §5.2.
    opcode: u8,
    data: &'a str,
}

/// One entry of the archive, as JSON.
pub(crate) fn entry(evidence: &Evidence, x: &Exchange) -> String {
    let started = moment(&evidence.started_at, x.started_ms);
    let timings = Timings::of(&x.timing, x.frames.last());
    let (messages, left_out) = match x.kind {
        Kind::WebSocket => messages(&x.frames, started),
        _ => (None, 0),
    };
    let streamed = streamed(x);
    let entry = Entry {
        started_date_time: format!("{started:.6}"),
        time: timings.sum(),
        pageref: page_id(evidence),
        request: request(x),
        response: response(x, &streamed),
        cache: Cache {},
        timings,
        server_ip_address: x.peer.map(|peer| peer.ip().to_string()),
        connection: x.peer.map(|peer| peer.port().to_string()),
        comment: comment(x, left_out),
        resource_type: match x.kind {
            Kind::Http => "fetch",
            Kind::Sse => "eventsource",
            Kind::WebSocket => "websocket",
        },
        messages,
    };
    // Strings, numbers and structs: nothing in it can fail.
    serde_json::to_string(&entry).unwrap_or_default()
}

/// The archive, its entries in the order of their start; those that fit, where that are too many for one file.
#[must_use]
pub fn file(run: &Run) -> String {
    let chosen = within(&run.checks, |digest| &digest.har, BUDGET_BYTES);
    let left_out: usize = chosen.iter().map(|chosen| chosen.left_out).sum();
    let mut entries: Vec<&str> = chosen.iter().flat_map(|chosen| &chosen.pieces).map(|piece| piece.text.as_str()).collect();
    entries.sort_unstable();
    let rest = match left_out {
        0 => "every exchange is in it".to_owned(),
        _ => format!(
            "{left_out} of {} exchanges are left out to keep it small, first those of checks that passed; \
             the files in evidence/ beside it hold them all",
            left_out + entries.len()
        ),
    };
    let log = Log {
        version: "1.2",
        creator: Creator { name: "netra-critical", version: &run.about.suite_version },
        pages: run.checks.iter().map(|check| page(&check.evidence)).collect(),
        comment: format!("run {} of {}; {rest}", run.about.run_id, run.about.target),
    };
    let head = serde_json::to_string(&log).unwrap_or_default();
    // The entries are JSON already: they go in before the brace that ends the log.
    let head = head.strip_suffix('}').unwrap_or(&head);
    format!("{{\"log\":{head},\"entries\":[\n{}\n]}}}}\n", entries.join(",\n"))
}

fn page(evidence: &Evidence) -> Page {
    Page {
        started_date_time: format!("{:.6}", moment(&evidence.started_at, 0.0)),
        id: page_id(evidence),
        title: format!("{:03} {}", evidence.id, evidence.title),
        page_timings: PageTimings { on_load: evidence.duration_ms },
        comment: format!("{}, {}", evidence.name, evidence.verdict),
    }
}

fn page_id(evidence: &Evidence) -> String {
    format!("{:03}", evidence.id)
}

/// Some milliseconds after a time in ISO 8601; 1970 if it is none.
fn moment(started_at: &str, after_ms: f64) -> Timestamp {
    let started: Timestamp = started_at.parse().unwrap_or_default();
    let after = SignedDuration::try_from_secs_f64(after_ms / 1e3).unwrap_or_default();
    started.checked_add(after).unwrap_or(started)
}

fn request(x: &Exchange) -> Request<'_> {
    let url = url(&x.url);
    let query = url.query_pairs().map(|(name, value)| Pair { name: name.into_owned(), value: value.into_owned() });
    let query_string = query.collect();
    let body = x.request_body.as_deref().filter(|body| !body.is_empty());
    Request {
        method: &x.method,
        url: url.into(),
        http_version: x.http_version.as_deref().unwrap_or("unknown"),
        cookies: [],
        headers: pairs(&x.request_headers),
        query_string,
        post_data: body.map(|body| Text::of(body, header(&x.request_headers, "content-type"))),
        headers_size: -1,
        body_size: body.map_or(0, length),
    }
}

/// The URL as a URL: redaction leaves signs in a query that may not stand in one.
fn url(text: &str) -> url::Url {
    url::Url::parse(text).unwrap_or_else(|_| {
        let mut none = url::Url::parse("about:invalid").expect("a URL");
        none.set_fragment(Some(text));
        none
    })
}

fn response<'a>(x: &'a Exchange, streamed: &'a str) -> Response<'a> {
    let body = x.response_body.as_deref().filter(|body| !body.is_empty()).unwrap_or(streamed);
    let status = x.status.unwrap_or_default();
    Response {
        status,
        status_text: reqwest::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason()).unwrap_or_default(),
        http_version: x.http_version.as_deref().unwrap_or("unknown"),
        cookies: [],
        headers: pairs(&x.response_headers),
        content: Content { size: length(body), text: Text::of(body, header(&x.response_headers, "content-type")) },
        redirect_url: header(&x.response_headers, "location").unwrap_or_default(),
        headers_size: -1,
        body_size: if x.error.is_some() { -1 } else { length(body) },
        transfer_size: x.bytes_received,
        error: x.error.as_deref(),
    }
}

/// The body of a stream that broke off, from the events that came.
fn streamed(x: &Exchange) -> String {
    let body = x.response_body.as_deref().unwrap_or_default();
    let frames = x.frames.iter().filter(|_| x.kind == Kind::Sse && body.is_empty());
    frames.flat_map(|frame| ["data: ", &frame.text, "\n\n"]).collect()
}

fn pairs(headers: &[(String, String)]) -> Vec<Pair<&str>> {
    headers.iter().map(|(name, value)| Pair { name: name.as_str(), value: value.as_str() }).collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn comment(x: &Exchange, left_out: usize) -> String {
    let why = match x.phase {
        Phase::Check => "",
        Phase::Cleanup => ", cleaning up",
        Phase::Diagnosis => ", looking for a cause",
    };
    let end = x.close.as_ref().map_or(String::new(), |close| format!("; closed with {} {:?}", close.code, close.reason));
    let frames = if left_out == 0 { String::new() } else { format!("; {left_out} earlier frames are in the evidence") };
    format!("#{} by {}{why}{end}{frames}", x.id, x.caller)
}

/// The last frames that fit, and how many do not.
fn messages(frames: &[Frame], started: Timestamp) -> (Option<Vec<Message<'_>>>, usize) {
    let mut left = FRAMES_BYTES;
    let fits = |frame: &&Frame| left.checked_sub(frame.text.len()).map(|rest| left = rest).is_some();
    let shown = frames.iter().rev().take_while(fits).count();
    let message = |frame: &'_ Frame| {
        let data = frame.text.as_str();
        let opcode = match data {
            _ if data.starts_with("<close ") => 8,
            _ if data.starts_with("<binary") => 2,
            _ => 1,
        };
        (if frame.sent { "send" } else { "receive" }, opcode)
    };
    let (left_out, shown) = frames.split_at(frames.len() - shown);
    let messages = shown.iter().map(|frame| {
        let (r#type, opcode) = message(frame);
        Message { r#type, time: round(seconds(started) + frame.at_ms / 1e3, 1e6), opcode, data: &frame.text }
    });
    (Some(messages.collect()), left_out.len())
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

impl<'a> Text<'a> {
    fn of(text: &'a str, mime_type: Option<&'a str>) -> Self {
        let end = text.char_indices().nth(BODY_CHARS).map(|(end, _)| end);
        Self {
            mime_type: mime_type.unwrap_or(UNKNOWN),
            text: &text[..end.unwrap_or(text.len())],
            comment: end.map(|end| format!("cut: the first {end} of {} bytes", length(text))),
        }
    }
}

/// Bytes of a body, also of one that [`crate::exchange::cut`] shortened: it says how many there were.
fn length(text: &str) -> i64 {
    let cut = text.strip_suffix(" bytes shown]").and_then(|text| text.rsplit_once("… [cut: "));
    let all = cut.and_then(|(_, of)| of.split_once(" of ")?.1.parse().ok());
    all.unwrap_or_else(|| i64::try_from(text.len()).unwrap_or(i64::MAX))
}

impl Timings {
    /// The format's steps follow each other; ours are counted from the start. `ssl` is part of `connect`. Sending is not
    /// measured apart, so it is part of `wait`. What no step explains is waiting too. The last frame ends a connection that
    /// was not closed.
    fn of(it: &Timing, last: Option<&Frame>) -> Self {
        let connect = it.tcp_ms.map(|tcp| tcp + it.tls_ms.unwrap_or_default());
        let steps = it.dns_ms.unwrap_or_default() + connect.unwrap_or_default();
        let total = it.total_ms.or(last.map(|frame| frame.at_ms));
        let first = it.first_byte_ms.or(total).unwrap_or(steps).max(steps);
        let known = |step: Option<f64>| step.map_or(NONE, |ms| round(ms, 1e3));
        Self {
            blocked: NONE,
            dns: known(it.dns_ms),
            connect: known(connect),
            ssl: known(it.tls_ms.filter(|_| connect.is_some())),
            send: 0.0,
            wait: round(first - steps, 1e3),
            receive: round((total.unwrap_or(first) - first).max(0.0), 1e3),
        }
    }

    /// The time of the entry: all that happened, without `ssl`, which `connect` holds.
    fn sum(&self) -> f64 {
        let steps = [self.blocked, self.dns, self.connect, self.send, self.wait, self.receive];
        round(steps.iter().filter(|ms| **ms > 0.0).sum(), 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::cut;

    fn timing(dns: Option<f64>, tcp: Option<f64>, tls: Option<f64>, first: Option<f64>, total: Option<f64>) -> Timing {
        Timing { dns_ms: dns, tcp_ms: tcp, tls_ms: tls, first_byte_ms: first, total_ms: total }
    }

    #[test]
    fn steps_add_up_to_the_whole_time_with_tls_inside_connecting() {
        let it = Timings::of(&timing(Some(1.0), Some(2.0), Some(4.0), Some(10.0), Some(12.5)), None);
        let wanted = Timings { blocked: NONE, dns: 1.0, connect: 6.0, ssl: 4.0, send: 0.0, wait: 3.0, receive: 2.5 };
        assert_eq!(it, wanted);
        assert_eq!(it.sum().to_string(), "12.5");
    }

    #[test]
    fn a_reused_connection_has_no_steps_of_connecting() {
        let it = Timings::of(&timing(None, None, None, Some(0.1), Some(0.3)), None);
        assert_eq!((it.dns, it.connect, it.ssl, it.wait, it.receive), (NONE, NONE, NONE, 0.1, 0.2));
        assert_eq!(it.sum().to_string(), "0.3");
    }

    #[test]
    fn what_broke_before_an_answer_has_waited_until_it_broke() {
        let it = Timings::of(&timing(Some(1.0), Some(2.0), None, None, Some(50.0)), None);
        assert_eq!((it.connect, it.ssl, it.wait, it.receive), (2.0, NONE, 47.0, 0.0));
        let nothing = Timings::of(&Timing::default(), None);
        assert_eq!((nothing.wait, nothing.receive, nothing.sum()), (0.0, 0.0, 0.0));
        // Steps are measured by other clocks than the first byte: their sum may be a little more.
        assert_eq!(Timings::of(&timing(Some(1.0), Some(2.0), None, Some(2.9), None), None).wait.to_string(), "0");
    }

    #[test]
    fn the_last_frame_ends_a_connection_that_stays_open() {
        let frame = Frame { at_ms: 30.0, sent: false, text: String::new() };
        assert_eq!(Timings::of(&timing(None, None, None, Some(10.0), None), Some(&frame)).receive.to_string(), "20");
    }

    #[test]
    fn a_long_body_is_cut_at_a_character_and_its_true_length_stays() {
        let long = "ü".repeat(BODY_CHARS + 1);
        let text = Text::of(&long, None);
        assert_eq!((text.text.chars().count(), length(&long)), (BODY_CHARS, 8_002));
        assert_eq!(text.comment.as_deref(), Some("cut: the first 8000 of 8002 bytes"));
        assert_eq!(length(&cut(&long, 100)), 8_002);
        let whole = Text::of(&long[2..], Some("text/plain"));
        assert_eq!((whole.text.len(), whole.comment, whole.mime_type), (8_000, None, "text/plain"));
    }

    #[test]
    fn of_many_frames_the_last_ones_are_kept() {
        let frames: Vec<_> = (0..100).map(|n| Frame { at_ms: f64::from(n), sent: n % 2 == 0, text: "x".repeat(1_000) }).collect();
        let (messages, left_out) = messages(&frames, Timestamp::UNIX_EPOCH);
        let messages = messages.expect("messages");
        assert_eq!((messages.len(), left_out), (65, 35));
        let last = messages.last().expect("a message");
        assert_eq!((last.r#type, last.opcode, last.time.to_string().as_str()), ("receive", 1, "0.099"));
    }
}
