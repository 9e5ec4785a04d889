//! Proxies and reapers that are killed.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use sessile::backend::spawn::{ExitStatusKind, ServerCommand};
use sessile::{ChildBackend, SessionSettings, reaper};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use super::harness::{
    CLINGING_SCRIPT, GRACE, Harness, LONG, NOW, bearing, below, eventually, exists, gone, kill, mark, marked, parent,
    pid, start, waited_for,
};

/// `__proxy COUNT [unmarked] [claim] PROGRAM ARGS...`: starts servers, tells their numbers, and waits to be killed.
pub(crate) async fn proxy(count: usize, mut words: &[&str]) {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    if let ["unmarked", rest @ ..] = words {
        // Somebody has set a limit on file locks, so it cannot be used for the mark.
        let limit = Rlimit { current: Some(1000), maximum: Some(1000) };
        setrlimit(Resource::Locks, limit).unwrap();
        words = rest;
    }
    if let ["claim", rest @ ..] = words {
        reaper::claim_children();
        words = rest;
    }
    let command = ServerCommand { args: words[1..].iter().map(Into::into).collect(), ..ServerCommand::new(words[0]) };
    let mut children = Vec::new();
    for _ in 0..count {
        let child = start(&command).await;
        println!("server {}", pid(&child));
        children.push(child);
    }
    println!("ready");
    std::future::pending::<()>().await;
}

pub(crate) struct Proxy {
    pub(crate) process: std::process::Child,
    pub(crate) servers: Vec<i32>,
    pub(crate) reapers: Vec<i32>,
}

impl Proxy {
    pub(crate) fn start(mut command: std::process::Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let servers = lines.take_while(|line| line != "ready");
        let servers: Vec<i32> = servers.map(|line| line.strip_prefix("server ").unwrap().parse().unwrap()).collect();
        let reapers = servers.iter().map(|server| parent(*server)).collect();
        Self { process, servers, reapers }
    }

    pub(crate) fn of(harness: &Harness, count: usize, claim: bool, script: &str) -> Self {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["__proxy", &count.to_string()]).args(claim.then_some("claim"));
        command.args(["sh", "-c", script, "-"]).arg(harness.pids_file());
        Self::start(command)
    }

    /// Kills it and waits for its servers and reapers to be gone.
    pub(crate) async fn killed(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        gone(std::mem::take(&mut self.servers)).await;
        waited_for(std::mem::take(&mut self.reapers)).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A test that fails must leave nothing either.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) async fn a_killed_proxy_leaves_nothing() {
    let harness = Harness::new();
    let proxy = Proxy::of(&harness, 5, false, &format!("{CLINGING_SCRIPT} while :; do sleep 1000; done"));
    harness.peopled(20).await;
    proxy.killed().await;
    harness.deserted().await;
}

pub(crate) async fn a_proxy_killed_while_starting_leaves_nothing() {
    let exe = std::env::current_exe().unwrap();
    for wait in (0..30).step_by(3) {
        let harness = Harness::new();
        let mut command = std::process::Command::new(&exe);
        command.args(["__proxy", "20", "sleep", "1000"]).env("MARK", harness.folder.path()).stdout(Stdio::null());
        let mut process = command.spawn().unwrap();
        sleep(Duration::from_millis(wait)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        eventually("nothing is left", || bearing(&mark(&harness)).is_empty()).await;
    }
}

pub(crate) async fn a_killed_reaper_leaves_nothing() {
    let harness = Harness::new();
    let script = r#"
        (sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
        setsid sh -c 'trap "" TERM; echo $$ >> "$1"; sleep 1000 & echo $! >> "$1"; wait' - "$1" &
        (env -i setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
        echo $$ >> "$1"; wait
    "#;
    let mut own = std::process::Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
    let child = start(&harness.sh(script)).await;
    harness.peopled(5).await;
    assert!(harness.scratch().exists());
    kill(parent(pid(&child)));
    assert_eq!(timeout(LONG, child.exit()).await, Ok(ExitStatusKind::Unknown));
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Unknown);
    assert!(harness.pids().into_iter().all(|pid| !exists(pid)));
    assert!(!harness.scratch().exists());
    assert!(own.try_wait().unwrap().is_none(), "a child of the embedding program is left alone");
    own.kill().unwrap();
    own.wait().unwrap();
}

pub(crate) async fn killed_reapers_of_a_claiming_proxy_leave_nothing() {
    let harness = Harness::new();
    let proxy = Proxy::of(&harness, 20, true, &format!("{CLINGING_SCRIPT} while :; do sleep 1000; done"));
    harness.peopled(80).await;
    let spared: HashSet<i32> = harness.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
    assert!(!spared.is_empty());
    for reaper in &proxy.reapers[1..] {
        kill(*reaper);
    }
    gone(harness.pids().difference(&spared).copied()).await;
    gone(proxy.reapers[1..].iter().copied()).await;
    assert!(spared.iter().all(|pid| exists(*pid)), "those of the reaper that lives are not orphans");
    proxy.killed().await;
    harness.deserted().await;
}

/// A tree that forks without end, and one whose members flee: each starts the next in a session of its own, and
/// leaves. Both stop by themselves when their file is gone.
pub(crate) async fn a_killed_reaper_s_tree_does_not_outrun_the_proxy() {
    let storm = r#"
        trap '' TERM; echo $$ >> "$1"
        while [ -e "$1" ]; do (setsid sleep 1000 &) ; sleep 1000 & done
    "#;
    let chase = r#"
        echo "trap '' TERM; [ -e \"\$1\" ] || exit; setsid sh \"\$0\" \"\$1\" & exit 0" > "$1.flee"
        echo $$ >> "$1"; for flight in 1 2 3 4; do sh "$1.flee" "$1" & done; sleep 1000
    "#;
    for script in [storm, chase] {
        let harness = Harness::new();
        let child = start(&marked(harness.sh(script), &harness)).await;
        harness.peopled(1).await;
        eventually("it forks", || bearing(&mark(&harness)).len() > 4).await;
        kill(parent(pid(&child)));
        timeout(LONG, child.end(LONG, NOW)).await.expect("it must not outrun the proxy");
        // A process that escaped would go on fleeing as long as the file is there; one that was just killed bears its
        // mark until the kernel has taken its memory.
        eventually("nothing is left", || bearing(&mark(&harness)).is_empty()).await;
        harness.deserted().await;
    }
}

/// `__session SCRATCH PROGRAM ARGS...`: one session of a proxy that keeps its scratch folders there.
pub(crate) async fn session(scratch: &Path, words: &[&str]) {
    let settings = SessionSettings { scratch: scratch.into(), ..SessionSettings::default() };
    let server = ChildBackend::new(words[0]).args(&words[1..]);
    let proxy = sessile::Proxy::builder().backend(server).session(settings).build().unwrap();
    let (mut client, front) = tokio::io::duplex(1024);
    let hello = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    client.write_all(hello).await.unwrap();
    client.write_all(b"\n").await.unwrap();
    let (reader, writer) = tokio::io::split(front);
    proxy.serve_io(reader, writer, std::future::pending()).await;
}

pub(crate) async fn folders_of_the_killed_are_removed_by_the_next() {
    let base = tempfile::tempdir().unwrap();
    let folders = || fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<HashSet<_>>();
    let script = r#"trap '' TERM; touch "$TMPDIR/file"; echo $$ >> "$1"; exec sleep 1000"#;
    let begin = |harness: &Harness| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.arg("__session").arg(base.path()).args(["sh", "-c", script, "-"]).arg(harness.pids_file());
        Proxy { process: command.spawn().unwrap(), servers: Vec::new(), reapers: Vec::new() }
    };
    let (harness, other_harness, next_harness) = (Harness::new(), Harness::new(), Harness::new());
    let other = begin(&other_harness);
    other_harness.peopled(1).await;
    let others = folders();
    let mut proxy = begin(&harness);
    let server = harness.peopled(1).await.into_iter().next().unwrap();
    let reaper = parent(server);
    assert_eq!((others.len(), folders().len()), (1, 2));

    // It must not see the proxy's end before its own.
    kill_process(Pid::from_raw(reaper).unwrap(), Signal::STOP).unwrap();
    proxy.process.kill().unwrap();
    proxy.process.wait().unwrap();
    kill(reaper);
    waited_for([reaper]).await;
    assert_eq!(folders().len(), 2, "nobody was left to remove it");
    assert!(exists(server), "nor to end what holds out without its standard input");
    kill(server);

    let next = begin(&next_harness);
    next_harness.peopled(1).await;
    eventually("what the killed left is gone", || folders().len() == 2).await;
    assert!(others.is_subset(&folders()), "those of a proxy that lives stay");
    assert!(others.iter().all(|folder| folder.join("file").exists()));

    other.killed().await;
    next.killed().await;
    waited_for(harness.pids()).await;
    eventually("the reapers have removed theirs", || folders().is_empty()).await;
    waited_for(other_harness.pids().into_iter().chain(next_harness.pids())).await;
}
