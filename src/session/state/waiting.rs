//! What waits for a stream that can carry it: messages of the server for a client that has none open.

use std::collections::VecDeque;
use std::time::Instant;

use smallvec::SmallVec;

use super::replay::{OVERHEAD, compact};
use super::{ClientMessageKind, Keeper};
use crate::frame::Wire;
use crate::session::link_phase::LinkId;

/// Most messages that wait.
pub(super) const MOST_MESSAGES: usize = 1024;

#[derive(Debug)]
pub(super) struct WaitingMessage {
    pub link: LinkId,
    pub wire: Wire,
    pub kind: ClientMessageKind,
    until: Instant,
}

/// The messages that wait, oldest first. Whenever a stream is there that could carry them there are none.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: VecDeque<WaitingMessage>,
    bytes: usize,
    server_requests: usize,
    bound: usize,
}

impl Waiting {
    pub(super) fn new(bound: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, server_requests: 0, bound }
    }

    /// Lets a message wait, at the cost of the oldest ones: what had to go is given back.
    pub(super) fn push(
        &mut self,
        link: LinkId,
        wire: &Wire,
        kind: ClientMessageKind,
        until: Instant,
        keeper: &Keeper,
    ) -> SmallVec<[ClientMessageKind; 1]> {
        let mut dropped = SmallVec::new();
        let cost = wire.len() + OVERHEAD;
        // The copy has a permit of its own, because the permit of the server's message would hold up the server.
        let copy = if cost > self.bound { None } else { keeper.keep(cost, || compact(wire)) };
        let Some(wire) = copy else {
            dropped.push(kind);
            return dropped;
        };
        self.bytes += cost;
        self.server_requests += usize::from(is_server_request(&kind));
        self.messages.push_back(WaitingMessage { link, wire, kind, until });
        while (self.messages.len() > MOST_MESSAGES || self.bytes > self.bound)
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.wire.len() + OVERHEAD;
            self.server_requests -= usize::from(is_server_request(&oldest.kind));
            dropped.push(oldest.kind);
        }
        dropped
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn take(&mut self) -> VecDeque<WaitingMessage> {
        self.bytes = 0;
        self.server_requests = 0;
        std::mem::take(&mut self.messages)
    }

    /// Takes out a server request.
    pub(super) fn remove(&mut self, number: u64) {
        self.remove_if(|waiting, _| waiting == number);
    }

    /// Takes out the server requests that have waited long enough. Notifications go on waiting: they are bounded, and
    /// nobody hangs on them.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.remove_if(|number, until| {
            let overdue = until <= now;
            if overdue {
                numbers.push(number);
            }
            overdue
        });
        numbers
    }

    fn remove_if(&mut self, mut unwanted: impl FnMut(u64, Instant) -> bool) {
        if self.server_requests == 0 {
            return;
        }
        let Self { messages, bytes, server_requests, .. } = self;
        messages.retain(|message| match message.kind {
            ClientMessageKind::ServerRequest(number) if unwanted(number, message.until) => {
                *bytes -= message.wire.len() + OVERHEAD;
                *server_requests -= 1;
                false
            }
            _ => true,
        });
    }

    /// When the first server request has waited long enough: they all wait equally long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.server_requests == 0 {
            return None;
        }
        self.messages.iter().find(|message| is_server_request(&message.kind)).map(|message| message.until)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn is_server_request(kind: &ClientMessageKind) -> bool {
    matches!(kind, ClientMessageKind::ServerRequest(_))
}
