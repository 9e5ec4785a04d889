//! Logs: to stderr, because stdout belongs to the protocol.
//!
//! Logging must neither wait for stderr nor fail with it: a client may start this program with a stderr that it does
//! not read, or close it. So lines go through a bounded queue to a thread that writes them; lines that find it full are
//! counted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Most lines of the log that wait to be written.
const MAX_QUEUED_LINES: usize = 1024;
/// How long writing the last lines may take when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts logging at `level`, which may also be a list of directives such as `warn,sessile::backend=info`.
pub(crate) fn init(level: &str) -> LogFlush {
    // ractor wraps every message in a span, which says no more than the session's name does.
    let quiet = if level.contains("ractor") { String::new() } else { ",ractor=warn".to_owned() };
    let filter = EnvFilter::builder().parse_lossy(format!("{level}{quiet}"));
    let (lines, queue) = sync_channel(MAX_QUEUED_LINES);
    let (done, finished) = sync_channel(1);
    let lost = Arc::new(AtomicUsize::new(0));
    let log = LogWriter { lines: lines.clone(), lost: lost.clone() };
    let started = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_all(&queue, &lost);
        let _ = done.send(());
    });
    if started.is_ok() {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(log)
            .with_ansi(io::stderr().is_terminal())
            .log_internal_errors(false)
            .init();
    }
    LogFlush { lines, finished }
}

/// Prints a line for the person who started the program, whatever the log level is.
pub(crate) fn print_notice(text: &str) {
    let _ = writeln!(io::stderr(), "sessile: {text}");
}

/// Prints a text as it is, in a line of its own on stderr, for the person who started the program.
pub(crate) fn print_plain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write_all(queue: &Receiver<Option<Vec<u8>>>, lost: &AtomicUsize) {
    while let Ok(Some(line)) = queue.recv() {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(&line);
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(stderr, "sessile: {missing} lines of log are missing here: they were not read in time");
        }
    }
}

/// Writes the lines that are left when it is dropped, if stderr is read.
pub(crate) struct LogFlush {
    lines: SyncSender<Option<Vec<u8>>>,
    finished: Receiver<()>,
}

impl Drop for LogFlush {
    fn drop(&mut self) {
        if self.lines.try_send(None).is_ok() {
            let _: Result<(), RecvTimeoutError> = self.finished.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

#[derive(Clone)]
struct LogWriter {
    lines: SyncSender<Option<Vec<u8>>>,
    lost: Arc<AtomicUsize>,
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Some(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
