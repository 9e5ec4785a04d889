//! A link's door to its session: what a server says becomes an event, and takes its room before.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::ActorRef;
use tracing::{info, warn};

use super::Budget;
use super::actor::Message;
use super::handle::Shared;
use super::noise::Noise;
use super::state::Event;
use super::union::LinkId;
use crate::backend::{CallFailure, Inlet, LinkExit};
use crate::frame::{FrameError, Id, Incoming, Permit};

pub(super) struct SessionInlet {
    pub actor: ActorRef<Message>,
    pub shared: Arc<Shared>,
    pub budget: Budget,
    pub link: LinkId,
    /// The server's name.
    pub name: Arc<str>,
    pub noise: Noise,
}

impl SessionInlet {
    fn event(&self, event: Event) {
        let _ = self.actor.send_message(Message::Event(event));
    }
}

impl Inlet for SessionInlet {
    fn admit(&self, bytes: usize) -> BoxFuture<'_, Option<Permit>> {
        Box::pin(self.budget.admit(bytes))
    }

    fn admit_now(&self, bytes: usize) -> Option<Permit> {
        self.budget.admit_now(bytes)
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, on: Option<u64>) {
        if let Err(error) = &frames
            && let Some(quiet) = self.noise.tell()
        {
            let (session, server) = (&self.shared.id, &self.name);
            warn!(%session, %server, %error, quiet, "the backend said something that is not JSON-RPC");
        }
        self.event(Event::FromServer { link: self.link, on, frames });
    }

    fn failed(&self, call: u64, failure: CallFailure) {
        self.event(Event::CallFailed { link: self.link, call, failure });
    }

    fn oversized(&self, id: Option<Id>, request: bool, size: usize) {
        if let Some(quiet) = self.noise.tell() {
            warn!(session = %self.shared.id, server = %self.name, size, quiet, "a message of the backend is over the limit");
        }
        self.event(Event::ServerOversized { link: self.link, id, request, size });
    }

    fn started(&self, pid: u32) {
        if let Some(server) = self.shared.server(self.link) {
            server.started(pid);
        }
        info!(session = %self.shared.id, server = %self.name, pid, "backend started");
    }

    fn closed(&self, exit: LinkExit) {
        self.event(Event::LinkClosed { link: self.link, exit });
    }
}
