//! The `sessile` program: command line, logs, signals, exit codes.

mod cli;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

/// The size of the buffer that raises the thresholds of glibc's allocator, in bytes.
const FREED_BYTES: usize = 4 * 1024 * 1024;

/// Makes glibc's allocator keep the memory of messages of up to 4 MiB, and 8 MiB of free memory for each arena.
///
/// glibc maps a buffer by itself if it is larger than any mapped buffer that was freed before (at first 128 KiB), and
/// returns free memory from twice that size on. Without this, each call with a result of a megabyte maps and unmaps its
/// buffers, and the page faults take a third of the call's CPU time.
fn raise_allocator_thresholds() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FREED_BYTES)));
}

fn main() -> ExitCode {
    // First of all, before there is a thread: this process may be a reaper.
    sessile::reaper::init();
    // This program starts nothing but reapers, so any other child was left behind by a reaper that was killed.
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
    raise_allocator_thresholds();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::print_notice(&format!("the runtime did not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(job.run());
    // A thread may still be reading stdin, which cannot be interrupted. The exit does not wait for it.
    runtime.shutdown_background();
    code
}
