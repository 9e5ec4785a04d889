//! The pending table: what was asked in either direction and has no answer yet.
//!
//! Both sides choose their ids freely, so neither side's ids can be used on the other: every request gets a number of the
//! session's own on its way through, and its answer finds the way back by that number.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

use smallvec::SmallVec;

use super::StreamId;
use super::outbox::ROOMY;
use crate::frame::{Id, Permit, Wire};
use crate::session::union::{LinkId, Shape};

/// What sessile itself has to know of a call's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Initialize,
    /// Its result is a task: its progress goes on after its answer.
    Task,
    Other,
}

/// A client's request that the server has not answered yet.
#[derive(Debug)]
pub(crate) struct Call {
    /// `None` where the id could not be read: such a call is answered at once, with a null id.
    pub client_id: Option<Id>,
    pub stream: StreamId,
    /// The server that it was passed on to; `None` where there is no such one, or not yet: see [`Many`](super::Many).
    pub link: Option<LinkId>,
    pub kind: CallKind,
    /// What its result is made of, where that is of interest.
    pub shape: Shape,
    pub token: Option<Id>,
    pub group: Option<u64>,
    pub deadline: Option<Instant>,
}

/// A server's request that the client has not answered yet.
#[derive(Debug)]
pub(crate) struct Question {
    pub link: LinkId,
    pub server_id: Id,
    pub group: Option<u64>,
    /// The stream that it went out on; `None` while it waits for one.
    pub stream: Option<StreamId>,
    /// The server's own progress token, where the client was given another in its place.
    pub token: Option<Id>,
}

/// The answers to one batch, gathered until they are complete: a batch gets one reply.
#[derive(Debug)]
pub(crate) struct Group {
    left: usize,
    /// Each with the id that it answers.
    parts: Vec<(Option<Id>, Wire)>,
    bytes: usize,
    ids: SmallVec<[Id; 1]>,
}

/// How many tokens of task calls are remembered after their answer.
const TASK_TOKENS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Pending {
    calls: HashMap<u64, Call>,
    by_client_id: HashMap<Id, u64>,
    /// Of the calls that have one; empty where there is no request timeout.
    deadlines: BTreeSet<(Instant, u64)>,
    questions: HashMap<u64, Question>,
    groups: HashMap<u64, Group>,
    /// Progress tokens of task calls that were answered: a task goes on to report progress with them.
    task_tokens: VecDeque<(u64, LinkId, Id)>,
    last_call: u64,
    last_question: u64,
    last_group: u64,
}

impl Pending {
    pub(crate) fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn questions_open(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn has_client_id(&self, id: &Id) -> bool {
        self.by_client_id.contains_key(id)
    }

    /// Enters a call, and gives the number under which the server gets to know it.
    pub(crate) fn add_call(&mut self, call: Call) -> u64 {
        self.last_call += 1;
        if let Some(id) = &call.client_id {
            self.by_client_id.insert(id.clone(), self.last_call);
        }
        if let Some(deadline) = call.deadline {
            self.deadlines.insert((deadline, self.last_call));
        }
        self.calls.insert(self.last_call, call);
        self.last_call
    }

    /// A number for a request that sessile makes itself, out of the same series.
    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.last_call += 1;
        self.last_call
    }

    pub(crate) fn call(&self, number: u64) -> Option<&Call> {
        self.calls.get(&number)
    }

    pub(crate) fn call_mut(&mut self, number: u64) -> Option<&mut Call> {
        self.calls.get_mut(&number)
    }

    /// The numbers of the calls that were passed on to this server.
    pub(crate) fn numbers_of(&self, link: LinkId) -> impl Iterator<Item = u64> {
        self.calls.iter().filter(move |(_, call)| call.link == Some(link)).map(|(number, _)| *number)
    }

    /// The numbers of the calls that were passed on to this server, in order.
    pub(crate) fn calls_of(&self, link: LinkId) -> Vec<u64> {
        let mut numbers: Vec<_> = self.numbers_of(link).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn take_call(&mut self, number: u64) -> Option<Call> {
        let call = self.calls.remove(&number)?;
        if let Some(id) = &call.client_id {
            self.by_client_id.remove(id);
        }
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        give_back(&mut self.calls);
        give_back(&mut self.by_client_id);
        Some(call)
    }

    pub(crate) fn number_of(&self, client_id: &Id) -> Option<u64> {
        self.by_client_id.get(client_id).copied()
    }

    /// The only call in flight of those that `is_asked` is true of, if there is just one.
    pub(crate) fn only_call(&self, is_asked: impl Fn(u64, &Call) -> bool) -> Option<&Call> {
        let mut asked = self.calls.iter().filter(|(number, call)| is_asked(**number, call));
        let (_, only) = asked.next()?;
        asked.next().is_none().then_some(only)
    }

    /// Takes all calls, in the order in which they came.
    pub(crate) fn take_calls(&mut self) -> Vec<Call> {
        self.by_client_id.clear();
        self.deadlines.clear();
        let mut calls: Vec<_> = self.calls.drain().collect();
        calls.sort_unstable_by_key(|(number, _)| *number);
        calls.into_iter().map(|(_, call)| call).collect()
    }

    /// The numbers of the calls whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, number)| *number).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A task call was answered; its token stays known for a while.
    pub(crate) fn remember_token(&mut self, number: u64, link: LinkId, token: Id) {
        if self.task_tokens.len() == TASK_TOKENS {
            self.task_tokens.pop_front();
        }
        self.task_tokens.push_back((number, link, token));
    }

    /// What the client calls the progress of this call, of which that server may report.
    pub(crate) fn token(&self, number: u64, link: LinkId) -> Token<'_> {
        if let Some(call) = self.calls.get(&number) {
            return match &call.token {
                Some(token) if call.link == Some(link) => Token::Call(call.stream, token),
                _ => Token::Late,
            };
        }
        match self.task_tokens.iter().find(|(known, of, _)| *known == number && *of == link) {
            Some((_, _, token)) => Token::Task(token),
            None if number > 0 && number <= self.last_call => Token::Late,
            None => Token::Foreign,
        }
    }

    pub(crate) fn add_question(&mut self, question: Question) -> u64 {
        self.last_question += 1;
        self.questions.insert(self.last_question, question);
        self.last_question
    }

    pub(crate) fn question_mut(&mut self, number: u64) -> Option<&mut Question> {
        self.questions.get_mut(&number)
    }

    pub(crate) fn take_question(&mut self, number: u64) -> Option<Question> {
        let question = self.questions.remove(&number)?;
        give_back(&mut self.questions);
        Some(question)
    }

    pub(crate) fn question_of(&self, link: LinkId, server_id: &Id) -> Option<u64> {
        // The newest, where a server was careless enough to use an id twice. Questions are few: a second index would cost more.
        self.questions
            .iter()
            .filter(|(_, question)| question.link == link && question.server_id == *server_id)
            .map(|(number, _)| *number)
            .max()
    }

    pub(crate) fn all_questions(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.questions.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// The questions of this server, in order.
    pub(crate) fn questions_of(&self, link: LinkId) -> Vec<u64> {
        let of_link = self.questions.iter().filter(|(_, question)| question.link == link);
        let mut numbers: Vec<_> = of_link.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The questions that went out on one of these streams, in order.
    pub(crate) fn questions_on(&self, streams: &[StreamId]) -> Vec<u64> {
        let mut numbers: Vec<_> = self
            .questions
            .iter()
            .filter(|(_, question)| question.stream.is_some_and(|stream| streams.contains(&stream)))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[cfg(test)]
    pub(crate) fn groups_open(&self) -> usize {
        self.groups.len()
    }

    /// How many entries the tables have room for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.calls.capacity() + self.by_client_id.capacity() + self.questions.capacity() + self.groups.capacity()
    }

    /// Opens a group for `size` answers.
    pub(crate) fn open_group(&mut self, size: usize) -> u64 {
        self.last_group += 1;
        self.groups.insert(self.last_group, Group { left: size, parts: Vec::new(), bytes: 0, ids: SmallVec::new() });
        self.last_group
    }

    /// How large the reply of this group is so far, in bytes.
    pub(crate) fn group_bytes(&self, number: u64) -> usize {
        self.groups.get(&number).map_or(0, |group| group.bytes)
    }

    /// Puts one answer into its group; the last one gives the whole reply, and the ids that it answers.
    pub(crate) fn join_group(&mut self, number: u64, wire: Wire, id: Option<Id>) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        let group = self.groups.get_mut(&number)?;
        group.bytes += wire.len() + 1;
        group.parts.push((id.clone(), wire));
        group.ids.extend(id);
        group.left -= 1;
        self.complete(number)
    }

    /// One answer of the group will never come, because its request was cancelled.
    pub(crate) fn leave_group(&mut self, number: u64) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        self.groups.get_mut(&number)?.left -= 1;
        self.complete(number)
    }

    /// Replaces what was gathered for batches of the client and takes memory that others need.
    pub(crate) fn replace_parts(&mut self, replace: impl Fn(&Id) -> Wire) {
        for group in self.groups.values_mut() {
            for (id, wire) in &mut group.parts {
                if let Some(id) = id
                    && wire.pooled() > 0
                {
                    group.bytes = group.bytes.saturating_sub(wire.len());
                    *wire = replace(id);
                    group.bytes += wire.len();
                }
            }
        }
    }

    fn complete(&mut self, number: u64) -> Option<(Wire, SmallVec<[Id; 1]>)> {
        if self.groups.get(&number)?.left > 0 {
            return None;
        }
        let mut group = self.groups.remove(&number)?;
        if group.parts.is_empty() {
            return None;
        }
        let permits = group.parts.iter_mut().filter_map(|(_, wire)| wire.take_permit()).reduce(Permit::and);
        let mut whole = Vec::with_capacity(group.bytes + 1);
        for (position, (_, part)) in group.parts.iter().enumerate() {
            whole.push(if position == 0 { b'[' } else { b',' });
            for bytes in part.parts() {
                whole.extend_from_slice(bytes);
            }
        }
        whole.push(b']');
        Some((Wire::from(whole).with_permit(permits), group.ids))
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
pub(crate) enum Token<'a> {
    /// That of a call in flight, with the client's own token.
    Call(StreamId, &'a Id),
    /// That of a task call which was answered.
    Task(&'a Id),
    /// One of ours, but its call is over or never asked for progress: nobody waits for it.
    Late,
    /// Not one of ours.
    Foreign,
}
