//! What may be known of a session's servers from outside: their names, process ids and states.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Where one server of a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// Nothing was asked of the server yet, so it was not started.
    Unused,
    /// The server is being started or connected to, and has not answered the handshake.
    Opening,
    /// The server has answered the handshake.
    Ready,
    /// The server has refused the handshake.
    Refused,
    /// The server has exited, or is lost.
    Gone,
}

/// What may be known of one server of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The server's name; `backend` where it was given none.
    pub name: String,
    /// The server's process id, if it is a process that was started.
    pub pid: Option<u32>,
    /// Where the server is in its life.
    pub state: ServerState,
}

const STATES: [ServerState; 5] =
    [ServerState::Unused, ServerState::Opening, ServerState::Ready, ServerState::Refused, ServerState::Gone];

/// The same, as the session's actor keeps it up to date.
#[derive(Debug, Default)]
pub(super) struct ServerCell {
    /// 0 for none.
    pid: AtomicU32,
    state: AtomicU8,
}

impl ServerCell {
    pub(super) fn started(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    pub(super) fn set_state(&self, state: ServerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn info(&self, name: &str) -> ServerInfo {
        let pid = self.pid.load(Ordering::Relaxed);
        let state = STATES.get(usize::from(self.state.load(Ordering::Relaxed))).copied();
        ServerInfo { name: name.to_owned(), pid: (pid != 0).then_some(pid), state: state.unwrap_or(ServerState::Gone) }
    }
}

#[cfg(test)]
#[test]
fn states_are_kept_as_they_are() {
    let cell = ServerCell::default();
    assert_eq!(cell.info("a"), ServerInfo { name: "a".into(), pid: None, state: ServerState::Unused });
    cell.started(7);
    for state in STATES {
        cell.set_state(state);
        assert_eq!(cell.info("a"), ServerInfo { name: "a".into(), pid: Some(7), state });
    }
}
