//! `netra-stand-in serve`: options and environment in, three lines and the exports out, then waiting for a signal.

use std::{
    env, fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use netra_stand_in::{Options, StandIn};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

const JWT_SECRET: &str = "JWT_SECRET_STAGING";
const E2E_KEY: &str = "E2E_OAUTH_SIMULATION_KEY";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where API and WebSocket listen; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where the auth service listens; one port further than --listen unless given
    #[arg(long, value_name = "ADDR")]
    listen_auth: Option<SocketAddr>,
    /// Serve http and ws instead of https and wss
    #[arg(long)]
    plain: bool,
    /// Delay of every byte, each way, such as 30ms
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// Keep everything in this database file instead of a temporary one
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Write the certificate authority here instead of to a temporary file
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// How often the server pings its sockets, such as 1s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    heartbeat: Duration,
    /// Break the contract on purpose in this way; may be given several times. `netra-stand-in faults` lists them
    #[arg(long, value_name = "NAME")]
    fault: Vec<String>,
}

/// Serves until a signal comes; an error is text for the person at the terminal.
pub(crate) fn serve(arguments: Arguments) -> Result<(), String> {
    let (jwt_secret, e2e_key) = (from_environment(JWT_SECRET)?, from_environment(E2E_KEY)?);
    let given = (jwt_secret.is_some(), e2e_key.is_some());
    // Signals are caught before the first line is printed: whoever reads it may send one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("cannot start: {e}"))?;
    let entered = runtime.enter();
    let (interrupt, terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    drop(entered);

    let stand_in = StandIn::start(Options {
        listen: arguments.listen,
        listen_auth: arguments.listen_auth,
        plain: arguments.plain,
        latency: arguments.latency,
        db: arguments.db,
        jwt_secret,
        e2e_key,
        heartbeat: arguments.heartbeat,
        faults: arguments.fault,
        ..Options::default()
    })
    .map_err(|e| e.to_string())?;
    let authority = stand_in.ca_pem().map(|pem| write_authority(pem, arguments.ca_out)).transpose()?;
    let text = announcement(&stand_in, authority.as_ref().map(|authority| authority.file.as_path()), given);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| format!("cannot write to standard output: {e}"))?;
    drop(out);

    runtime.block_on(either(interrupt, terminate));
    stand_in.stop();
    Ok(())
}

fn caught(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|e| format!("cannot catch signals: {e}"))
}

async fn either(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn from_environment(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Err(format!("{name} is set but empty; unset it, or give it a value")),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not valid UTF-8; set it to plain text")),
    }
}

/// A written authority; a temporary one goes when this does.
struct Authority {
    file: PathBuf,
    _temp: Option<TempDir>,
}

fn write_authority(pem: &str, wanted: Option<PathBuf>) -> Result<Authority, String> {
    let (file, temp) = if let Some(file) = wanted {
        (std::path::absolute(&file).unwrap_or(file), None)
    } else {
        let temp = tempfile::Builder::new().prefix("netra-stand-in-ca-").tempdir();
        let temp = temp.map_err(|e| format!("cannot make a temporary folder for the authority: {e}; use --ca-out"))?;
        (temp.path().join("ca.pem"), Some(temp))
    };
    fs::write(&file, pem)
        .map_err(|e| format!("cannot write the authority to {}: {e}; name a writable file with --ca-out", file.display()))?;
    Ok(Authority { file, _temp: temp })
}

/// Three lines for programs, then lines for a shell. A secret is printed only if it was made here and guards nothing.
fn announcement(stand_in: &StandIn, authority: Option<&Path>, (jwt_given, e2e_given): (bool, bool)) -> String {
    let (api, ws, auth) = (stand_in.api_url(), stand_in.ws_url(), stand_in.auth_url());
    let mut lines = vec![
        format!("api={api}"),
        format!("ws={ws}"),
        format!("auth={auth}"),
        export("CRITICAL_API_URL", api),
        export("CRITICAL_WS_URL", ws),
        export("CRITICAL_AUTH_URL", auth),
    ];
    if let Some(file) = authority {
        lines.push(export("CRITICAL_CA_FILE", &file.display().to_string()));
    }
    let made = [(jwt_given, JWT_SECRET, stand_in.jwt_secret()), (e2e_given, E2E_KEY, stand_in.e2e_key())];
    let made: Vec<_> = made.into_iter().filter(|(given, ..)| !given).collect();
    if !made.is_empty() {
        lines.push("# throw-away secrets, made for this start and worth nothing after it".to_owned());
    }
    lines.extend(made.into_iter().map(|(_, name, value)| export(name, value)));
    lines.join("\n") + "\n"
}

fn export(name: &str, value: &str) -> String {
    format!("export {name}='{}'", value.replace('\'', r"'\''"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration; write a number and a unit, such as 30ms, 1s or 0.5s");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "us" => number / 1_000_000.0,
        "ms" => number / 1_000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
