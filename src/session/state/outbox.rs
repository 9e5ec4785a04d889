//! What goes out to the client: its streams, and which of them takes a message.
//!
//! A stream is not a connection: a client may lose the connection and resume the stream on another one
//! (2025-11-25, basic/transports, "Resumability and Redelivery"). So what was sent is kept for a while ([`Replay`]).
//!
//! A session may have had thousands of streams whose messages are still kept, and is asked for its next deadline after
//! every event: nothing here may look through all of them then, hence the sets.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::keeper::Keeper;
use super::replay::{Released, Replay, Resumed};
use super::streams::{Attachment, OpenStreams, StreamId, StreamKind};
use crate::frame::{Id, Wire};
use crate::session::Limits;

/// What a message to a client is. It says who has to be told if the message cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientMessageKind {
    /// The response to these requests of the client.
    Response(SmallVec<[Id; 1]>),
    /// The server request of this number.
    ServerRequest(u64),
    Notification,
}

#[derive(Debug)]
struct ClientStream {
    kind: StreamKind,
    /// The connection, and when it came, counted over the session.
    attachment: Option<(Attachment, u64)>,
    /// Requests whose response goes out here.
    requests: usize,
    /// When the connection was lost; `None` if the session has closed it, or if that is too long ago.
    lost: Option<Instant>,
    /// How many messages of it are kept or remembered.
    kept: usize,
    /// When the connection is checked next for a client that does not read it; `None` where nothing is sent that an
    /// idle client would have to read.
    check_at: Option<Instant>,
}

/// How much later than necessary an old message is dropped, so that a busy session is not woken for each of them.
const SLACK: Duration = Duration::from_secs(1);
/// A table that is larger than this gives back its room when it is empty.
pub(super) const ROOMY: usize = 32;

#[derive(Debug)]
pub(crate) struct Outbox {
    streams: HashMap<StreamId, ClientStream>,
    open: OpenStreams,
    /// The streams whose connections were lost, and that may be resumed.
    lost: BTreeSet<(Instant, StreamId)>,
    replay: Replay,
    /// Number of the newest event. They are counted over the session, so that the numbers of a stream go on growing
    /// even after it was forgotten. 0 is the priming event.
    newest: u64,
    keep: Duration,
    /// How long a client may leave a connection unread.
    stall: Duration,
    /// The connections that are checked for clients that do not read them, by the time of the check.
    checks: BTreeSet<(Instant, StreamId)>,
    /// The stream whose connection is all that the client has.
    own_stream: Option<StreamId>,
    attachments: u64,
    /// When the client's last open stream was lost; `None` while it has one, or never had one.
    absent_since: Option<Instant>,
    /// Whether the consequences of a long absence were drawn already.
    gone: bool,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            streams: HashMap::new(),
            open: OpenStreams::default(),
            lost: BTreeSet::new(),
            replay: Replay::new(limits.replay_bytes, limits.lost_stream),
            newest: 0,
            keep: limits.lost_stream,
            stall: limits.stall,
            checks: BTreeSet::new(),
            own_stream: None,
            attachments: 0,
            absent_since: None,
            gone: false,
        }
    }

    pub(crate) fn attach(&mut self, stream: StreamId, attachment: Attachment, kind: StreamKind, now: Instant) {
        self.attachments += 1;
        if kind.is_session() {
            self.own_stream = Some(stream);
        }
        let fresh = ClientStream { kind, attachment: None, requests: 0, lost: None, kept: 0, check_at: None };
        let entry = self.streams.entry(stream).or_insert(fresh);
        if let Some((_, order)) = entry.attachment.replace((attachment, self.attachments)) {
            self.open.remove(entry.kind, order, stream);
        }
        if let Some(lost) = entry.lost.take() {
            self.lost.remove(&(lost, stream));
        }
        self.open.insert(entry.kind, self.attachments, stream);
        self.absent_since = None;
        self.gone = false;
        self.check_at(stream, kind.is_kept_alive().then_some(now + self.stall));
    }

    /// Sets when the connection of this stream is checked next for a client that does not read it.
    fn check_at(&mut self, stream: StreamId, at: Option<Instant>) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if let Some(before) = std::mem::replace(&mut entry.check_at, at) {
            self.checks.remove(&(before, stream));
        }
        self.checks.extend(at.map(|at| (at, stream)));
    }

    /// The connections that are to be checked now, each once: [`was_read`](Self::was_read) says when they were read
    /// last.
    pub(super) fn due_checks(&mut self, now: Instant) -> Vec<(StreamId, Attachment)> {
        let mut due = Vec::new();
        while self.checks.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, stream)) = self.checks.pop_first()
        {
            self.check_at(stream, None);
            let attachment = self.streams.get(&stream).and_then(|entry| entry.attachment);
            due.extend(attachment.map(|(attachment, _)| (stream, attachment)));
        }
        due
    }

    /// The connection came for more messages last at that time. False if that is so long ago that the client counts as
    /// stalled. A client that has nothing to read comes at every keep-alive, and one that does not read comes no more.
    pub(super) fn was_read(&mut self, stream: StreamId, attachment: Attachment, at: Instant, now: Instant) -> bool {
        let current = self.streams.get(&stream).and_then(|entry| entry.attachment);
        if current.is_none_or(|(current, _)| current != attachment) {
            return true;
        }
        let next = at + self.stall;
        if next > now {
            self.check_at(stream, Some(next));
        }
        next > now
    }

    /// The stream whose connection is all that the client has, where there is one.
    pub(super) fn own_stream(&self) -> Option<StreamId> {
        self.own_stream
    }

    /// Attaches a stream that the client knows up to event `after`.
    pub(super) fn resume(
        &mut self,
        stream: StreamId,
        attachment: Attachment,
        after: u64,
        keeper: &Keeper,
        now: Instant,
    ) -> Resumed {
        // A stream that is forgotten by now goes on as a GET stream: nothing of it is left to be sent again.
        self.attach(stream, attachment, StreamKind::Get, now);
        let resumed = self.replay.resume(stream, after, keeper);
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.kept = entry.kept.saturating_sub(resumed.released);
        }
        resumed
    }

    /// Notes that this connection of the stream is lost, and returns the stream's kind. `None` if another connection
    /// has replaced it before: then nothing is lost.
    pub(crate) fn detach(&mut self, stream: StreamId, attachment: Attachment, now: Instant) -> Option<StreamKind> {
        let entry = self.streams.get_mut(&stream)?;
        let (_, order) = entry.attachment.take_if(|(current, _)| *current == attachment)?;
        let kind = entry.kind;
        entry.lost = Some(now);
        self.lost.insert((now, stream));
        self.open.remove(kind, order, stream);
        self.check_at(stream, None);
        self.note_absence(now);
        self.forget_if_useless(stream);
        Some(kind)
    }

    fn note_absence(&mut self, now: Instant) {
        if self.open.is_empty() {
            self.absent_since.get_or_insert(now);
        }
    }

    /// Removes a stream that has no connection, no request and no kept message.
    fn forget_if_useless(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get(&stream) else { return };
        if entry.attachment.is_some() || entry.requests > 0 || entry.kept > 0 {
            return;
        }
        if let Some(lost) = entry.lost {
            self.lost.remove(&(lost, stream));
        }
        self.streams.remove(&stream);
        if self.streams.is_empty() && self.streams.capacity() > ROOMY {
            self.streams.shrink_to_fit();
        }
    }

    /// Whether there is such a stream, with or without a connection.
    pub(crate) fn knows(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    pub(crate) fn request_began(&mut self, stream: StreamId) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.requests += 1;
        }
    }

    /// Notes that a request on the stream has ended; true if its connection can be closed.
    pub(crate) fn request_ended(&mut self, stream: StreamId, now: Instant) -> bool {
        let Some(entry) = self.streams.get_mut(&stream) else { return false };
        entry.requests = entry.requests.saturating_sub(1);
        self.close_if_done(stream, now)
    }

    /// Detaches the connection of a stream that ends with its requests and has none left; true if there was one.
    pub(crate) fn close_if_done(&mut self, stream: StreamId, now: Instant) -> bool {
        let Some(entry) = self.streams.get_mut(&stream) else { return false };
        if entry.requests > 0 {
            return false;
        }
        let attachment = entry.attachment.take_if(|_| entry.kind.ends_with_its_requests());
        if let Some((_, order)) = attachment {
            self.open.remove(entry.kind, order, stream);
            self.check_at(stream, None);
            self.note_absence(now);
        }
        self.forget_if_useless(stream);
        attachment.is_some()
    }

    /// Numbers and keeps a message for `stream`; gives it back with its number if a connection can take it now.
    pub(crate) fn record(
        &mut self,
        stream: StreamId,
        wire: Wire,
        kind: ClientMessageKind,
        keeper: &Keeper,
        now: Instant,
    ) -> Option<(Option<u64>, Wire)> {
        let entry = self.streams.get_mut(&stream)?;
        let attached = entry.attachment.is_some();
        if !entry.kind.is_resumable() {
            return attached.then_some((None, wire));
        }
        entry.kept += 1;
        self.newest += 1;
        let event = self.newest;
        let released = self.replay.keep(stream, event, &wire, kind, now, keeper);
        self.release(&released);
        attached.then_some((Some(event), wire))
    }

    /// Drops what is kept for clients that resume a stream.
    pub(super) fn drop_kept(&mut self) {
        let released = self.replay.drop_kept();
        self.release(&released);
    }

    fn release(&mut self, released: &Released) {
        for stream in released {
            if let Some(entry) = self.streams.get_mut(stream) {
                entry.kept = entry.kept.saturating_sub(1);
            }
            self.forget_if_useless(*stream);
        }
    }

    /// The stream for a message that belongs to no request: the newest GET stream, or the only one that lasts; else the
    /// newest POST stream.
    pub(crate) fn general_stream(&self) -> Option<StreamId> {
        self.open.lasting.last().or_else(|| self.open.posts.last()).map(|(_, stream)| *stream)
    }

    /// Whether a server's message can go out on this stream now.
    pub(crate) fn carries(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|entry| entry.attachment.is_some() && entry.kind != StreamKind::Single)
    }

    /// Whether a message for this stream reaches its client now, or when the client resumes it. A stream that the
    /// session has closed is not resumed.
    pub(crate) fn will_carry(&self, stream: StreamId) -> bool {
        let lost = |entry: &ClientStream| entry.kind.is_resumable() && entry.lost.is_some();
        self.carries(stream) || self.streams.get(&stream).is_some_and(lost)
    }

    /// Whether the stream lasts longer than the requests on it.
    pub(crate) fn is_lasting(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|entry| !entry.kind.ends_with_its_requests())
    }

    /// Streams lost so long ago that nobody will come back for them; each is named once.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<StreamId> {
        let released = self.replay.expire(now);
        self.release(&released);
        let mut expired = Vec::new();
        while let Some((lost, stream)) = self.lost.first().copied()
            && lost + self.keep <= now
        {
            self.lost.pop_first();
            // A stream whose requests go on is kept for their responses, should its client come back after all.
            if let Some(entry) = self.streams.get_mut(&stream) {
                entry.lost = None;
            }
            self.forget_if_useless(stream);
            expired.push(stream);
        }
        expired
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let lost = self.lost.first().map(|(lost, _)| *lost + self.keep);
        let kept = self.replay.next_deadline().map(|deadline| deadline + SLACK);
        let absent = self.gone_at().filter(|_| !self.gone);
        let check = self.checks.first().map(|(at, _)| *at);
        [lost, kept, absent, check].into_iter().flatten().min()
    }

    /// Detaches all connections, and returns their streams.
    pub(crate) fn detach_all(&mut self) -> Vec<StreamId> {
        let attached = self.streams.iter_mut().filter_map(|(id, stream)| stream.attachment.take().map(|_| *id));
        let mut attached: Vec<_> = attached.collect();
        attached.sort_unstable();
        self.open = OpenStreams::default();
        self.checks.clear();
        attached
    }

    pub(super) fn has_open_stream(&self) -> bool {
        !self.open.is_empty()
    }

    /// A stream that lasts is open: the client listens, even if it asks nothing.
    pub(crate) fn is_listening(&self) -> bool {
        !self.open.lasting.is_empty()
    }

    /// From when on the client counts as gone, if it has no stream now.
    pub(crate) fn gone_at(&self) -> Option<Instant> {
        self.absent_since.map(|since| since + self.keep)
    }

    /// Notes that the client has been absent for too long; true the first time.
    pub(crate) fn note_gone(&mut self) -> bool {
        !std::mem::replace(&mut self.gone, true)
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.replay.bytes()
    }

    #[cfg(test)]
    pub(super) fn newest_event(&self) -> u64 {
        self.newest
    }

    /// How many streams and messages there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.streams.capacity() + self.replay.room()
    }

    #[cfg(test)]
    pub(super) fn stream_count(&self) -> usize {
        self.streams.len()
    }
}
