//! What a server says on a link: found out what it is, and delivered to the session.

use bytes::Bytes;

use super::link::HttpLink;
use super::reader::{EventReader, StreamItem};
use super::responses::{has_id, with_call_id};
use crate::backend::delivery;
use crate::frame::{Frame, FrameError, Id, Incoming, Kind, Permit, split};
use crate::link::LostMessage;

/// The number of no call: the first one is 1.
const NO_CALL: u64 = 0;

impl HttpLink {
    /// Hands on what comes on a stream of no call's own, until it ends. With `answers` the server's answers come there too;
    /// else what cannot be read there is taken for the answer to no call.
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
                    delivery::deliver_parsed(received, size, grown, on, &*self.inlet).await;
                }
                StreamItem::Other(..) => {}
                StreamItem::Lost(message) => {
                    let request = message.request || message.id.is_none() && !answers;
                    delivery::deliver_lost(LostMessage { request, ..message }, &*self.inlet).await;
                }
            }
        }
        Ok(())
    }

    /// Hands on what came for a call, and says what it was.
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
            // With one of them the session fails the call.
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
                frames.iter().flatten().for_each(|frame| self.server_requests.note(frame, call))
            }
            Err(_) => {}
        }
        delivery::deliver_parsed(received, size, grown, Some(call), &*self.inlet).await;
        handed
    }

    /// Hands on that what came for a call is no message. True if that is the call's outcome.
    pub(super) async fn deliver_unreadable(&self, error: FrameError, call: u64) -> bool {
        let answered = error.is_answer_to(call);
        delivery::deliver_parsed(Err(error), 0, None, Some(call), &*self.inlet).await;
        answered
    }
}

/// What came for a call.
pub(super) enum Delivered {
    /// Its answer, alone or among others.
    Response,
    /// Something else.
    Other,
    /// No message, and it was not handed on.
    Unreadable(FrameError),
}
