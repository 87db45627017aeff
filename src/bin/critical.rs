//! `critical`: what can be done beside running the checks. Everything is in the library; this only reads the words.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use netra_critical::config::{Environment, Launched, Places};
use netra_critical::suite::{LaunchOptions, Running};
use netra_critical::{doctor, explain, repro};

const HELP: &str = "\
critical doctor             looks at configuration, way, clock, health and tokens; runs no check
critical explain            groups the failures of the newest run by their cause
critical explain CHECK      the story of the newest failure of a check, as in: critical explain 002
critical ws [OPTIONS]       opens the socket once and shows every frame
    --token minted|issued|garbage|none    what is shown there; as the target's token_source has it unless given
    --by header|subprotocol|query         how; by header unless given
critical token              a fresh token as a header, for a pipe: critical token | curl -H @- URL

The target is that of CRITICAL_TARGET and of the other variables in staging.toml.
Exit codes: 0 sound, 1 the service, 2 the configuration, 3 the target cannot be reached.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let env = Environment::of_process();
    let text = match words.as_slice() {
        ["doctor"] => doctor::run(&env, no_stand_in),
        ["explain"] => explain::groups(&Places::of(&env)),
        ["explain", check] => explain::check(&Places::of(&env), check),
        ["ws", options @ ..] => repro::socket(&env, no_stand_in, options),
        ["token"] if std::io::stdout().is_terminal() => {
            Err((2, "a token is not shown on a terminal: critical token | curl -H @- URL".to_owned()))
        }
        ["token"] => repro::token(&env, no_stand_in),
        ["help" | "--help" | "-h"] => Ok(HELP.to_owned()),
        _ => Err((2, HELP.to_owned())),
    };
    match text {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err((code, text)) => {
            println!("{text}");
            ExitCode::from(code)
        }
    }
}

/// This program has no server inside: it says how to get one.
fn no_stand_in(_: LaunchOptions) -> Result<(Launched, Running), String> {
    Err("this program has none inside; `cargo doctor` has, or start one with `cargo run -p netra-stand-in -- serve` and export what it prints".to_owned())
}
