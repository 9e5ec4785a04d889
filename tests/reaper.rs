//! Whatever a server starts is gone when its session is, however the session, the proxy or the reaper ends.
//!
//! This program is the proxy of its own tests: `reaper::init` has to come first in `main`, so it has one, and some
//! tests start it again with a command of theirs (`__proxy ...`) to have a proxy that they can kill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;
    use std::fmt::Debug;
    use std::fs;
    use std::future::Future;
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{ExitCode, Stdio};
    use std::time::Duration;

    use libtest_mimic::{Arguments, Failed, Trial};
    use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, kill_process, setrlimit, waitpid};
    use sessile::backend::spawn::{Child, ExitStatusKind, Inherit, ServerCommand, SpawnError, spawn};
    use sessile::{ChildBackend, Proxy as Sessile, SessionSettings, reaper};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::time::{Instant, sleep, timeout};

    const NOW: Duration = Duration::ZERO;
    const GRACE: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(10);

    /// Starts what outlives naive endings, each writing its number to the file `$1`: a child, one that left the session
    /// by a double fork, and one that emptied its environment as well and ignores SIGTERM.
    const CLINGING: &str = r#"
        sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &
        (setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
        (env -i setsid sh -c 'trap "" TERM; echo $$ >> "$1"; exec sleep 1000' - "$1" &)
        echo $$ >> "$1"
    "#;

    pub(crate) fn main() -> ExitCode {
        let words: Vec<String> = std::env::args().collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.get(1) != Some(&"__no-reaper") {
            reaper::init();
        }
        match words[1..] {
            ["__proxy", count, ref rest @ ..] => run(proxy(count.parse().unwrap(), rest)),
            ["__session", scratch, ref command @ ..] => run(session(Path::new(scratch), command)),
            ["__no-reaper", pids] => run(without_reaper(Path::new(pids))),
            _ => return tests(),
        }
        ExitCode::SUCCESS
    }

    fn tests() -> ExitCode {
        reaper::raise_file_limit().unwrap();
        let trials = vec![
            trial("bytes_pass_and_the_exit_code_is_told", bytes_pass_and_the_exit_code_is_told),
            trial("a_server_starts_clean", a_server_starts_clean),
            trial("environment_and_folders", environment_and_folders),
            trial("what_cannot_start_says_why", what_cannot_start_says_why),
            trial("a_clinging_tree_ends", a_clinging_tree_ends),
            trial("a_server_that_ignores_sigterm_is_killed", a_server_that_ignores_sigterm_is_killed),
            trial("a_tree_that_forks_without_end_ends", a_tree_that_forks_without_end_ends),
            trial("a_tree_that_flees_by_forking_ends", a_tree_that_flees_by_forking_ends),
            trial("an_exit_is_told_while_grandchildren_hold_stdout", an_exit_is_told_while_grandchildren_hold_stdout),
            trial("dropping_the_child_ends_the_tree", dropping_the_child_ends_the_tree),
            trial("a_start_that_nobody_waits_for_leaves_nothing", a_start_that_nobody_waits_for_leaves_nothing),
            trial("an_end_that_nobody_waits_for_goes_on", an_end_that_nobody_waits_for_goes_on),
            trial("a_session_that_was_ended_has_left_nothing", a_session_that_was_ended_has_left_nothing),
            trial("a_session_ended_while_starting_has_left_nothing", a_session_ended_while_starting_has_left_nothing),
            trial("a_killed_proxy_leaves_nothing", a_killed_proxy_leaves_nothing),
            trial("a_proxy_killed_while_starting_leaves_nothing", a_proxy_killed_while_starting_leaves_nothing),
            trial("a_killed_reaper_leaves_nothing", a_killed_reaper_leaves_nothing),
            trial("killed_reapers_of_a_claiming_proxy_leave_nothing", killed_reapers_of_a_claiming_proxy_leave_nothing),
            trial("a_killed_reaper_s_tree_does_not_outrun_the_proxy", a_killed_reaper_s_tree_does_not_outrun_the_proxy),
            trial("children_from_before_main_are_left_alone", children_from_before_main_are_left_alone),
            trial("what_process_one_adopts_is_left_alone", what_process_one_adopts_is_left_alone),
            trial("without_a_mark_only_what_is_certain_ends", without_a_mark_only_what_is_certain_ends),
            trial("folders_of_the_killed_are_removed_by_the_next", folders_of_the_killed_are_removed_by_the_next),
            trial("a_reaper_is_small_quiet_and_not_easily_hit", a_reaper_is_small_quiet_and_not_easily_hit),
            trial("two_hundred_at_once", two_hundred_at_once),
            trial("without_init_a_process_group_is_ended", without_init_a_process_group_is_ended),
            trial("measure", measure).with_ignored_flag(true),
        ];
        libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
    }

    fn trial<F: Future<Output = ()> + 'static>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
        Trial::test(name, move || {
            run(test());
            Ok::<(), Failed>(())
        })
    }

    fn run(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future);
    }

    // ---- the harness ----

    /// A folder, the file in it to which processes write their numbers, and a scratch folder that does not exist yet.
    struct Ground {
        folder: TempDir,
    }

    impl Ground {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn pids_file(&self) -> PathBuf {
            self.folder.path().join("pids")
        }

        fn scratch(&self) -> PathBuf {
            self.folder.path().join("scratch")
        }

        fn sh(&self, script: &str) -> ServerCommand {
            ServerCommand {
                args: vec!["-c".into(), script.into(), "-".into(), self.pids_file().into()],
                scratch: Some(self.scratch()),
                ..ServerCommand::new("sh")
            }
        }

        fn pids(&self) -> HashSet<i32> {
            let text = fs::read_to_string(self.pids_file()).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect()
        }

        /// Waits until so many have written their number, and returns these.
        async fn peopled(&self, count: usize) -> HashSet<i32> {
            eventually("processes have started", || self.pids().len() >= count).await;
            self.pids()
        }

        async fn deserted(&self) {
            gone(self.pids()).await;
            eventually("the scratch folder is gone", || !self.scratch().exists()).await;
        }
    }

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < LONG, "not in time: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn exists(pid: i32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    /// Waits until none of these is there, not as a zombie either.
    async fn gone(pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            eventually(&format!("process {pid} is gone: {}", status(pid)), || !exists(pid)).await;
        }
    }

    /// The same for those that a proxy which is gone has left: this process is a sub-reaper, so they fall to it, and it
    /// has to wait for them.
    async fn waited_for(pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            eventually(&format!("process {pid} is gone: {}", status(pid)), || {
                let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
                !exists(pid)
            })
            .await;
        }
    }

    fn status(pid: i32) -> String {
        fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
    }

    fn field(status: &str, name: &str) -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    }

    fn parent(pid: i32) -> i32 {
        field(&status(pid), "PPid").parse().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.pid.unwrap()).unwrap()
    }

    fn kill(pid: i32) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    async fn start(command: &ServerCommand) -> Child {
        spawn(command).await.unwrap()
    }

    async fn output(command: &ServerCommand) -> String {
        let mut child = start(command).await;
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        child.end(LONG, GRACE).await;
        text
    }

    async fn echo(child: &mut Child, text: &str) -> String {
        child.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        let mut got = vec![0; text.len()];
        child.stdout.as_mut().unwrap().read_exact(&mut got).await.unwrap();
        String::from_utf8(got).unwrap()
    }

    // ---- starting ----

    async fn bytes_pass_and_the_exit_code_is_told() {
        let mut child = start(&ServerCommand::new("cat")).await;
        assert_eq!(echo(&mut child, "hello\n").await, "hello\n");
        let (server, keeper) = (pid(&child), parent(pid(&child)));
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(0));
        assert!(!exists(server) && !exists(keeper), "gone by the time at which the end is told");

        let ground = Ground::new();
        let child = start(&ground.sh("echo no >&2; exit 7")).await;
        assert_eq!(child.exit().await, ExitStatusKind::Code(7));
        assert_eq!(child.exit().await, ExitStatusKind::Code(7), "as often as one likes");
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(7));

        let mut child = start(&ground.sh("echo no >&2; kill -USR1 $$")).await;
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

    async fn a_server_starts_clean() {
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
        let files =
            |pid: &str| limits(pid.to_owned()).lines().find(|line| line.contains("open files")).unwrap().to_owned();
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

    async fn environment_and_folders() {
        let ground = Ground::new();
        let path = std::env::var_os("PATH").unwrap();
        let mut command = ServerCommand {
            env: vec![("A".into(), "b\nc".into()), ("PATH".into(), path)],
            inherit: Inherit::Nothing,
            cwd: Some("/".into()),
            ..ground.sh(r#"echo "$A,$HOME,$TMPDIR,$TMP,$(pwd),$(stat -c %a "$TMPDIR"); touch "$TMPDIR/x""#)
        };
        command.args[1] = r#"touch "$TMPDIR/x"; echo "$A,$HOME,$TMPDIR,$TMP,$(pwd),$(stat -c %a "$TMPDIR")""#.into();
        let scratch = ground.scratch().display().to_string();
        assert_eq!(output(&command).await, format!("b\nc,,{scratch},{scratch},/,700\n"));
        assert!(!ground.scratch().exists());

        // A program beside its working directory, and one found on the PATH that it is given.
        let script = ground.folder.path().join("server");
        fs::copy("/bin/echo", &script).unwrap();
        let here = |program: &str| ServerCommand {
            args: vec!["found".into()],
            cwd: Some(ground.folder.path().into()),
            ..ServerCommand::new(program)
        };
        assert_eq!(output(&here("./server")).await, "found\n");
        let env = vec![("PATH".into(), ground.folder.path().into())];
        assert_eq!(output(&ServerCommand { env, ..here("server") }).await, "found\n");
    }

    async fn what_cannot_start_says_why() {
        async fn refused(command: &ServerCommand) -> SpawnError {
            spawn(command).await.expect_err("it must not start")
        }
        fn says(error: &impl ToString, what: &str) {
            assert!(error.to_string().contains(what), "{}", error.to_string());
        }
        let ground = Ground::new();
        let base = ground.sh("exit");

        let error = refused(&ServerCommand { program: "no-such-program".into(), ..base.clone() }).await;
        assert!(matches!(&error, SpawnError::NotFound { program } if program == "no-such-program"));
        says(&error, "no-such-program was not found");
        assert!(!ground.scratch().exists());

        fs::write(ground.folder.path().join("plain"), "x").unwrap();
        let error =
            refused(&ServerCommand { program: ground.folder.path().join("plain").into(), ..base.clone() }).await;
        assert!(matches!(error, SpawnError::PermissionDenied { .. }), "{error:?}");

        let error = refused(&ServerCommand { cwd: Some("/no/such/folder".into()), ..base.clone() }).await;
        assert!(matches!(error, SpawnError::Cwd { .. }), "{error:?}");
        says(&error, "/no/such/folder");

        let error = refused(&ServerCommand { args: vec!["a\0b".into()], ..base.clone() }).await;
        assert!(matches!(error, SpawnError::Other { .. }), "{error:?}");
        assert!(!ground.scratch().exists());

        fs::create_dir(ground.scratch()).unwrap();
        fs::write(ground.scratch().join("mine"), "x").unwrap();
        let error = refused(&base).await;
        assert!(matches!(error, SpawnError::Scratch { .. }), "{error:?}");
        assert!(ground.scratch().join("mine").exists(), "what was there before is not ours to remove");
    }

    // ---- ending ----

    async fn a_clinging_tree_ends() {
        let ground = Ground::new();
        let child = start(&ground.sh(&format!("{CLINGING} cat; sleep 1000"))).await;
        let pids = ground.peopled(4).await;
        let keeper = parent(pid(&child));
        child.end(Duration::from_millis(50), GRACE).await;
        // No waiting here: that they are gone is what the end of `end` means.
        assert!(pids.into_iter().chain([keeper]).all(|pid| !exists(pid)));
        assert!(!ground.scratch().exists());

        // The same when the server leaves by itself.
        let ground = Ground::new();
        let child = start(&ground.sh(&format!("{CLINGING} cat; exit 3"))).await;
        ground.peopled(4).await;
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(3));
        ground.deserted().await;
    }

    async fn a_server_that_ignores_sigterm_is_killed() {
        let ground = Ground::new();
        let child = start(&ground.sh("trap '' TERM; echo $$ >> \"$1\"; while :; do sleep 1; done")).await;
        ground.peopled(1).await;
        let begun = Instant::now();
        assert_eq!(child.end(NOW, GRACE).await, ExitStatusKind::Signal(9));
        assert!(begun.elapsed() >= GRACE && begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        ground.deserted().await;

        let child = start(&ground.sh("trap 'exit 5' TERM; echo $$ >> \"$1\"; while :; do sleep 0.05; done")).await;
        ground.peopled(2).await;
        assert_eq!(child.end(NOW, LONG).await, ExitStatusKind::Code(5), "one that heeds it may leave as it likes");
    }

    async fn a_tree_that_forks_without_end_ends() {
        let ground = Ground::new();
        // It stops by itself when its file is gone: a failing test must not take the machine down.
        let script = r#"
            trap '' TERM; echo $$ >> "$1"
            while [ -e "$1" ]; do (setsid sleep 1000 &) ; sleep 1000 & done
        "#;
        let child = start(&marked(ground.sh(script), &ground)).await;
        ground.peopled(1).await;
        eventually("it forks", || bearing(&mark(&ground)).len() > 20).await;
        timeout(LONG, child.end(NOW, NOW)).await.expect("it must not outrun the reaper");
        assert_eq!(bearing(&mark(&ground)), [0_i32; 0]);
        ground.deserted().await;
    }

    async fn a_tree_that_flees_by_forking_ends() {
        let ground = Ground::new();
        let flee = ground.folder.path().join("flee");
        // Each one starts the next in a session of its own, and leaves; the server leaves first of all.
        fs::write(&flee, "trap '' TERM\n[ -e \"$1\" ] || exit\nsetsid sh \"$0\" \"$1\" & exit 0\n").unwrap();
        let flee = format!("sh {} \"$1\" & ", flee.display());
        let child = start(&marked(ground.sh(&format!("echo $$ >> \"$1\"; {}", flee.repeat(4))), &ground)).await;
        assert_eq!(child.exit().await, ExitStatusKind::Code(0));
        timeout(LONG, child.end(NOW, NOW)).await.expect("it must not outrun the reaper");
        assert_eq!(bearing(&mark(&ground)), [0_i32; 0]);
        ground.deserted().await;
    }

    fn mark(ground: &Ground) -> String {
        format!("MARK={}", ground.folder.path().display())
    }

    fn marked(mut command: ServerCommand, ground: &Ground) -> ServerCommand {
        command.env.push(("MARK".into(), ground.folder.path().into()));
        command
    }

    /// Every process in the system that has this in its environment.
    fn bearing(mark: &str) -> Vec<i32> {
        let everyone = fs::read_dir("/proc").unwrap().flatten();
        let pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }

    async fn an_exit_is_told_while_grandchildren_hold_stdout() {
        let ground = Ground::new();
        let script = r#"(trap "" TERM; exec sleep 1000) & echo $! >> "$1"; echo out; exit 7"#;
        let mut child = start(&ground.sh(script)).await;
        assert_eq!(timeout(LONG, child.exit()).await, Ok(ExitStatusKind::Code(7)));
        let holder = ground.pids().into_iter().next().unwrap();
        assert!(exists(holder), "it still has 500 ms");
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "out\n");
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(7));
        assert!(!exists(holder));
    }

    // ---- nobody there to wait ----

    async fn dropping_the_child_ends_the_tree() {
        let ground = Ground::new();
        let child = start(&ground.sh(&format!("{CLINGING} sleep 1000"))).await;
        let keeper = parent(pid(&child));
        ground.peopled(4).await;
        drop(child);
        ground.deserted().await;
        gone([keeper]).await;
    }

    async fn a_start_that_nobody_waits_for_leaves_nothing() {
        let ground = Ground::new();
        for attempt in 0..40 {
            let scratch = Some(ground.folder.path().join(format!("scratch-{attempt}")));
            let command = marked(ServerCommand { scratch, ..ground.sh("echo $$ >> \"$1\"; sleep 1000") }, &ground);
            let _ = timeout(Duration::from_micros(attempt * 200), spawn(&command)).await;
        }
        let left = || fs::read_dir(ground.folder.path()).unwrap().flatten().any(|entry| entry.path().is_dir());
        eventually("nothing is left", || bearing(&mark(&ground)).is_empty() && !left()).await;
        ground.deserted().await;
    }

    async fn an_end_that_nobody_waits_for_goes_on() {
        let ground = Ground::new();
        let child = start(&ground.sh(&format!("{CLINGING} sleep 1000"))).await;
        ground.peopled(4).await;
        assert!(timeout(Duration::from_millis(20), child.end(LONG, LONG)).await.is_err());
        ground.deserted().await;
    }

    // ---- sessions ----

    /// A proxy whose sessions have this script as their server, and their scratch folders in the ground's own.
    fn sessions_of(ground: &Ground, script: &str) -> sessile::Proxy {
        fs::create_dir(ground.scratch()).unwrap();
        let server = ChildBackend::new("sh").args(["-c", script, "-"]).args([ground.pids_file()]);
        let settings = SessionSettings { scratch: ground.scratch(), ..SessionSettings::default() };
        sessile::Proxy::builder().backend(server).session(settings).build().unwrap()
    }

    /// Opens a session, which lasts as long as the stream that this returns.
    async fn open(proxy: &sessile::Proxy) -> DuplexStream {
        let (mut client, end) = duplex(1024);
        let (reader, writer) = split(end);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve_io(reader, writer, std::future::pending()).await });
        client.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n").await.unwrap();
        client
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    async fn a_session_that_was_ended_has_left_nothing() {
        let ground = Ground::new();
        let proxy = sessions_of(&ground, &format!("{CLINGING} cat > /dev/null; exec sleep 1000"));
        let sessions = proxy.sessions();
        let _clients = [open(&proxy).await, open(&proxy).await, open(&proxy).await];
        let pids = ground.peopled(12).await;
        assert!(timeout(LONG, sessions.end(sessions.list()[0].id)).await.unwrap());
        // No waiting here: that they are gone is what the end of `end` and of `clear` means.
        assert_eq!((sessions.links(), pids.iter().filter(|pid| exists(**pid)).count()), (2, 8));
        assert_eq!(timeout(LONG, sessions.clear()).await.unwrap(), 2);
        assert_eq!((sessions.links(), pids.iter().filter(|pid| exists(**pid)).count()), (0, 0));
        assert!(is_empty(&ground.scratch()));
    }

    async fn a_session_ended_while_starting_has_left_nothing() {
        let ground = Ground::new();
        let proxy = sessions_of(&ground, "echo $$ >> \"$1\"; exec cat > /dev/null");
        let sessions = proxy.sessions();
        for attempt in 0..40 {
            let _clients = [open(&proxy).await, open(&proxy).await];
            eventually("links are opened", || sessions.links() == 2).await;
            // At another moment of the start each time.
            let _ = timeout(Duration::from_micros(attempt * 200), std::future::pending::<()>()).await;
            assert_eq!(timeout(LONG, sessions.clear()).await.unwrap(), 2);
            assert!(sessions.links() == 0 && is_empty(&ground.scratch()), "attempt {attempt}");
            assert!(ground.pids().into_iter().all(|pid| !exists(pid)), "attempt {attempt}");
        }
    }

    // ---- proxies and reapers that are killed ----

    /// `__proxy COUNT [unmarked] [claim] PROGRAM ARGS...`: starts servers, tells their numbers, and waits to be killed.
    async fn proxy(count: usize, mut words: &[&str]) {
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
        let command =
            ServerCommand { args: words[1..].iter().map(Into::into).collect(), ..ServerCommand::new(words[0]) };
        let mut children = Vec::new();
        for _ in 0..count {
            let child = start(&command).await;
            println!("server {}", pid(&child));
            children.push(child);
        }
        println!("ready");
        std::future::pending::<()>().await;
    }

    struct Proxy {
        process: std::process::Child,
        servers: Vec<i32>,
        reapers: Vec<i32>,
    }

    impl Proxy {
        fn start(mut command: std::process::Command) -> Self {
            let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
            let servers = lines.take_while(|line| line != "ready");
            let servers: Vec<i32> =
                servers.map(|line| line.strip_prefix("server ").unwrap().parse().unwrap()).collect();
            let reapers = servers.iter().map(|server| parent(*server)).collect();
            Self { process, servers, reapers }
        }

        fn of(ground: &Ground, count: usize, claim: bool, script: &str) -> Self {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["__proxy", &count.to_string()]).args(claim.then_some("claim"));
            command.args(["sh", "-c", script, "-"]).arg(ground.pids_file());
            Self::start(command)
        }

        /// Kills it and waits for its servers and reapers to be gone.
        async fn killed(mut self) {
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

    async fn a_killed_proxy_leaves_nothing() {
        let ground = Ground::new();
        let proxy = Proxy::of(&ground, 5, false, &format!("{CLINGING} while :; do sleep 1000; done"));
        ground.peopled(20).await;
        proxy.killed().await;
        ground.deserted().await;
    }

    async fn a_proxy_killed_while_starting_leaves_nothing() {
        let exe = std::env::current_exe().unwrap();
        for wait in (0..30).step_by(3) {
            let ground = Ground::new();
            let mut command = std::process::Command::new(&exe);
            command.args(["__proxy", "20", "sleep", "1000"]).env("MARK", ground.folder.path()).stdout(Stdio::null());
            let mut process = command.spawn().unwrap();
            sleep(Duration::from_millis(wait)).await;
            process.kill().unwrap();
            process.wait().unwrap();
            eventually("nothing is left", || bearing(&mark(&ground)).is_empty()).await;
        }
    }

    async fn a_killed_reaper_leaves_nothing() {
        let ground = Ground::new();
        let script = r#"
            (sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
            setsid sh -c 'trap "" TERM; echo $$ >> "$1"; sleep 1000 & echo $! >> "$1"; wait' - "$1" &
            (env -i setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)
            echo $$ >> "$1"; wait
        "#;
        let mut own = std::process::Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
        let child = start(&ground.sh(script)).await;
        ground.peopled(5).await;
        assert!(ground.scratch().exists());
        kill(parent(pid(&child)));
        assert_eq!(timeout(LONG, child.exit()).await, Ok(ExitStatusKind::Unknown));
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Unknown);
        assert!(ground.pids().into_iter().all(|pid| !exists(pid)));
        assert!(!ground.scratch().exists());
        assert!(own.try_wait().unwrap().is_none(), "a child of the embedding program is left alone");
        own.kill().unwrap();
        own.wait().unwrap();
    }

    async fn killed_reapers_of_a_claiming_proxy_leave_nothing() {
        let ground = Ground::new();
        let proxy = Proxy::of(&ground, 20, true, &format!("{CLINGING} while :; do sleep 1000; done"));
        ground.peopled(80).await;
        let spared: HashSet<i32> = ground.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
        assert!(!spared.is_empty());
        for reaper in &proxy.reapers[1..] {
            kill(*reaper);
        }
        gone(ground.pids().difference(&spared).copied()).await;
        gone(proxy.reapers[1..].iter().copied()).await;
        assert!(spared.iter().all(|pid| exists(*pid)), "those of the reaper that lives are not orphans");
        proxy.killed().await;
        ground.deserted().await;
    }

    fn below(mut pid: i32, ancestor: i32) -> bool {
        while pid > 1 && exists(pid) {
            pid = parent(pid);
            if pid == ancestor {
                return true;
            }
        }
        false
    }

    /// A tree that forks without end, and one whose members flee: each starts the next in a session of its own, and
    /// leaves. Both stop by themselves when their file is gone.
    async fn a_killed_reaper_s_tree_does_not_outrun_the_proxy() {
        let storm = r#"
            trap '' TERM; echo $$ >> "$1"
            while [ -e "$1" ]; do (setsid sleep 1000 &) ; sleep 1000 & done
        "#;
        let chase = r#"
            echo "trap '' TERM; [ -e \"\$1\" ] || exit; setsid sh \"\$0\" \"\$1\" & exit 0" > "$1.flee"
            echo $$ >> "$1"; for flight in 1 2 3 4; do sh "$1.flee" "$1" & done; sleep 1000
        "#;
        for script in [storm, chase] {
            let ground = Ground::new();
            let child = start(&marked(ground.sh(script), &ground)).await;
            ground.peopled(1).await;
            eventually("it forks", || bearing(&mark(&ground)).len() > 4).await;
            kill(parent(pid(&child)));
            timeout(LONG, child.end(LONG, NOW)).await.expect("it must not outrun the proxy");
            assert_eq!(bearing(&mark(&ground)), [0_i32; 0], "{script}");
            ground.deserted().await;
        }
    }

    /// Starts a process that leaves its session and is orphaned, which writes its number to the file `$1`.
    const STRAY: &str = r#"(setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)"#;

    /// Processes that are not a proxy's, whatever their parent; ended with this.
    struct Strangers(PathBuf);

    impl Strangers {
        fn pids(&self) -> HashSet<i32> {
            let text = fs::read_to_string(&self.0).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect()
        }
    }

    impl Drop for Strangers {
        fn drop(&mut self) {
            for pid in self.pids() {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
    }

    /// A proxy that a shell became after it had started a helper: that one starts a stray when the file `1` is there,
    /// as it is when this returns, and another for the file `2`. The log is in the file `log`.
    fn after_a_helper(ground: &Ground, words: &[&str], script: &str) -> (Proxy, Strangers) {
        let file = |name: &str| ground.folder.path().join(name);
        let turns = format!("while [ ! -e '{}'/$turn ]; do sleep 0.02; done; {STRAY}", ground.folder.path().display());
        let helper = format!("echo $$ >> \"$1\"; for turn in 1 2; do {turns}; done; exec sleep 1000");
        fs::write(file("helper"), helper).unwrap();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", r#"sh "$0" "$1" >/dev/null 2>&1 & shift; exec "$@""#]).arg(file("helper"));
        command.arg(file("strangers")).arg(std::env::current_exe().unwrap()).args(["__proxy", "2"]).args(words);
        command.args(["sh", "-c", script, "-"]).arg(ground.pids_file());
        command.stderr(fs::File::create(file("log")).unwrap());
        let proxy = Proxy::start(command);
        fs::write(file("1"), "").unwrap();
        (proxy, Strangers(file("strangers")))
    }

    /// The numbers of the processes that the log says were left alone.
    fn left_alone(ground: &Ground) -> Vec<i32> {
        let log = fs::read_to_string(ground.folder.path().join("log")).unwrap();
        let lists = log.lines().filter(|line| line.contains("left alone"));
        let lists = lists.filter_map(|line| line.split_once("pids=[")?.1.split_once(']'));
        lists.flat_map(|(pids, _)| pids.split(", ").map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    async fn children_from_before_main_are_left_alone() {
        for words in [&["claim"][..], &[]] {
            let ground = Ground::new();
            let (proxy, strangers) =
                after_a_helper(&ground, words, &format!("{CLINGING} while :; do sleep 1000; done"));
            let me = i32::try_from(proxy.process.id()).unwrap();
            ground.peopled(8).await;
            eventually("helper and stray are the proxy's", || {
                strangers.pids().len() == 2 && strangers.pids().into_iter().all(|pid| parent(pid) == me)
            })
            .await;
            let before = strangers.pids();

            let first: HashSet<i32> = ground.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
            assert_eq!(first.len(), 4);
            kill(proxy.reapers[0]);
            fs::write(ground.folder.path().join("2"), "").unwrap();
            gone(first).await;
            eventually("it is said", || before.is_subset(&left_alone(&ground).into_iter().collect())).await;
            eventually("there is another stray", || strangers.pids().len() == 3).await;

            kill(proxy.reapers[1]);
            gone(ground.pids()).await;
            gone(proxy.reapers.iter().copied()).await;
            eventually("it is said of the other one", || left_alone(&ground).len() >= 3).await;
            let mut told = left_alone(&ground);
            told.sort_unstable();
            let mut all: Vec<i32> = strangers.pids().into_iter().collect();
            all.sort_unstable();
            assert_eq!(told, all, "once of each");
            assert!(all.iter().all(|pid| exists(*pid) && !status(*pid).contains("State:\tZ")));

            drop(strangers);
            proxy.killed().await;
            waited_for(all).await;
        }
    }

    /// As root only, and where namespaces can be made: it is not tested elsewhere.
    async fn what_process_one_adopts_is_left_alone() {
        let unshare = ["-pf", "--mount-proc", "--kill-child"];
        let able = std::process::Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
        if !able.is_ok_and(|status| status.success()) {
            return;
        }
        let ground = Ground::new();
        let strangers = ground.folder.path().join("strangers");
        let mut command = std::process::Command::new("unshare");
        command.args(unshare).arg(std::env::current_exe().unwrap()).args(["__proxy", "1", "claim", "sh", "-c"]);
        command.args([&format!("{CLINGING} while :; do sleep 1000; done"), "-"]).arg(ground.pids_file());
        command.stderr(fs::File::create(ground.folder.path().join("log")).unwrap()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        eventually("process 1 is there", || fs::read_to_string(&children).is_ok_and(|text| !text.is_empty())).await;
        let first = fs::read_to_string(&children).unwrap().trim().to_owned();
        // All numbers are those of the namespace, so it is asked about them from within.
        let inside = |script: &str, words: &[String]| {
            let mut command = std::process::Command::new("nsenter");
            command.args(["-t", &first, "-p", "-m", "sh", "-c", script]).arg(&strangers).args(words);
            let output = command.output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let pids: Vec<String> = ground.peopled(4).await.iter().map(ToString::to_string).collect();
        let stray = r#"(setsid sh -c 'echo $$ > "$0"; exec sleep 1000' "$0" >/dev/null 2>&1 &)"#;
        inside(stray, &[]);
        eventually("somebody is orphaned", || fs::read_to_string(&strangers).is_ok_and(|pid| pid.ends_with('\n')))
            .await;
        let stray = fs::read_to_string(&strangers).unwrap().trim().to_owned();
        let parent_of = |pid: &str| inside("sed -n 's/^PPid:.//p' /proc/$1/status", &[pid.to_owned()]);
        eventually("process 1 has adopted it", || parent_of(&stray) == "1").await;

        let reaper = inside("pgrep -x mcp-reaper", &[]);
        let living = r#"for pid in "$@"; do [ -e /proc/$pid ] && echo $pid; done"#;
        assert_eq!(inside(living, &pids).lines().count(), 4);
        inside("kill -9 $1", &[reaper]);
        eventually("its tree is gone", || inside(living, &pids).is_empty()).await;
        eventually("it is said", || left_alone(&ground) == [stray.parse::<i32>().unwrap()]).await;
        assert_eq!(inside(living, std::slice::from_ref(&stray)), stray);

        kill(first.parse().unwrap());
        process.wait().unwrap();
    }

    async fn without_a_mark_only_what_is_certain_ends() {
        let script = format!("{CLINGING} while :; do sleep 1000; done");
        // Nothing but reapers was ever started, and there were no children before.
        let ground = Ground::new();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["__proxy", "2", "unmarked", "claim", "sh", "-c", &script, "-"]).arg(ground.pids_file());
        let proxy = Proxy::start(command);
        ground.peopled(8).await;
        kill(proxy.reapers[0]);
        kill(proxy.reapers[1]);
        gone(ground.pids()).await;
        proxy.killed().await;

        // There was a helper: those that detached themselves and have lost their parent could be its own.
        let ground = Ground::new();
        let (proxy, strangers) = after_a_helper(&ground, &["unmarked", "claim"], &script);
        ground.peopled(8).await;
        eventually("helper and stray are there", || strangers.pids().len() == 2).await;
        let first: HashSet<i32> = ground.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
        let (certain, others): (Vec<i32>, Vec<i32>) =
            first.into_iter().partition(|pid| below(*pid, proxy.servers[0]) || *pid == proxy.servers[0]);
        assert_eq!((certain.len(), others.len()), (2, 2));
        kill(proxy.reapers[0]);
        gone(certain).await;
        let spared: HashSet<i32> = strangers.pids().into_iter().chain(others.iter().copied()).collect();
        eventually("it is said", || left_alone(&ground).into_iter().collect::<HashSet<_>>() == spared).await;
        assert!(spared.iter().all(|pid| exists(*pid)));

        drop(strangers);
        others.into_iter().for_each(kill);
        proxy.killed().await;
        waited_for(spared).await;
        ground.deserted().await;
    }

    /// `__session SCRATCH PROGRAM ARGS...`: one session of a proxy that keeps its scratch folders there.
    async fn session(scratch: &Path, words: &[&str]) {
        let settings = SessionSettings { scratch: scratch.into(), ..SessionSettings::default() };
        let server = ChildBackend::new(words[0]).args(&words[1..]);
        let proxy = Sessile::builder().backend(server).session(settings).build().unwrap();
        let (mut client, front) = tokio::io::duplex(1024);
        let hello = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
        client.write_all(hello).await.unwrap();
        client.write_all(b"\n").await.unwrap();
        let (reader, writer) = tokio::io::split(front);
        proxy.serve_io(reader, writer, std::future::pending()).await;
    }

    async fn folders_of_the_killed_are_removed_by_the_next() {
        let base = tempfile::tempdir().unwrap();
        let folders = || fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<HashSet<_>>();
        let script = r#"trap '' TERM; touch "$TMPDIR/file"; echo $$ >> "$1"; exec sleep 1000"#;
        let begin = |ground: &Ground| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.arg("__session").arg(base.path()).args(["sh", "-c", script, "-"]).arg(ground.pids_file());
            Proxy { process: command.spawn().unwrap(), servers: Vec::new(), reapers: Vec::new() }
        };
        let (ground, other_ground, next_ground) = (Ground::new(), Ground::new(), Ground::new());
        let other = begin(&other_ground);
        other_ground.peopled(1).await;
        let others = folders();
        let mut proxy = begin(&ground);
        let server = ground.peopled(1).await.into_iter().next().unwrap();
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

        let next = begin(&next_ground);
        next_ground.peopled(1).await;
        eventually("what the killed left is gone", || folders().len() == 2).await;
        assert!(others.is_subset(&folders()), "those of a proxy that lives stay");
        assert!(others.iter().all(|folder| folder.join("file").exists()));

        other.killed().await;
        next.killed().await;
        waited_for(ground.pids()).await;
        eventually("the reapers have removed theirs", || folders().is_empty()).await;
        waited_for(other_ground.pids().into_iter().chain(next_ground.pids())).await;
    }

    async fn a_reaper_is_small_quiet_and_not_easily_hit() {
        let child = start(&ServerCommand::new("cat")).await;
        let keeper = parent(pid(&child));
        let read = |file: &str| fs::read_to_string(format!("/proc/{keeper}/{file}")).unwrap();
        assert_eq!(read("cmdline"), "mcp-reaper\0__reaper\0");
        assert_eq!(read("comm"), "mcp-reaper\n");
        assert_eq!(fs::read_link(format!("/proc/{keeper}/cwd")).unwrap(), Path::new("/"));

        let private: u64 = read("smaps_rollup")
            .lines()
            .filter(|line| line.starts_with("Private_"))
            .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
            .sum();
        assert!(private < 2048, "{private} kB");

        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::PIPE] {
            kill_process(Pid::from_raw(keeper).unwrap(), signal).unwrap();
        }
        sleep(Duration::from_millis(50)).await;
        let switches = || field(&read("status"), "voluntary_ctxt_switches");
        let before = switches();
        sleep(Duration::from_millis(500)).await;
        assert_eq!(switches(), before, "it slept all the time");
        assert_eq!(child.end(LONG, GRACE).await, ExitStatusKind::Code(0));
    }

    // ---- many ----

    async fn two_hundred_at_once() {
        let ground = Ground::new();
        let starts = (0..200).map(|number| {
            let scratch = Some(ground.folder.path().join(number.to_string()));
            tokio::spawn(async move { start(&ServerCommand { scratch, ..ServerCommand::new("cat") }).await })
        });
        let mut children = joined(starts.collect()).await;
        let mut pids = Vec::new();
        for child in &mut children {
            assert_eq!(echo(child, "x").await, "x");
            pids.extend([pid(child), parent(pid(child))]);
        }
        let ends = children.into_iter().map(|child| tokio::spawn(child.end(LONG, GRACE)));
        assert!(joined(ends.collect()).await.into_iter().all(|how| how == ExitStatusKind::Code(0)));
        assert!(pids.into_iter().all(|pid| !exists(pid)));
        assert_eq!(fs::read_dir(ground.folder.path()).unwrap().count(), 0);
    }

    async fn joined<T: Debug>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
        let mut values = Vec::new();
        for task in tasks {
            values.push(task.await.unwrap());
        }
        values
    }

    // ---- without a reaper ----

    async fn without_reaper(pids: &Path) {
        let scratch = pids.with_file_name("scratch");
        let script = r#"trap "exit 4" TERM; sleep 1000 & echo $! >> "$1"; echo $$ >> "$1"; cat; wait"#;
        let args = vec!["-c".into(), script.into(), "-".into(), pids.into()];
        let command = ServerCommand { args, scratch: Some(scratch.clone()), ..ServerCommand::new("sh") };
        assert!(!reaper::available());

        let mut child = start(&command).await;
        assert_eq!(echo(&mut child, "hello\n").await, "hello\n");
        assert!(scratch.exists());
        assert_eq!(child.end(Duration::from_millis(50), LONG).await, ExitStatusKind::Code(4));
        assert!(!scratch.exists());

        let child = start(&command).await;
        drop(child);
        let ignoring = ServerCommand {
            args: vec!["-c".into(), "trap '' TERM; echo; while :; do sleep 1; done".into()],
            scratch: None,
            ..command.clone()
        };
        let mut child = start(&ignoring).await;
        child.stdout.as_mut().unwrap().read_u8().await.unwrap();
        assert_eq!(child.end(NOW, GRACE).await, ExitStatusKind::Signal(9));

        let error = spawn(&ServerCommand::new("no-such-program")).await.unwrap_err();
        assert!(matches!(error, SpawnError::NotFound { .. }));
        let error =
            spawn(&ServerCommand { cwd: Some("/no/such".into()), ..ServerCommand::new("cat") }).await.unwrap_err();
        assert!(matches!(error, SpawnError::Cwd { .. }));
        sleep(Duration::from_millis(100)).await;
    }

    async fn without_init_a_process_group_is_ended() {
        let ground = Ground::new();
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        assert!(command.arg("__no-reaper").arg(ground.pids_file()).status().await.unwrap().success());
        assert!(ground.pids().len() >= 2);
        waited_for(ground.pids()).await;
        ground.deserted().await;
    }

    // ---- figures, with `--ignored` ----

    async fn measure() {
        let (mut spawns, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let begun = Instant::now();
            let mut child = start(&ServerCommand::new("cat")).await;
            spawns.push(begun.elapsed());
            echo(&mut child, "x").await;
            let begun = Instant::now();
            child.end(LONG, GRACE).await;
            ends.push(begun.elapsed());
        }
        spawns.sort();
        ends.sort();
        println!("spawn: median {:?}, worst {:?}", spawns[25], spawns[49]);
        println!("end: median {:?}, worst {:?}", ends[25], ends[49]);

        let child = start(&ServerCommand::new("cat")).await;
        println!("{}", fs::read_to_string(format!("/proc/{}/smaps_rollup", parent(pid(&child)))).unwrap());
        let ground = Ground::new();
        let clinging = start(&ground.sh(&format!("{CLINGING} sleep 1000"))).await;
        ground.peopled(4).await;
        let begun = Instant::now();
        clinging.end(NOW, NOW).await;
        println!("end of a clinging tree, no grace: {:?}", begun.elapsed());
        child.end(LONG, GRACE).await;

        let begun = Instant::now();
        let starts = (0..200).map(|_| tokio::spawn(async { start(&ServerCommand::new("cat")).await }));
        let children = joined(starts.collect()).await;
        println!("200 at once: {:?}", begun.elapsed());
        let begun = Instant::now();
        joined(children.into_iter().map(|child| tokio::spawn(child.end(LONG, GRACE))).collect()).await;
        println!("200 ended at once: {:?}", begun.elapsed());
    }
}
