//! Clients made by others talk to the stand-in over TLS, trusting its authority: curl, Python's `websockets` and `httpx`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use netra_stand_in::Options;

#[path = "support/tools.rs"]
mod tools;

use tools::{World, access_token, curl, install, require, runs, started};

const PACKAGES: [&str; 2] = ["websockets==17.4", "httpx[http2]==0.28.1"];

/// The program's output; panics with all of it when the program failed.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{stderr}");
    stdout
}

/// Runs one of the scripts in `clients/`, which asserts by itself, and gives what it printed.
fn python(world: &World, script: &str) -> String {
    let packages = python_packages();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let mut command = Command::new("python3");
    command.arg(script).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "*");
    command.env("API", world.stand_in.api_url()).env("WS", world.stand_in.ws_url()).env("AUTH", world.stand_in.auth_url());
    command.env("CA", &world.authority).env("E2E_KEY", world.stand_in.e2e_key());
    output(&mut command)
}

/// Installs the Python clients once; tests that come meanwhile wait for it.
fn python_packages() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-clients");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let stamp = folder.join("installed");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    require("python3", "python3");
    if !runs("python3", &["-m", "pip", "--version"]) {
        install("python3-pip");
        assert!(runs("python3", &["-m", "pip", "--version"]), "pip is missing: install python3-pip");
    }
    drop(fs::remove_dir_all(&folder));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(&folder).args(PACKAGES);
    output(&mut pip);
    fs::write(stamp, wanted).expect("a stamp");
    folder
}

#[test]
fn curl_gets_health_over_http_1_and_2() {
    let world = started(Options::default());
    let url = format!("{}/health", world.stand_in.api_url());
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let text = curl(&world, &[option, "--write-out", "\n%{http_code} %{http_version}", &url]);
        let (body, last) = text.rsplit_once('\n').expect("two lines");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["status"], "healthy");
        assert_eq!(last, format!("200 {version}"));
    }
}

#[test]
fn curl_is_refused_with_a_bad_token_and_for_traversal() {
    let world = started(Options::default());
    let api = world.stand_in.api_url();
    let bad = ["--header", "Authorization: Bearer a.b.c", "--write-out", "\n%{http_code}", &format!("{api}/api/threads")];
    assert!(curl(&world, &bad).ends_with("\n401"));
    let raw = ["--path-as-is", "--write-out", "\n%{http_code}", &format!("{api}/api/../etc/passwd")];
    assert!(curl(&world, &raw).ends_with("\n403"));
}

#[test]
fn curl_reads_a_stream_of_events() {
    let world = started(Options::default());
    let api = world.stand_in.api_url();
    let bearer = format!("Authorization: Bearer {}", access_token(&world));
    let json = ["--header", &bearer, "--header", "Content-Type: application/json", "--data"];
    let thread = curl(&world, &[&json[..], &["{}", &format!("{api}/api/threads")]].concat());
    let thread: serde_json::Value = serde_json::from_str(&thread).expect("JSON");
    let body = serde_json::json!({"content": "Explain the zone-9 bill", "thread_id": thread["id"]}).to_string();
    let url = format!("{api}/api/chat/stream");
    let text = curl(&world, &[&json[..], &[&body, "--no-buffer", "--write-out", "%{content_type}", &url]].concat());
    let (frames, content_type) = text.rsplit_once("\n\n").expect("frames");
    assert_eq!(content_type, "text/event-stream");
    let frames: Vec<serde_json::Value> = frames
        .split("\n\n")
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").expect("a data line")).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds[..4], ["stream_start", "user_message", "agent_started", "agent_thinking"]);
    assert_eq!(kinds[kinds.len() - 3..], ["response_complete", "agent_completed", "stream_end"]);
    let chunks = frames.iter().filter(|frame| frame["type"] == "response_chunk");
    let text: String = chunks.map(|chunk| chunk["content"].as_str().expect("text")).collect();
    assert_eq!(text, frames[frames.len() - 3]["message"]);
    assert!(text.contains("zone-9"), "{text}");
    assert!(frames.iter().all(|frame| frame["run_id"] == frames[0]["run_id"] && frame["thread_id"] == thread["id"]));
}

#[test]
fn python_websockets_connects_talks_and_is_refused() {
    assert_eq!(python(&started(Options::default()), "sockets.py"), "ok\n");
}

#[test]
fn python_httpx_works_with_threads_over_http_2() {
    assert_eq!(python(&started(Options::default()), "threads.py"), "ok\n");
}
