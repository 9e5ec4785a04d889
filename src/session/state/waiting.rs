//! What waits for a stream that can carry it: messages of the server for a client that has none open.

use std::collections::VecDeque;
use std::time::Instant;

use smallvec::SmallVec;

use super::replay::{OVERHEAD, compact};
use super::{About, Keeper};
use crate::frame::Wire;
use crate::session::union::LinkId;

/// Most messages that wait.
pub(super) const MOST: usize = 1024;

#[derive(Debug)]
pub(super) struct Message {
    pub link: LinkId,
    pub wire: Wire,
    pub about: About,
    until: Instant,
}

/// The messages that wait, oldest first. Whenever a stream is there that could carry them there are none.
#[derive(Debug)]
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    questions: usize,
    bound: usize,
}

impl Waiting {
    pub(super) fn new(bound: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, questions: 0, bound }
    }

    /// Lets a message wait, at the cost of the oldest ones: what had to go is given back.
    pub(super) fn push(
        &mut self,
        link: LinkId,
        wire: &Wire,
        about: About,
        until: Instant,
        keeper: &Keeper,
    ) -> SmallVec<[About; 1]> {
        let mut dropped = SmallVec::new();
        let cost = wire.len() + OVERHEAD;
        // It gets a permit of its own, because that of the server's messages would hold up the server.
        let copy = if cost > self.bound { None } else { keeper.keep(cost, || compact(wire)) };
        let Some(wire) = copy else {
            dropped.push(about);
            return dropped;
        };
        self.bytes += cost;
        self.questions += usize::from(is_question(&about));
        self.messages.push_back(Message { link, wire, about, until });
        while (self.messages.len() > MOST || self.bytes > self.bound)
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.wire.len() + OVERHEAD;
            self.questions -= usize::from(is_question(&oldest.about));
            dropped.push(oldest.about);
        }
        dropped
    }

    pub(super) fn take(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        self.questions = 0;
        std::mem::take(&mut self.messages)
    }

    /// Takes out a question.
    pub(super) fn remove(&mut self, question: u64) {
        self.remove_if(|number, _| number == question);
    }

    /// Takes out the questions that have waited long enough. Notifications go on waiting: they are bounded, and nobody
    /// hangs on them.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.remove_if(|number, until| {
            let overdue = until <= now;
            if overdue {
                numbers.push(number);
            }
            overdue
        });
        numbers
    }

    fn remove_if(&mut self, mut unwanted: impl FnMut(u64, Instant) -> bool) {
        if self.questions == 0 {
            return;
        }
        let Self { messages, bytes, questions, .. } = self;
        messages.retain(|message| match message.about {
            About::Question(number) if unwanted(number, message.until) => {
                *bytes -= message.wire.len() + OVERHEAD;
                *questions -= 1;
                false
            }
            _ => true,
        });
    }

    /// When the first question has waited long enough: they all wait equally long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.questions == 0 {
            return None;
        }
        self.messages.iter().find(|message| is_question(&message.about)).map(|message| message.until)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn is_question(about: &About) -> bool {
    matches!(about, About::Question(_))
}
