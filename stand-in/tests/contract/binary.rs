//! `netra-stand-in serve`: what it prints, what it hides, how it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_netra-stand-in");

/// Runs the program with these variables and no others of ours.
fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").args(arguments).env_remove("JWT_SECRET_STAGING").env_remove("E2E_OAUTH_SIMULATION_KEY");
    command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads the lines up to the last export, stops the program with the signal, and gives the lines and the exit code.
fn served(arguments: &[&str], variables: &[(&str, &str)], last: &str, signal: &str) -> (Vec<String>, Option<i32>) {
    let mut child: Child = command(arguments, variables).spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("stdout"));
    let mut lines: Vec<String> = Vec::new();
    while !lines.last().is_some_and(|line| line.starts_with(&format!("export {last}="))) {
        let mut line = String::new();
        let read = out.read_line(&mut line).expect("text");
        assert!(read > 0, "ended after {lines:?}, before {last}");
        lines.push(line.trim_end().to_owned());
    }
    if let Some(file) = value(&lines, "export CRITICAL_CA_FILE=") {
        let pem = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    }
    let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "", "nothing more is printed");
    (lines, child.wait().expect("an end").code())
}

fn value(lines: &[String], prefix: &str) -> Option<String> {
    lines.iter().find_map(|line| line.strip_prefix(prefix)).map(|value| value.trim_matches('\'').to_owned())
}

/// The exit code of a program that must not start, and what it said. One that does start is ended, not waited for.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = command(arguments, &[]).spawn().expect("the program runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("text");
    if !line.is_empty() {
        child.kill().expect("an end");
    }
    let output = child.wait_with_output().expect("an end");
    assert_eq!(line, "", "{arguments:?} started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_says_where_it_is_and_how_to_use_it_and_ends_cleanly_on_sigint() {
    let (lines, code) = served(&["--listen", "127.0.0.1:0"], &[], "E2E_OAUTH_SIMULATION_KEY", "INT");
    assert_eq!(code, Some(0));
    for (line, name, scheme) in [(0, "api", "https://127.0.0.1:"), (1, "ws", "wss://127.0.0.1:"), (2, "auth", "https://127.0.0.1:")]
    {
        let url = lines[line].strip_prefix(&format!("{name}=")).unwrap_or_else(|| panic!("{lines:?}"));
        assert!(url.starts_with(scheme), "{url}");
        let export = format!("export CRITICAL_{}_URL=", name.to_uppercase());
        assert_eq!(value(&lines, &export).as_deref(), Some(url));
    }
    assert!(lines.iter().any(|line| line.starts_with('#') && line.contains("throw-away")), "{lines:?}");
    let authority = value(&lines, "export CRITICAL_CA_FILE=").expect("a file");
    assert!(!std::path::Path::new(&authority).exists(), "the temporary {authority} is gone");
}

#[test]
fn secrets_from_the_environment_are_never_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    let variables = [("JWT_SECRET_STAGING", "hush-hush"), ("E2E_OAUTH_SIMULATION_KEY", "hush-too")];
    let arguments = ["--listen", "127.0.0.1:0", "--ca-out", authority.to_str().expect("text")];
    let (lines, code) = served(&arguments, &variables, "CRITICAL_CA_FILE", "TERM");
    assert_eq!(code, Some(0));
    assert!(!lines.concat().contains("hush"), "{lines:?}");
    assert!(authority.exists(), "what was asked for stays");
}

#[test]
fn plain_has_no_authority() {
    let (lines, code) =
        served(&["--listen", "127.0.0.1:0", "--plain", "--latency", "1ms"], &[], "E2E_OAUTH_SIMULATION_KEY", "TERM");
    assert_eq!(code, Some(0));
    assert!(lines[0].starts_with("api=http://") && lines[1].starts_with("ws=ws://"), "{lines:?}");
    assert!(!lines.concat().contains("CRITICAL_CA_FILE"));
}

#[test]
fn what_cannot_be_is_refused_with_2_and_a_remedy() {
    for (arguments, named) in [
        (["--listen", "0.0.0.0:0"], "loopback"),
        (["--listen", "nonsense"], "nonsense"),
        (["--latency", "soon"], "30ms"),
        (["--heartbeat", "1"], "30ms"),
        (["--db", "/no/such/folder/db"], "/no/such/folder/db"),
        (["--ca-out", "/no/such/folder/ca"], "/no/such/folder/ca"),
    ] {
        let mut all = arguments.to_vec();
        if arguments[0] != "--listen" {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        let (code, message) = refused(&all);
        assert_eq!(code, Some(2), "{arguments:?}: {message}");
        assert!(message.contains(named), "{arguments:?}: {message}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, message) = refused(&["--listen", &address]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains(&address) && message.contains("in use"), "{message}");
}

#[test]
fn faults_are_listed_and_an_unknown_one_is_refused_by_name() {
    let program = env!("CARGO_BIN_EXE_netra-stand-in");
    let listed = std::process::Command::new(program).arg("faults").output().expect("it runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: Vec<_> = listed.lines().map_while(|line| line.split_whitespace().next()).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert!(names.len() > 100 && unique.len() == names.len(), "{} names, {} of them different", names.len(), unique.len());
    assert!(netra_stand_in::faults().all(|fault| !fault.what.is_empty()));
    let refused =
        std::process::Command::new(program).args(["serve", "--listen", "127.0.0.1:0", "--fault", "no-such-fault"]).output();
    let refused = refused.expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("no fault 'no-such-fault'") && told.contains("netra-stand-in faults"), "{told}");
}
