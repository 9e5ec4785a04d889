//! Servers of sessions: nothing of them is left when their session is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sessile::{ChildBackend, SessionSettings};
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::time::timeout;

use super::harness::{CLINGING_SCRIPT, Harness, LONG, eventually, exists};

/// A proxy whose sessions have this script as their server, and their scratch folders in the harness's own.
fn sessions_of(harness: &Harness, script: &str) -> sessile::Proxy {
    fs::create_dir(harness.scratch()).unwrap();
    let server = ChildBackend::new("sh").args(["-c", script, "-"]).args([harness.pids_file()]);
    let settings = SessionSettings { scratch: harness.scratch(), ..SessionSettings::default() };
    sessile::Proxy::builder().backend(server).session(settings).build().unwrap()
}

/// Opens a session, which lasts as long as the stream that this returns.
pub(crate) async fn open(proxy: &sessile::Proxy) -> DuplexStream {
    let (mut client, end) = duplex(1024);
    let (reader, writer) = split(end);
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve_io(reader, writer, std::future::pending()).await });
    client.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n").await.unwrap();
    client
}

pub(crate) fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

pub(crate) async fn a_session_that_was_ended_has_left_nothing() {
    let harness = Harness::new();
    let proxy = sessions_of(&harness, &format!("{CLINGING_SCRIPT} cat > /dev/null; exec sleep 1000"));
    let sessions = proxy.sessions();
    let _clients = [open(&proxy).await, open(&proxy).await, open(&proxy).await];
    let pids = harness.peopled(12).await;
    assert!(timeout(LONG, sessions.end(sessions.list()[0].id)).await.unwrap());
    // No waiting here: that they are gone is what the end of `end` and of `clear` means.
    assert_eq!((sessions.links(), pids.iter().filter(|pid| exists(**pid)).count()), (2, 8));
    assert_eq!(timeout(LONG, sessions.clear()).await.unwrap(), 2);
    assert_eq!((sessions.links(), pids.iter().filter(|pid| exists(**pid)).count()), (0, 0));
    assert!(is_empty(&harness.scratch()));
}

pub(crate) async fn a_session_ended_while_starting_has_left_nothing() {
    let harness = Harness::new();
    let proxy = sessions_of(&harness, "echo $$ >> \"$1\"; exec cat > /dev/null");
    let sessions = proxy.sessions();
    for attempt in 0..40 {
        let _clients = [open(&proxy).await, open(&proxy).await];
        eventually("links are opened", || sessions.links() == 2).await;
        // At another moment of the start each time.
        let _ = timeout(Duration::from_micros(attempt * 200), std::future::pending::<()>()).await;
        assert_eq!(timeout(LONG, sessions.clear()).await.unwrap(), 2);
        assert!(sessions.links() == 0 && is_empty(&harness.scratch()), "attempt {attempt}");
        assert!(harness.pids().into_iter().all(|pid| !exists(pid)), "attempt {attempt}");
    }
}
