//! The stand-in as a program: `netra-stand-in serve`.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A real server that keeps the staging contract, for machines that cannot reach staging.
#[derive(Parser)]
#[command(name = "netra-stand-in")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until Ctrl-C or SIGTERM, and prints where, and how to point the suite at it.
    Serve(serve::Arguments),
    /// Lists the faults that `serve --fault` takes, and the checks that each must turn red, if it is no control.
    Faults,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse().command {
        Command::Serve(arguments) => arguments,
        Command::Faults => {
            for fault in netra_stand_in::faults() {
                let class = fault.reports.map_or(String::new(), |class| format!(" (reported as {class})"));
                println!("{:34} {:?} {}{class}", fault.name, fault.kills, fault.what);
            }
            println!("\n{}", netra_stand_in::BENDS);
            return ExitCode::SUCCESS;
        }
    };
    match serve::serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("netra-stand-in: {message}");
            ExitCode::from(2)
        }
    }
}
