//! A link over streamable HTTP (2025-11-25, basic/transports, "Streamable HTTP").
//!
//! One loop takes the session's messages in turn and spawns a task for each: calls run side by side, and the next
//! message waits until the one before it has been sent ([`SendGate`]). All tasks end with the loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use super::call::{CallEnd, HANDSHAKE_TIMEOUT, HttpCall, RefusedInitialize, failure_text};
use super::input::LinkInput;
use super::link::HttpLink;
use super::position::StreamPosition;
use super::random;
use super::reader::{self, EventReader};
use super::reconnect::ReconnectPace;
use super::rules::ReplyKind;
use super::send_gate::{ACCEPT_WAIT, SendGate, SentSignal, WRITE_WAIT};
use crate::backend::panics;
use crate::link::{LinkExit, MessageToServer, Purpose, RequestFailure};

/// How long the first message behind the handshake waits for the stream of the server's own messages to open: most
/// servers drop such messages while there is no stream.
const OWN_STREAM_WAIT: Duration = Duration::from_millis(300);
/// How long the stream of a cancelled call is read on.
const READ_ON_AFTER_CANCEL: Duration = Duration::from_secs(1);
/// How long a link that has to end waits for the response to `initialize`, with which there is a session to be deleted.
/// When that time is over, [`HttpLink::handshake`] goes on waiting in a task of its own.
const ABANDONED_HANDSHAKE_WAIT: Duration = Duration::from_secs(2);

/// How the loop of a link ended.
pub(super) enum StreamableEnd {
    /// The link is over.
    LinkOver,
    /// The server seems to speak HTTP+SSE.
    TrySse(Box<RefusedInitialize>),
}

/// How a task of the link ended.
enum TaskEnd {
    CallOver(u64, CallEnd),
    Nothing,
    /// A response to server requests that came on the streams of these calls could not be delivered, and why.
    ResponseUndelivered(Vec<u64>, String),
    /// The call with this number was cancelled.
    Cancelled(u64),
    /// `notifications/initialized` was sent. The signal goes on to the task that opens the server's own stream.
    Initialized(SentSignal),
    SessionLost(LinkExit),
}

/// Carries the messages of a session until the session or the link ends. With `may_be_sse`, a refused `initialize` that
/// may mean HTTP+SSE is given back.
pub(super) async fn run(
    link: &Arc<HttpLink>,
    input: &mut LinkInput,
    first: Option<MessageToServer>,
    may_be_sse: bool,
) -> StreamableEnd {
    let mut tasks =
        LinkTasks { link, may_be_sse, set: JoinSet::new(), calls: HashMap::new(), opening: false, listening: None };
    let mut gate = first.and_then(|first| tasks.begin(first));
    let (stop, stalled) = (input.stop.clone(), input.stalled.clone());
    let exit = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break None,
            Some(done) = tasks.set.join_next() => match done {
                Ok(TaskEnd::CallOver(number, ended)) => {
                    tasks.calls.remove(&number);
                    link.server_requests.forget_call(number);
                    match ended {
                        CallEnd::Done => {}
                        CallEnd::SessionLost(exit) => break Some(exit),
                        CallEnd::TrySse(attempt) => return StreamableEnd::TrySse(attempt),
                    }
                }
                Ok(TaskEnd::Cancelled(number)) => {
                    tasks.end(number);
                }
                Ok(TaskEnd::ResponseUndelivered(calls, why)) => {
                    for number in calls {
                        // The server would wait for that response, and the call for its own, for ever.
                        if tasks.end(number) {
                            let reason = format!("it did not take the response to a request that it made: {why}");
                            link.link_events.failed(number, RequestFailure::Broken { reason });
                        }
                    }
                }
                Ok(TaskEnd::Initialized(sent_signal)) => {
                    if let Some(gate) = &mut gate {
                        gate.until = gate.until.min(Instant::now() + OWN_STREAM_WAIT);
                    }
                    let listening = tasks.set.spawn(hold_own_stream(link.clone(), sent_signal));
                    // There is one such stream for each link, however often a client sends `initialized`.
                    if let Some(before) = tasks.listening.replace(listening) {
                        before.abort();
                    }
                }
                Ok(TaskEnd::SessionLost(exit)) => break Some(exit),
                Err(error) if error.is_panic() => break Some(panics::exit(&link.name, error)),
                Ok(TaskEnd::Nothing) | Err(_) => {}
            },
            () = SendGate::wait(&mut gate), if gate.is_some() => {
                gate = None;
                tasks.opening = false;
            }
            () = stalled.notified() => input.give_way(&*link.link_events),
            message = input.next(), if gate.is_none() => match message {
                Some(message) => gate = tasks.begin(message),
                None => break None,
            },
        }
    };
    if exit.is_none()
        && tasks.opening
        && let Some(gate) = &mut gate
    {
        gate.until = gate.until.min(Instant::now() + ABANDONED_HANDSHAKE_WAIT);
        let _ = timeout_at(gate.until, &mut gate.sent_signal).await;
    }
    tasks.set.shutdown().await;
    match exit {
        Some(exit) => link.link_events.closed(exit),
        None => link.delete().await,
    }
    StreamableEnd::LinkOver
}

struct LinkTasks<'a> {
    link: &'a Arc<HttpLink>,
    may_be_sse: bool,
    set: JoinSet<TaskEnd>,
    calls: HashMap<u64, RunningCall>,
    /// Whether the gate waits for the response to `initialize`.
    opening: bool,
    listening: Option<AbortHandle>,
}

/// A call that is under way.
struct RunningCall {
    task: AbortHandle,
    /// Set when the client has cancelled the call.
    cancelled: Arc<AtomicBool>,
}

impl LinkTasks<'_> {
    /// Sends a message, and returns the gate that the next one waits for.
    fn begin(&mut self, message: MessageToServer) -> Option<SendGate> {
        let link = self.link.clone();
        let (sent_signal, gate) = match message.purpose {
            Purpose::Initialize(_) => SendGate::new(HANDSHAKE_TIMEOUT * 2),
            Purpose::Request(_) => SendGate::new(WRITE_WAIT),
            Purpose::Initialized | Purpose::Cancel(_) | Purpose::Notification | Purpose::Response => {
                SendGate::new(ACCEPT_WAIT)
            }
        };
        match message.purpose {
            Purpose::Initialize(number) => {
                self.opening = true;
                let call = HttpCall::new(link, number, Some(sent_signal), self.may_be_sse);
                self.call(number, call, message, None);
            }
            Purpose::Request(number) => {
                self.call(number, HttpCall::new(link, number, None, false), message, Some(sent_signal));
            }
            Purpose::Initialized | Purpose::Cancel(_) | Purpose::Notification | Purpose::Response => {
                if let Purpose::Cancel(number) = message.purpose
                    && let Some(call) = self.calls.get(&number)
                {
                    call.cancelled.store(true, Ordering::Relaxed);
                }
                self.set.spawn(send_without_response(link, message, sent_signal));
            }
        }
        gate
    }

    /// Aborts a call. Returns whether the call was still running.
    fn end(&mut self, number: u64) -> bool {
        self.link.server_requests.forget_call(number);
        let Some(call) = self.calls.remove(&number) else { return false };
        let is_running = !call.task.is_finished();
        call.task.abort();
        is_running
    }

    fn call(&mut self, number: u64, call: HttpCall, message: MessageToServer, sent_signal: Option<SentSignal>) {
        let cancelled = call.cancelled.clone();
        let task = self.set.spawn(async move { TaskEnd::CallOver(number, call.run(message, sent_signal).await) });
        self.calls.insert(number, RunningCall { task, cancelled });
    }
}

/// Sends a message that has no response.
async fn send_without_response(link: Arc<HttpLink>, message: MessageToServer, sent_signal: SentSignal) -> TaskEnd {
    let MessageToServer { wire, purpose, held, response: _ } = message;
    // The body of the request charges the message from here on.
    drop(held);
    let had_session = link.has_session();
    let mut calls = Vec::new();
    let sent = if matches!(purpose, Purpose::Response) {
        calls = link.server_requests.take_answered(&wire);
        link.send_response(&link.upstream.url, wire).await
    } else {
        link.upstream.send(link.post_without_response(&link.upstream.url, wire)).await
    };
    let reason = match sent {
        Ok(response) if response.status().is_success() => None,
        Ok(response) => {
            let status = response.status();
            if had_session && reader::reply_kind(&response) == ReplyKind::NotFound {
                return TaskEnd::SessionLost(HttpLink::session_lost());
            }
            let said = reader::read_refusal(response).await.excerpt();
            warn!(link = %link.name, status = status.as_u16(), said, ?purpose, "the backend refused a message");
            Some(format!("HTTP status {}: {said}", status.as_u16()))
        }
        Err(failure) => {
            let reason = failure_text(failure);
            warn!(link = %link.name, reason, ?purpose, "a message could not be sent to the backend");
            Some(reason)
        }
    };
    match purpose {
        Purpose::Response if !calls.is_empty() && reason.is_some() => {
            TaskEnd::ResponseUndelivered(calls, reason.unwrap_or_default())
        }
        Purpose::Initialized => TaskEnd::Initialized(sent_signal),
        Purpose::Cancel(number) => {
            drop(sent_signal);
            sleep(READ_ON_AFTER_CANCEL).await;
            TaskEnd::Cancelled(number)
        }
        Purpose::Initialize(_) | Purpose::Request(_) | Purpose::Notification | Purpose::Response => TaskEnd::Nothing,
    }
}

/// Keeps the stream of the server's own messages open for as long as the link lasts (2025-11-25, basic/transports,
/// "Listening for Messages from the Server"). `sent_signal` is dropped when the server has responded to the first GET.
async fn hold_own_stream(link: Arc<HttpLink>, sent_signal: SentSignal) -> TaskEnd {
    let mut sent_signal = Some(sent_signal);
    let mut position = StreamPosition::default();
    let mut pace = ReconnectPace::default();
    // Whether there was such a stream, and whether the server was asked since then if it knows the session.
    let (mut had_stream, mut asked) = (false, false);
    loop {
        let response = link.upstream.send(link.open_stream(&position)).await;
        drop(sent_signal.take());
        pace.failures = pace.failures.saturating_add(1);
        match response {
            Ok(response) => {
                let status = response.status();
                match reader::reply_kind(&response) {
                    ReplyKind::Events => {
                        let mut reader = EventReader::new(
                            response,
                            link.limit,
                            std::mem::take(&mut position),
                            link.link_events.budget(),
                        );
                        let opened_at = Instant::now();
                        let carried = link.deliver_stream(&mut reader, false, |_| {}).await;
                        position = reader.position();
                        pace.ended(reader.progress(), opened_at.elapsed());
                        (had_stream, asked) = (true, false);
                        debug!(link = %link.name, ?carried, "the backend's stream has ended");
                    }
                    // With 404 the server may mean the session, or that it does not keep the position, or the 404 comes
                    // from a gateway. So the GET is repeated without a position, and then the server is asked with a
                    // message.
                    ReplyKind::NotFound if had_stream => {
                        debug!(link = %link.name, "the backend has no such stream any more");
                        if position.id.take().is_none()
                            && !std::mem::replace(&mut asked, true)
                            && link.is_session_forgotten().await
                        {
                            return TaskEnd::SessionLost(HttpLink::session_lost());
                        }
                    }
                    // The server has no such stream.
                    ReplyKind::NotFound | ReplyKind::NotAllowed | ReplyKind::Accepted => return TaskEnd::Nothing,
                    ReplyKind::Refused if status == http::StatusCode::NOT_IMPLEMENTED => return TaskEnd::Nothing,
                    ReplyKind::Json | ReplyKind::Foreign(_) | ReplyKind::Refused => {
                        debug!(link = %link.name, status = status.as_u16(), "the backend gave no stream");
                        // The server may refuse the position, so the next GET goes without one.
                        position.id = position.id.filter(|_| !status.is_client_error());
                    }
                }
            }
            Err(failure) => {
                debug!(link = %link.name, reason = failure_text(failure), "the backend's stream could not be opened");
            }
        }
        sleep(pace.wait(position.retry, random())).await;
    }
}
