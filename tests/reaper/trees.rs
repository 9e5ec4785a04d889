//! One server under one reaper: how it starts, and how its whole tree ends.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use sessile::backend::spawn::{ExitStatusKind, Inherit, ServerCommand, SpawnError, spawn};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};

use super::harness::{
    CLINGING_SCRIPT, GRACE, Harness, LONG, NOW, bearing, echo, eventually, exists, field, gone, mark, marked, output,
    parent, pid, start, status,
};
use super::killed::Proxy;

pub(crate) async fn bytes_pass_and_the_exit_code_is_told() {
    let mut child = start(&ServerCommand::new("cat")).await;
    assert_eq!(echo(&mut child, "hello\n").await, "hello\n");
    let (server, keeper) = (pid(&child), parent(pid(&child)));
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(0));
    assert!(!exists(server) && !exists(keeper), "gone by the time at which the end is told");

    let harness = Harness::new();
    let child = start(&harness.sh("echo no >&2; exit 7")).await;
    assert_eq!(child.exit().await, ExitStatusKind::Code(7));
    assert_eq!(child.exit().await, ExitStatusKind::Code(7), "as often as one likes");
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(7));

    let mut child = start(&harness.sh("echo no >&2; kill -USR1 $$")).await;
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "no\n");
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Signal(10));
}

/// Signals with a disposition of this kind: "`SigBlk`", "`SigIgn`" or "`SigCgt`".
fn signals(pid: i32, kind: &str) -> u64 {
    // 32 and 33 are libc's own: no program can set them back, and some of those that start tests ignore them.
    u64::from_str_radix(&field(&status(pid), kind), 16).unwrap() & !(0b11 << 31)
}

pub(crate) async fn a_server_starts_clean() {
    let mut child = start(&ServerCommand::new("cat")).await;
    // When it answers it has loaded its libraries, and closed them.
    echo(&mut child, "x").await;
    let server = pid(&child);
    let open = fs::read_dir(format!("/proc/{server}/fd")).unwrap();
    let open: HashSet<_> = open.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(open, HashSet::from(["0", "1", "2"].map(str::to_owned)));
    for kind in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(signals(server, kind), 0, "{kind}");
    }
    let limits = |pid| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = |pid: &str| limits(pid.to_owned()).lines().find(|line| line.contains("open files")).unwrap().to_owned();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&files("self"))[3], words(&files("self"))[4], "the proxy's own limit was raised");
    assert_eq!(
        words(&files(&server.to_string()))[3],
        words(&files(&std::os::unix::process::parent_id().to_string()))[3]
    );
    child.end(NOW, GRACE).await;

    // Also where whoever started the proxy had signals ignored.
    let exe = std::env::current_exe().unwrap();
    let mut nohup = std::process::Command::new("sh");
    nohup.args(["-c", "trap '' HUP INT USR1 PIPE; exec \"$0\" __proxy 1 cat"]).arg(exe);
    let proxy = Proxy::start(nohup);
    assert_ne!(signals(i32::try_from(proxy.process.id()).unwrap(), "SigIgn"), 0);
    for kind in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(signals(proxy.servers[0], kind), 0, "{kind}");
    }
    proxy.killed().await;
}

pub(crate) async fn environment_and_folders() {
    let harness = Harness::new();
    let path = std::env::var_os("PATH").unwrap();
    let mut command = ServerCommand {
        env: vec![("A".into(), "b\nc".into()), ("PATH".into(), path)],
        inherit: Inherit::Nothing,
        cwd: Some("/".into()),
        ..harness.sh(r#"echo "$A,$HOME,$TMPDIR,$TMP,$(pwd),$(stat -c %a "$TMPDIR"); touch "$TMPDIR/x""#)
    };
    command.args[1] = r#"touch "$TMPDIR/x"; echo "$A,$HOME,$TMPDIR,$TMP,$(pwd),$(stat -c %a "$TMPDIR")""#.into();
    let scratch = harness.scratch().display().to_string();
    assert_eq!(output(&command).await, format!("b\nc,,{scratch},{scratch},/,700\n"));
    assert!(!harness.scratch().exists());

    // A program beside its working directory, and one found on the PATH that it is given.
    let script = harness.folder.path().join("server");
    fs::copy("/bin/echo", &script).unwrap();
    let here = |program: &str| ServerCommand {
        args: vec!["found".into()],
        cwd: Some(harness.folder.path().into()),
        ..ServerCommand::new(program)
    };
    assert_eq!(output(&here("./server")).await, "found\n");
    let env = vec![("PATH".into(), harness.folder.path().into())];
    assert_eq!(output(&ServerCommand { env, ..here("server") }).await, "found\n");
}

pub(crate) async fn what_cannot_start_says_why() {
    async fn refused(command: &ServerCommand) -> SpawnError {
        spawn(command).await.expect_err("it must not start")
    }
    fn says(error: &impl ToString, what: &str) {
        assert!(error.to_string().contains(what), "{}", error.to_string());
    }
    let harness = Harness::new();
    let base = harness.sh("exit");

    let error = refused(&ServerCommand { program: "no-such-program".into(), ..base.clone() }).await;
    assert!(matches!(&error, SpawnError::NotFound { program } if program == "no-such-program"));
    says(&error, "no-such-program was not found");
    assert!(!harness.scratch().exists());

    fs::write(harness.folder.path().join("plain"), "x").unwrap();
    let error = refused(&ServerCommand { program: harness.folder.path().join("plain").into(), ..base.clone() }).await;
    assert!(matches!(error, SpawnError::PermissionDenied { .. }), "{error:?}");

    let error = refused(&ServerCommand { cwd: Some("/no/such/folder".into()), ..base.clone() }).await;
    assert!(matches!(error, SpawnError::Cwd { .. }), "{error:?}");
    says(&error, "/no/such/folder");

    let error = refused(&ServerCommand { args: vec!["a\0b".into()], ..base.clone() }).await;
    assert!(matches!(error, SpawnError::Other { .. }), "{error:?}");
    assert!(!harness.scratch().exists());

    fs::create_dir(harness.scratch()).unwrap();
    fs::write(harness.scratch().join("mine"), "x").unwrap();
    let error = refused(&base).await;
    assert!(matches!(error, SpawnError::Scratch { .. }), "{error:?}");
    assert!(harness.scratch().join("mine").exists(), "what was there before is not ours to remove");
}

pub(crate) async fn a_clinging_tree_ends() {
    let harness = Harness::new();
    let child = start(&harness.sh(&format!("{CLINGING_SCRIPT} cat; sleep 1000"))).await;
    let pids = harness.peopled(4).await;
    let keeper = parent(pid(&child));
    child.end(Duration::from_millis(50), GRACE).await;
    // No waiting here: that they are gone is what the end of `end` means.
    assert!(pids.into_iter().chain([keeper]).all(|pid| !exists(pid)));
    assert!(!harness.scratch().exists());

    // The same when the server leaves by itself.
    let harness = Harness::new();
    let child = start(&harness.sh(&format!("{CLINGING_SCRIPT} cat; exit 3"))).await;
    harness.peopled(4).await;
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(3));
    harness.deserted().await;
}

pub(crate) async fn a_server_that_ignores_sigterm_is_killed() {
    let harness = Harness::new();
    let child = start(&harness.sh("trap '' TERM; echo $$ >> \"$1\"; while :; do sleep 1; done")).await;
    harness.peopled(1).await;
    let begun = Instant::now();
    assert_eq!(child.end(NOW, GRACE).await, ExitStatusKind::Signal(9));
    assert!(begun.elapsed() >= GRACE && begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    harness.deserted().await;

    let child = start(&harness.sh("trap 'exit 5' TERM; echo $$ >> \"$1\"; while :; do sleep 0.05; done")).await;
    harness.peopled(2).await;
    assert_eq!(child.end(NOW, LONG).await, ExitStatusKind::Code(5), "one that heeds it may leave as it likes");
}

pub(crate) async fn a_tree_that_forks_without_end_ends() {
    let harness = Harness::new();
    // It stops by itself when its file is gone: a failing test must not take the machine down.
    let script = r#"
        trap '' TERM; echo $$ >> "$1"
        while [ -e "$1" ]; do (setsid sleep 1000 &) ; sleep 1000 & done
    "#;
    let child = start(&marked(harness.sh(script), &harness)).await;
    harness.peopled(1).await;
    eventually("it forks", || bearing(&mark(&harness)).len() > 20).await;
    timeout(LONG, child.end(NOW, NOW)).await.expect("it must not outrun the reaper");
    assert_eq!(bearing(&mark(&harness)), [0_i32; 0]);
    harness.deserted().await;
}

pub(crate) async fn a_tree_that_flees_by_forking_ends() {
    let harness = Harness::new();
    let flee = harness.folder.path().join("flee");
    // Each one starts the next in a session of its own, and leaves; the server leaves first of all.
    fs::write(&flee, "trap '' TERM\n[ -e \"$1\" ] || exit\nsetsid sh \"$0\" \"$1\" & exit 0\n").unwrap();
    let flee = format!("sh {} \"$1\" & ", flee.display());
    let child = start(&marked(harness.sh(&format!("echo $$ >> \"$1\"; {}", flee.repeat(4))), &harness)).await;
    assert_eq!(child.exit().await, ExitStatusKind::Code(0));
    timeout(LONG, child.end(NOW, NOW)).await.expect("it must not outrun the reaper");
    assert_eq!(bearing(&mark(&harness)), [0_i32; 0]);
    harness.deserted().await;
}

pub(crate) async fn an_exit_is_told_while_grandchildren_hold_stdout() {
    let harness = Harness::new();
    let script = r#"(trap "" TERM; exec sleep 1000) & echo $! >> "$1"; echo out; exit 7"#;
    let mut child = start(&harness.sh(script)).await;
    assert_eq!(timeout(LONG, child.exit()).await, Ok(ExitStatusKind::Code(7)));
    let holder = harness.pids().into_iter().next().unwrap();
    assert!(exists(holder), "it still has 500 ms");
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "out\n");
    assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(7));
    assert!(!exists(holder));
}

pub(crate) async fn dropping_the_child_ends_the_tree() {
    let harness = Harness::new();
    let child = start(&harness.sh(&format!("{CLINGING_SCRIPT} sleep 1000"))).await;
    let keeper = parent(pid(&child));
    harness.peopled(4).await;
    drop(child);
    harness.deserted().await;
    gone([keeper]).await;
}

pub(crate) async fn a_start_that_nobody_waits_for_leaves_nothing() {
    let harness = Harness::new();
    for attempt in 0..40 {
        let scratch = Some(harness.folder.path().join(format!("scratch-{attempt}")));
        let command = marked(ServerCommand { scratch, ..harness.sh("echo $$ >> \"$1\"; sleep 1000") }, &harness);
        let _ = timeout(Duration::from_micros(attempt * 200), spawn(&command)).await;
    }
    let left = || fs::read_dir(harness.folder.path()).unwrap().flatten().any(|entry| entry.path().is_dir());
    eventually("nothing is left", || bearing(&mark(&harness)).is_empty() && !left()).await;
    harness.deserted().await;
}

pub(crate) async fn an_end_that_nobody_waits_for_goes_on() {
    let harness = Harness::new();
    let child = start(&harness.sh(&format!("{CLINGING_SCRIPT} sleep 1000"))).await;
    harness.peopled(4).await;
    assert!(timeout(Duration::from_millis(20), child.end(LONG, LONG)).await.is_err());
    harness.deserted().await;
}
