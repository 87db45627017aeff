//! `run.har`: every exchange, for tools that read HTTP archives.
//!
//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>) with what Chromium's DevTools add to it: `_resourceType`,
//! `_webSocketMessages`, `_error`, `_transferSize`. A page is a check. Each exchange is written out once, when its check ends;
//! the file only joins them.

use jiff::{SignedDuration, Timestamp};

use super::Run;
use super::digest::within;
use crate::evidence::Evidence;
use crate::exchange::{Exchange, Frame, Kind, Phase};

mod shape;
mod timings;

use shape::{Body, Cache, Content, Creator, Entry, Log, Message, Page, PageTimings, Pair, Request, Response, length};
use timings::{Timings, round};

/// Entries take up to this many bytes together: viewers and pull requests take files of 5 MiB.
const BUDGET_BYTES: usize = 4_718_592;
/// Frames of one connection take up to this many bytes together: the last ones, where failures are.
const FRAMES_BYTES: usize = 65_536;

/// One entry of the archive, as JSON.
pub(crate) fn entry(evidence: &Evidence, x: &Exchange) -> String {
    let started = moment(&evidence.started_at, x.started_ms);
    let timings = Timings::of(&x.timing, x.frames.last());
    let frames = (x.kind == Kind::WebSocket).then(|| messages(&x.frames, started));
    let left_out = frames.as_ref().map_or(0, |(_, left_out)| *left_out);
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
        messages: frames.map(|(messages, _)| messages),
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
        timings: PageTimings { on_load: evidence.duration_ms },
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
        post_data: body.map(|body| Body::of(body, header(&x.request_headers, "content-type"))),
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
        content: Content { size: length(body), text: Body::of(body, header(&x.response_headers, "content-type")) },
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
fn messages(frames: &[Frame], started: Timestamp) -> (Vec<Message<'_>>, usize) {
    let mut left = FRAMES_BYTES;
    let fits = |frame: &&Frame| left.checked_sub(frame.text.len()).map(|rest| left = rest).is_some();
    let left_out = frames.len() - frames.iter().rev().take_while(fits).count();
    (frames[left_out..].iter().map(|frame| message(frame, started)).collect(), left_out)
}

fn message(frame: &Frame, started: Timestamp) -> Message<'_> {
    Message {
        r#type: if frame.sent { "send" } else { "receive" },
        time: round(seconds(started) + frame.at_ms / 1e3, 1e6),
        opcode: opcode(&frame.text),
        data: &frame.text,
    }
}

/// Of a frame, by the words that stand for those that are no text.
fn opcode(text: &str) -> u8 {
    match text {
        _ if text.starts_with("<close ") => 8,
        _ if text.starts_with("<binary") => 2,
        _ => 1,
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_frames_the_last_ones_are_kept() {
        let frames: Vec<_> = (0..100).map(|n| Frame { at_ms: f64::from(n), sent: n % 2 == 0, text: "x".repeat(1_000) }).collect();
        let (messages, left_out) = messages(&frames, Timestamp::UNIX_EPOCH);
        assert_eq!((messages.len(), left_out), (65, 35));
        let last = messages.last().expect("a message");
        assert_eq!((last.r#type, last.opcode, last.time.to_string().as_str()), ("receive", 1, "0.099"));
    }
}
