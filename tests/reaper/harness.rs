//! What the tests of the reaper have in common: a folder of its own for each, and what is known of processes.

use std::collections::HashSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sessile::backend::spawn::{Child, ServerCommand, spawn};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

pub(crate) const NOW: Duration = Duration::ZERO;

pub(crate) const GRACE: Duration = Duration::from_millis(300);

pub(crate) const LONG: Duration = Duration::from_secs(10);

/// Starts what outlives naive endings, each writing its number to the file `$1`: a child, one that left the session
/// by a double fork, and one that emptied its environment as well and ignores SIGTERM.
pub(crate) const CLINGING_SCRIPT: &str = r#"
    sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &
    (setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
    (env -i setsid sh -c 'trap "" TERM; echo $$ >> "$1"; exec sleep 1000' - "$1" &)
    echo $$ >> "$1"
"#;

/// A folder, the file in it to which processes write their numbers, and a scratch folder that does not exist yet.
pub(crate) struct Harness {
    pub(crate) folder: TempDir,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pids_file(&self) -> PathBuf {
        self.folder.path().join("pids")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub(crate) fn sh(&self, script: &str) -> ServerCommand {
        ServerCommand {
            args: vec!["-c".into(), script.into(), "-".into(), self.pids_file().into()],
            scratch: Some(self.scratch()),
            ..ServerCommand::new("sh")
        }
    }

    pub(crate) fn pids(&self) -> HashSet<i32> {
        let text = fs::read_to_string(self.pids_file()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits until so many have written their number, and returns these.
    pub(crate) async fn peopled(&self, count: usize) -> HashSet<i32> {
        eventually("processes have started", || self.pids().len() >= count).await;
        self.pids()
    }

    pub(crate) async fn deserted(&self) {
        gone(self.pids()).await;
        eventually("the scratch folder is gone", || !self.scratch().exists()).await;
    }
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until none of these is there, not as a zombie either.
pub(crate) async fn gone(pids: impl IntoIterator<Item = i32>) {
    for pid in pids {
        eventually(&format!("process {pid} is gone: {}", status(pid)), || !exists(pid)).await;
    }
}

/// The same for those that a proxy which is gone has left: this process is a sub-reaper, so they fall to it, and it
/// has to wait for them.
pub(crate) async fn waited_for(pids: impl IntoIterator<Item = i32>) {
    for pid in pids {
        eventually(&format!("process {pid} is gone: {}", status(pid)), || {
            let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            !exists(pid)
        })
        .await;
    }
}

pub(crate) fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

pub(crate) fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

pub(crate) fn parent(pid: i32) -> i32 {
    field(&status(pid), "PPid").parse().unwrap()
}

pub(crate) fn pid(child: &Child) -> i32 {
    i32::try_from(child.pid.unwrap()).unwrap()
}

pub(crate) fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

pub(crate) async fn start(command: &ServerCommand) -> Child {
    spawn(command).await.unwrap()
}

pub(crate) async fn output(command: &ServerCommand) -> String {
    let mut child = start(command).await;
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    child.end(LONG, GRACE).await;
    text
}

pub(crate) async fn echo(child: &mut Child, text: &str) -> String {
    child.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    let mut got = vec![0; text.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut got).await.unwrap();
    String::from_utf8(got).unwrap()
}

pub(crate) fn mark(harness: &Harness) -> String {
    format!("MARK={}", harness.folder.path().display())
}

pub(crate) fn marked(mut command: ServerCommand, harness: &Harness) -> ServerCommand {
    command.env.push(("MARK".into(), harness.folder.path().into()));
    command
}

/// Every process in the system that has this in its environment.
pub(crate) fn bearing(mark: &str) -> Vec<i32> {
    let everyone = fs::read_dir("/proc").unwrap().flatten();
    let pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
    .collect()
}

pub(crate) fn below(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 && exists(pid) {
        pid = parent(pid);
        if pid == ancestor {
            return true;
        }
    }
    false
}

pub(crate) async fn joined<T: Debug>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut values = Vec::new();
    for task in tasks {
        values.push(task.await.unwrap());
    }
    values
}
