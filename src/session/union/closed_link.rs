//! The end of one of several servers: the session goes on without it, as long as another one is there.

use super::{ListKnowledge, Union, UnionContext, UnionOutput};
use crate::error::ProxyError;
use crate::session::link_phase::{LinkId, LinkPhase};

impl Union {
    /// A link has closed: what was asked of its server fails with the server's name, and the session goes on without
    /// it.
    pub(super) fn link_closed(&mut self, link: LinkId, error: &ProxyError, context: &mut UnionContext<'_>) {
        if let Some(slot) = self.lists_of_mut(link) {
            for knowledge in &mut slot.lists {
                if *knowledge == ListKnowledge::Unknown {
                    *knowledge = ListKnowledge::Failed;
                }
            }
        }
        self.sub_requests.drop_late(link);
        self.directory.link_closed(link);
        let mut open: Vec<u64> = self.sub_requests.of_link(link).collect();
        open.sort_unstable();
        for number in open {
            self.sub_request_failed(link, number, error.clone(), context);
        }
    }

    /// The last that follows from a closed link, when what was asked of its server has had its responses: the client is
    /// told which lists have changed, and a session without a server ends.
    pub(super) fn report_closed(&mut self, link: LinkId, context: &UnionContext<'_>) {
        if context.links.get(link).answer().is_some() {
            self.notify_changes(link, context);
        }
        self.end_if_alone(context);
    }

    /// Ends the session when no server is left, and none will come.
    fn end_if_alone(&mut self, context: &UnionContext<'_>) {
        let last = context.links.iter().rev().find_map(|(_, phase)| match phase {
            LinkPhase::Gone { exit, .. } => Some(exit.clone()),
            _ => None,
        });
        let open = self.handshake.is_done();
        let lives = |phase: &LinkPhase| match phase {
            LinkPhase::New | LinkPhase::Initializing | LinkPhase::Ready(_) => true,
            // The client may send `initialize` again, as long as its session is not open without this server.
            LinkPhase::Refused(_) => !open,
            LinkPhase::Gone { .. } => false,
        };
        if let (Some(exit), false) = (last, context.links.iter().any(|(_, phase)| lives(phase))) {
            self.output(UnionOutput::End(exit));
        }
    }
}
