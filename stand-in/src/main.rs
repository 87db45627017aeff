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
}

fn main() -> ExitCode {
    let Command::Serve(arguments) = Arguments::parse().command;
    match serve::serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("netra-stand-in: {message}");
            ExitCode::from(2)
        }
    }
}
