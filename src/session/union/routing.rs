//! Which server a client request goes to, and what it waits for where that is not known yet.

use super::directory::{ListsKnown, UriForm, UriQuery};
use super::hints::unknown;
use super::queue::{ListsAsked, QueuedRequest};
use super::request::{RequestSubject, read_subject};
use super::route::Route;
use super::{Edit, List, ResultShape, Union, UnionContext, UnionOutput};
use crate::error::ProxyError;
use crate::frame::quoted;
use crate::session::link_phase::{LinkId, LinkIds, LinkPhase};

/// The link of a session that has one server.
const ONLY_LINK: LinkId = LinkId(0);

/// What becomes of a request.
enum Decision {
    /// The request goes to that server, with an edit on the way.
    Forward(LinkId, Option<Edit>),
    /// The request waits until the handshake is over.
    AwaitHandshake,
    /// The request waits until these servers were asked for these lists.
    AwaitLists(LinkIds, &'static [List]),
    BeginHandshake,
    RespondEmpty,
    FanOutList(List, Option<String>),
    FanOutLevel,
    Fail(ProxyError),
}

impl Union {
    /// Routes a client request that can be routed now.
    pub(super) fn route(&mut self, queued: QueuedRequest, context: &mut UnionContext<'_>) {
        let QueuedRequest { number, frame, lists_asked } = queued;
        let decision = match read_subject(&frame) {
            Err(error) => Decision::Fail(error),
            Ok(subject) if !self.is_several() => self.decide_filtered(&subject, lists_asked),
            Ok(subject) => self.decide(&subject, frame.method().unwrap_or_default(), lists_asked, context),
        };
        match decision {
            Decision::Forward(link, edit) => {
                let shape = ResultShape::of(frame.method().unwrap_or_default());
                self.output(UnionOutput::Forward { number, link, frame, edit, shape });
            }
            Decision::AwaitHandshake => self.queue.wait_for_handshake(number, frame),
            Decision::AwaitLists(links, lists) => {
                self.discover(&links, lists, &frame, context);
                if self.is_asking(&links, lists) {
                    self.queue.wait_for_lists(number, frame, links, lists);
                } else {
                    self.queue.push_asked(number, frame);
                }
            }
            Decision::BeginHandshake => self.begin_handshake(number, frame, context),
            Decision::RespondEmpty => {
                self.output(UnionOutput::Respond { number, result: "{}".to_owned(), permit: None });
            }
            Decision::FanOutList(list, cursor) => self.fan_out_list(number, list, cursor.as_deref(), frame, context),
            Decision::FanOutLevel => self.fan_out_level(number, frame, context),
            Decision::Fail(error) => self.fail(number, error),
        }
    }

    /// With one server everything goes to that server, unless the filter denies it.
    fn decide_filtered(&self, subject: &RequestSubject, lists_asked: ListsAsked) -> Decision {
        let allowed = match subject {
            RequestSubject::Named { list, name, .. } if !self.servers.allows(ONLY_LINK, *list, name) => {
                Err(Decision::Fail(unknown(*list, name, None)))
            }
            RequestSubject::Uri { uri, form, .. } => self.check_uri(ONLY_LINK, uri, uri, *form, lists_asked),
            _ => Ok(()),
        };
        allowed.err().unwrap_or(Decision::Forward(ONLY_LINK, None))
    }

    fn decide(
        &self,
        subject: &RequestSubject,
        method: &str,
        lists_asked: ListsAsked,
        context: &UnionContext<'_>,
    ) -> Decision {
        if !self.handshake.is_done() {
            return match subject {
                RequestSubject::Initialize => Decision::BeginHandshake,
                RequestSubject::Ping => Decision::RespondEmpty,
                _ if self.handshake.is_running() => Decision::AwaitHandshake,
                _ => {
                    let why = "the session is not open yet: send `initialize` first";
                    Decision::Fail(ProxyError::InvalidRequest(why.into()))
                }
            };
        }
        match subject {
            RequestSubject::Initialize => Decision::Fail(ProxyError::AlreadyInitialized),
            RequestSubject::Ping => Decision::RespondEmpty,
            RequestSubject::List(list, cursor) => Decision::FanOutList(*list, cursor.clone()),
            RequestSubject::LoggingLevel => Decision::FanOutLevel,
            RequestSubject::Named { list, name, at } => {
                let route = self.servers.route_name(&self.directory, *list, name, lists_asked);
                self.follow(route, *list, name, context, |link, own| {
                    if !self.servers.allows(link, *list, own) {
                        return Err(Decision::Fail(unknown(*list, name, None)));
                    }
                    Ok((own != name).then(|| (at.clone(), quoted(own))))
                })
            }
            RequestSubject::Uri { uri, at, form } => {
                let able = may_have(List::Resources, context);
                let known = match lists_asked {
                    ListsAsked::Already => ListsKnown::JustAsked,
                    ListsAsked::NotYet if self.were_asked_once(&able, &[List::Resources, List::Templates], context) => {
                        ListsKnown::AskedOnce
                    }
                    ListsAsked::NotYet => ListsKnown::No,
                };
                let route = self.servers.route_uri(&self.directory, UriQuery { uri, form: *form, able: &able, known });
                self.follow(route, List::Resources, uri, context, |link, own| {
                    self.check_uri(link, own, uri, *form, lists_asked)?;
                    Ok((own != uri).then(|| (at.clone(), quoted(own))))
                })
            }
            RequestSubject::Task { id } => {
                let able = may_have(List::Tasks, context);
                let route = Route::of_task(&self.directory, id, &able, lists_asked);
                self.follow(route, List::Tasks, id, context, |_, _| Ok(None))
            }
            RequestSubject::Other => {
                let why =
                    format!("{method}: with several servers in one session it cannot be told which of them is meant");
                Decision::Fail(ProxyError::MethodNotFound(why))
            }
        }
    }

    /// The decision that a route stands for. `edit` says what changes in the request for that server, or that the
    /// request is denied.
    fn follow(
        &self,
        route: Route,
        list: List,
        name: &str,
        context: &UnionContext<'_>,
        edit: impl FnOnce(LinkId, &str) -> Result<Option<Edit>, Decision>,
    ) -> Decision {
        match route {
            Route::To(link, own) => match edit(link, &own) {
                // A filtered name is unknown, whether or not its server is there.
                Err(decision @ Decision::Fail(_)) => decision,
                other => match (self.absence(link, context), other) {
                    (Some(error), _) => Decision::Fail(error),
                    (None, Ok(edit)) => Decision::Forward(link, edit),
                    (None, Err(decision)) => decision,
                },
            },
            Route::Ask(links, lists) => Decision::AwaitLists(links, lists),
            Route::Clash(links) => Decision::Fail(self.clash(list, name, &links)),
            Route::Unknown => Decision::Fail(unknown(list, name, self.hint(list, name, context))),
        }
    }

    /// Whether the filter of that server lets its resource or template `own` through, which the client calls `uri`.
    fn check_uri(
        &self,
        link: LinkId,
        own: &str,
        uri: &str,
        form: UriForm,
        lists_asked: ListsAsked,
    ) -> Result<(), Decision> {
        let refuse = || Err(Decision::Fail(unknown(List::Resources, uri, None)));
        if form == UriForm::Template && own.contains('{') {
            return if self.servers.allows(link, List::Templates, own) { Ok(()) } else { refuse() };
        }
        // A URI that cannot be checked is not let through.
        let denied = self.denied_templates(link);
        match self.servers.allows_uri(&self.directory, link, own, lists_asked, denied) {
            Ok(true) => Ok(()),
            Err(Route::Ask(links, lists)) => Err(Decision::AwaitLists(links, lists)),
            Ok(false) | Err(_) => refuse(),
        }
    }
}

/// The servers that have such a list, or had it, or may turn out to have it.
fn may_have(list: List, context: &UnionContext<'_>) -> LinkIds {
    let may = |phase: &LinkPhase| match phase {
        LinkPhase::New | LinkPhase::Initializing => true,
        LinkPhase::Ready(_) | LinkPhase::Gone { .. } => list.is_offered(phase.capabilities()),
        LinkPhase::Refused(_) => false,
    };
    context.links.iter().filter(|(_, phase)| may(phase)).map(|(link, _)| link).collect()
}
