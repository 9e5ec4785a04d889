//! Delivers the messages of a server to the session, and finds the responses among them.

use bytes::Bytes;

use super::link::HttpLink;
use super::reader::{EventReader, StreamItem};
use super::responses::{has_id, with_call_id};
use crate::backend::delivery;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, LostMessage, Permit, split};

/// The number of no call, for messages that come on the server's own stream. Calls are numbered from 1.
const NO_CALL: u64 = 0;

impl HttpLink {
    /// Delivers the messages of a stream that belongs to no call, until the stream ends. `answers` is whether responses
    /// come on this stream too (HTTP+SSE); if not, a message that cannot be read is never taken for a response.
    pub(super) async fn deliver_stream(
        &self,
        reader: &mut EventReader,
        answers: bool,
        mut see: impl FnMut(&Frame),
    ) -> Result<(), String> {
        let on = (!answers).then_some(NO_CALL);
        while let Some(event) = reader.next().await? {
            match event {
                StreamItem::Message(data, grown) => {
                    let size = data.len();
                    let received = split(data);
                    match &received {
                        Ok(Incoming::One(frame)) => see(frame),
                        Ok(Incoming::Batch(frames)) => frames.iter().flatten().for_each(&mut see),
                        Err(_) => {}
                    }
                    delivery::deliver_parsed(received, size, grown, on, &*self.link_events).await;
                }
                StreamItem::Other(..) => {}
                StreamItem::Lost(message) => {
                    let request = message.request || message.id.is_none() && !answers;
                    delivery::deliver_lost(LostMessage { request, ..message }, &*self.link_events).await;
                }
            }
        }
        Ok(())
    }

    /// Delivers a message that came for a call, and returns what the message was. `opening` is whether the call is
    /// `initialize`.
    pub(super) async fn deliver_for_call(
        &self,
        data: Bytes,
        grown: Option<Permit>,
        call: u64,
        opening: bool,
    ) -> Delivered {
        let size = data.len();
        let mut received = split(data);
        let id = Id::number(call);
        if let Ok(Incoming::One(frame)) = &received
            && let Some(mended) = with_call_id(frame, &id)
        {
            received = split(mended);
        }
        let answers = |frame: &Frame| frame.kind() == Kind::Response && has_id(frame, call);
        let answer = match &received {
            Ok(Incoming::One(frame)) => answers(frame).then_some(frame),
            Ok(Incoming::Batch(frames)) => frames.iter().flatten().find(|frame| answers(frame)),
            Err(error) => return Delivered::Unreadable(error.clone()),
        };
        let is_unreadable = match &received {
            // The session fails the call when it is given such an entry.
            Ok(Incoming::Batch(frames)) => {
                frames.iter().any(|frame| frame.as_ref().is_err_and(|error| error.is_answer_to(call)))
            }
            _ => false,
        };
        let handed = if answer.is_some() || is_unreadable { Delivered::Response } else { Delivered::Other };
        if let (Some(answer), true) = (answer, opening) {
            self.take_protocol_version(answer);
        }
        match &received {
            Ok(Incoming::One(frame)) => self.server_requests.note(frame, call),
            Ok(Incoming::Batch(frames)) => {
                frames.iter().flatten().for_each(|frame| self.server_requests.note(frame, call));
            }
            Err(_) => {}
        }
        delivery::deliver_parsed(received, size, grown, Some(call), &*self.link_events).await;
        handed
    }

    /// Delivers the error that what came for a call is no message. Returns whether that is the call's outcome.
    pub(super) async fn deliver_unreadable(&self, error: FrameError, call: u64) -> bool {
        let answered = error.is_answer_to(call);
        delivery::deliver_parsed(Err(error), 0, None, Some(call), &*self.link_events).await;
        answered
    }
}

/// Whether a message that came for a call was the call's response.
pub(super) enum Delivered {
    /// The call's response, alone or in a batch.
    Response,
    /// Something else.
    Other,
    /// No message that could be read. Nothing was delivered.
    Unreadable(FrameError),
}
