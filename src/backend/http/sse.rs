//! A link over HTTP+SSE, the transport of 2024-11-05 (basic/transports, "HTTP with SSE"): one stream for all messages
//! of the server, and an endpoint that takes messages. The stream is the session, and cannot be resumed: its end is the
//! link's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;
use url::Url;

use super::call::{self, failure_text};
use super::input::LinkInput;
use super::link::HttpLink;
use super::position::StreamPosition;
use super::reader::{self, EventReader, StreamItem};
use super::responses::{has_id, json_rpc_error};
use super::rules::{self, ReplyKind};
use super::send_gate::{ACCEPT_WAIT, SendGate, SentSignal, WRITE_WAIT};
use super::upstream::UpstreamRequest;
use crate::backend::panics;
use crate::frame::Kind;
use crate::link::{LinkExit, MessageToServer, Purpose, RequestFailure};

/// How long a server may take to open its stream, and then to send the `endpoint` event.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(15);
/// The number that stands for no handshake under way.
const NO_HANDSHAKE: u64 = u64::MAX;

/// An open stream, and the URL that takes messages.
pub(super) struct SseConnection {
    reader: EventReader,
    endpoint: Url,
}

/// Opens the stream on behalf of the client that sent `first`.
pub(super) async fn connect(link: &HttpLink, first: &MessageToServer) -> Result<SseConnection, RequestFailure> {
    // Remembers the message's credentials, with which the stream is opened.
    link.client_headers(&first.wire);
    let request =
        UpstreamRequest { head_timeout: Some(ENDPOINT_TIMEOUT), ..link.open_stream(&StreamPosition::default()) };
    let response = link.upstream.send(request).await?;
    let status = response.status();
    match reader::reply_kind(&response) {
        ReplyKind::Events => {}
        ReplyKind::Json | ReplyKind::Accepted | ReplyKind::Foreign(_) => {
            return Err(RequestFailure::BadAnswer { reason: "it gave no stream of events".to_owned() });
        }
        ReplyKind::NotFound | ReplyKind::NotAllowed | ReplyKind::Refused => {
            let reason = reader::read_refusal(response).await.excerpt();
            return Err(RequestFailure::Refused { status: status.as_u16(), reason });
        }
    }
    let from = response.url().clone();
    let mut reader = EventReader::new(response, link.limit, StreamPosition::default(), link.link_events.budget());
    let bad = |reason: &str| Err(RequestFailure::BadAnswer { reason: reason.to_owned() });
    let endpoint = match timeout(ENDPOINT_TIMEOUT, reader.next()).await {
        Ok(Ok(Some(StreamItem::Other(kind, said)))) if *kind == *b"endpoint" => rules::endpoint(&from, &said),
        Ok(Ok(Some(_))) => return bad("its stream does not begin with an `endpoint` event"),
        Ok(Ok(None)) => return bad("its stream ended before the `endpoint` event"),
        Ok(Err(reason)) => return bad(&format!("its stream broke off before the `endpoint` event: {reason}")),
        Err(_) => {
            return bad(&format!(
                "its stream did not begin with an `endpoint` event within {} seconds",
                ENDPOINT_TIMEOUT.as_secs()
            ));
        }
    };
    Ok(SseConnection { reader, endpoint: endpoint.map_err(|reason| RequestFailure::BadAnswer { reason })? })
}

/// How a task of the link ended.
enum SseTaskEnd {
    Sent,
    /// The session has been told the outcome of the call with this number.
    CallOver(u64),
    /// The stream has ended, and the link with it.
    StreamOver(String),
}

/// Carries the messages of a session until the session or the stream ends.
pub(super) async fn run(
    link: &Arc<HttpLink>,
    input: &mut LinkInput,
    connection: SseConnection,
    first: MessageToServer,
) {
    let SseConnection { mut reader, endpoint } = connection;
    let endpoint = Arc::new(endpoint);
    let handshake = Arc::new(PendingHandshake::default());
    let mut tasks = JoinSet::new();
    let (own, seen) = (link.clone(), handshake.clone());
    tasks.spawn(async move {
        let ended = own.deliver_stream(&mut reader, true, |frame| seen.on_frame(frame)).await;
        SseTaskEnd::StreamOver(ended.err().unwrap_or_else(|| "its stream ended".to_owned()))
    });
    let begin = |tasks: &mut JoinSet<SseTaskEnd>, message: MessageToServer, deadline: &mut Instant| {
        if let Purpose::Initialize(number) = message.purpose {
            handshake.number.store(number, Ordering::Relaxed);
            *deadline = Instant::now() + call::HANDSHAKE_TIMEOUT;
        }
        let longest = if number_of(message.purpose).is_some() { WRITE_WAIT } else { ACCEPT_WAIT };
        let (sent_signal, gate) = SendGate::new(longest);
        tasks.spawn(post(link.clone(), endpoint.clone(), message, sent_signal));
        gate
    };
    // When the handshake that is under way has to be answered.
    let mut deadline = Instant::now();
    let mut gate = begin(&mut tasks, first, &mut deadline);
    let (stop, stalled) = (input.stop.clone(), input.stalled.clone());
    let exit = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break None,
            Some(done) = tasks.join_next() => match done {
                Ok(SseTaskEnd::StreamOver(reason)) => {
                    let is_open = handshake.is_open.load(Ordering::Relaxed);
                    break Some(if is_open { LinkExit::Lost { reason } } else { LinkExit::Failed { reason } });
                }
                Err(error) if error.is_panic() => break Some(panics::exit(&link.name, error)),
                Ok(SseTaskEnd::CallOver(number)) => drop(handshake.finish(number)),
                Ok(SseTaskEnd::Sent) | Err(_) => {}
            },
            () = sleep_until(deadline), if handshake.is_awaited() => {
                let number = handshake.number.load(Ordering::Relaxed);
                if handshake.finish(number) {
                    let reason = format!("it did not answer `initialize` within {} seconds", call::HANDSHAKE_TIMEOUT.as_secs());
                    link.link_events.failed(number, RequestFailure::Broken { reason });
                }
            }
            () = SendGate::wait(&mut gate), if gate.is_some() => gate = None,
            () = stalled.notified() => input.give_way(&*link.link_events),
            message = input.next(), if gate.is_none() => match message {
                Some(message) => gate = begin(&mut tasks, message, &mut deadline),
                None => break None,
            },
        }
    };
    tasks.shutdown().await;
    if let Some(exit) = exit {
        link.link_events.closed(exit);
    }
}

/// Whether a handshake is under way, and whether one has succeeded.
struct PendingHandshake {
    /// The number of the `initialize` that waits for its answer.
    number: AtomicU64,
    is_open: AtomicBool,
}

impl Default for PendingHandshake {
    fn default() -> Self {
        Self { number: NO_HANDSHAKE.into(), is_open: AtomicBool::new(false) }
    }
}

impl PendingHandshake {
    fn on_frame(&self, frame: &crate::frame::Frame) {
        if !self.is_awaited() || frame.kind() != Kind::Response {
            return;
        }
        let number = self.number.load(Ordering::Relaxed);
        if has_id(frame, number) && self.finish(number) {
            self.is_open.fetch_or(!frame.is_error(), Ordering::Relaxed);
        }
    }

    fn is_awaited(&self) -> bool {
        self.number.load(Ordering::Relaxed) != NO_HANDSHAKE
    }

    /// Notes that the call with this number has its outcome. Returns whether that call was the handshake.
    fn finish(&self, number: u64) -> bool {
        self.number.compare_exchange(number, NO_HANDSHAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn number_of(purpose: Purpose) -> Option<u64> {
    match purpose {
        Purpose::Initialize(number) | Purpose::Request(number) => Some(number),
        Purpose::Initialized | Purpose::Cancel(_) | Purpose::Notification | Purpose::Response => None,
    }
}

/// Sends one message. Its response, if it has one, comes on the stream.
async fn post(
    link: Arc<HttpLink>,
    endpoint: Arc<Url>,
    message: MessageToServer,
    sent_signal: SentSignal,
) -> SseTaskEnd {
    let MessageToServer { wire, purpose, held, response: _ } = message;
    // The body of the request charges the message from here on.
    drop(held);
    let call = number_of(purpose);
    let mut waiting = None;
    let sent = if call.is_some() {
        let client_headers = link.client_headers(&wire);
        link.upstream.send(link.post(&endpoint, wire, client_headers, Some(sent_signal))).await
    } else {
        waiting = Some(sent_signal);
        if matches!(purpose, Purpose::Response) {
            link.send_response(&endpoint, wire).await
        } else {
            link.upstream.send(link.post_without_response(&endpoint, wire)).await
        }
    };
    let failure = match sent {
        Ok(response) if response.status().is_success() => {
            drop(waiting);
            // The body is read to its end, so that the connection can be used again.
            reader::read_refusal(response).await;
            return SseTaskEnd::Sent;
        }
        Ok(response) => {
            let status = response.status().as_u16();
            let body = reader::read_refusal(response).await;
            if let Some((number, error)) = call.and_then(|call| Some((call, json_rpc_error(&body, call)?))) {
                link.deliver_for_call(error, None, number, false).await;
                return SseTaskEnd::CallOver(number);
            }
            RequestFailure::Refused { status, reason: body.excerpt() }
        }
        Err(failure) => failure,
    };
    match call {
        Some(call) => {
            link.link_events.failed(call, failure);
            return SseTaskEnd::CallOver(call);
        }
        None => {
            warn!(link = %link.name, reason = failure_text(failure), ?purpose, "a message could not be sent to the backend");
        }
    }
    SseTaskEnd::Sent
}
