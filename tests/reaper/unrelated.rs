//! Processes that no reaper has started are left alone, whatever their parent.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{CLINGING_SCRIPT, Harness, below, eventually, exists, gone, kill, parent, status, waited_for};
use super::killed::Proxy;

/// Starts a process that leaves its session and is orphaned, which writes its number to the file `$1`.
const DETACHED_CHILD: &str = r#"(setsid sh -c 'echo $$ >> "$1"; exec sleep 1000' - "$1" &)"#;

/// Processes that are not a proxy's, whatever their parent; ended with this.
struct UnrelatedChildren(PathBuf);

impl UnrelatedChildren {
    pub(crate) fn pids(&self) -> HashSet<i32> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for UnrelatedChildren {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

/// A proxy that a shell became after it had started a helper: that one starts a stray when the file `1` is there,
/// as it is when this returns, and another for the file `2`. The log is in the file `log`.
fn after_a_helper(harness: &Harness, words: &[&str], script: &str) -> (Proxy, UnrelatedChildren) {
    let file = |name: &str| harness.folder.path().join(name);
    let turns =
        format!("while [ ! -e '{}'/$turn ]; do sleep 0.02; done; {DETACHED_CHILD}", harness.folder.path().display());
    let helper = format!("echo $$ >> \"$1\"; for turn in 1 2; do {turns}; done; exec sleep 1000");
    fs::write(file("helper"), helper).unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"sh "$0" "$1" >/dev/null 2>&1 & shift; exec "$@""#]).arg(file("helper"));
    command.arg(file("strangers")).arg(std::env::current_exe().unwrap()).args(["__proxy", "2"]).args(words);
    command.args(["sh", "-c", script, "-"]).arg(harness.pids_file());
    command.stderr(fs::File::create(file("log")).unwrap());
    let proxy = Proxy::start(command);
    fs::write(file("1"), "").unwrap();
    (proxy, UnrelatedChildren(file("strangers")))
}

/// The numbers of the processes that the log says were left alone.
fn left_alone(harness: &Harness) -> Vec<i32> {
    let log = fs::read_to_string(harness.folder.path().join("log")).unwrap();
    let lists = log.lines().filter(|line| line.contains("left alone"));
    let lists = lists.filter_map(|line| line.split_once("pids=[")?.1.split_once(']'));
    lists.flat_map(|(pids, _)| pids.split(", ").map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

pub(crate) async fn children_from_before_main_are_left_alone() {
    for words in [&["claim"][..], &[]] {
        let harness = Harness::new();
        let (proxy, strangers) =
            after_a_helper(&harness, words, &format!("{CLINGING_SCRIPT} while :; do sleep 1000; done"));
        let me = i32::try_from(proxy.process.id()).unwrap();
        harness.peopled(8).await;
        eventually("helper and stray are the proxy's", || {
            strangers.pids().len() == 2 && strangers.pids().into_iter().all(|pid| parent(pid) == me)
        })
        .await;
        let before = strangers.pids();

        let first: HashSet<i32> = harness.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
        assert_eq!(first.len(), 4);
        kill(proxy.reapers[0]);
        fs::write(harness.folder.path().join("2"), "").unwrap();
        gone(first).await;
        eventually("it is said", || before.is_subset(&left_alone(&harness).into_iter().collect())).await;
        eventually("there is another stray", || strangers.pids().len() == 3).await;

        kill(proxy.reapers[1]);
        gone(harness.pids()).await;
        gone(proxy.reapers.iter().copied()).await;
        eventually("it is said of the other one", || left_alone(&harness).len() >= 3).await;
        let mut told = left_alone(&harness);
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
pub(crate) async fn what_process_one_adopts_is_left_alone() {
    let unshare = ["-pf", "--mount-proc", "--kill-child"];
    let able = std::process::Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !able.is_ok_and(|status| status.success()) {
        return;
    }
    let harness = Harness::new();
    let strangers = harness.folder.path().join("strangers");
    let mut command = std::process::Command::new("unshare");
    command.args(unshare).arg(std::env::current_exe().unwrap()).args(["__proxy", "1", "claim", "sh", "-c"]);
    command.args([&format!("{CLINGING_SCRIPT} while :; do sleep 1000; done"), "-"]).arg(harness.pids_file());
    command.stderr(fs::File::create(harness.folder.path().join("log")).unwrap()).stdout(Stdio::piped());
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
    let pids: Vec<String> = harness.peopled(4).await.iter().map(ToString::to_string).collect();
    let stray = r#"(setsid sh -c 'echo $$ > "$0"; exec sleep 1000' "$0" >/dev/null 2>&1 &)"#;
    inside(stray, &[]);
    eventually("somebody is orphaned", || fs::read_to_string(&strangers).is_ok_and(|pid| pid.ends_with('\n'))).await;
    let stray = fs::read_to_string(&strangers).unwrap().trim().to_owned();
    let parent_of = |pid: &str| inside("sed -n 's/^PPid:.//p' /proc/$1/status", &[pid.to_owned()]);
    eventually("process 1 has adopted it", || parent_of(&stray) == "1").await;

    let reaper = inside("pgrep -x mcp-reaper", &[]);
    let living = r#"for pid in "$@"; do [ -e /proc/$pid ] && echo $pid; done"#;
    assert_eq!(inside(living, &pids).lines().count(), 4);
    inside("kill -9 $1", &[reaper]);
    eventually("its tree is gone", || inside(living, &pids).is_empty()).await;
    eventually("it is said", || left_alone(&harness) == [stray.parse::<i32>().unwrap()]).await;
    assert_eq!(inside(living, std::slice::from_ref(&stray)), stray);

    kill(first.parse().unwrap());
    process.wait().unwrap();
}

pub(crate) async fn without_a_mark_only_what_is_certain_ends() {
    let script = format!("{CLINGING_SCRIPT} while :; do sleep 1000; done");
    // Nothing but reapers was ever started, and there were no children before.
    let harness = Harness::new();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["__proxy", "2", "unmarked", "claim", "sh", "-c", &script, "-"]).arg(harness.pids_file());
    let proxy = Proxy::start(command);
    harness.peopled(8).await;
    kill(proxy.reapers[0]);
    kill(proxy.reapers[1]);
    gone(harness.pids()).await;
    proxy.killed().await;

    // There was a helper: those that detached themselves and have lost their parent could be its own.
    let harness = Harness::new();
    let (proxy, strangers) = after_a_helper(&harness, &["unmarked", "claim"], &script);
    harness.peopled(8).await;
    eventually("helper and stray are there", || strangers.pids().len() == 2).await;
    let first: HashSet<i32> = harness.pids().into_iter().filter(|pid| below(*pid, proxy.reapers[0])).collect();
    let (certain, others): (Vec<i32>, Vec<i32>) =
        first.into_iter().partition(|pid| below(*pid, proxy.servers[0]) || *pid == proxy.servers[0]);
    assert_eq!((certain.len(), others.len()), (2, 2));
    kill(proxy.reapers[0]);
    gone(certain).await;
    let spared: HashSet<i32> = strangers.pids().into_iter().chain(others.iter().copied()).collect();
    eventually("it is said", || left_alone(&harness).into_iter().collect::<HashSet<_>>() == spared).await;
    assert!(spared.iter().all(|pid| exists(*pid)));

    drop(strangers);
    others.into_iter().for_each(kill);
    proxy.killed().await;
    waited_for(spared).await;
    harness.deserted().await;
}
