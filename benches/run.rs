//! What a run costs: wall time against its floor, evidence and reports on against off, the reports of a run with very many
//! exchanges, and the memory of the test process without the stand-in.
//!
//! `cargo bench --bench run`. The floor is what the checks must wait for, whatever the suite does: the longest of them, then the
//! SLA check, which runs alone. Figures are ratios within one run, since machines are noisy; nothing is asserted here.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use netra_critical::evidence::Evidence;
use netra_critical::exchange::{BODY_KEPT_CHARS, Exchange, keep};
use netra_critical::history::median;
use netra_critical::report::render;
use netra_stand_in::{Options, StandIn};

#[path = "../tests/suite/built.rs"]
mod built;

const RUNS: usize = 5;
const PAIRS: usize = 10;

fn main() {
    let binary = built::critical();
    let out = tempfile::tempdir().expect("a temporary folder");
    println!("{RUNS} runs each, checks built without optimization, as `cargo test` builds them");
    let mut walls = Vec::new();
    let mut ratios = Vec::new();
    for run in 0..RUNS {
        let id = format!("embedded-{run}");
        let started = Instant::now();
        let mut child = start(binary, out.path(), &id, &[]);
        assert!(child.wait().expect("it ends").success(), "run {id} failed: see {}", out.path().display());
        let wall = started.elapsed().as_secs_f64();
        let floor = floor(&out.path().join(&id));
        println!("embedded   wall {wall:.2} s   floor {floor:.2} s   ratio {:.2}", wall / floor);
        walls.push(wall);
        ratios.push(wall / floor);
    }
    println!("embedded   median wall {:.2} s, median ratio to the floor {:.2}", median(&walls), median(&ratios));

    // On against off in turn, so that a machine that drifts is as slow for one as for the other.
    let mut overheads = Vec::new();
    for pair in 0..PAIRS {
        let wall = |how: &str, env: &[(&str, &str)]| {
            let started = Instant::now();
            let mut child = start(binary, out.path(), &format!("{how}-{pair}"), env);
            assert!(child.wait().expect("it ends").success(), "run {how}-{pair} failed: see {}", out.path().display());
            started.elapsed().as_secs_f64()
        };
        let (on, off) = (wall("on", &[]), wall("off", &[("CRITICAL_REPORTS", "off")]));
        println!("reports    on {on:.3} s   off {off:.3} s   ratio {:.3}", on / off);
        overheads.push(on / off);
    }
    println!("reports    median ratio {:.3} (n = {PAIRS})", median(&overheads));

    many(&out.path().join("embedded-0"));

    let server = StandIn::start(Options::default()).expect("a stand-in");
    let ca = out.path().join("ca.pem");
    std::fs::write(&ca, server.ca_pem().unwrap_or_default()).expect("a CA file");
    let ca = ca.display().to_string();
    let env = [
        ("CRITICAL_API_URL", server.api_url()),
        ("CRITICAL_WS_URL", server.ws_url()),
        ("CRITICAL_AUTH_URL", server.auth_url()),
        ("CRITICAL_CA_FILE", &ca),
        ("JWT_SECRET_STAGING", server.jwt_secret()),
        ("E2E_OAUTH_SIMULATION_KEY", server.e2e_key()),
    ];
    let mut peaks = Vec::new();
    for run in 0..RUNS {
        let before = server.runs_started();
        let mut child = start(binary, out.path(), &format!("alone-{run}"), &env);
        let peak = watch(&mut child);
        println!("alone      peak memory of the test process {peak:.1} MiB, agent runs {}", server.runs_started() - before);
        peaks.push(peak);
    }
    println!("alone      median peak memory {:.1} MiB", median(&peaks));
}

/// The reports of a run whose first check has 5,000 exchanges with bodies of 1 MiB: written again from its evidence, as for
/// `critical report`, against the same run with its own exchanges.
fn many(run: &Path) {
    let timed = || {
        let started = Instant::now();
        render(run).expect("a run");
        started.elapsed().as_secs_f64()
    };
    let few = timed();
    let path = run.join("evidence/test_012_message_persistence_real.json");
    let mut evidence: Evidence = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("evidence");
    let body = keep(&"a line of an answer, \"quoted\" <tagged> & more\n".repeat((1 << 20) / 48), BODY_KEPT_CHARS);
    let one = evidence.exchanges.iter().find(|it| it.response_body.is_some()).expect("an exchange with a body");
    let one = Exchange { request_body: Some(body.clone()), response_body: Some(body), ..one.clone() };
    evidence.exchanges = (1..=5_000).map(|id| Exchange { id, ..one.clone() }).collect();
    std::fs::write(&path, serde_json::to_vec(&evidence).expect("JSON")).expect("a file");
    let many = timed();
    println!("5,000      all reports {many:.2} s, from {} MB of evidence; {:.1} times a sound run's", len(&path), many / few);
    for report in ["report.md", "report.html", "junit.xml", "ctrf.json", "run.har", "results.json"] {
        println!("5,000      {report} {} MB", len(&run.join(report)));
    }
}

/// Size of a file in MB, in words.
fn len(path: &Path) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = std::fs::metadata(path).expect("a file").len() as f64;
    format!("{:.2}", bytes / 1e6)
}

fn start(binary: &Path, out: &Path, id: &str, env: &[(&str, &str)]) -> Child {
    let mut command = built::apart(binary);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.env("CRITICAL_OUT_DIR", out).env("CRITICAL_RUN_ID", id).envs(env.iter().copied());
    command.spawn().expect("the binary runs")
}

/// The longest check, and the SLA check after it, in seconds.
fn floor(run: &Path) -> f64 {
    let files = std::fs::read_dir(run.join("evidence")).expect("evidence");
    let all: Vec<Evidence> = files
        .map(|file| serde_json::from_slice(&std::fs::read(file.expect("a file").path()).expect("text")).expect("evidence"))
        .collect();
    let longest = all.iter().filter(|it| it.id != 23).map(|it| it.duration_ms).fold(0.0, f64::max);
    let sla = all.iter().find(|it| it.id == 23).map_or(0.0, |it| it.duration_ms);
    (longest + sla) / 1e3
}

/// Peak resident memory in MiB, read from the kernel's own high-water mark while the process lives.
fn watch(child: &mut Child) -> f64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        #[expect(clippy::disallowed_methods, reason = "sampling a process from outside; nothing is waited for")]
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}
