//! The handshake with several servers: all are sent the client's `initialize` at once, and the client has one answer.

use std::time::Instant;

use serde_json::Value;

use super::discovery::error_text;
use super::fan_out::LARGEST_KEPT_FRAME;
use super::initialize_merge::InitializeMerge;
use super::{SubRequest, SubRequestKind, Union, UnionContext, UnionOutput, for_one_server};
use crate::error::ProxyError;
use crate::frame::{Frame, Id, Permit, notification};
use crate::link::Purpose;
use crate::mcp;
use crate::session::link_phase::{HandshakeStage, InitializeAnswer, LinkId, LinkPhase, protocol_version};

/// How many times as long as for the others the handshake waits for the first server: a server that is started for the
/// first time may have much to fetch.
const FIRST_SERVER_FACTOR: u32 = 6;

/// The handshake of the session's client with all servers.
#[derive(Debug, Default)]
pub(super) enum Handshake {
    /// The client has not sent `initialize`, or no server has answered it.
    #[default]
    NotBegun,
    Running(RunningHandshake),
    /// The client has its answer.
    Done,
}

/// The client's `initialize` while servers are still to answer it.
#[derive(Debug)]
pub(super) struct RunningHandshake {
    /// The number of the client request.
    request: u64,
    /// The protocol version that the client asks for.
    version: Option<String>,
    /// The results of the servers, by link.
    results: Vec<Option<Value>>,
    until: Instant,
    waits_for: WaitsFor,
}

/// For whom the client's `initialize` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    AllServers,
    FirstServer,
    Nobody,
}

impl Handshake {
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// The number of the client's `initialize`, while it has no response.
    pub(super) fn request(&self) -> Option<u64> {
        match self {
            Self::Running(running) => Some(running.request),
            Self::NotBegun | Self::Done => None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Running(running) => Some(running.until),
            Self::NotBegun | Self::Done => None,
        }
    }
}

impl Union {
    pub(crate) fn handshake_stage(&self) -> HandshakeStage {
        match self.handshake {
            Handshake::NotBegun => HandshakeStage::NotBegun,
            Handshake::Running(_) => HandshakeStage::UnderWay,
            Handshake::Done => HandshakeStage::Done,
        }
    }

    /// Sends the client's `initialize` to every server that is not gone: as it is, but for its id.
    pub(super) fn begin_handshake(&mut self, request: u64, mut frame: Frame, context: &mut UnionContext<'_>) {
        // A server that has not answered the last time was sent `initialize` already, and was waited for.
        let waits_for = if context.links.any_initializing() { WaitsFor::FirstServer } else { WaitsFor::AllServers };
        self.handshake = Handshake::Running(RunningHandshake {
            request,
            version: protocol_version(&frame, "params"),
            results: self.servers.links().map(|_| None).collect(),
            until: context.now + context.server_wait,
            waits_for,
        });
        let permit = frame.take_permit().map(Permit::shared);
        for link in self.servers.links() {
            if context.links.get(link).is_gone() || context.links.get(link).is_initializing() {
                continue;
            }
            context.links.set(link, LinkPhase::Initializing);
            let permit = permit.as_ref().map(|permit| permit());
            let sub_request = SubRequest { link, kind: SubRequestKind::Initialize, due: None };
            self.send_sub_request(link, sub_request, context, |number| {
                for_one_server(&frame, frame.splice().id(&Id::number(number)).finish()).with_permit(permit)
            });
        }
    }

    pub(super) fn handshake_answered(&mut self, link: LinkId, frame: &Frame, context: &mut UnionContext<'_>) {
        if frame.is_error() {
            self.handshake_failed(link, ProxyError::HandshakeRefused(error_text(frame)), context);
            return;
        }
        let Some((answer, result)) = InitializeAnswer::read(frame) else {
            let reason = "the result of `initialize` is not an object".to_owned();
            self.handshake_failed(link, ProxyError::BadAnswer { reason }, context);
            return;
        };
        context.links.set(link, LinkPhase::Ready(answer));
        self.output(UnionOutput::HandshakeAnswered { link, ready: true });
        match &mut self.handshake {
            Handshake::Running(running) => {
                if let Some(slot) = running.results.get_mut(usize::from(link.0)) {
                    *slot = Some(result);
                }
            }
            Handshake::NotBegun | Handshake::Done => self.catch_up(link, context),
        }
    }

    pub(super) fn handshake_failed(&mut self, link: LinkId, error: ProxyError, context: &mut UnionContext<'_>) {
        self.warn(link, format!("the handshake failed: {error}"));
        context.links.set(link, LinkPhase::Refused(error));
        self.output(UnionOutput::HandshakeAnswered { link, ready: false });
    }

    /// The handshake was waited for long enough, once for all servers and once for the first.
    pub(super) fn handshake_tick(&mut self, context: &UnionContext<'_>) {
        let Handshake::Running(running) = &mut self.handshake else { return };
        if running.until <= context.now && running.waits_for == WaitsFor::AllServers && !context.links.any_ready() {
            running.waits_for = WaitsFor::FirstServer;
            running.until += context.server_wait * (FIRST_SERVER_FACTOR - 1);
        }
        if running.until <= context.now {
            running.waits_for = WaitsFor::Nobody;
        }
    }

    /// Answers the client's `initialize` when all servers have answered, or when it was waited long enough: then with
    /// the answers that there are. True if the handshake has ended.
    pub(super) fn end_handshake_if_complete(&mut self, context: &mut UnionContext<'_>) -> bool {
        let Handshake::Running(running) = &self.handshake else { return false };
        let any = context.links.any_ready();
        let more = context.links.any_initializing();
        let waits = match running.waits_for {
            WaitsFor::AllServers => more,
            WaitsFor::FirstServer => more && !any,
            WaitsFor::Nobody => false,
        };
        if waits {
            return false;
        }
        let Handshake::Running(running) = std::mem::take(&mut self.handshake) else { return false };
        if any {
            self.open(running, context);
        } else {
            self.fail(running.request, self.no_server(context));
        }
        self.queue.release_all();
        true
    }

    fn open(&mut self, running: RunningHandshake, context: &UnionContext<'_>) {
        for (link, missing) in self.missing(context) {
            self.warn(link, format!("the session begins without it: {missing}"));
        }
        let mut merge = InitializeMerge::default();
        for (link, result) in self.servers.links().zip(running.results) {
            if let Some(result) = result {
                merge.add(&self.servers.name(link), result);
            }
        }
        let (result, version) = merge.finish(running.version.as_deref(), context.links.any_initializing());
        self.handshake = Handshake::Done;
        self.output(UnionOutput::Open { number: running.request, result, version });
        for link in context.links.ready() {
            self.send_initialized(link);
        }
    }

    /// The servers that are not there, and why.
    fn missing(&self, context: &UnionContext<'_>) -> Vec<(LinkId, ProxyError)> {
        self.servers.links().filter_map(|link| Some((link, self.absence(link, context)?))).collect()
    }

    fn no_server(&self, context: &UnionContext<'_>) -> ProxyError {
        let plain = |error| match error {
            ProxyError::Of { error, .. } => *error,
            error => error,
        };
        let each = self.missing(context);
        // Where other credentials would mend it, the client has to hear of that.
        if let Some((_, error)) = each.iter().find(|(_, error)| error.is_challenge()) {
            return error.clone();
        }
        ProxyError::NoServer(each.into_iter().map(|(link, error)| (self.servers.name(link), plain(error))).collect())
    }

    /// Why nothing can be asked of that server, if so.
    pub(super) fn absence(&self, link: LinkId, context: &UnionContext<'_>) -> Option<ProxyError> {
        if !self.is_several() {
            return None;
        }
        let error = match context.links.get(link) {
            LinkPhase::Ready(_) => return None,
            LinkPhase::New | LinkPhase::Initializing => ProxyError::NotReady,
            LinkPhase::Refused(error) => error.clone(),
            LinkPhase::Gone { exit, answer } => {
                exit.request_error((context.session, context.generation), answer.is_some(), context.expose_stderr)
            }
        };
        Some(self.name_server(link, error))
    }

    /// The end of the handshake, as the client has said it. Servers hear of it once, and those that are ready later
    /// too.
    pub(super) fn client_initialized(&mut self, mut frame: Frame, context: &UnionContext<'_>) {
        // The copy that is kept is small and is kept once, so it takes no permit.
        drop(frame.take_permit());
        let kept = if frame.len() < LARGEST_KEPT_FRAME {
            Frame::parse(frame.bytes().to_vec())
        } else {
            Frame::parse(notification(mcp::INITIALIZED, None).into_bytes())
        };
        let first = self.initialized.is_none();
        self.initialized = kept.ok().map(|kept| kept.with_headers(frame.headers().cloned()));
        if first && self.handshake.is_done() {
            for link in context.links.ready() {
                self.send_initialized(link);
            }
        }
    }

    fn send_initialized(&mut self, link: LinkId) {
        if let Some(frame) = &self.initialized {
            let wire = for_one_server(frame, frame.share().into_wire());
            self.output(UnionOutput::Send { link, wire, purpose: Purpose::Initialized });
        }
    }

    /// A server is ready after the client had its answer: the server is told what it has missed, and the client that
    /// there is more.
    fn catch_up(&mut self, link: LinkId, context: &mut UnionContext<'_>) {
        if self.handshake.is_done() {
            self.send_initialized(link);
        }
        if let Some(frame) = self.logging_level.take() {
            if context.links.get(link).capabilities().logging {
                self.cancel_unheeded(link);
                let sub_request = SubRequest { link, kind: SubRequestKind::Unheeded, due: None };
                self.send_sub_request(link, sub_request, context, |number| {
                    for_one_server(&frame, frame.splice().id(&Id::number(number)).finish())
                });
            }
            self.logging_level = Some(frame);
        }
        self.notify_changes(link, context);
    }
}
