//! One exchange, folded: written by hand, because a run has hundreds and a template would take most of the time.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::escape::{Text, push};
use super::waterfall::{Clock, draw};
use super::words::{bytes, took};
use crate::evidence::Evidence;
use crate::exchange::{Exchange, Frame, Kind, Phase, cut};

/// A body, or a header, is shown up to this many characters; the evidence file keeps more.
const BODY_CHARS: usize = 4_000;
/// The path of a folded exchange is shown up to this many characters.
const PATH_CHARS: usize = 160;
/// A frame is shown up to this many characters.
const FRAME_CHARS: usize = 600;
/// This many frames of an exchange are shown.
const FRAMES: usize = 200;

/// One exchange, folded, with a heading where another phase of the check begins.
pub(crate) fn exchange(evidence: &Evidence, x: &Exchange) -> String {
    let mut out = String::with_capacity(2_048);
    let before = (x.id as usize).checked_sub(2).and_then(|at| evidence.exchanges.get(at));
    let heading = match x.phase {
        Phase::Check => None,
        Phase::Cleanup => Some("Cleaning up"),
        Phase::Diagnosis => Some("Experiments after the check, on a clock of their own"),
    };
    if let Some(heading) = heading.filter(|_| before.is_none_or(|before| before.phase != x.phase)) {
        let _ = write!(out, "<h4 class=\"phase\">{heading}</h4>");
    }
    let about = evidence.failure.as_ref().map(|it| &it.about).or(evidence.trouble.as_ref().map(|it| &it.about));
    let broke = about.is_some_and(|ids| ids.contains(&x.id));
    let last = about.and_then(|ids| ids.last()) == Some(&x.id);
    let (class, open) = (if broke { "x broke" } else { "x" }, if last { " open" } else { "" });
    let _ = write!(out, "<details class=\"{class}\" id=\"x{:03}-{}\"{open}><summary>", evidence.id, x.id);
    head(&mut out, x, broke);
    draw(&mut out, x, Clock::of(evidence, x.phase));
    out.push_str("</summary><div class=\"wire\">");
    facts(&mut out, x);
    if let Some(error) = &x.error {
        let _ = write!(out, "<p class=\"error\">{}</p>", Text(&short(error, BODY_CHARS)));
    }
    let first = format!("{} {}", x.method, x.url);
    message(&mut out, "Request", &first, &x.request_headers, x.request_body.as_deref());
    let body = x.response_body.as_deref().filter(|_| x.kind != Kind::Sse || x.frames.is_empty());
    if let Some(status) = x.status {
        let first = format!("{} {status}", x.http_version.as_deref().unwrap_or("HTTP"));
        message(&mut out, "Answer", &first, &x.response_headers, body);
    }
    if !x.frames.is_empty() {
        frames(&mut out, x);
    }
    out.push_str("</div></details>\n");
    out
}

/// The line that is seen while it is folded.
fn head(out: &mut String, x: &Exchange, broke: bool) {
    let kind = match x.kind {
        Kind::Http => x.method.as_str(),
        Kind::Sse => "SSE",
        Kind::WebSocket => "WS",
    };
    let mark = if broke { "<b class=\"no\" title=\"the failure speaks of this\">✗</b> " } else { "" };
    let _ = write!(out, "<span class=\"id\">{mark}#{}</span><span class=\"what\"><b>{}</b> ", x.id, Text(kind));
    let _ =
        write!(out, "<bdi>{}</bdi> <i>{}</i></span>", Text(&short(path(&x.url), PATH_CHARS)), Text(&short(&x.caller, PATH_CHARS)));
    match (x.status, &x.close) {
        (_, Some(close)) if close.code != 1000 => {
            let _ = write!(out, "<span class=\"status\">close {}</span>", close.code);
        }
        (Some(status), _) => {
            let _ = write!(out, "<span class=\"status\">{status}</span>");
        }
        (None, _) => out.push_str("<span class=\"status none\">no answer</span>"),
    }
    let _ = write!(out, "<span class=\"ms\">{}</span>", x.timing.total_ms.map_or_else(|| "open".to_owned(), took));
}

/// Path and query of a URL.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// The text, cut only where it is longer.
fn short(text: &str, chars: usize) -> Cow<'_, str> {
    if text.len() <= chars { Cow::Borrowed(text) } else { Cow::Owned(cut(text, chars)) }
}

/// When, how long each step took, with whom, how much.
fn facts(out: &mut String, x: &Exchange) {
    let _ = write!(out, "<p class=\"facts\">began after {}", took(x.started_ms));
    let timing = &x.timing;
    let steps = [
        ("DNS", timing.dns_ms),
        ("TCP", timing.tcp_ms),
        ("TLS", timing.tls_ms),
        ("first byte after", timing.first_byte_ms),
        ("over after", timing.total_ms),
    ];
    for (name, ms) in steps.into_iter().filter_map(|(name, ms)| Some((name, ms?))) {
        let _ = write!(out, " · {name} {}", took(ms));
    }
    if timing.total_ms.is_none() {
        out.push_str(" · still open at the end of the check");
    }
    if let Some(peer) = x.peer {
        let _ = write!(out, " · {peer}");
    }
    if let Some(tls) = &x.tls {
        let _ = write!(out, " · {}, certificate {}", Text(&tls.version), Text(tls.certificate_sha256.get(..16).unwrap_or("?")));
    }
    let _ = write!(out, " · {} sent, {} received", bytes(x.bytes_sent), bytes(x.bytes_received));
    if let Some(close) = &x.close {
        let _ = write!(out, " · closed with {} “{}”", close.code, Text(&close.reason));
    }
    out.push_str("</p>");
}

/// First line, headers, body; folded.
fn message(out: &mut String, name: &str, first: &str, headers: &[(String, String)], body: Option<&str>) {
    let _ = writeln!(out, "<details open><summary>{name}</summary><pre dir=\"auto\"><b>{}</b>", Text(&short(first, BODY_CHARS)));
    for (name, value) in headers {
        let _ = writeln!(out, "<i>{}:</i> {}", Text(&short(name, BODY_CHARS)), Text(&short(value, BODY_CHARS)));
    }
    out.push_str("</pre>");
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        // A line feed right after the tag is not part of the text (HTML, §13.1.2.5); this one is given away for it.
        out.push_str("<pre class=\"body\" dir=\"auto\">\n");
        push(out, &short(body, BODY_CHARS));
        out.push_str("</pre>");
    }
    out.push_str("</details>");
}

/// Frames in order, theirs and ours: the last ones, where a socket breaks.
fn frames(out: &mut String, x: &Exchange) {
    let what = if x.kind == Kind::Sse { "Events" } else { "Frames" };
    let hidden = x.frames.len().saturating_sub(FRAMES);
    let _ = write!(out, "<details open><summary>{what}: {}</summary>", x.frames.len());
    if hidden > 0 {
        let _ = write!(out, "<p class=\"facts\">the first {hidden} are only in the evidence file</p>");
    }
    out.push_str("<ol class=\"frames\">");
    for Frame { at_ms, sent, text } in &x.frames[hidden..] {
        let (class, word) = if *sent { ("out", "sent") } else { ("in", "received") };
        let _ = write!(out, "<li class=\"{class}\"><span class=\"ms\">{}</span><span class=\"way\">{word}</span>", took(*at_ms));
        out.push_str("<code dir=\"auto\">");
        push(out, &short(text, FRAME_CHARS));
        out.push_str("</code></li>");
    }
    out.push_str("</ol></details>");
}
