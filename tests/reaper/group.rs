//! Without `reaper::init`, a process group is ended.

use std::path::Path;
use std::time::Duration;

use sessile::backend::spawn::{ExitStatusKind, ServerCommand, SpawnError, spawn};
use sessile::reaper;
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;

use super::harness::{GRACE, Harness, LONG, NOW, echo, start, waited_for};

pub(crate) async fn without_reaper(pids: &Path) {
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
    let error = spawn(&ServerCommand { cwd: Some("/no/such".into()), ..ServerCommand::new("cat") }).await.unwrap_err();
    assert!(matches!(error, SpawnError::Cwd { .. }));
    sleep(Duration::from_millis(100)).await;
}

pub(crate) async fn without_init_a_process_group_is_ended() {
    let harness = Harness::new();
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    assert!(command.arg("__no-reaper").arg(harness.pids_file()).status().await.unwrap().success());
    assert!(harness.pids().len() >= 2);
    waited_for(harness.pids()).await;
    harness.deserted().await;
}
