//! `critical`: what can be done beside running the checks. Everything is in the library; this only reads the words.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use netra_critical::config::{Environment, Launched, Places};
use netra_critical::report::merge;
use netra_critical::suite::{LaunchOptions, Running};
use netra_critical::{doctor, explain, past_runs, repro};

const HELP: &str = "\
critical doctor             looks at configuration, way, clock, health and tokens; runs no check
critical explain            groups the failures of the newest run by their cause
critical explain CHECK      the story of the newest failure of a check, as in: critical explain 002
critical history [CHECK]    the last 30 runs of each check as a line of marks, or of one check, a line a run
critical compare A B        what fails in run B and did not in A, what is fixed, causes, pace
critical report [RUN]       writes the reports of a run again from its evidence, and prints where they are
critical merge DIR… [--out DIR]           puts the shards of a run together; each DIR is the folder of one
critical ws [OPTIONS]       opens the socket once and shows every frame
    --token minted|issued|garbage|none    what is shown there; as the target's token_source has it unless given
    --by header|subprotocol|query         how; by header unless given
critical token              a fresh token as a header, for a pipe: critical token | curl -H @- URL
    --token minted|issued|garbage

A RUN is an id in target/critical, the path of a run's folder, `latest`, or `latest~1` for the one before.
The target is that of CRITICAL_TARGET and of the other variables in staging.toml.
Exit codes: 0 sound, 1 the service, 2 the configuration, 3 the target cannot be reached.
Of runs that are over: 0 sound, 1 something (compare: something new) fails or is missing, 2 no such run or history.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let env = Environment::of_process();
    let text = match words.as_slice() {
        ["doctor"] => doctor::run(&env, no_stand_in),
        ["explain"] => explain::groups(&Places::of(&env)),
        ["explain", check] => explain::check(&Places::of(&env), check),
        ["history"] => past_runs::history(&Places::of(&env)),
        ["history", check] => past_runs::history_of(&Places::of(&env), check),
        ["compare", a, b] => past_runs::compare(&Places::of(&env), a, b),
        ["report"] => past_runs::report(&Places::of(&env), "latest"),
        ["report", run] => past_runs::report(&Places::of(&env), run),
        ["merge", words @ ..] => merge::run(&env, words),
        ["ws", options @ ..] => repro::socket(&env, no_stand_in, options),
        ["token", ..] if std::io::stdout().is_terminal() => {
            Err((2, "a token is not shown on a terminal: critical token | curl -H @- URL".to_owned()))
        }
        ["token", options @ ..] => repro::token(&env, no_stand_in, options),
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
