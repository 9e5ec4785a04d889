//! One call over streamable HTTP: it is sent as a POST, and its answer comes as JSON or on a stream, which is taken up again when it
//! breaks (2025-11-25, basic/transports, "Sending Messages to the Server", "Resumability and Redelivery").
//!
//! A call is sent once. Whatever happens then, it has one outcome: its answer, or a [`CallFailure`] that says whether it may
//! have been carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, sleep, timeout};

use super::body::SentSignal;
use super::events::StreamPosition;
use super::link::{Delivered, HttpLink, answer_with_404, explained};
use super::reader::{self, BodyError, EventReader, StreamItem};
use super::rules::{self, ReconnectPace, ReplyKind};
use super::upstream::{ClientHeaders, UploadGaveWay};
use crate::backend::delivery;
use crate::frame::{FrameErrorKind, Lost, Permit};
use crate::link::{CallFailure, LinkExit, LostMessage, Outward};

/// How long a stream is still read behind the answer: most servers end it there, and the connection can be used again.
const AFTER_ANSWER: Duration = Duration::from_secs(1);
/// How long a handshake may take once the server has accepted the connection.
pub(super) const OPENING: Duration = Duration::from_secs(120);

/// One call.
pub(super) struct HttpCall {
    pub link: Arc<HttpLink>,
    pub number: u64,
    /// Whether it is `initialize`; what then waits for its end.
    pub opening: Option<SentSignal>,
    pub is_opening: bool,
    /// Whether it may turn out that the server speaks HTTP+SSE.
    pub may_be_sse: bool,
    /// Set when nobody waits for its answer any more: what is under way is still heard, and nothing else is done for it.
    pub cancelled: Arc<AtomicBool>,
    client_headers: ClientHeaders,
}

/// What a call came to.
pub(super) enum CallEnd {
    /// It has its outcome.
    Done,
    /// The server does not know the session.
    Lost(LinkExit),
    /// The server may speak HTTP+SSE: there is no outcome yet.
    Sse(Box<RefusedInitialize>),
}

/// An `initialize` that was refused in a way that a server of the older transport would.
pub(super) struct RefusedInitialize {
    pub outward: Outward,
    pub number: u64,
    refusal: CallFailure,
    /// The server's own words, as the answer.
    explained: Option<Bytes>,
}

impl HttpCall {
    pub(super) fn new(link: Arc<HttpLink>, number: u64, opening: Option<SentSignal>, may_be_sse: bool) -> Self {
        let is_opening = opening.is_some();
        Self {
            link,
            number,
            opening,
            is_opening,
            may_be_sse,
            cancelled: Arc::default(),
            client_headers: ClientHeaders::new(),
        }
    }

    /// Sends the call and sees it through. `sent_signal` is dropped when it has been written.
    pub(super) async fn run(mut self, outward: Outward, sent_signal: Option<SentSignal>) -> CallEnd {
        if self.is_opening {
            self.link.begin().await;
        }
        self.client_headers = self.link.client_headers(&outward.wire);
        let Outward { wire, purpose, held, response: _ } = outward;
        // From here on the request itself holds what it takes.
        drop(held);
        let again = if self.may_be_sse { self.link.copy(&wire) } else { None };
        let had_session = self.link.has_session();
        let mut request = self.link.post(&self.link.upstream.url, wire, self.client_headers.clone(), sent_signal);
        request.head_timeout = self.is_opening.then_some(OPENING);
        let sent =
            if self.is_opening { self.link.handshake(request).await } else { self.link.upstream.send(request).await };
        let response = match sent {
            Ok(response) => response,
            Err(failure) => return self.fail(failure),
        };
        let status = response.status();
        match reader::reply(&response) {
            ReplyKind::Json => self.read(response, Self::whole).await,
            ReplyKind::Events => self.read(response, Self::follow).await,
            ReplyKind::NotFound if had_session => {
                let body = reader::refusal(response).await;
                let Some(answer) = answer_with_404(&body, Some(self.number)) else {
                    return CallEnd::Lost(HttpLink::lost());
                };
                let refusal = CallFailure::Refused { status: status.as_u16(), reason: body.excerpt() };
                self.refused(refusal, Some(answer)).await
            }
            ReplyKind::NotFound | ReplyKind::NotAllowed | ReplyKind::Refused => {
                let body = reader::refusal(response).await;
                let explained = explained(&body, self.number);
                let refusal = CallFailure::Refused { status: status.as_u16(), reason: body.excerpt() };
                if let Some(wire) = again.filter(|_| rules::may_be_sse(status, explained.is_some())) {
                    let outward = Outward { wire, purpose, held: None, response: None };
                    let attempt = RefusedInitialize { outward, number: self.number, refusal, explained };
                    return CallEnd::Sse(Box::new(attempt));
                }
                self.refused(refusal, explained).await
            }
            ReplyKind::Accepted => self.fail(CallFailure::BadAnswer {
                reason: format!("it accepted the call with HTTP status {}, and gave no answer", status.as_u16()),
            }),
            ReplyKind::Foreign(media) => {
                let said = reader::refusal(response).await.excerpt();
                self.fail(CallFailure::BadAnswer {
                    reason: format!("it answered with `{media}` in place of JSON or events: {said}"),
                })
            }
        }
    }

    /// Reads the answer, which to `initialize` must come within a time.
    async fn read(&mut self, mut response: Response, how: impl AsyncFnOnce(&mut Self, Response) -> CallEnd) -> CallEnd {
        let untaken = response.extensions_mut().remove();
        // Boxed, because it is large: every move of the task's future would copy it.
        let reading = Box::pin(self.read_all(response, how));
        let Some(UploadGaveWay(gave_way)) = untaken else { return reading.await };
        if let Some(ended) = gave_way.run_until_cancelled(reading).await {
            return ended;
        }
        let reason = "it does not take the message, and others needed the memory that it took".to_owned();
        self.fail(CallFailure::Broken { reason })
    }

    async fn read_all(&mut self, response: Response, how: impl AsyncFnOnce(&mut Self, Response) -> CallEnd) -> CallEnd {
        if !self.is_opening {
            return how(self, response).await;
        }
        if let Ok(ended) = timeout(OPENING, how(self, response)).await {
            return ended;
        }
        let reason = format!("it did not answer `initialize` within {} seconds", OPENING.as_secs());
        self.fail(CallFailure::Broken { reason })
    }

    fn fail(&mut self, failure: CallFailure) -> CallEnd {
        self.link.inlet.failed(self.number, failure);
        self.opening = None;
        CallEnd::Done
    }

    async fn refused(&mut self, refusal: CallFailure, explained: Option<Bytes>) -> CallEnd {
        if let Some(error) = explained
            && matches!(self.hand_on(error, None).await, Delivered::Answer)
        {
            return CallEnd::Done;
        }
        self.fail(refusal)
    }

    async fn hand_on(&mut self, data: Bytes, grown: Option<Permit>) -> Delivered {
        let handed = self.link.hand_on(data, grown, self.number, self.is_opening).await;
        if matches!(handed, Delivered::Answer) {
            self.opening = None;
        }
        handed
    }

    /// The answer is a JSON body.
    async fn whole(&mut self, response: Response) -> CallEnd {
        let (body, grown) = match reader::whole(response, self.link.limit, self.link.inlet.budget()).await {
            Ok(body) => body,
            Err(BodyError::Stalled) => return self.fail(CallFailure::Stalled),
            Err(BodyError::TooLarge(size)) => return self.fail(CallFailure::TooLarge { size }),
            Err(BodyError::Cut(reason)) => return self.fail(CallFailure::Broken { reason }),
        };
        match self.hand_on(body, grown).await {
            Delivered::Answer => CallEnd::Done,
            Delivered::Other => {
                self.fail(CallFailure::BadAnswer { reason: "what came is no answer to this call".to_owned() })
            }
            // Whether a body that ends with its connection was all there, only the JSON in it can tell.
            Delivered::Bad(error) if matches!(error.kind, FrameErrorKind::Truncated | FrameErrorKind::Empty) => {
                self.fail(CallFailure::Broken { reason: "the answer was cut off".to_owned() })
            }
            Delivered::Bad(error) => {
                let reason = error.to_string();
                if self.link.hand_on_bad(error, self.number).await {
                    CallEnd::Done
                } else {
                    self.fail(CallFailure::BadAnswer { reason })
                }
            }
        }
    }

    /// The answer comes on a stream of events, or on several in turn.
    async fn follow(&mut self, response: Response) -> CallEnd {
        let mut reader =
            EventReader::new(response, self.link.limit, StreamPosition::default(), self.link.inlet.budget());
        let mut pace = ReconnectPace::default();
        let mut broken_at = None;
        loop {
            let opened_at = Instant::now();
            let Some(mut reason) = self.drain(&mut reader).await else { return CallEnd::Done };
            if pace.ended(reader.progress(), opened_at.elapsed()) {
                broken_at = None;
            }
            let broken_at = *broken_at.get_or_insert_with(Instant::now);
            let position = reader.position();
            if self.cancelled.load(Ordering::Relaxed) {
                return CallEnd::Done;
            }
            if position.id.is_none() {
                return self.fail(CallFailure::Broken { reason });
            }
            reader = loop {
                if pace.failures >= rules::MOST_RESUMES || broken_at.elapsed() > rules::RESUMING {
                    reason = format!("{reason}; and its stream could not be resumed");
                    return self.fail(CallFailure::Broken { reason });
                }
                sleep(pace.wait(position.retry, super::random())).await;
                pace.failures += 1;
                match self.resume(&position).await {
                    ResumeOutcome::Open(response) => {
                        break EventReader::new(response, self.link.limit, position, self.link.inlet.budget());
                    }
                    ResumeOutcome::NotYet(why) => reason = why,
                    ResumeOutcome::Never(why) => return self.fail(CallFailure::Broken { reason: why }),
                    ResumeOutcome::Lost => return CallEnd::Lost(HttpLink::lost()),
                }
            };
        }
    }

    async fn resume(&self, position: &StreamPosition) -> ResumeOutcome {
        let response = match self.link.resume(position, &self.client_headers).await {
            Ok(response) => response,
            Err(CallFailure::Unreachable { reason } | CallFailure::Broken { reason }) => {
                return ResumeOutcome::NotYet(reason);
            }
            Err(CallFailure::Refused { status, reason } | CallFailure::Unauthorized { status, reason, .. }) => {
                return ResumeOutcome::Never(format!(
                    "resuming its stream was refused with HTTP status {status}: {reason}"
                ));
            }
            Err(CallFailure::TooLarge { .. } | CallFailure::BadAnswer { .. } | CallFailure::Stalled) => {
                return ResumeOutcome::Never("its stream could not be resumed".to_owned());
            }
        };
        let status = response.status();
        match reader::reply(&response) {
            ReplyKind::Events => ResumeOutcome::Open(response),
            // The server may know the session, and not this place on one of its streams any more.
            ReplyKind::NotFound if self.link.is_forgotten().await => ResumeOutcome::Lost,
            _ if status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429) => {
                ResumeOutcome::NotYet(format!("resuming its stream failed with HTTP status {}", status.as_u16()))
            }
            _ => ResumeOutcome::Never(format!(
                "its stream broke off, and resuming it was refused with HTTP status {}",
                status.as_u16()
            )),
        }
    }

    /// Hands on what comes on a stream until it ends. `None` if the call has its outcome; else how the stream ended.
    async fn drain(&mut self, reader: &mut EventReader) -> Option<String> {
        loop {
            match self.step(reader).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(reason) => return Some(reason),
            }
        }
        // Nor is there a wait for room for what stands behind the answer.
        let rest = async { while self.step(reader).await.is_ok() {} };
        let _ = timeout(AFTER_ANSWER, rest).await;
        None
    }

    /// Hands on one event. True if the call has its outcome with it; an error at the end of the stream.
    async fn step(&mut self, reader: &mut EventReader) -> Result<bool, String> {
        match reader.next().await? {
            Some(StreamItem::Message(data, grown)) => Ok(match self.hand_on(data, grown).await {
                Delivered::Answer => true,
                Delivered::Other => false,
                Delivered::Bad(error) => self.link.hand_on_bad(error, self.number).await,
            }),
            Some(StreamItem::Other(..)) => Ok(false),
            Some(StreamItem::Lost(message)) => Ok(self.lost(message).await),
            None => Err("its stream ended before the answer".to_owned()),
        }
    }

    /// True if what was not kept was the answer, or may have been.
    async fn lost(&mut self, message: LostMessage) -> bool {
        let LostMessage { id, request, size, why } = &message;
        let answer = !request && id.as_ref().is_none_or(|id| id.as_u64() == Some(self.number));
        if answer {
            self.fail(match why {
                Lost::Oversized => CallFailure::TooLarge { size: *size },
                Lost::Stalled => CallFailure::Stalled,
            });
        } else {
            delivery::lost(message, &*self.link.inlet).await;
        }
        answer
    }
}

enum ResumeOutcome {
    Open(Response),
    /// Another attempt may do.
    NotYet(String),
    Never(String),
    Lost,
}

impl RefusedInitialize {
    /// It was no HTTP+SSE either: the call gets its outcome.
    pub(super) async fn fail(self, link: &HttpLink, sse: CallFailure) {
        if let Some(error) = self.explained
            && matches!(link.hand_on(error, None, self.number, true).await, Delivered::Answer)
        {
            return;
        }
        let failure = match (self.refusal, sse) {
            // It wants credentials: with them it may turn out what it is.
            (_, failure @ CallFailure::Unauthorized { .. }) => failure,
            (CallFailure::Refused { status, reason }, sse) => CallFailure::Refused {
                status,
                reason: format!("{reason} (that was streamable HTTP; HTTP+SSE does not work either: {})", words(sse)),
            },
            (refusal, _) => refusal,
        };
        link.inlet.failed(self.number, failure);
    }
}

/// Why something failed, as a part of a longer sentence.
pub(super) fn words(failure: CallFailure) -> String {
    match failure {
        CallFailure::Unreachable { reason } | CallFailure::Broken { reason } | CallFailure::BadAnswer { reason } => {
            reason
        }
        CallFailure::Refused { status, reason } | CallFailure::Unauthorized { status, reason, .. } => {
            format!("HTTP status {status}: {reason}")
        }
        CallFailure::TooLarge { size } => format!("{size} bytes are too many"),
        CallFailure::Stalled => "the rest of its answer did not come".to_owned(),
    }
}
