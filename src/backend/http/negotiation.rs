//! Chooses the transport of a link: the configured one, or the one that the server turns out to speak (2025-11-25,
//! basic/transports, "Backwards Compatibility").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::Transport;
use super::call::RefusedInitialize;
use super::input::LinkInput;
use super::link::HttpLink;
use super::sse;
use super::streamable::{self, StreamableEnd};
use super::upstream::Upstream;
use crate::link::{LinkContext, MessageToServer, Purpose, RequestFailure};

/// Runs a link from its first message to its end.
pub(super) async fn run(upstream: Arc<Upstream>, transport: Transport, context: LinkContext) {
    let LinkContext { name, message_size, link_events, outgoing, outgoing_budget, stalled, stop, .. } = context;
    let link = Arc::new(HttpLink::new(upstream, link_events, message_size, name, outgoing_budget));
    let mut input = LinkInput::new(outgoing, stalled, stop);
    let stop = input.stop.clone();
    match transport {
        Transport::Http => drop(streamable::run(&link, &mut input, None, false).await),
        Transport::Sse => run_sse(&link, &mut input, &stop).await,
        Transport::Auto => run_either(&link, &mut input, &stop).await,
    }
}

/// Returns the next message, or `None` if the link has to end.
async fn next(input: &mut LinkInput) -> Option<MessageToServer> {
    let stop = input.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        message = input.next() => message,
    }
}

/// Opens a stream of HTTP+SSE. Returns `None` if the link has to end before the stream is open.
async fn connect(
    link: &HttpLink,
    first: &MessageToServer,
    stop: &CancellationToken,
) -> Option<Result<sse::SseConnection, RequestFailure>> {
    tokio::select! {
        () = stop.cancelled() => None,
        connected = sse::connect(link, first) => Some(connected),
    }
}

async fn run_sse(link: &Arc<HttpLink>, input: &mut LinkInput, stop: &CancellationToken) {
    // A client whose handshake failed may try again.
    while let Some(first) = next(input).await {
        match connect(link, &first, stop).await {
            None => return,
            Some(Ok(connection)) => return sse::run(link, input, connection, first).await,
            Some(Err(failure)) => fail(link, first.purpose, failure),
        }
    }
}

async fn run_either(link: &Arc<HttpLink>, input: &mut LinkInput, stop: &CancellationToken) {
    let mut first = None;
    while first.is_none() && link.upstream.speaks_sse.load(Ordering::Relaxed) {
        let Some(message) = next(input).await else { return };
        match connect(link, &message, stop).await {
            None => return,
            Some(Ok(connection)) => return sse::run(link, input, connection, message).await,
            Some(Err(RequestFailure::Refused { .. } | RequestFailure::BadAnswer { .. })) => {
                // The server spoke HTTP+SSE when the last session opened and does not any more: it was replaced, or
                // upgraded. `initialize` is tried over streamable HTTP.
                link.upstream.speaks_sse.store(false, Ordering::Relaxed);
                first = Some(message);
            }
            Some(Err(failure)) => fail(link, message.purpose, failure),
        }
    }
    loop {
        let attempt = match streamable::run(link, input, first.take(), true).await {
            StreamableEnd::LinkOver => return,
            StreamableEnd::TrySse(attempt) => attempt,
        };
        match connect(link, &attempt.message, stop).await {
            None => return,
            Some(Ok(connection)) => {
                link.upstream.speaks_sse.store(true, Ordering::Relaxed);
                let RefusedInitialize { message, .. } = *attempt;
                return sse::run(link, input, connection, message).await;
            }
            Some(Err(failure)) => attempt.fail(link, failure).await,
        }
    }
}

/// Reports that a message could not be sent. For messages other than calls the session expects no report.
fn fail(link: &HttpLink, purpose: Purpose, failure: RequestFailure) {
    match purpose {
        Purpose::Initialize(call) | Purpose::Request(call) => link.link_events.failed(call, failure),
        Purpose::Initialized | Purpose::Cancel(_) | Purpose::Notification | Purpose::Response => {}
    }
}
