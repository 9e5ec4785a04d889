//! Results and notifications that pass the union on their way to the client: what they name is noted, and what the
//! client knows under another name is rewritten.

use std::ops::Range;

use super::directory::Source;
use super::listing::filtered;
use super::queue::ListsAsked;
use super::request::uri_of_notification;
use super::result::{named_in_result, task_of_notification};
use super::{Edit, List, ResultShape, Union};
use crate::error::ProxyError;
use crate::frame::{Frame, quoted, string};
use crate::mcp;
use crate::session::link_phase::LinkId;

/// The notification is about something that is filtered, and is not passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filtered;

impl Union {
    /// Reads the response to a forwarded request, and says what has to change in it on its way to the client.
    pub(crate) fn rewrite_result(
        &mut self,
        link: LinkId,
        shape: ResultShape,
        frame: &Frame,
    ) -> Result<Vec<Edit>, ProxyError> {
        match shape {
            // With several servers a list is a fan-out, and never forwarded.
            ResultShape::List(list) if !self.is_several() && !frame.is_error() => self.cut_filtered(link, list, frame),
            ResultShape::Plain | ResultShape::List(_) => Ok(Vec::new()),
            _ if !self.is_several() => Ok(Vec::new()),
            ResultShape::Task | ResultShape::Content | ResultShape::Messages | ResultShape::Contents => {
                let named = named_in_result(frame, shape);
                self.note_task(link, named.task);
                Ok(self.rewrite_uris(link, named.uris, frame))
            }
        }
    }

    /// Cuts filtered entries out of a list.
    fn cut_filtered(&self, link: LinkId, list: List, frame: &Frame) -> Result<Vec<Edit>, ProxyError> {
        if self.servers.allows_all(link, list) {
            return Ok(Vec::new());
        }
        let cuts = filtered(list, frame, |own| self.servers.allows(link, list, own)).ok_or_else(|| {
            // A list that cannot be filtered is not passed on.
            ProxyError::BadAnswer { reason: format!("there is no `{}` in it, or more than one", list.member()) }
        })?;
        Ok(cuts.into_iter().map(|at| (at, Vec::new())).collect())
    }

    fn note_task(&mut self, link: LinkId, id: Option<String>) {
        if let Some(id) = id {
            self.directory.add(List::Tasks, &id, link, Source::Mentioned);
        }
    }

    fn rewrite_uris(&mut self, link: LinkId, spans: Vec<Range<usize>>, frame: &Frame) -> Vec<Edit> {
        let mut edits = Vec::new();
        for at in spans {
            let Some(own) = string(frame.bytes(), at.clone()) else { continue };
            if let Some(full) = self.note_uri(link, &own) {
                edits.push((at, quoted(&full)));
            }
        }
        edits
    }

    /// Notes that this server has such a resource. Returns what the client calls the resource, if that is something
    /// else.
    fn note_uri(&mut self, link: LinkId, own: &str) -> Option<String> {
        let full = self.servers.full_name(List::Resources, link, own);
        if full != own {
            // The name of the server is in it, so there is no need to remember it. Filtered URIs are rewritten too:
            // without the name they might be another server's.
            return Some(full.into_owned());
        }
        if self.servers.allows(link, List::Resources, own) {
            self.directory.add(List::Resources, own, link, Source::Mentioned);
        }
        None
    }

    /// Reads a notification of a server, and says what has to change in it on its way to the client.
    pub(crate) fn rewrite_notification(&mut self, link: LinkId, frame: &Frame) -> Result<Option<Edit>, Filtered> {
        match frame.method().unwrap_or_default() {
            mcp::TOOLS_LIST_CHANGED => self.forget_lists(link, &[List::Tools]),
            mcp::PROMPTS_LIST_CHANGED => self.forget_lists(link, &[List::Prompts]),
            mcp::RESOURCES_LIST_CHANGED => self.forget_lists(link, &[List::Resources, List::Templates]),
            mcp::TASKS_STATUS if self.is_several() => self.note_task(link, task_of_notification(frame)),
            mcp::RESOURCES_UPDATED => return self.rewrite_update(link, frame),
            _ => {}
        }
        Ok(None)
    }

    fn rewrite_update(&mut self, link: LinkId, frame: &Frame) -> Result<Option<Edit>, Filtered> {
        let Some((own, at)) = uri_of_notification(frame) else {
            // An update that names no resource is passed on, unless it might be about a filtered one.
            let all = |list| self.servers.allows_all(link, list);
            return if all(List::Resources) && all(List::Templates) { Ok(None) } else { Err(Filtered) };
        };
        // No lists are asked for to judge an update. The client has subscribed, and they were asked for then.
        let denied = self.denied_templates(link);
        if self.servers.allows_uri(&self.directory, link, &own, ListsAsked::Already, denied) != Ok(true) {
            return Err(Filtered);
        }
        if !self.is_several() {
            return Ok(None);
        }
        Ok(self.note_uri(link, &own).map(|full| (at, quoted(&full))))
    }
}
