//! `cargo doctor`: the doctor of the library, with the stand-in at hand for targets that have it embedded.

use std::process::ExitCode;

use netra_critical::config::Environment;
use netra_critical::doctor;

#[path = "../stand_in.rs"]
mod stand_in;

fn main() -> ExitCode {
    match doctor::run(&Environment::of_process(), stand_in::launch) {
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
