//! What a run shows of itself: how much crossed the wire, how fast, with whom. Counted from exchanges, added up over checks.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::exchange::{Exchange, Kind, Phase};
use crate::time::{parse_http_date, parse_iso};

/// Figures of one check, or of a whole run. Only what the checks themselves sent counts, not cleaning up and diagnosis.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// HTTP requests that were answered, streams among them.
    pub requests: usize,
    /// Of these, `text/event-stream` answers.
    pub streams: usize,
    /// WebSocket handshakes that ended in 101.
    pub sockets: usize,
    /// WebSocket handshakes that ended with another status.
    pub sockets_refused: usize,
    /// Frames sent over WebSockets.
    pub frames_sent: usize,
    /// Frames and stream events received.
    pub frames_received: usize,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Agent runs that were seen, by their ids or by their answers.
    pub agent_runs: usize,
    /// Milliseconds to the first byte of each answer to an HTTP request.
    #[serde(skip)]
    pub answers_ms: Vec<f64>,
    /// Milliseconds from dialling to the welcome, for each socket that got one.
    pub welcomes_ms: Vec<f64>,
    /// Milliseconds of each new connection's DNS, TCP and TLS together.
    #[serde(skip)]
    pub connects_ms: Vec<f64>,
    /// Hosts that were asked, with their ports.
    pub hosts: BTreeSet<String>,
    /// Addresses that answered.
    pub peers: BTreeSet<String>,
    /// TLS versions, each with the fingerprint of the certificate.
    pub tls: BTreeSet<String>,
    /// HTTP versions.
    pub http_versions: BTreeSet<String>,
    /// What the service says that it is (`X-Environment`).
    pub environments: BTreeSet<String>,
    /// Who asked, as far as the credential was a good one.
    pub users: BTreeSet<String>,
    /// Bytes of the answers of service discovery.
    pub discovery_bytes: u64,
    /// Refusals and errors as they came, one of each status and code: status, code, message, exchange.
    pub errors: Vec<ErrorSeen>,
    /// How far the service's clock is ahead of ours, in seconds, as its `Date` headers say (whole seconds).
    #[serde(skip)]
    pub skews_s: Vec<f64>,
    #[serde(skip)]
    runs: BTreeSet<String>,
}

/// An error answer that really came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorSeen {
    /// Status of the answer; 101 for a frame on a socket.
    pub status: u16,
    /// The service's code, or its `detail`.
    pub code: String,
    /// The check that saw it, and where: `002#14`.
    pub exchange: String,
}

impl Facts {
    /// Counts the exchanges of a check that began at `started_at` (ISO 8601).
    #[must_use]
    pub fn of(check: u16, started_at: &str, exchanges: &[Exchange]) -> Self {
        let mut it = Self::default();
        let began = parse_iso(started_at);
        for x in exchanges.iter().filter(|x| x.phase == Phase::Check) {
            it.count(check, began, x);
        }
        it.agent_runs += it.runs.len();
        it
    }

    fn count(&mut self, check: u16, began: Option<f64>, x: &Exchange) {
        let header = |name: &str| x.response_headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        self.bytes_sent += x.bytes_sent;
        self.bytes_received += x.bytes_received;
        if let Ok(url) = url::Url::parse(&x.url) {
            let port = url.port_or_known_default().map_or(String::new(), |port| format!(":{port}"));
            self.hosts.insert(format!("{}{port}", url.host_str().unwrap_or_default()));
            self.discovery_bytes += if url.path().starts_with("/api/discovery") { x.bytes_received } else { 0 };
            let executed = x.method == "POST" && url.path().starts_with("/api/agents/") && x.status == Some(200);
            self.agent_runs += usize::from(executed);
        }
        self.peers.extend(x.peer.map(|peer| peer.to_string()));
        self.tls.extend(x.tls.as_ref().map(|tls| {
            format!("{}, certificate {}", tls.version, &tls.certificate_sha256[..16.min(tls.certificate_sha256.len())])
        }));
        self.http_versions.extend(x.http_version.clone());
        self.environments.extend(header("x-environment").map(str::to_owned));
        if x.credential_good {
            self.users.insert(format!("{check:03} {}", x.caller));
        }
        let step = |ms: Option<f64>| ms.unwrap_or_default();
        if x.timing.tcp_ms.is_some() {
            self.connects_ms.push(step(x.timing.dns_ms) + step(x.timing.tcp_ms) + step(x.timing.tls_ms));
        }
        if let (Some(began), Some(date)) = (began, header("date").and_then(parse_http_date)) {
            let answered = began + (x.started_ms + x.timing.first_byte_ms.unwrap_or_default()) / 1e3;
            // Whole seconds, cut off (RFC 9110 §6.6.1): half of one is added.
            self.skews_s.push(date + 0.5 - answered);
        }
        let mut error = x.response_body.as_deref().and_then(|body| coded(&serde_json::from_str(body).ok()?));
        match (x.kind, x.status) {
            (Kind::WebSocket, Some(101)) => self.sockets += 1,
            (Kind::WebSocket, Some(_)) => self.sockets_refused += 1,
            (kind, Some(_)) => {
                self.requests += 1;
                self.streams += usize::from(kind == Kind::Sse);
                self.answers_ms.extend(x.timing.first_byte_ms);
            }
            (_, None) => {}
        }
        for frame in &x.frames {
            if frame.sent {
                self.frames_sent += 1;
                continue;
            }
            self.frames_received += 1;
            let Ok(data) = serde_json::from_str::<Value>(&frame.text) else { continue };
            let run = data["run_id"].as_str().or_else(|| data["data"]["run_id"].as_str());
            self.runs.extend(run.map(str::to_owned));
            if data["data"]["event"] == "connection_established" {
                self.welcomes_ms.push(frame.at_ms);
            }
            if data["type"] == "error_message" {
                error = error.or_else(|| coded(&data));
            }
        }
        if let Some(status) = x.status.filter(|status| *status >= 400 || *status == 101) {
            let exchange = format!("{check:03}#{}", x.id);
            self.see(error.map(|code| ErrorSeen { status, code, exchange }));
        }
    }

    fn see(&mut self, error: Option<ErrorSeen>) {
        let known = |new: &ErrorSeen| self.errors.iter().any(|old| (old.status, &old.code) == (new.status, &new.code));
        if let Some(error) = error.filter(|new| !known(new)) {
            self.errors.push(error);
        }
    }

    /// Adds the figures of another check.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.streams += other.streams;
        self.sockets += other.sockets;
        self.sockets_refused += other.sockets_refused;
        self.frames_sent += other.frames_sent;
        self.frames_received += other.frames_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.agent_runs += other.agent_runs;
        self.discovery_bytes += other.discovery_bytes;
        for (all, more) in [
            (&mut self.answers_ms, &other.answers_ms),
            (&mut self.welcomes_ms, &other.welcomes_ms),
            (&mut self.connects_ms, &other.connects_ms),
            (&mut self.skews_s, &other.skews_s),
        ] {
            all.extend(more);
        }
        for (all, more) in [
            (&mut self.hosts, &other.hosts),
            (&mut self.peers, &other.peers),
            (&mut self.tls, &other.tls),
            (&mut self.http_versions, &other.http_versions),
            (&mut self.environments, &other.environments),
            (&mut self.users, &other.users),
        ] {
            all.extend(more.iter().cloned());
        }
        other.errors.iter().for_each(|error| self.see(Some(error.clone())));
    }
}

/// Code and message of an error, in the forms of contract, sections 2.2 and 3.
fn coded(body: &Value) -> Option<String> {
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty());
    let message = text("error_message").or(text("message"));
    match (text("error_code"), message) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(code), None) => Some(code.to_owned()),
        _ if body["detail"].is_array() => Some(format!("detail: {} items", body["detail"].as_array().map_or(0, Vec::len))),
        _ => text("detail").map(str::to_owned),
    }
}

/// The spread of some samples, in the samples' unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many.
    pub n: usize,
    /// The smallest.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The 95th percentile, by nearest rank; none of fewer than 20 samples.
    pub p95: Option<f64>,
    /// The 99th; none of fewer than 100.
    pub p99: Option<f64>,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these samples; none of none.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut all = samples.to_vec();
        all.sort_by(f64::total_cmp);
        let (min, max) = (*all.first()?, *all.last()?);
        let n = all.len();
        // The smallest sample that at least so many percent do not exceed.
        let rank = |percent: usize| all[(n * percent).div_ceil(100).clamp(1, n) - 1];
        Some(Self {
            n,
            min,
            median: crate::history::median(&all),
            p95: (n >= 20).then(|| rank(95)),
            p99: (n >= 100).then(|| rank(99)),
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_told_only_where_there_are_enough_samples() {
        assert_eq!(Spread::of(&[]), None);
        let few = Spread::of(&[3.0, 1.0, 2.0]).expect("samples");
        assert_eq!((few.n, few.min, few.median, few.p95, few.max), (3, 1.0, 2.0, None, 3.0));
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        let many = Spread::of(&many).expect("samples");
        assert_eq!((many.median, many.p95, many.p99), (50.5, Some(95.0), Some(99.0)));
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(Spread::of(&twenty).and_then(|it| it.p95), Some(19.0));
    }

    #[test]
    fn errors_are_told_by_code_and_message_or_by_their_detail() {
        let coded = |body: Value| super::coded(&body);
        assert_eq!(
            coded(serde_json::json!({"error_code": "NO_TOKEN", "error_message": "none"})).as_deref(),
            Some("NO_TOKEN: none")
        );
        assert_eq!(coded(serde_json::json!({"error_code": "X", "message": "m"})).as_deref(), Some("X: m"));
        assert_eq!(coded(serde_json::json!({"detail": "Not Found"})).as_deref(), Some("Not Found"));
        assert_eq!(coded(serde_json::json!({"detail": [{}, {}]})).as_deref(), Some("detail: 2 items"));
        assert_eq!(coded(serde_json::json!({"status": "fine"})), None);
    }
}
