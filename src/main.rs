//! The `sessile` program: command line, logs, signals, exit codes.

mod cli;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // First of all, before there is a thread: this process may be a reaper.
    sessile::reaper::init();
    // This program starts nothing but reapers: any other child is what a killed one has left behind.
    sessile::reaper::claim_children();
    let job = match cli::Cli::parse().into_job() {
        Ok(job) => job,
        Err(code) => return code,
    };
    let _flush = telemetry::init(job.log_level());
    // A session takes a handful of file descriptors, and the usual limit of 1,024 would be reached with 200 of them.
    if let Err(error) = sessile::reaper::raise_file_limit() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::say(&format!("the runtime did not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(job.run());
    // A thread may still wait for a line on stdin; nobody waits for it.
    runtime.shutdown_background();
    code
}
