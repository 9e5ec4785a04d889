//! What passes by: results and notifications, in which servers name what a client may come back for.

use std::ops::Range;

use super::{Many, Standing};
use crate::error::Fault;
use crate::frame::{Frame, quoted, string};
use crate::session::union::{LinkId, List, Mode, Shape, Told, Welcome, filtered, named_in_result, task_told, uri_told};

/// What is to stand in place of what stands there.
pub(in crate::session::state) type Edit = (Range<usize>, Vec<u8>);

/// It is about what is filtered, and is not passed on.
#[derive(Debug)]
pub(in crate::session::state) struct Filtered;

impl Many {
    /// Looks into the answer to a call, and says what has to change in it on its way to the client.
    pub(in crate::session::state) fn look_into(
        &mut self,
        link: LinkId,
        shape: Shape,
        frame: &Frame,
    ) -> Result<Vec<Edit>, Fault> {
        match (self.mode(), shape) {
            (Mode::Filtered, Shape::List(list)) if !frame.is_error() => self.cut(link, list, frame),
            (Mode::Plain | Mode::Filtered, _) | (Mode::Many, Shape::Plain | Shape::List(_)) => Ok(Vec::new()),
            (Mode::Many, Shape::Task | Shape::Content | Shape::Messages | Shape::Contents) => {
                let named = named_in_result(frame, shape);
                self.see_task(link, named.task);
                Ok(self.see_uris(link, named.uris, frame))
            }
        }
    }

    /// With one server: what it can be asked, for which it is known by its answer to `initialize`.
    pub(in crate::session::state) fn look_into_welcome(&mut self, link: LinkId, frame: &Frame) {
        if self.mode() == Mode::Plain {
            return;
        }
        if let (Some((abilities, _)), Some(member)) = (Welcome::read(frame), self.member_mut(link)) {
            member.abilities = abilities;
            member.standing = Standing::Ready;
        }
    }

    /// What is filtered is cut out of a list.
    fn cut(&self, link: LinkId, list: List, frame: &Frame) -> Result<Vec<Edit>, Fault> {
        if self.servers.allows_all(link, list) {
            return Ok(Vec::new());
        }
        let cuts = filtered(list, frame, |own| self.servers.allows(link, list, own)).ok_or_else(|| {
            // What cannot be filtered is not passed on.
            Fault::BadAnswer { reason: format!("there is no `{}` in it, or more than one", list.member()) }
        })?;
        Ok(cuts.into_iter().map(|at| (at, Vec::new())).collect())
    }

    fn see_task(&mut self, link: LinkId, id: Option<String>) {
        if let Some(id) = id {
            self.table.enter(List::Tasks, &id, link, Told::Seen);
        }
    }

    fn see_uris(&mut self, link: LinkId, spans: Vec<Range<usize>>, frame: &Frame) -> Vec<Edit> {
        let mut edits = Vec::new();
        for at in spans {
            let Some(own) = string(frame.bytes(), at.clone()) else { continue };
            if let Some(full) = self.see_uri(link, &own) {
                edits.push((at, quoted(&full)));
            }
        }
        edits
    }

    /// Notes that this server has such a resource; gives what the client calls it, if that is something else.
    fn see_uri(&mut self, link: LinkId, own: &str) -> Option<String> {
        let full = self.servers.full(List::Resources, link, own);
        if full != own {
            // The name of the server is in it: there is no need to remember it. It goes for what is filtered too: without
            // the name it might be another server's.
            return Some(full.into_owned());
        }
        if self.servers.allows(link, List::Resources, own) {
            self.table.enter(List::Resources, own, link, Told::Seen);
        }
        None
    }

    /// Looks into a notification of a server, and says what has to change in it.
    pub(in crate::session::state) fn look_into_notice(
        &mut self,
        link: LinkId,
        frame: &Frame,
    ) -> Result<Option<Edit>, Filtered> {
        match frame.method().unwrap_or_default() {
            "notifications/tools/list_changed" => self.forget_surveys(link, &[List::Tools]),
            "notifications/prompts/list_changed" => self.forget_surveys(link, &[List::Prompts]),
            "notifications/resources/list_changed" => {
                self.forget_surveys(link, &[List::Resources, List::Templates]);
            }
            "notifications/tasks/status" if self.mode() == Mode::Many => {
                self.see_task(link, task_told(frame));
            }
            "notifications/resources/updated" => {
                let Some((own, at)) = uri_told(frame) else { return self.unclear(link) };
                // With what is known so far of its templates: nothing is asked for this. Who subscribed has asked.
                if self.servers.allows_uri(&self.table, link, &own, true, self.is_blind(link)) != Ok(true) {
                    return Err(Filtered);
                }
                if self.mode() == Mode::Many {
                    return Ok(self.see_uri(link, &own).map(|full| (at, quoted(&full))));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// An update that names no resource: it is passed on, unless it might be about one that is filtered.
    fn unclear(&self, link: LinkId) -> Result<Option<Edit>, Filtered> {
        let all = |list| self.servers.allows_all(link, list);
        if all(List::Resources) && all(List::Templates) { Ok(None) } else { Err(Filtered) }
    }
}
