//! Each fault of transport does on the wire what it says, as curl and a client of plain bytes see it; controls keep every order.

#[path = "support/tools.rs"]
mod tools;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    process::Output,
    sync::Arc,
    time::{Duration, Instant},
};

use netra_stand_in::{Options, faults};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tools::{World, access_token, curl, curl_ends, started};

/// Longer than any pause of a sound connection here, whose heartbeat is `HEARTBEAT`.
const SILENCE: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_millis(100);
/// No connection here has so much to say.
const PATIENCE: Duration = Duration::from_secs(10);

fn with_fault(name: &str) -> World {
    started(Options { faults: vec![name.to_owned()], heartbeat: HEARTBEAT, ..Options::default() })
}

/// curl's exit code and what it says, for a request to the API.
fn refused(world: &World, more: &[&str]) -> (i32, String) {
    let url = format!("{}/health", world.stand_in.api_url());
    let Output { status, stderr, .. } = curl_ends(world, &[more, &[&url]].concat());
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
}

fn auth_is_reached(world: &World) {
    let text = curl(world, &[&format!("{}/health", world.stand_in.auth_url())]);
    assert!(text.contains("auth-service"), "{text}");
}

/// How a connection ended, after these bytes.
#[derive(Debug, PartialEq)]
enum End {
    /// TCP FIN, with or without a goodbye of TLS.
    Fin,
    /// TCP RST.
    Reset,
    /// It stands, and nothing comes.
    Silence,
}

/// Bytes over TLS, by hand.
struct Bytes(TlsStream<TcpStream>);

impl Bytes {
    async fn connect(world: &World) -> Self {
        let mut roots = RootCertStore::empty();
        let pem = world.stand_in.ca_pem().expect("an authority");
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an authority");
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = world.stand_in.api_url().trim_start_matches("https://");
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        Self(TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.expect("TLS"))
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("bytes are taken");
    }

    /// Asks for the socket with a good token in this header.
    async fn upgrade(&mut self, header: &str) {
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13";
        self.say(&format!(
            "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n{key}\r\n{header}\r\n\r\n"
        ))
        .await;
    }

    /// All that comes until the end, or until nothing comes any more.
    async fn rest(&mut self) -> (Vec<u8>, End) {
        let (mut bytes, started) = (Vec::new(), Instant::now());
        loop {
            assert!(started.elapsed() < PATIENCE, "it goes on and on: {}", String::from_utf8_lossy(&bytes));
            match timeout(SILENCE, self.0.read_buf(&mut bytes)).await {
                Err(_) => return (bytes, End::Silence),
                Ok(Ok(0)) => return (bytes, End::Fin),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Reset),
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return (bytes, End::Fin),
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }
}

/// A socket by hand, to which these messages are sent: everything after the head of the 101, and the end.
async fn socket(world: &World, messages: &[Value]) -> (Vec<u8>, End) {
    let mut connection = Bytes::connect(world).await;
    connection.upgrade(&format!("authorization: Bearer {}", access_token(world))).await;
    for message in messages {
        let text = message.to_string();
        let size = u8::try_from(text.len()).ok().filter(|size| *size < 126).expect("a short message");
        // A text frame whose mask changes nothing.
        connection.0.write_all(&[&[0x81, 0x80 | size, 0, 0, 0, 0], text.as_bytes()].concat()).await.expect("bytes are taken");
    }
    let (bytes, end) = connection.rest().await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    let head = text.find("\r\n\r\n").expect("a whole head") + 4;
    (bytes[head..].to_vec(), end)
}

/// Whole frames, each with its kind, and what there is of one more: bytes that came, bytes announced.
type Frames = (Vec<(u8, Value)>, Option<(usize, usize)>);

/// Frames from the server (RFC 6455 §5.2, unmasked).
fn frames(mut bytes: &[u8]) -> Frames {
    let mut whole = Vec::new();
    while let [first, second, ..] = bytes {
        let (head, size) = match second {
            126 if bytes.len() > 3 => (4, usize::from(bytes[2]) << 8 | usize::from(bytes[3])),
            short => (2, usize::from(*short)),
        };
        let Some(payload) = bytes.get(head..head + size) else { return (whole, Some((bytes.len(), head + size))) };
        whole.push((first & 0x0f, serde_json::from_slice(payload).unwrap_or_default()));
        bytes = &bytes[head + size..];
    }
    (whole, (!bytes.is_empty()).then_some((bytes.len(), 2)))
}

#[test]
fn the_port_is_closed_and_stays_ours() {
    let world = with_fault("connection-refused");
    let (code, text) = refused(&world, &[]);
    assert_eq!(code, 7, "{text}");
    auth_is_reached(&world);
    let address = world.stand_in.api_url().trim_start_matches("https://");
    let taken = std::net::TcpListener::bind(address).expect_err("nobody else gets the port");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}

#[test]
fn certificates_are_refused_for_what_is_wrong_with_them() {
    let faults = [
        ("wrong-host-certificate", "certificate subject name"),
        ("expired-certificate", "certificate has expired"),
        ("untrusted-certificate", "unable to get local issuer certificate"),
    ];
    for (fault, says) in faults {
        let world = with_fault(fault);
        let (code, text) = refused(&world, &[]);
        assert!(code == 60 && text.contains(says), "{fault}: {code} {text}");
        let (code, text) = refused(&world, &["--insecure"]);
        assert_eq!(code, 0, "{fault}: only the certificate is wrong: {text}");
        auth_is_reached(&world);
    }
}

#[tokio::test]
async fn tls_is_answered_with_a_plain_400() {
    let world = with_fault("plain-http-on-https-port");
    assert_eq!(refused(&world, &[]).0, 35);
    let address = world.stand_in.api_url().trim_start_matches("https://");
    let mut tcp = TcpStream::connect(address).await.expect("a connection");
    // The head of a TLS record with the beginning of a ClientHello (RFC 8446 §5.1).
    tcp.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]).await.expect("bytes are taken");
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.expect("an answer and an end");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    auth_is_reached(&world);
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle_and_at_the_same_place_each_time() {
    let mut places = Vec::new();
    for _ in 0..2 {
        let world = with_fault("reset-after-bytes");
        let mut place = Vec::new();
        for _ in 0..4 {
            let mut connection = Bytes::connect(&world).await;
            connection.say(&"GET /api/mcp/servers HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(3)).await;
            let (bytes, end) = connection.rest().await;
            assert_eq!(end, End::Reset, "{}", String::from_utf8_lossy(&bytes));
            place.push(bytes.len());
        }
        places.push(place);
    }
    assert!(places[0].iter().all(|bytes| (100..1000).contains(bytes)), "{places:?}");
    assert!(places[0].iter().any(|bytes| *bytes != places[0][0]), "{places:?}");
    assert_eq!(places[0], places[1]);
}

#[tokio::test]
async fn a_half_open_connection_takes_everything_and_says_nothing() {
    let world = with_fault("half-open");
    let mut connection = Bytes::connect(&world).await;
    connection.say("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(connection.rest().await, (vec![], End::Silence));
    let (code, text) = refused(&world, &["--max-time", "0.5"]);
    assert!(code == 28 && text.contains("0 bytes received"), "{code} {text}");
    auth_is_reached(&world);
}

#[tokio::test]
async fn a_half_open_socket_says_one_frame_and_never_ends() {
    let (bytes, end) = socket(&with_fault("half-open-socket"), &[]).await;
    let (frames, part) = frames(&bytes);
    assert_eq!((frames.len(), part, end), (1, None, End::Silence));
    assert_eq!(frames[0].1["data"]["event"], "connection_established");
}

#[tokio::test]
async fn a_socket_stops_in_the_middle_of_its_second_frame() {
    let (bytes, end) = socket(&with_fault("stall-mid-frame"), &[]).await;
    let (frames, part) = frames(&bytes);
    assert_eq!((frames.len(), end), (1, End::Silence));
    let (came, announced) = part.expect("a part of a frame");
    assert!(0 < came && came < announced, "{came} of {announced}");
}

#[tokio::test]
async fn a_socket_ends_without_a_close_frame() {
    const CLOSE: u8 = 8;
    let (bytes, end) = socket(&with_fault("close-without-close-frame"), &[]).await;
    let (frames, part) = frames(&bytes);
    assert_eq!((part, end), (None, End::Fin));
    assert!((2..=4).contains(&frames.len()) && frames.iter().all(|(kind, _)| *kind != CLOSE), "{frames:?}");
}

#[tokio::test]
async fn an_idle_connection_is_cut_and_a_busy_one_is_not() {
    let world =
        started(Options { faults: vec!["idle-cut".to_owned()], heartbeat: Duration::from_millis(500), ..Options::default() });
    let started = Instant::now();
    assert_eq!(Bytes::connect(&world).await.rest().await, (vec![], End::Fin));
    let idle = started.elapsed();
    assert!((Duration::from_millis(290)..SILENCE).contains(&idle), "{idle:?}");
    let mut busy = Bytes::connect(&world).await;
    for _ in 0..4 {
        busy.say("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut answer = Vec::new();
        while let Ok(read) = timeout(Duration::from_millis(150), busy.0.read_buf(&mut answer)).await {
            assert!(read.expect("an open connection") > 0, "cut though busy");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn a_body_stops_in_its_middle() {
    let world = with_fault("stall-mid-body");
    for version in ["--http1.1", "--http2"] {
        let url = format!("{}/health", world.stand_in.api_url());
        let ends = curl_ends(&world, &[version, "--max-time", "0.5", "--include", &url]);
        let (head, text) = (String::from_utf8_lossy(&ends.stdout), String::from_utf8_lossy(&ends.stderr));
        let part = text.split("with ").nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
        let [came, "out", "of", announced, ..] = part[..] else { panic!("{text}\n{head}") };
        assert_eq!(came.parse::<u64>().expect("bytes"), announced.parse::<u64>().expect("bytes") / 2, "{version}");
        assert!(head.contains("200") && ends.status.code() == Some(28), "{version}: {head}");
    }
    auth_is_reached(&world);
}

#[test]
fn a_body_trickles_and_is_whole() {
    let world = with_fault("slow-trickle");
    let url = format!("{}/health", world.stand_in.api_url());
    let text = curl(&world, &["--write-out", "\n%{time_starttransfer} %{time_total}", &url]);
    let (body, times) = text.rsplit_once('\n').expect("two lines");
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON")["status"], "healthy");
    let times: Vec<f64> = times.split(' ').map(|time| time.parse().expect("seconds")).collect();
    assert!(times[1] - times[0] > 0.4, "{times:?}");
}

#[tokio::test]
async fn gateways_and_firewalls_answer_in_place_of_the_service() {
    let world = with_fault("gateway-502-html");
    let page = curl(&world, &["--include", &format!("{}/api/threads", world.stand_in.api_url())]);
    assert!(page.contains(" 502") && page.contains("text/html") && !page.contains("x-trace-id"), "{page}");
    auth_is_reached(&world);

    let world = with_fault("firewall-403-on-upgrade");
    let mut connection = Bytes::connect(&world).await;
    connection.upgrade(&format!("authorization: Bearer {}", access_token(&world))).await;
    let page = String::from_utf8_lossy(&connection.rest().await.0).into_owned();
    assert!(page.starts_with("HTTP/1.1 403") && page.contains("text/html") && !page.contains("x-trace-id"), "{page}");
    assert_eq!(refused(&world, &[]).0, 0, "only upgrades are refused");

    let world = with_fault("not-ready-503");
    for (path, status) in [("/health", "503"), ("/health/ready", "503"), ("/api/threads", "503"), ("/health/live", "200")] {
        let page = curl(&world, &["--include", &format!("{}{path}", world.stand_in.api_url())]);
        assert!(page.contains(&format!(" {status}")) && page.contains("x-trace-id"), "{path}: {page}");
        assert_eq!(page.contains("retry-after: 5"), status == "503", "{path}: {page}");
    }
}

#[tokio::test]
async fn a_stripped_header_leaves_the_other_carrier() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    // Between its heartbeats this one is silent.
    let world = started(Options { faults: vec!["authorization-stripped-on-upgrade".to_owned()], ..Options::default() });
    let token = access_token(&world);
    let (header, offer) = (format!("authorization: Bearer {token}"), format!("jwt-auth, jwt.{}", BASE64.encode(&token)));
    for (carrier, says) in [(header, "NO_TOKEN"), (format!("sec-websocket-protocol: {offer}"), "connection_established")] {
        let mut connection = Bytes::connect(&world).await;
        connection.upgrade(&carrier).await;
        let (bytes, _) = connection.rest().await;
        assert!(String::from_utf8_lossy(&bytes).contains(says), "{}", String::from_utf8_lossy(&bytes));
    }
    let bearer = format!("Authorization: Bearer {token}");
    let url = format!("{}/api/threads", world.stand_in.api_url());
    assert_eq!(curl(&world, &["--header", &bearer, &url]), "[]", "only upgrades lose it");
}

#[tokio::test]
async fn controls_keep_the_order_of_each_run() {
    for control in ["control-no-op", "control-jitter", "control-reorder"] {
        // A heartbeat is never silent, and would keep the reading from its end.
        let world = started(Options { faults: vec![control.to_owned()], heartbeat: Duration::from_secs(60), ..Options::default() });
        let message = |content: &str| json!({"type": "chat", "payload": {"content": content}});
        let (bytes, end) = socket(&world, &[message("Compare two indexes"), message("Price of tokens?")]).await;
        let (frames, part) = frames(&bytes);
        assert_eq!((part, end), (None, End::Silence), "{control}");
        let mut runs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (_, event) in frames.iter().filter(|(_, frame)| frame["run_id"].is_string()) {
            let of_run = runs.entry(event["run_id"].as_str().unwrap_or_default()).or_default();
            of_run.push(event["sequence"].as_u64().expect("a number"));
        }
        assert_eq!(runs.len(), 2, "{control}: {frames:?}");
        for numbers in runs.values() {
            assert!(numbers.len() > 5 && numbers.iter().zip(1..).all(|(got, wanted)| *got == wanted), "{control}: {numbers:?}");
        }
    }
}

/// When each of some answers came, asked for one after the other on connections of their own, `apart` from each other.
async fn answered(world: &World, apart: Duration) -> Vec<Duration> {
    let mut asked = Vec::new();
    for _ in 0..8 {
        asked.push(Bytes::connect(world).await);
    }
    let started = Instant::now();
    let mut coming = Vec::new();
    for (mut connection, place) in asked.into_iter().zip(0..) {
        coming.push(tokio::spawn(async move {
            tokio::time::sleep_until((started + apart * place).into()).await;
            connection.say("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            let mut answer = [0; 12];
            connection.0.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200");
            started.elapsed()
        }));
    }
    let mut times = Vec::new();
    for answer in coming {
        times.push(answer.await.expect("an answer"));
    }
    times
}

#[tokio::test]
async fn jitter_is_spread_and_bounded() {
    let mut took = answered(&with_fault("control-jitter"), Duration::ZERO).await;
    took.sort();
    let (least, most) = (took[0], took[took.len() - 1]);
    assert!(most < Duration::from_millis(200) && most > least + Duration::from_millis(20), "{took:?}");
}

#[tokio::test]
async fn answers_overtake_each_other() {
    let came = answered(&with_fault("control-reorder"), Duration::from_millis(20)).await;
    let overtaken = came.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(overtaken >= 3, "{came:?}");
}

#[test]
fn controls_kill_nothing_and_faults_of_transport_say_what_is_reported() {
    for fault in faults() {
        let control = fault.name.starts_with("control-");
        assert_eq!(fault.kills.is_empty(), control, "{}", fault.name);
        assert!(!(control && fault.reports.is_some()), "{}", fault.name);
    }
}
