//! Several servers as one, or one server whose offers are filtered: a pure machine of its own.
//!
//! [`Union::apply`] takes one [`UnionInput`] and answers with [`UnionOutput`]s: forward this request, send that to a
//! server, respond, fail, notify the client, warn. The session (`session/state`) holds a union only where there are
//! several servers or filters. It keeps what belongs to clients and links (request ids, streams, deadlines of
//! requests), and hands on what only the union can decide. [`UnionContext`] is what the union may see of the session.
//! Two kinds of messages pass the union without being its own: the result of a forwarded request, and a server's
//! notification. It reads and rewrites them where the names in them change (`rewrite.rs`).
//!
//! `apply` deals with the input, and then calls `settle`, which restores what always holds: the queued requests that
//! wait for nothing are routed, the handshake that waits for nobody is answered, and so are lists whose parts are all
//! in. A handler never calls another one for that: it only puts a request into the queue, or notes an answer. So there
//! is no recursion, and one place to look at when something is not answered.
//!
//! What a client request may have to wait for:
//!
//! - the handshake (`handshake.rs`): all servers are sent the client's `initialize`, and the client has one answer
//!   (`initialize_merge.rs`);
//! - a fan-out (`fan_out.rs`): a list, or the logging level, is asked of every server, and the answers are merged;
//! - a discovery (`discovery.rs`): the union itself asks for lists to find out which server has what a request names.
//!
//! Each request that the union makes for these stands in one table (`sub_requests.rs`), with the time until which it is
//! waited for. Its number is of the same series as those of client requests, so a server never sees one number twice.

mod closed_link;
mod cursor;
mod directory;
mod discovery;
mod fan_out;
mod handshake;
mod hints;
mod initialize_merge;
mod interface;
mod list;
mod listing;
mod merge_pages;
mod names;
mod queue;
mod request;
mod result;
mod rewrite;
mod route;
mod routing;
mod servers;
mod sub_requests;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::ProxyError;
use crate::frame::{Frame, Permit, Wire, notification};
use crate::link::Purpose;
use crate::mcp;
use crate::session::link_phase::LinkId;

use cursor::ListCursor;
use directory::Directory;
pub(crate) use discovery::error_text;
use fan_out::FanOut;
use handshake::Handshake;
pub(crate) use interface::{Cancellation, Edit, RequestNumbers, UnionContext, UnionInput, UnionOutput};
pub(crate) use list::List;
use queue::RequestQueue;
pub(crate) use result::ResultShape;
pub(crate) use rewrite::Filtered;
pub(crate) use servers::{ConfiguredServer, Servers, UnionMode};
use sub_requests::{SubRequest, SubRequestKind, SubRequests};

/// What is known of one list of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ListKnowledge {
    /// The list was not asked for, or has changed since, or is being asked for: then a [`SubRequestKind::Discovery`] is
    /// open.
    #[default]
    Unknown,
    /// All of the list is in the directory.
    Complete,
    /// The server did not answer, or not with a list.
    Failed,
}

/// Whether all templates of a server were in the directory at some time. Only then are all known that its filter
/// denies: denied templates are never forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TemplateKnowledge {
    #[default]
    NeverComplete,
    OnceComplete,
}

/// What the union knows of the lists of one server.
#[derive(Debug, Default)]
struct ServerLists {
    lists: [ListKnowledge; List::ALL.len()],
    templates: TemplateKnowledge,
}

/// The machine that makes one server of several; see the head of this file.
#[derive(Debug)]
pub(crate) struct Union {
    servers: Arc<Servers>,
    server_lists: Box<[ServerLists]>,
    directory: Directory,
    sub_requests: SubRequests,
    /// By the number of the client request.
    fan_outs: HashMap<u64, FanOut>,
    /// The fan-outs none of whose parts is waited for any more. Empty between inputs.
    complete_fan_outs: Vec<u64>,
    queue: RequestQueue,
    handshake: Handshake,
    /// The client's `notifications/initialized`, for servers that are ready later.
    initialized: Option<Frame>,
    /// The client's last `logging/setLevel`, likewise.
    logging_level: Option<Frame>,
    /// Whether a warning was given of a name that two servers have: one is enough.
    clash_reported: bool,
    outputs: Vec<UnionOutput>,
}

impl Union {
    /// The union of these servers; `None` where there is one server and nothing is filtered.
    pub(crate) fn new(servers: Arc<Servers>) -> Option<Self> {
        if servers.mode() == UnionMode::Plain {
            return None;
        }
        Some(Self {
            server_lists: servers.links().map(|_| ServerLists::default()).collect(),
            servers,
            directory: Directory::default(),
            sub_requests: SubRequests::default(),
            fan_outs: HashMap::new(),
            complete_fan_outs: Vec::new(),
            queue: RequestQueue::default(),
            handshake: Handshake::default(),
            initialized: None,
            logging_level: None,
            clash_reported: false,
            outputs: Vec::new(),
        })
    }

    /// Takes one input, and says what follows from it.
    pub(crate) fn apply(&mut self, input: UnionInput, context: &mut UnionContext<'_>) -> Vec<UnionOutput> {
        let closed = match &input {
            UnionInput::LinkClosed { link, .. } => Some(*link),
            _ => None,
        };
        match input {
            UnionInput::Request { number, frame } => self.queue.push(number, frame),
            UnionInput::Withdrawn { number, cancellation } => self.withdraw(number, &cancellation),
            UnionInput::Notification(frame) => self.client_notification(frame, context),
            UnionInput::Response { link, number, frame } => self.sub_request_answered(link, number, frame, context),
            UnionInput::Failure { link, number, error } => self.sub_request_failed(link, number, error, context),
            UnionInput::LinkClosed { link, error } => self.link_closed(link, &error, context),
            UnionInput::Tick => self.tick(context),
        }
        self.settle(context);
        if let Some(link) = closed {
            self.report_closed(link, context);
        }
        std::mem::take(&mut self.outputs)
    }

    /// Routes every queued request that can be routed, responds to fan-outs that are complete, and ends the handshake
    /// if nobody is waited for.
    fn settle(&mut self, context: &mut UnionContext<'_>) {
        loop {
            // Requests are routed first: a list that goes out may make the directory forget what they wait for.
            while let Some(queued) = self.queue.pop() {
                self.route(queued, context);
            }
            self.finish_fan_outs();
            // The end of the handshake puts the requests that waited for it into the queue.
            if !self.end_handshake_if_complete(context) {
                return;
            }
        }
    }

    /// When [`UnionInput::Tick`] is due next, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.sub_requests.next_due(), self.handshake.due()].into_iter().flatten().min()
    }

    /// Whether there are several servers, rather than one with filters.
    pub(crate) fn is_several(&self) -> bool {
        self.servers.mode() == UnionMode::Several
    }

    /// The error, with the name of that server if there are several.
    pub(crate) fn name_server(&self, link: LinkId, error: ProxyError) -> ProxyError {
        if self.is_several() { error.of(self.servers.name(link)) } else { error }
    }

    /// The client request for which this server was sent the sub-request of this number.
    pub(crate) fn request_of(&self, link: LinkId, number: u64) -> Option<u64> {
        match self.sub_requests.get(link, number)? {
            SubRequestKind::Part { request } => Some(*request),
            SubRequestKind::Initialize => self.handshake.request(),
            SubRequestKind::Discovery { .. } | SubRequestKind::Late { .. } | SubRequestKind::Unheeded => None,
        }
    }

    /// Whether this server was sent a sub-request of this number, and has not answered it.
    pub(crate) fn has_sub_request(&self, link: LinkId, number: u64) -> bool {
        self.sub_requests.get(link, number).is_some()
    }

    /// Whether this server was sent a part of this client request, and has not answered it.
    pub(crate) fn is_asked_for(&self, link: LinkId, request: u64) -> bool {
        self.fan_outs.get(&request).is_some_and(|fan_out| {
            self.sub_requests.parts(fan_out.numbers.clone(), request).any(|(_, asked)| asked == link)
        })
    }

    /// The numbers of all sub-requests that this server has not answered.
    pub(crate) fn numbers_of(&self, link: LinkId) -> impl Iterator<Item = u64> {
        self.sub_requests.of_link(link)
    }

    fn lists_of(&self, link: LinkId) -> Option<&ServerLists> {
        self.server_lists.get(usize::from(link.0))
    }

    fn lists_of_mut(&mut self, link: LinkId) -> Option<&mut ServerLists> {
        self.server_lists.get_mut(usize::from(link.0))
    }

    fn output(&mut self, output: UnionOutput) {
        self.outputs.push(output);
    }

    fn warn(&mut self, link: LinkId, text: String) {
        self.output(UnionOutput::Warn { link, text });
    }

    fn fail(&mut self, number: u64, error: ProxyError) {
        self.output(UnionOutput::Fail { number, error });
    }

    /// Sends a server a request of the union's own, and returns its number.
    fn send_sub_request(
        &mut self,
        link: LinkId,
        sub_request: SubRequest,
        context: &mut UnionContext<'_>,
        wire: impl FnOnce(u64) -> Wire,
    ) -> u64 {
        let number = context.numbers.next();
        let initialize = matches!(sub_request.kind, SubRequestKind::Initialize);
        let purpose = if initialize { Purpose::Initialize(number) } else { Purpose::Request(number) };
        self.sub_requests.insert(number, sub_request);
        self.output(UnionOutput::Send { link, wire: wire(number), purpose });
        number
    }

    /// Withdraws a sub-request: its response is of no use any more, and would cost a place in the table.
    fn cancel_sub_request(&mut self, number: u64, cancellation: &Cancellation) {
        if let Some(sub_request) = self.sub_requests.remove(number) {
            let wire = cancellation.notification(number);
            self.output(UnionOutput::Send { link: sub_request.link, wire, purpose: Purpose::Cancel(number) });
        }
    }

    /// A client request will have no response: what the servers were asked for it is withdrawn.
    fn withdraw(&mut self, number: u64, cancellation: &Cancellation) {
        self.queue.remove(number);
        if self.handshake.request() == Some(number) {
            // Nobody waits for its answer any more, so the session cannot be opened by it.
            self.handshake = Handshake::NotBegun;
            self.queue.release_all();
        }
        let Some(fan_out) = self.fan_outs.remove(&number) else { return };
        let open: Vec<_> = self.sub_requests.parts(fan_out.numbers, number).map(|(part, _)| part).collect();
        for part in open {
            self.cancel_sub_request(part, cancellation);
        }
    }

    fn sub_request_answered(&mut self, link: LinkId, number: u64, frame: Frame, context: &mut UnionContext<'_>) {
        let Some(SubRequest { kind, due, .. }) = self.sub_requests.take(link, number) else { return };
        match kind {
            SubRequestKind::Initialize => self.handshake_answered(link, &frame, context),
            SubRequestKind::Part { request } => self.part_came(request, link, Ok(frame), context),
            SubRequestKind::Discovery { list, page, forwarded } => {
                self.discovered(link, (list, page), forwarded, due, &frame, context);
            }
            SubRequestKind::Late { list, .. } => self.late_part_came(link, list),
            SubRequestKind::Unheeded => {}
        }
    }

    fn sub_request_failed(&mut self, link: LinkId, number: u64, error: ProxyError, context: &mut UnionContext<'_>) {
        let Some(SubRequest { kind, .. }) = self.sub_requests.take(link, number) else { return };
        match kind {
            // The phase of a closed link says so, and not that the server has refused.
            SubRequestKind::Initialize if context.links.get(link).is_gone() => {}
            SubRequestKind::Initialize => self.handshake_failed(link, error, context),
            SubRequestKind::Part { request } => self.part_came(request, link, Err(error), context),
            SubRequestKind::Discovery { list, .. } => self.discovery_failed(link, list, &error),
            SubRequestKind::Late { .. } | SubRequestKind::Unheeded => {}
        }
    }

    fn tick(&mut self, context: &mut UnionContext<'_>) {
        while let Some((number, due)) = self.sub_requests.pop_due(context.now) {
            let link = due.link;
            match due.kind {
                SubRequestKind::Part { request } => self.part_is_late(number, link, request, context),
                SubRequestKind::Discovery { list, .. } => self.discovery_is_late(number, link, list, context),
                // They have no due time.
                SubRequestKind::Initialize | SubRequestKind::Late { .. } | SubRequestKind::Unheeded => {}
            }
        }
        self.handshake_tick(context);
    }

    /// A notification of the client, which goes to all servers that are ready.
    fn client_notification(&mut self, mut frame: Frame, context: &UnionContext<'_>) {
        if frame.method() == Some(mcp::INITIALIZED) {
            self.client_initialized(frame, context);
            return;
        }
        let permit = frame.take_permit().map(Permit::shared);
        for link in context.links.ready() {
            let permit = permit.as_ref().map(|permit| permit());
            let wire = for_one_server(&frame, frame.share().into_wire()).with_permit(permit);
            self.output(UnionOutput::Send { link, wire, purpose: Purpose::Notification });
        }
    }

    /// What a server offers is there now, or is not any more: the client is told which lists to fetch anew.
    fn notify_changes(&mut self, link: LinkId, context: &UnionContext<'_>) {
        for method in context.links.get(link).capabilities().list_changed_methods() {
            self.notify_change(link, method);
        }
    }

    fn notify_change(&mut self, link: LinkId, method: &str) {
        if self.handshake.is_done() {
            self.output(UnionOutput::Notify { link, wire: notification(method, None) });
        }
    }

    /// How many entries all tables have together, but for the directory.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        let handshake = usize::from(self.handshake.due().is_some());
        self.sub_requests.waited_for() + self.fan_outs.len() + self.queue.len() + handshake
    }

    #[cfg(test)]
    pub(crate) fn server_count(&self) -> usize {
        self.server_lists.len()
    }

    #[cfg(test)]
    pub(crate) fn sub_request_count(&self) -> usize {
        self.sub_requests.len()
    }
}

/// Gives `wire`, which was made of `frame` for one server, the client's forwarded headers.
fn for_one_server(frame: &Frame, wire: Wire) -> Wire {
    wire.with_headers(frame.headers().cloned())
}
