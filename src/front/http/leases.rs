//! Which requests and streams are open under which token, and which of them end when tokens are taken out.
//!
//! A stream is its client's for as long as the newest token is valid that this client has shown: a client that has
//! changed its token keeps the streams that it opened with the last one. What a client has shown is remembered while
//! anything of it is open, and no longer, so connections bound the memory.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use slab::Slab;
use tokio_util::sync::CancellationToken;

use super::token_authority::TokenAuthority;
use crate::principal::Principal;
use crate::session::SessionSecret;
use crate::tokens::{KnownTokens, TokenHash};

/// All requests and streams that tokens have let in, and the tokens that are known. They stand under one lock, so that
/// nothing is let in by a token that is just being taken out.
#[derive(Debug)]
pub(super) struct Leases {
    known: KnownTokens,
    open: Slab<OpenLease>,
    clients: HashMap<SessionSecret, ClientToken>,
    /// Whether anything that has to end may still be open.
    ending: bool,
}

/// A request that has not been answered to its end.
#[derive(Debug)]
struct OpenLease {
    name: Arc<str>,
    token: TokenHash,
    /// Whose request it is, once that is known.
    client: Option<SessionSecret>,
    /// Cancelled when the request or its stream has to end.
    revoked: CancellationToken,
    /// Ends the connection.
    cut: CancellationToken,
}

/// The newest token of a client of which something is open.
#[derive(Debug)]
struct ClientToken {
    newest: TokenHash,
    /// How many requests and streams are open.
    open: usize,
}

/// What a token lets in.
#[derive(Debug)]
pub(super) struct Admission {
    pub name: Arc<str>,
    pub number: usize,
    pub revoked: CancellationToken,
}

impl Leases {
    pub(super) fn new(known: KnownTokens) -> Self {
        Self { known, open: Slab::new(), clients: HashMap::new(), ending: false }
    }

    /// Lets a request in, if its token is known. `cut` ends its connection.
    pub(super) fn admit(&mut self, token: TokenHash, cut: CancellationToken) -> Option<Admission> {
        let name = self.known.name_of(token)?.clone();
        let revoked = CancellationToken::new();
        let lease = OpenLease { name: name.clone(), token, client: None, revoked: revoked.clone(), cut };
        Some(Admission { name, number: self.open.insert(lease), revoked })
    }

    /// The request is this client's, which has shown the request's token by it.
    pub(super) fn assign(&mut self, number: usize, client: SessionSecret) {
        let Some(lease) = self.open.get_mut(number) else { return };
        // A request whose token was taken out in the meantime ends, and says nothing about its client.
        if lease.client.is_some() || lease.revoked.is_cancelled() {
            return;
        }
        lease.client = Some(client);
        let shown = self.clients.entry(client).or_insert(ClientToken { newest: lease.token, open: 0 });
        shown.newest = lease.token;
        shown.open += 1;
    }

    /// The request was answered to its end, or its client has left.
    pub(super) fn end(&mut self, number: usize) {
        let client = self.open.try_remove(number).and_then(|lease| lease.client);
        let Some(client) = client else { return };
        if let Some(shown) = self.clients.get_mut(&client) {
            shown.open = shown.open.saturating_sub(1);
            if shown.open == 0 {
                self.clients.remove(&client);
            }
        }
    }

    /// Other tokens are known from now on. Ends what they do not cover, and returns the names that have no token left.
    pub(super) fn replace(&mut self, known: KnownTokens) -> HashSet<Arc<str>> {
        let names = self.known.names();
        self.known = known;
        for (_, lease) in &self.open {
            let shown = lease.client.and_then(|client| self.clients.get(&client));
            let newest = shown.map_or(lease.token, |shown| shown.newest);
            // A token that has got another name is another principal's.
            if self.known.name_of(newest) != Some(&lease.name) {
                lease.revoked.cancel();
                self.ending = true;
            }
        }
        &names - &self.known.names()
    }

    /// Ends the connections of those that have not ended by themselves: their clients do not read what was sent before,
    /// and so nobody asks for the end of their streams.
    pub(super) fn cut_overdue(&mut self) {
        if std::mem::take(&mut self.ending) {
            let overdue = self.open.iter().filter(|(_, lease)| lease.revoked.is_cancelled());
            overdue.for_each(|(_, lease)| lease.cut.cancel());
        }
    }

    /// How many names are known.
    pub(super) fn names(&self) -> usize {
        self.known.names().len()
    }
}

/// What a request was let in with. It is held until the request was answered to the end of its stream.
#[derive(Debug)]
pub(super) struct Lease {
    authority: Arc<TokenAuthority>,
    principal: Principal,
    number: usize,
    revoked: CancellationToken,
}

impl Lease {
    pub(super) fn new(authority: Arc<TokenAuthority>, admission: Admission) -> Self {
        let Admission { name, number, revoked } = admission;
        Self { authority, principal: Principal::Token { name }, number, revoked }
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The request is that of the client which holds this secret.
    pub(super) fn assign(&self, client: SessionSecret) {
        self.authority.leases().assign(self.number, client);
    }

    /// Resolves when the request or its stream has to end.
    pub(super) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// The response, whose stream ends with the lease. One whose length is known has no stream: it is on its way as a
    /// whole.
    pub(super) fn cover(self: Arc<Self>, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let revoked = self.revoked.clone().cancelled_owned().boxed();
        response.map(|body| Body::new(LeasedBody { body, revoked, _lease: self }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.authority.leases().end(self.number);
    }
}

/// A stream that ends when its client has no valid token any more.
struct LeasedBody {
    body: Body,
    revoked: BoxFuture<'static, ()>,
    _lease: Arc<Lease>,
}

impl http_body::Body for LeasedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.revoked.poll_unpin(context).is_ready() {
            // The connection may hold the body for longer, and what it carries must not go on meanwhile.
            self.body = Body::empty();
            self.revoked = std::future::ready(()).boxed();
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Caller, ClientTransport};

    fn hash(token: &str) -> TokenHash {
        TokenHash::of(token.as_bytes())
    }

    /// Tokens as `holder/token`.
    fn known(tokens: &[&str]) -> KnownTokens {
        let line = |token: &&str| {
            let (name, token) = token.split_once('/').unwrap();
            format!("{name} {}\n", hash(token).to_hex())
        };
        KnownTokens::parse(&tokens.iter().map(line).collect::<String>()).unwrap()
    }

    fn client(session: &str) -> SessionSecret {
        SessionSecret::of(session, ClientTransport::Streamable, &Caller::default())
    }

    fn admit(leases: &mut Leases, token: &str) -> Admission {
        leases.admit(hash(token), CancellationToken::new()).unwrap()
    }

    fn names(gone: &HashSet<Arc<str>>) -> Vec<String> {
        let mut names: Vec<_> = gone.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_what_no_token_covers_ends() {
        let mut leases = Leases::new(known(&["alice/a1", "alice/a2", "bob/b", "carol/c"]));
        assert!(leases.admit(hash("x"), CancellationToken::new()).is_none());
        let [a1, a2, b, c] = ["a1", "a2", "b", "c"].map(|token| admit(&mut leases, token));
        assert_eq!((&*a1.name, &*a2.name, &*b.name), ("alice", "alice", "bob"));
        // Carol's token is Bob's now: that is another principal.
        assert_eq!(names(&leases.replace(known(&["alice/a2", "bob/c", "dave/d"]))), ["carol"]);
        assert_eq!([&a1, &a2, &b, &c].map(|one| one.revoked.is_cancelled()), [true, false, true, true]);
        assert!(leases.admit(hash("a1"), CancellationToken::new()).is_none());
        assert_eq!(&*admit(&mut leases, "c").name, "bob");
        assert_eq!(names(&leases.replace(known(&["dave/d"]))), ["alice", "bob"]);
        assert!(a2.revoked.is_cancelled());
    }

    #[test]
    fn the_newest_token_of_a_client_counts() {
        let all = ["alice/a1", "alice/a2"];
        for (shown, left, goes_on) in [
            (&["a1", "a2"][..], "alice/a2", true),
            (&["a1", "a2"], "alice/a1", false),
            (&["a1", "a2", "a1"], "alice/a1", true),
            (&["a1", "a2", "a1"], "alice/a2", false),
        ] {
            let mut leases = Leases::new(known(&all));
            // A stream of the first token, and requests of all.
            let open: Vec<_> = shown.iter().map(|token| admit(&mut leases, token)).collect();
            let other = admit(&mut leases, "a1");
            leases.assign(other.number, client("other"));
            for lease in &open {
                leases.assign(lease.number, client("mine"));
            }
            for done in &open[1..] {
                leases.end(done.number);
            }
            assert!(leases.replace(known(&[left])).is_empty());
            assert_eq!(open[0].revoked.is_cancelled(), !goes_on, "{shown:?} {left}");
            assert_eq!(other.revoked.is_cancelled(), left != "alice/a1", "each client has tokens of its own");
            // Nothing is remembered of a client of which nothing is open.
            leases.end(open[0].number);
            leases.end(other.number);
            assert!(leases.clients.is_empty() && leases.open.is_empty());
        }
    }

    #[test]
    fn a_request_whose_token_is_gone_says_nothing_about_its_client() {
        let mut leases = Leases::new(known(&["alice/a1", "alice/a2"]));
        let (stream, late) = (admit(&mut leases, "a2"), admit(&mut leases, "a1"));
        leases.assign(stream.number, client("mine"));
        leases.replace(known(&["alice/a2"]));
        assert!(late.revoked.is_cancelled());
        leases.assign(late.number, client("mine"));
        leases.replace(known(&["alice/a2", "bob/b"]));
        assert!(!stream.revoked.is_cancelled());
        // Twice is once.
        leases.assign(stream.number, client("other"));
        leases.assign(99, client("other"));
        leases.end(late.number);
        leases.end(stream.number);
        leases.end(stream.number);
        assert!(leases.clients.is_empty() && leases.open.is_empty());
    }

    #[test]
    fn who_does_not_end_is_cut() {
        let mut leases = Leases::new(known(&["alice/a", "bob/b"]));
        let cuts: [CancellationToken; 3] = Default::default();
        let admitted = ["a", "a", "b"].iter().zip(&cuts).map(|(token, cut)| leases.admit(hash(token), cut.clone()));
        let numbers: Vec<_> = admitted.map(|admission| admission.unwrap().number).collect();
        leases.cut_overdue();
        leases.replace(known(&["bob/b"]));
        leases.end(numbers[0]);
        assert!(!cuts.iter().any(CancellationToken::is_cancelled));
        leases.cut_overdue();
        assert_eq!(cuts.each_ref().map(CancellationToken::is_cancelled), [false, true, false]);
    }
}
