//! Client requests that cannot be routed yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::List;
use super::request::{RequestSubject, read_subject};
use crate::frame::Frame;
use crate::session::link_phase::LinkIds;

/// A queue that is empty keeps room for so many requests. What a slow handshake has taken is given back.
const KEPT_CAPACITY: usize = 32;

/// Whether the servers were asked for the lists that the routing of a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListsAsked {
    NotYet,
    Already,
}

/// A client request that can be routed now.
#[derive(Debug)]
pub(super) struct QueuedRequest {
    pub number: u64,
    pub frame: Frame,
    pub lists_asked: ListsAsked,
}

/// What a client request waits for.
#[derive(Debug)]
enum WaitingFor {
    Handshake,
    /// Discoveries of these lists of these servers.
    Lists {
        links: LinkIds,
        lists: &'static [List],
    },
}

#[derive(Debug)]
struct WaitingRequest {
    frame: Frame,
    waiting_for: WaitingFor,
    /// What the request is about, as its client calls it.
    subject: Option<(List, Arc<str>)>,
}

/// Client requests that wait to be routed: those that can be now, in order, and those that wait for something.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    routable: VecDeque<QueuedRequest>,
    waiting: BTreeMap<u64, WaitingRequest>,
}

impl RequestQueue {
    pub(super) fn push(&mut self, number: u64, frame: Frame) {
        self.routable.push_back(QueuedRequest { number, frame, lists_asked: ListsAsked::NotYet });
    }

    pub(super) fn pop(&mut self) -> Option<QueuedRequest> {
        let queued = self.routable.pop_front();
        if self.routable.is_empty() && self.routable.capacity() > KEPT_CAPACITY {
            self.routable.shrink_to_fit();
        }
        queued
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.routable.retain(|queued| queued.number != number);
        self.waiting.remove(&number);
    }

    pub(super) fn wait_for_handshake(&mut self, number: u64, frame: Frame) {
        self.wait(number, frame, WaitingFor::Handshake);
    }

    pub(super) fn wait_for_lists(&mut self, number: u64, frame: Frame, links: LinkIds, lists: &'static [List]) {
        self.wait(number, frame, WaitingFor::Lists { links, lists });
    }

    fn wait(&mut self, number: u64, frame: Frame, waiting_for: WaitingFor) {
        let subject = subject_of(&frame);
        self.waiting.insert(number, WaitingRequest { frame, waiting_for, subject });
    }

    /// The request can be routed at once, now that the lists are asked for.
    pub(super) fn push_asked(&mut self, number: u64, frame: Frame) {
        self.routable.push_front(QueuedRequest { number, frame, lists_asked: ListsAsked::Already });
    }

    /// The handshake is over: all requests that waited can be routed, in order.
    pub(super) fn release_all(&mut self) {
        for (number, WaitingRequest { frame, .. }) in std::mem::take(&mut self.waiting) {
            self.push(number, frame);
        }
    }

    /// A discovery is over: the requests can be routed that wait for lists none of which `is_asking` is true of.
    pub(super) fn release(&mut self, is_asking: impl Fn(&LinkIds, &[List]) -> bool) {
        let done = |waiting: &WaitingRequest| match &waiting.waiting_for {
            WaitingFor::Handshake => false,
            WaitingFor::Lists { links, lists } => !is_asking(links, lists),
        };
        let released: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| done(waiting)).map(|(number, _)| *number).collect();
        for number in released {
            if let Some(WaitingRequest { frame, .. }) = self.waiting.remove(&number) {
                self.routable.push_back(QueuedRequest { number, frame, lists_asked: ListsAsked::Already });
            }
        }
    }

    /// What requests are about that wait for lists, or have waited and are not routed yet.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (List, Arc<str>)> {
        let waiting = self.waiting.values().filter(|waiting| matches!(waiting.waiting_for, WaitingFor::Lists { .. }));
        let waiting = waiting.filter_map(|waiting| waiting.subject.clone());
        let asked = self.routable.iter().filter(|queued| queued.lists_asked == ListsAsked::Already);
        waiting.chain(asked.filter_map(|queued| subject_of(&queued.frame)))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.routable.capacity()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.routable.len() + self.waiting.len()
    }
}

/// What a request is about, as its client calls it.
fn subject_of(frame: &Frame) -> Option<(List, Arc<str>)> {
    match read_subject(frame) {
        Ok(RequestSubject::Named { list, name, .. }) => Some((list, name.into())),
        Ok(RequestSubject::Uri { uri, .. }) => Some((List::Resources, uri.into())),
        Ok(RequestSubject::Task { id }) => Some((List::Tasks, id.into())),
        _ => None,
    }
}
