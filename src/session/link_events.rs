//! Where a link delivers: what a server says is sent to the session's actor as an event.

use std::sync::Arc;

use ractor::ActorRef;
use tracing::{info, warn};

use super::facts::SessionFacts;
use super::link_phase::LinkId;
use super::log_throttle::LogThrottle;
use super::mailbox::SessionMessage;
use super::state::Event;
use crate::budget::Budget;
use crate::frame::{FrameError, Incoming, LostMessage, Permit};
use crate::link::{LinkEvents, LinkExit, RequestFailure};

pub(super) struct SessionLinkEvents {
    pub actor: ActorRef<SessionMessage>,
    pub facts: Arc<SessionFacts>,
    pub budget: Budget,
    pub answers: Budget,
    pub link: LinkId,
    /// The server's name.
    pub name: Arc<str>,
    pub log_throttle: LogThrottle,
}

impl SessionLinkEvents {
    fn event(&self, event: Event, permit: Option<Permit>) {
        let _ = self.actor.send_message(SessionMessage::Event { event, permit });
    }
}

impl LinkEvents for SessionLinkEvents {
    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn answers(&self) -> &Budget {
        &self.answers
    }

    fn deliver(&self, frames: Result<Incoming, FrameError>, permit: Option<Permit>, on: Option<u64>) {
        if let Err(error) = &frames
            && let Some(suppressed) = self.log_throttle.admit()
        {
            let (session, server) = (&self.facts.id, &self.name);
            warn!(%session, %server, %error, suppressed, "the backend said something that is not JSON-RPC");
        }
        self.event(Event::FromServer { link: self.link, on, frames }, permit);
    }

    fn failed(&self, number: u64, failure: RequestFailure) {
        self.event(Event::RequestFailed { link: self.link, number, failure }, None);
    }

    fn lost(&self, message: LostMessage, permit: Permit) {
        if let Some(suppressed) = self.log_throttle.admit() {
            let LostMessage { size, why, .. } = &message;
            warn!(session = %self.facts.id, server = %self.name, size, ?why, suppressed, "a message of the backend was not kept");
        }
        self.event(Event::ServerLost { link: self.link, message }, Some(permit));
    }

    fn started(&self, pid: u32) {
        if let Some(server) = self.facts.server(self.link) {
            server.started(pid);
        }
        info!(session = %self.facts.id, server = %self.name, pid, "backend started");
    }

    fn closed(&self, exit: LinkExit) {
        self.event(Event::LinkClosed { link: self.link, exit }, None);
    }
}
