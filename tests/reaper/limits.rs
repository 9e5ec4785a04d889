//! What a reaper costs, and how many there may be; figures with `--ignored`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sessile::backend::spawn::{ExitStatusKind, ServerCommand};
use tokio::time::{Instant, sleep};

use super::harness::{CLINGING_SCRIPT, GRACE, Harness, LONG, NOW, echo, exists, field, joined, parent, pid, start};

pub(crate) async fn a_reaper_is_small_quiet_and_not_easily_hit() {
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

pub(crate) async fn two_hundred_at_once() {
    let harness = Harness::new();
    let starts = (0..200).map(|number| {
        let scratch = Some(harness.folder.path().join(number.to_string()));
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
    assert_eq!(fs::read_dir(harness.folder.path()).unwrap().count(), 0);
}

pub(crate) async fn measure() {
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
    let harness = Harness::new();
    let clinging = start(&harness.sh(&format!("{CLINGING_SCRIPT} sleep 1000"))).await;
    harness.peopled(4).await;
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
