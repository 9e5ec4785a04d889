//! The requests that the union itself has sent to servers, and that have no response yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use super::List;
use crate::frame::MessageHeaders;
use crate::session::link_phase::LinkId;

/// What a sub-request is for.
#[derive(Debug)]
pub(super) enum SubRequestKind {
    /// The client's `initialize`, for this server.
    Initialize,
    /// A part of the client request of this number, which several servers answer together.
    Part { request: u64 },
    /// A page of a list that the union itself wants to know. `page` is how many pages were asked for before, and
    /// `forwarded` the headers of the client request that needs the list.
    Discovery { list: List, page: usize, forwarded: Option<MessageHeaders> },
    /// A part of a list whose response went out without it. Until then no first page of the list is asked of the
    /// server.
    Late { list: List, until: Instant },
    /// Nobody waits for its response.
    Unheeded,
}

#[derive(Debug)]
pub(super) struct SubRequest {
    pub link: LinkId,
    pub kind: SubRequestKind,
    /// Until when the response is waited for; `None` if nobody waits, or something else says how long.
    pub due: Option<Instant>,
}

/// All sub-requests without a response, by number.
#[derive(Debug, Default)]
pub(super) struct SubRequests {
    open: BTreeMap<u64, SubRequest>,
    /// Those that have a due time. `insert`, `remove` and `forget_due` keep it so.
    by_due: BTreeSet<(Instant, u64)>,
    /// The discovery of each list of each server. `insert` and `remove` keep it so.
    discoveries: BTreeMap<(LinkId, List), u64>,
    /// The newest late part of each list of each server. `wait_no_longer`, `remove` and `drop_late` keep it so.
    late: BTreeMap<(LinkId, List), u64>,
}

impl SubRequests {
    pub(super) fn insert(&mut self, number: u64, sub_request: SubRequest) {
        if let Some(due) = sub_request.due {
            self.by_due.insert((due, number));
        }
        if let SubRequestKind::Discovery { list, .. } = sub_request.kind {
            self.discoveries.insert((sub_request.link, list), number);
        }
        self.open.insert(number, sub_request);
    }

    /// What this server was asked under this number.
    pub(super) fn get(&self, link: LinkId, number: u64) -> Option<&SubRequestKind> {
        self.open.get(&number).filter(|known| known.link == link).map(|known| &known.kind)
    }

    /// Takes out what this server was asked under this number.
    pub(super) fn take(&mut self, link: LinkId, number: u64) -> Option<SubRequest> {
        self.get(link, number)?;
        self.remove(number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<SubRequest> {
        let sub_request = self.open.remove(&number)?;
        if let Some(due) = sub_request.due {
            self.by_due.remove(&(due, number));
        }
        let index = match sub_request.kind {
            SubRequestKind::Discovery { list, .. } => Some((&mut self.discoveries, list)),
            SubRequestKind::Late { list, .. } => Some((&mut self.late, list)),
            _ => None,
        };
        if let Some((index, list)) = index
            && index.get(&(sub_request.link, list)) == Some(&number)
        {
            index.remove(&(sub_request.link, list));
        }
        Some(sub_request)
    }

    fn forget_due(&mut self, number: u64) {
        if let Some(due) = self.open.get_mut(&number).and_then(|known| known.due.take()) {
            self.by_due.remove(&(due, number));
        }
    }

    /// The sub-request stays open, but from now on nobody waits for its response. Of the late parts of one list of one
    /// server only the newest is remembered.
    pub(super) fn wait_no_longer(&mut self, number: u64, kind: SubRequestKind) {
        self.forget_due(number);
        let Some(known) = self.open.get_mut(&number) else { return };
        let late = match kind {
            SubRequestKind::Late { list, .. } => self.late.insert((known.link, list), number),
            _ => None,
        };
        known.kind = kind;
        if let Some(before) = late {
            self.open.remove(&before);
        }
    }

    /// The parts of this client request that have no response yet, in order. Their numbers are in that range.
    pub(super) fn parts(&self, numbers: Range<u64>, request: u64) -> impl Iterator<Item = (u64, LinkId)> {
        let is_part =
            move |kind: &SubRequestKind| matches!(kind, SubRequestKind::Part { request: of } if *of == request);
        let parts = self.open.range(numbers).filter(move |(_, known)| is_part(&known.kind));
        parts.map(|(number, known)| (*number, known.link))
    }

    pub(super) fn of_link(&self, link: LinkId) -> impl Iterator<Item = u64> {
        self.open.iter().filter(move |(_, known)| known.link == link).map(|(number, _)| *number)
    }

    /// Whether this list of this server is being asked for.
    pub(super) fn is_discovering(&self, link: LinkId, list: List) -> bool {
        self.discoveries.contains_key(&(link, list))
    }

    /// The late part of this list of this server, and until when no first page of the list is asked of it.
    pub(super) fn late(&self, link: LinkId, list: List) -> Option<(u64, Instant)> {
        let number = *self.late.get(&(link, list))?;
        match self.open.get(&number)?.kind {
            SubRequestKind::Late { until, .. } => Some((number, until)),
            _ => None,
        }
    }

    /// Forgets the late parts of this server.
    pub(super) fn drop_late(&mut self, link: LinkId) {
        for list in List::ALL {
            if let Some(number) = self.late.remove(&(link, list)) {
                self.open.remove(&number);
            }
        }
    }

    /// The sub-requests to this server whose responses nobody waits for.
    pub(super) fn unheeded(&self, link: LinkId) -> Vec<u64> {
        let unheeded = |known: &SubRequest| known.link == link && matches!(known.kind, SubRequestKind::Unheeded);
        self.open.iter().filter(|(_, known)| unheeded(known)).map(|(number, _)| *number).collect()
    }

    /// Names a sub-request whose due time has come, each once.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(u64, &SubRequest)> {
        let (_, number) = self.by_due.first().copied().filter(|(due, _)| *due <= now)?;
        self.forget_due(number);
        self.open.get(&number).map(|known| (number, known))
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// How many have a response that something waits for.
    #[cfg(test)]
    pub(super) fn waited_for(&self) -> usize {
        let waited_for =
            |kind: &SubRequestKind| !matches!(kind, SubRequestKind::Late { .. } | SubRequestKind::Unheeded);
        self.open.values().filter(|known| waited_for(&known.kind)).count()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}
