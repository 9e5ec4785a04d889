//! Requests in either direction that have no response yet, and the responses to batches that are not whole yet.
//!
//! Both sides choose their ids freely, so neither side's ids can be used on the other: every request gets a number of
//! the session's own on its way through, and its response finds the way back by that number. A request names its client
//! and its link: only a response that comes from there counts.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

use smallvec::SmallVec;

use super::outbox::ROOMY;
use super::{ClientId, Destination, StreamId};
use crate::frame::{Id, Permit, Wire};
use crate::session::link_phase::LinkId;
use crate::session::union::{RequestNumbers, ResultShape};

/// What sessile itself has to know of a client request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Initialize,
    /// The result is a task: its progress goes on after the response.
    Task,
    /// Sets the log level. This and the next two are told apart only where several clients may be attached.
    LogLevel,
    Subscribe,
    Unsubscribe,
    Other,
}

/// A client request without a response.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub client: ClientId,
    /// The client's own id; `None` where it could not be read: such a request is answered at once, with a null id.
    pub id: Option<Id>,
    /// The stream of the client on which the response goes out.
    pub stream: StreamId,
    /// The link that the request was forwarded on; `None` while it is the union's.
    pub link: Option<LinkId>,
    pub kind: RequestKind,
    /// What its result is made of, where the union has to know.
    pub shape: ResultShape,
    /// The client's progress token.
    pub token: Option<Id>,
    /// The resource that it subscribes to, or no more, or the log level that it sets, where several clients may.
    pub subject: Option<Box<str>>,
    /// The batch that the request is of.
    pub batch: Option<u64>,
    pub deadline: Option<Instant>,
}

impl ClientRequest {
    pub(super) fn new(to: Destination, id: Option<Id>, batch: Option<u64>) -> Self {
        Self {
            client: to.client,
            id,
            stream: to.stream,
            link: None,
            kind: RequestKind::Other,
            shape: ResultShape::Plain,
            token: None,
            subject: None,
            batch,
            deadline: None,
        }
    }

    pub(super) fn destination(&self) -> Destination {
        Destination { client: self.client, stream: self.stream }
    }
}

/// A server request without a response.
#[derive(Debug)]
pub(crate) struct ServerRequest {
    pub link: LinkId,
    /// The server's own id.
    pub id: Id,
    /// The batch that the request is of.
    pub batch: Option<u64>,
    /// The client that is asked: no other can answer.
    pub client: ClientId,
    /// The stream on which the client was asked; `None` while the request waits for one.
    pub stream: Option<StreamId>,
    /// The server's own progress token, where the client was given another in its place.
    pub token: Option<Id>,
}

impl ServerRequest {
    pub(super) fn new(link: LinkId, client: ClientId, id: Id, batch: Option<u64>) -> Self {
        Self { link, id, batch, client, stream: None, token: None }
    }

    /// Where the client was asked, if it was.
    pub(super) fn asked_on(&self) -> Option<Destination> {
        self.stream.map(|stream| Destination { client: self.client, stream })
    }
}

/// The responses to one batch, until all are there: a batch has one reply.
#[derive(Debug)]
struct Batch {
    /// How many responses are missing.
    missing: usize,
    /// Each with the id that it answers.
    parts: Vec<(Option<Id>, Wire)>,
    bytes: usize,
    ids: SmallVec<[Id; 1]>,
    /// The client whose batch it is; `None` for that of a server.
    client: Option<ClientId>,
}

/// How many progress tokens of requests for tasks are remembered after the response.
const TASK_TOKENS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Pending {
    client_requests: HashMap<u64, ClientRequest>,
    /// Of the client requests that have one; empty where there is no request timeout.
    deadlines: BTreeSet<(Instant, u64)>,
    server_requests: HashMap<u64, ServerRequest>,
    batches: HashMap<u64, Batch>,
    /// Progress tokens of requests for tasks that were answered: a task goes on to report progress with them.
    task_tokens: VecDeque<(u64, LinkId, ClientId, Id)>,
    /// The numbers of all requests to servers, also of those that the union makes.
    pub numbers: RequestNumbers,
    last_server_request: u64,
    last_batch: u64,
}

impl Pending {
    pub(crate) fn client_requests_open(&self) -> usize {
        self.client_requests.len()
    }

    pub(crate) fn server_requests_open(&self) -> usize {
        self.server_requests.len()
    }

    /// Enters a client request, and gives the number under which the server gets to know it.
    pub(crate) fn add_client_request(&mut self, request: ClientRequest) -> u64 {
        let number = self.numbers.next();
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, number));
        }
        self.client_requests.insert(number, request);
        number
    }

    pub(crate) fn client_request(&self, number: u64) -> Option<&ClientRequest> {
        self.client_requests.get(&number)
    }

    pub(crate) fn client_request_mut(&mut self, number: u64) -> Option<&mut ClientRequest> {
        self.client_requests.get_mut(&number)
    }

    /// The numbers of the client requests that were forwarded to this server.
    pub(crate) fn numbers_of(&self, link: LinkId) -> impl Iterator<Item = u64> {
        self.client_requests.iter().filter(move |(_, request)| request.link == Some(link)).map(|(number, _)| *number)
    }

    /// The numbers of the client requests that were forwarded to this server, in order.
    pub(crate) fn client_requests_to(&self, link: LinkId) -> Vec<u64> {
        let mut numbers: Vec<_> = self.numbers_of(link).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn take_client_request(&mut self, number: u64) -> Option<ClientRequest> {
        let request = self.client_requests.remove(&number)?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        give_back(&mut self.client_requests);
        Some(request)
    }

    /// The numbers of the requests of this client, in order.
    pub(crate) fn client_requests_of(&self, client: ClientId) -> Vec<u64> {
        let of_client = self.client_requests.iter().filter(|(_, request)| request.client == client);
        let mut numbers: Vec<_> = of_client.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Takes all client requests, in the order in which they came.
    pub(crate) fn take_client_requests(&mut self) -> Vec<ClientRequest> {
        self.deadlines.clear();
        let mut requests: Vec<_> = self.client_requests.drain().collect();
        requests.sort_unstable_by_key(|(number, _)| *number);
        requests.into_iter().map(|(_, request)| request).collect()
    }

    /// The numbers of the client requests whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, number)| *number).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A request for a task was answered; its progress token stays known for a while.
    pub(crate) fn remember_token(&mut self, number: u64, link: LinkId, client: ClientId, token: Id) {
        if self.task_tokens.len() == TASK_TOKENS {
            self.task_tokens.pop_front();
        }
        self.task_tokens.push_back((number, link, client, token));
    }

    /// What the client calls the progress of this request, of which that server may report.
    pub(crate) fn token(&self, number: u64, link: LinkId) -> ProgressToken<'_> {
        if let Some(request) = self.client_requests.get(&number) {
            return match &request.token {
                Some(token) if request.link == Some(link) => ProgressToken::Request(request.destination(), token),
                _ => ProgressToken::Late,
            };
        }
        match self.task_tokens.iter().find(|(known, of, ..)| *known == number && *of == link) {
            Some((_, _, client, token)) => ProgressToken::Task(*client, token),
            None if self.numbers.was_given(number) => ProgressToken::Late,
            None => ProgressToken::Foreign,
        }
    }

    pub(crate) fn add_server_request(&mut self, request: ServerRequest) -> u64 {
        self.last_server_request += 1;
        self.server_requests.insert(self.last_server_request, request);
        self.last_server_request
    }

    pub(crate) fn server_request_mut(&mut self, number: u64) -> Option<&mut ServerRequest> {
        self.server_requests.get_mut(&number)
    }

    pub(crate) fn take_server_request(&mut self, number: u64) -> Option<ServerRequest> {
        let request = self.server_requests.remove(&number)?;
        give_back(&mut self.server_requests);
        Some(request)
    }

    pub(crate) fn server_request_by_id(&self, link: LinkId, server_id: &Id) -> Option<u64> {
        // The newest, where a server was careless enough to use an id twice. Server requests are few: a second index
        // would cost more.
        self.server_requests
            .iter()
            .filter(|(_, request)| request.link == link && request.id == *server_id)
            .map(|(number, _)| *number)
            .max()
    }

    /// Whether this client was asked the server request of this number.
    pub(crate) fn was_asked(&self, client: ClientId, number: u64) -> bool {
        self.server_requests.get(&number).is_some_and(|request| request.client == client && request.stream.is_some())
    }

    /// The server requests that this client is asked, or will be, in order.
    pub(crate) fn server_requests_for(&self, client: ClientId) -> Vec<u64> {
        let for_client = self.server_requests.iter().filter(|(_, request)| request.client == client);
        let mut numbers: Vec<_> = for_client.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The requests of this server, in order.
    pub(crate) fn server_requests_of(&self, link: LinkId) -> Vec<u64> {
        let of_link = self.server_requests.iter().filter(|(_, request)| request.link == link);
        let mut numbers: Vec<_> = of_link.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The server requests that went out on one of these streams, in order.
    pub(crate) fn server_requests_on(&self, streams: &[StreamId]) -> Vec<u64> {
        let mut numbers: Vec<_> = self
            .server_requests
            .iter()
            .filter(|(_, request)| request.stream.is_some_and(|stream| streams.contains(&stream)))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[cfg(test)]
    pub(crate) fn batches_open(&self) -> usize {
        self.batches.len()
    }

    /// How many entries the tables have room for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.client_requests.capacity() + self.server_requests.capacity() + self.batches.capacity()
    }

    /// Opens a batch of that client, or of a server, for `size` responses.
    pub(crate) fn open_batch(&mut self, size: usize, client: Option<ClientId>) -> u64 {
        self.last_batch += 1;
        self.batches.insert(
            self.last_batch,
            Batch { missing: size, parts: Vec::new(), bytes: 0, ids: SmallVec::new(), client },
        );
        self.last_batch
    }

    /// How large the reply to this batch is so far, in bytes.
    pub(crate) fn batch_bytes(&self, number: u64) -> usize {
        self.batches.get(&number).map_or(0, |batch| batch.bytes)
    }

    /// Adds a response to its batch; the last one gives the whole reply, and the ids that it answers.
    pub(crate) fn join_batch(&mut self, number: u64, wire: Wire, id: Option<Id>) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        let batch = self.batches.get_mut(&number)?;
        batch.bytes += wire.len() + 1;
        batch.parts.push((id.clone(), wire));
        batch.ids.extend(id);
        batch.missing -= 1;
        self.complete(number)
    }

    /// One response to the batch will never come, because its request was cancelled.
    pub(crate) fn leave_batch(&mut self, number: u64) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        self.batches.get_mut(&number)?.missing -= 1;
        self.complete(number)
    }

    /// Replaces the responses that wait for the rest of their batch of this client, and take memory that others need.
    pub(crate) fn replace_parts(&mut self, client: ClientId, replace: impl Fn(&Id) -> Wire) {
        for batch in self.batches.values_mut().filter(|batch| batch.client == Some(client)) {
            for (id, wire) in &mut batch.parts {
                if let Some(id) = id
                    && wire.pooled() > 0
                {
                    batch.bytes = batch.bytes.saturating_sub(wire.len());
                    *wire = replace(id);
                    batch.bytes += wire.len();
                }
            }
        }
    }

    fn complete(&mut self, number: u64) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        if self.batches.get(&number)?.missing > 0 {
            return None;
        }
        let mut batch = self.batches.remove(&number)?;
        if batch.parts.is_empty() {
            return None;
        }
        let permits = batch.parts.iter_mut().filter_map(|(_, wire)| wire.take_permit()).reduce(Permit::and);
        let mut whole = Vec::with_capacity(batch.bytes + 1);
        for (position, (_, part)) in batch.parts.iter().enumerate() {
            whole.push(if position == 0 { b'[' } else { b',' });
            for bytes in part.parts() {
                whole.extend_from_slice(bytes);
            }
        }
        whole.push(b']');
        Some((Wire::from(whole).with_permit(permits), batch.ids))
    }
}

/// A table that has become empty need not keep the room of its busiest time.
fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.is_empty() && table.capacity() > ROOMY {
        table.shrink_to_fit();
    }
}

/// What a progress token on a server's notification turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProgressToken<'a> {
    /// That of a client request in flight, with the client's own token.
    Request(Destination, &'a Id),
    /// That of a request for a task which was answered.
    Task(ClientId, &'a Id),
    /// A token of sessile's, whose request is over or never asked for progress: nobody waits for it.
    Late,
    /// No token of sessile's.
    Foreign,
}
