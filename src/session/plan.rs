//! What all sessions of a proxy have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::union::{ConfiguredServer, Servers};
use crate::backend::Backend;
use crate::budget::{Bounds, OVERHEAD, RESERVE};
use crate::config::{Filter, SessionSettings};

/// How much larger than its message a buffer may be, in bytes: bytes behind the message may have been read with it.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// What all sessions of a proxy have in common.
#[derive(Debug)]
pub(crate) struct SessionPlan {
    /// The servers. Every session has a link of its own to each.
    pub backends: Arc<[Backend]>,
    /// Their names and filters, as clients see them.
    pub servers: Arc<Servers>,
    pub limits: Limits,
    pub max_sessions: Option<usize>,
    /// Most bytes that one session takes of those that all have in common, in each direction.
    pub session_budget: usize,
    /// The bytes that all sessions have in common, in each direction.
    pub process_budget: usize,
    pub scratch: PathBuf,
}

impl SessionPlan {
    pub(crate) fn new(backends: Arc<[Backend]>, settings: SessionSettings, keep_alive: Duration) -> Self {
        let servers = backends.iter().map(|_| ConfiguredServer::new("backend", Filter::default())).collect();
        Self {
            backends,
            servers: Arc::new(Servers::new(servers, true, false)),
            limits: Limits {
                idle_timeout: settings.idle_timeout,
                lost_stream: settings.lost_stream,
                stream_wait: settings.stream_wait,
                // A connection whose client reads comes for more at every keep-alive, give or take.
                stall: settings.lost_stream.max(keep_alive.saturating_mul(3)),
                server_wait: settings.server_wait,
                request_timeout: settings.request_timeout,
                drain: settings.drain,
                replay_bytes: settings.replay_bytes,
                in_flight: settings.max_in_flight,
                message_size: settings.max_message_size,
            },
            max_sessions: settings.max_sessions,
            session_budget: settings.session_budget,
            process_budget: settings.process_budget,
            scratch: settings.scratch,
        }
    }

    /// The bounds of one direction. A session keeps at most `keep` bytes there to be sent once more.
    pub(super) fn bounds(&self, keep: usize) -> Bounds {
        let largest = self.limits.message_size.saturating_add(READ_AHEAD).min(self.process_budget);
        Bounds { pool: self.process_budget, largest, share: self.session_budget, reserve: RESERVE, keep }
    }

    /// Most messages in a queue behind a budget: all that it lets through, and for each request in flight, in either
    /// direction, its error and its cancellation.
    pub(super) fn queue(&self) -> usize {
        let messages = self.session_budget.saturating_add(RESERVE) / OVERHEAD;
        messages.saturating_add(self.limits.in_flight.saturating_mul(4)).saturating_add(64)
    }

    /// The same, with these names and filters for the servers.
    pub(crate) fn with_servers(self, servers: Servers) -> Self {
        Self { servers: Arc::new(servers), ..self }
    }
}
