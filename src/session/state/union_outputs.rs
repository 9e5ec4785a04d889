//! The session's side of its union: what goes in, and what is done with what comes out.

use super::shared::Audience;
use super::{Effect, EndReason, Outcome, State};
use crate::error::ProxyError;
use crate::session::link_phase::{LinkId, kept_result};
use crate::session::union::{UnionContext, UnionInput, UnionOutput};

impl State {
    pub(super) fn has_several_servers(&self) -> bool {
        self.union.as_ref().is_some_and(|union| union.is_several())
    }

    /// The error, with the name of that server if there are several.
    pub(super) fn name_server(&self, link: LinkId, error: ProxyError) -> ProxyError {
        match &self.union {
            Some(union) => union.name_server(link, error),
            None => error,
        }
    }

    /// Lets the union deal with an input, and does what it says.
    pub(super) fn apply_to_union(&mut self, input: UnionInput) {
        let Some(union) = &mut self.union else { return };
        let mut context = UnionContext {
            now: self.now,
            server_wait: self.limits.server_wait,
            message_size: self.limits.message_size,
            session: &self.name,
            generation: self.shared.as_ref().map_or(1, |shared| shared.generation),
            expose_stderr: self.expose_stderr,
            numbers: &mut self.pending.numbers,
            links: &mut self.links,
        };
        for output in union.apply(input, &mut context) {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: UnionOutput) {
        match output {
            UnionOutput::Forward { number, link, frame, edit, shape } => {
                if let Some(request) = self.pending.client_request_mut(number) {
                    request.shape = shape;
                }
                self.forward(number, link, frame, edit);
            }
            UnionOutput::Send { link, wire, purpose } => self.effects.push(Effect::ToServer { link, wire, purpose }),
            UnionOutput::Respond { number, result, permit } => {
                let Some(request) = self.take_client_request(number) else { return };
                let Some(id) = &request.id else { return };
                let wire = crate::frame::response(id, &result).with_permit(permit);
                let (limit, size) = (self.limits.message_size, wire.len());
                if size > limit {
                    self.respond_with_error(request, &ProxyError::MessageTooLarge { limit, size });
                } else {
                    self.respond_to_client(request, wire, Outcome::Result);
                }
            }
            UnionOutput::Relay { number, mut frame } => {
                let Some(request) = self.take_client_request(number) else { return };
                let wire = match &request.id {
                    Some(id) => frame.splice().id(id).finish(),
                    None => frame.splice().finish(),
                };
                let wire = frame.hand_over(wire);
                self.respond_to_client(request, wire, Outcome::of(&frame));
            }
            UnionOutput::Open { number, result, version } => {
                if let Some(shared) = &mut self.shared {
                    shared.merged_result = kept_result(result.as_bytes());
                }
                let Some(request) = self.take_client_request(number) else { return };
                let Some(id) = &request.id else { return };
                let wire = crate::frame::response(id, &result);
                self.client_is_ready(request.client, number, Some(version));
                self.respond_to_client(request, wire, Outcome::Result);
            }
            UnionOutput::Fail { number, error } => {
                if let Some(request) = self.take_client_request(number) {
                    self.respond_with_error(request, &error);
                }
            }
            UnionOutput::Notify { link, wire } => self.notify(link, wire, &Audience::All),
            UnionOutput::HandshakeAnswered { link, ready } => {
                self.effects.push(Effect::HandshakeAnswered { link, ready });
            }
            UnionOutput::Warn { link, text } => self.effects.push(Effect::Warn { link, text }),
            UnionOutput::End(exit) => self.end(EndReason::from_exit(exit)),
        }
    }
}
