//! The `astraler` program: command line, wiring of the processes, rendering of errors. Only `main` of the
//! workspace; everything it does is in the crates below it.

mod allocator;
mod assemble;
mod cli;
mod commands;
mod failure;
mod managed_rules;
mod place;
mod ports;
mod processes;
mod progress;
mod table;
mod upload;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.kind.exit_code())
        }
    }
}
