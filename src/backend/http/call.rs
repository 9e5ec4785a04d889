//! Makes one call over streamable HTTP. The call is sent as a POST; its response comes as JSON, or on a stream that is
//! resumed when it breaks (2025-11-25, basic/transports, "Sending Messages to the Server", "Resumability and
//! Redelivery").
//!
//! A call is sent once. Whatever happens then, the call has one outcome: its response, or a [`RequestFailure`] that
//! says whether the server may have carried it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, sleep, timeout};

use super::link::HttpLink;
use super::position::StreamPosition;
use super::reader::{self, BodyError, EventReader, StreamItem};
use super::receive::Delivered;
use super::reconnect::{self, ReconnectPace};
use super::responses::{error_with_404, json_rpc_error};
use super::rules::{self, ReplyKind};
use super::send_gate::SentSignal;
use super::upstream::{ClientHeaders, UploadGaveWay};
use crate::backend::delivery;
use crate::frame::{FrameErrorKind, Lost, LostMessage, Permit};
use crate::link::{LinkExit, MessageToServer, RequestFailure};

/// How long a stream is read on behind the response. Most servers end the stream there, and a stream that was read to
/// its end leaves a connection that can be used again.
const READ_ON_AFTER_RESPONSE: Duration = Duration::from_secs(1);
/// How long the response to `initialize` may take once the server has accepted the connection.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(120);

/// A call that is being made, with all that is needed to bring it to its outcome.
pub(super) struct HttpCall {
    pub link: Arc<HttpLink>,
    pub number: u64,
    /// Set if the call is `initialize`, until the handshake is over: its drop lets the next message go.
    pub handshake_over: Option<SentSignal>,
    pub is_handshake: bool,
    /// Whether a refusal of the call may mean that the server speaks HTTP+SSE.
    pub may_be_sse: bool,
    /// Set when the client has cancelled the call: what is under way is still delivered, but its stream is not resumed.
    pub cancelled: Arc<AtomicBool>,
    client_headers: ClientHeaders,
}

/// How a call ended.
pub(super) enum CallEnd {
    /// The session has been told the call's outcome.
    Done,
    /// The server does not know the session any more.
    SessionLost(LinkExit),
    /// The call has no outcome yet: the server may speak HTTP+SSE.
    TrySse(Box<RefusedInitialize>),
}

/// An `initialize` that was refused as a server would refuse it that speaks HTTP+SSE.
pub(super) struct RefusedInitialize {
    pub message: MessageToServer,
    pub number: u64,
    refusal: RequestFailure,
    /// The JSON-RPC error of the refusal, if it had one: the response of the call, if HTTP+SSE does not work either.
    json_rpc_error: Option<Bytes>,
}

impl HttpCall {
    pub(super) fn new(link: Arc<HttpLink>, number: u64, handshake_over: Option<SentSignal>, may_be_sse: bool) -> Self {
        let is_handshake = handshake_over.is_some();
        Self {
            link,
            number,
            handshake_over,
            is_handshake,
            may_be_sse,
            cancelled: Arc::default(),
            client_headers: ClientHeaders::new(),
        }
    }

    /// Sends the call and sees it through to its end. `sent_signal` is dropped when the call has been written.
    pub(super) async fn run(mut self, message: MessageToServer, sent_signal: Option<SentSignal>) -> CallEnd {
        if self.is_handshake {
            self.link.reset_for_handshake().await;
        }
        self.client_headers = self.link.client_headers(&message.wire);
        let MessageToServer { wire, purpose, held, response: _ } = message;
        // The body of the request charges the message from here on.
        drop(held);
        let again = if self.may_be_sse { self.link.copy_for_resend(&wire) } else { None };
        let had_session = self.link.has_session();
        let mut request = self.link.post(&self.link.upstream.url, wire, self.client_headers.clone(), sent_signal);
        request.head_timeout = self.is_handshake.then_some(HANDSHAKE_TIMEOUT);
        let sent =
            if self.is_handshake { self.link.handshake(request).await } else { self.link.upstream.send(request).await };
        let response = match sent {
            Ok(response) => response,
            Err(failure) => return self.fail(failure),
        };
        let status = response.status();
        match reader::reply_kind(&response) {
            ReplyKind::Json => self.read_response(response, Self::read_json).await,
            ReplyKind::Events => self.read_response(response, Self::read_events).await,
            ReplyKind::NotFound if had_session => {
                let body = reader::read_refusal(response).await;
                let Some(answer) = error_with_404(&body, Some(self.number)) else {
                    return CallEnd::SessionLost(HttpLink::session_lost());
                };
                let refusal = RequestFailure::Refused { status: status.as_u16(), reason: body.excerpt() };
                self.end_refused(refusal, Some(answer)).await
            }
            ReplyKind::NotFound | ReplyKind::NotAllowed | ReplyKind::Refused => {
                let body = reader::read_refusal(response).await;
                let json_rpc_error = json_rpc_error(&body, self.number);
                let refusal = RequestFailure::Refused { status: status.as_u16(), reason: body.excerpt() };
                if let Some(wire) = again.filter(|_| rules::may_be_sse(status, json_rpc_error.is_some())) {
                    let message = MessageToServer { wire, purpose, held: None, response: None };
                    let attempt = RefusedInitialize { message, number: self.number, refusal, json_rpc_error };
                    return CallEnd::TrySse(Box::new(attempt));
                }
                self.end_refused(refusal, json_rpc_error).await
            }
            ReplyKind::Accepted => self.fail(RequestFailure::BadAnswer {
                reason: format!("it accepted the call with HTTP status {}, and gave no answer", status.as_u16()),
            }),
            ReplyKind::Foreign(media) => {
                let said = reader::read_refusal(response).await.excerpt();
                self.fail(RequestFailure::BadAnswer {
                    reason: format!("it answered with `{media}` in place of JSON or events: {said}"),
                })
            }
        }
    }

    /// Reads the response with `how`, unless other sessions need the memory of a message that the server does not take.
    async fn read_response(
        &mut self,
        mut response: Response,
        how: impl AsyncFnOnce(&mut Self, Response) -> CallEnd,
    ) -> CallEnd {
        let untaken = response.extensions_mut().remove();
        // Boxed, because the future is large: every move of the task would copy it.
        let reading = Box::pin(self.read_in_time(response, how));
        let Some(UploadGaveWay(gave_way)) = untaken else { return reading.await };
        if let Some(ended) = gave_way.run_until_cancelled(reading).await {
            return ended;
        }
        let reason =
            "it does not read the message, and other sessions needed the memory that the message took".to_owned();
        self.fail(RequestFailure::Broken { reason })
    }

    async fn read_in_time(
        &mut self,
        response: Response,
        how: impl AsyncFnOnce(&mut Self, Response) -> CallEnd,
    ) -> CallEnd {
        if !self.is_handshake {
            return how(self, response).await;
        }
        if let Ok(ended) = timeout(HANDSHAKE_TIMEOUT, how(self, response)).await {
            return ended;
        }
        let reason = format!("it did not answer `initialize` within {} seconds", HANDSHAKE_TIMEOUT.as_secs());
        self.fail(RequestFailure::Broken { reason })
    }

    fn fail(&mut self, failure: RequestFailure) -> CallEnd {
        self.link.link_events.failed(self.number, failure);
        self.handshake_over = None;
        CallEnd::Done
    }

    async fn end_refused(&mut self, refusal: RequestFailure, json_rpc_error: Option<Bytes>) -> CallEnd {
        if let Some(error) = json_rpc_error
            && matches!(self.deliver_for_call(error, None).await, Delivered::Response)
        {
            return CallEnd::Done;
        }
        self.fail(refusal)
    }

    async fn deliver_for_call(&mut self, data: Bytes, grown: Option<Permit>) -> Delivered {
        let handed = self.link.deliver_for_call(data, grown, self.number, self.is_handshake).await;
        if matches!(handed, Delivered::Response) {
            self.handshake_over = None;
        }
        handed
    }

    /// Reads a response that is a JSON body.
    async fn read_json(&mut self, response: Response) -> CallEnd {
        let (body, grown) = match reader::read_body(response, self.link.limit, self.link.link_events.budget()).await {
            Ok(body) => body,
            Err(BodyError::Stalled) => return self.fail(RequestFailure::Stalled),
            Err(BodyError::TooLarge(size)) => return self.fail(RequestFailure::TooLarge { size }),
            Err(BodyError::Cut(reason)) => return self.fail(RequestFailure::Broken { reason }),
        };
        match self.deliver_for_call(body, grown).await {
            Delivered::Response => CallEnd::Done,
            Delivered::Other => {
                self.fail(RequestFailure::BadAnswer { reason: "what came is no answer to this call".to_owned() })
            }
            // A body without a length ends with its connection. Only the JSON in it tells whether the body was
            // complete.
            Delivered::Unreadable(error) if matches!(error.kind, FrameErrorKind::Truncated | FrameErrorKind::Empty) => {
                self.fail(RequestFailure::Broken { reason: "the answer was cut off".to_owned() })
            }
            Delivered::Unreadable(error) => {
                let reason = error.to_string();
                if self.link.deliver_unreadable(error, self.number).await {
                    CallEnd::Done
                } else {
                    self.fail(RequestFailure::BadAnswer { reason })
                }
            }
        }
    }

    /// Reads a response that comes on a stream of events, or on several in turn where the stream breaks.
    async fn read_events(&mut self, response: Response) -> CallEnd {
        let mut reader =
            EventReader::new(response, self.link.limit, StreamPosition::default(), self.link.link_events.budget());
        let mut pace = ReconnectPace::default();
        let mut broken_at = None;
        loop {
            let opened_at = Instant::now();
            let Some(mut reason) = self.deliver_events(&mut reader).await else { return CallEnd::Done };
            if pace.ended(reader.progress(), opened_at.elapsed()) {
                broken_at = None;
            }
            let broken_at = *broken_at.get_or_insert_with(Instant::now);
            let position = reader.position();
            if self.cancelled.load(Ordering::Relaxed) {
                return CallEnd::Done;
            }
            if position.id.is_none() {
                return self.fail(RequestFailure::Broken { reason });
            }
            reader = loop {
                if pace.failures >= reconnect::MAX_RESUMES || broken_at.elapsed() > reconnect::RESUME_PERIOD {
                    reason = format!("{reason}; and its stream could not be resumed");
                    return self.fail(RequestFailure::Broken { reason });
                }
                sleep(pace.wait(position.retry, super::random())).await;
                pace.failures += 1;
                match self.resume_stream(&position).await {
                    ResumeOutcome::Open(response) => {
                        break EventReader::new(response, self.link.limit, position, self.link.link_events.budget());
                    }
                    ResumeOutcome::NotYet(why) => reason = why,
                    ResumeOutcome::Never(why) => return self.fail(RequestFailure::Broken { reason: why }),
                    ResumeOutcome::Lost => return CallEnd::SessionLost(HttpLink::session_lost()),
                }
            };
        }
    }

    async fn resume_stream(&self, position: &StreamPosition) -> ResumeOutcome {
        let response = match self.link.resume_stream(position, &self.client_headers).await {
            Ok(response) => response,
            Err(RequestFailure::Unreachable { reason } | RequestFailure::Broken { reason }) => {
                return ResumeOutcome::NotYet(reason);
            }
            Err(RequestFailure::Refused { status, reason } | RequestFailure::Unauthorized { status, reason, .. }) => {
                return ResumeOutcome::Never(format!(
                    "resuming its stream was refused with HTTP status {status}: {reason}"
                ));
            }
            Err(RequestFailure::TooLarge { .. } | RequestFailure::BadAnswer { .. } | RequestFailure::Stalled) => {
                return ResumeOutcome::Never("its stream could not be resumed".to_owned());
            }
        };
        let status = response.status();
        match reader::reply_kind(&response) {
            ReplyKind::Events => ResumeOutcome::Open(response),
            // With 404 the server may mean the session, or only that it does not keep this place on the stream any
            // more.
            ReplyKind::NotFound if self.link.is_session_forgotten().await => ResumeOutcome::Lost,
            _ if status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429) => {
                ResumeOutcome::NotYet(format!("resuming its stream failed with HTTP status {}", status.as_u16()))
            }
            _ => ResumeOutcome::Never(format!(
                "its stream broke off, and resuming it was refused with HTTP status {}",
                status.as_u16()
            )),
        }
    }

    /// Delivers the messages of a stream until it ends. Returns `None` if the call has its outcome, else how the stream
    /// ended.
    async fn deliver_events(&mut self, reader: &mut EventReader) -> Option<String> {
        loop {
            match self.deliver_next(reader).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(reason) => return Some(reason),
            }
        }
        // The time limit also bounds the wait for memory: messages behind the response are no reason to keep the
        // stream.
        let rest = async { while self.deliver_next(reader).await.is_ok() {} };
        let _ = timeout(READ_ON_AFTER_RESPONSE, rest).await;
        None
    }

    /// Delivers one event. Returns whether the call has its outcome with it, and an error at the end of the stream.
    async fn deliver_next(&mut self, reader: &mut EventReader) -> Result<bool, String> {
        match reader.next().await? {
            Some(StreamItem::Message(data, grown)) => Ok(match self.deliver_for_call(data, grown).await {
                Delivered::Response => true,
                Delivered::Other => false,
                Delivered::Unreadable(error) => self.link.deliver_unreadable(error, self.number).await,
            }),
            Some(StreamItem::Other(..)) => Ok(false),
            Some(StreamItem::Lost(message)) => Ok(self.on_lost_message(message).await),
            None => Err("its stream ended before the answer".to_owned()),
        }
    }

    /// Reports a message that was not kept. Returns whether that message was the call's response, or may have been.
    async fn on_lost_message(&mut self, message: LostMessage) -> bool {
        let LostMessage { id, request, size, why } = &message;
        let answer = !request && id.as_ref().is_none_or(|id| id.as_u64() == Some(self.number));
        if answer {
            self.fail(match why {
                Lost::Oversized => RequestFailure::TooLarge { size: *size },
                Lost::Stalled => RequestFailure::Stalled,
            });
        } else {
            delivery::deliver_lost(message, &*self.link.link_events).await;
        }
        answer
    }
}

enum ResumeOutcome {
    Open(Response),
    /// Another attempt may succeed.
    NotYet(String),
    Never(String),
    Lost,
}

impl RefusedInitialize {
    /// Gives the call its outcome when HTTP+SSE has failed as well, with `sse` as the reason.
    pub(super) async fn fail(self, link: &HttpLink, sse: RequestFailure) {
        if let Some(error) = self.json_rpc_error
            && matches!(link.deliver_for_call(error, None, self.number, true).await, Delivered::Response)
        {
            return;
        }
        let failure = match (self.refusal, sse) {
            // The server wants credentials first. Which transport it speaks may show when it has them.
            (_, failure @ RequestFailure::Unauthorized { .. }) => failure,
            (RequestFailure::Refused { status, reason }, sse) => RequestFailure::Refused {
                status,
                reason: format!(
                    "{reason} (that was streamable HTTP; HTTP+SSE does not work either: {})",
                    failure_text(sse)
                ),
            },
            (refusal, _) => refusal,
        };
        link.link_events.failed(self.number, failure);
    }
}

/// Returns why something failed, as a part of a longer sentence.
pub(super) fn failure_text(failure: RequestFailure) -> String {
    match failure {
        RequestFailure::Unreachable { reason }
        | RequestFailure::Broken { reason }
        | RequestFailure::BadAnswer { reason } => reason,
        RequestFailure::Refused { status, reason } | RequestFailure::Unauthorized { status, reason, .. } => {
            format!("HTTP status {status}: {reason}")
        }
        RequestFailure::TooLarge { size } => format!("{size} bytes are too many"),
        RequestFailure::Stalled => "the rest of its answer did not come".to_owned(),
    }
}
