//! Logging in to a backend by OAuth 2.1 (MCP 2025-11-25 and 2026-07-28, "Authorization").
//!
//! One [`OAuth`] serves all sessions of a backend. `plan.rs` decides, `held.rs` knows how long a token is good, and the
//! errands that get one are run here, one at a time: whoever needs a token meanwhile waits for the errand under way, and it
//! goes away with the last of those. What must not be torn apart, the trade of a code or a refresh token for the next, is a
//! task of its own. `login.rs` is the errand that needs a person, `authority.rs` speaks with the authorization server,
//! `client.rs` and `reach.rs` decide with whom at all, and `store.rs` keeps what was got.

mod authority;
mod browser;
mod client;
mod held;
mod login;
mod plan;
mod reach;
mod redirect;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use rmcp::transport::auth::StoredCredentials;
use tokio::time::Instant;
use url::Url;

use super::credentials::{AuthRefusal, BearerToken, CredentialError, TokenSource};
use crate::config::{OAuthFlow, OAuthSettings};

use authority::{Authority, NotRenewed};
use client::Lookup;
use held::Held;
use plan::{After, Age, Before, Cause, Origin};
use store::{Kept, Purpose, Server, Store};

/// How often a request is thought over again when things change while it waits.
const ROUNDS: usize = 5;
/// For how long a login that failed is not begun again: a client that tries again at once must not open a window each time.
const PAUSE: Duration = Duration::from_secs(15);
/// How long another process may take to renew the same tokens.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), CredentialError>;
type Work = Shared<BoxFuture<'static, Outcome>>;

/// The tokens of one backend, got by logging in.
pub(crate) struct OAuth(Arc<Inner>);

/// Which backend it is about, and how it is logged in to.
struct Scene {
    backend: Url,
    /// The backend in messages.
    name: String,
    settings: OAuthSettings,
    lookup: Lookup,
}

struct Inner {
    scene: Arc<Scene>,
    /// Tokens of a program are not kept: it gets others at any time.
    store: Option<Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the store was looked into.
    loaded: bool,
    held: Option<Held>,
    /// The last `WWW-Authenticate`, which says where to log in.
    challenge: Option<String>,
    /// Where a program's secret was sent first; it goes nowhere else.
    server: Option<Server>,
    /// Scopes that a login asked for and did not get.
    hopeless: Vec<String>,
    failed: Option<(Instant, CredentialError)>,
    work: Option<WeakShared<BoxFuture<'static, Outcome>>>,
}

/// What gets a token.
enum Errand {
    Renew,
    Obtain(Vec<String>),
}

impl OAuth {
    /// Does nothing yet. `settings` have been checked.
    pub(crate) fn new(backend: &Url, settings: OAuthSettings) -> Self {
        Self::with_lookup(backend, settings, client::system_lookup())
    }

    fn with_lookup(backend: &Url, settings: OAuthSettings, lookup: Lookup) -> Self {
        let mut backend = backend.clone();
        backend.set_fragment(None);
        let store = (settings.flow == OAuthFlow::Login).then(|| Store::new(&backend, &settings));
        let scene = Arc::new(Scene { name: client::bare(&backend), backend, settings, lookup });
        Self(Arc::new(Inner { scene, store, state: Mutex::default() }))
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("backend", &self.0.scene.name).field("flow", &self.0.scene.settings.flow).finish()
    }
}

impl TokenSource for OAuth {
    fn token(&self) -> BoxFuture<'_, Result<Option<BearerToken>, CredentialError>> {
        self.0.clone().token().boxed()
    }

    fn refused(
        &self,
        used: Option<&BearerToken>,
        refusal: &AuthRefusal,
    ) -> BoxFuture<'_, Result<bool, CredentialError>> {
        self.0.clone().refused(used.cloned(), refusal.clone()).boxed()
    }
}

impl Inner {
    async fn token(self: Arc<Self>) -> Result<Option<BearerToken>, CredentialError> {
        self.load().await;
        for _ in 0..ROUNDS {
            let flow = self.scene.settings.flow;
            let now = Instant::now();
            let (step, token, work) = {
                let state = self.state();
                let step = plan::before(flow, state.held.as_ref().map(|held| held.standing(now)).as_ref());
                (step, state.held.as_ref().map(|held| held.token.clone()), state.under_way())
            };
            match (step, work) {
                (Before::Use, _) => return Ok(token),
                (Before::Bare, None) => return Ok(None),
                (Before::Bare, Some(work)) => work.await?,
                (Before::Renew, _) => match self.run(Errand::Renew).await {
                    // Without a token the request goes bare, and its refusal says how to log in.
                    Ok(()) | Err(CredentialError::Ended { .. }) => {}
                    Err(error) => {
                        let mut state = self.state();
                        let now = Instant::now();
                        match &mut state.held {
                            Some(held) if !held.refused && held.age(now) != Age::Expired => held.put_off(now),
                            _ => return Err(error),
                        }
                    }
                },
            }
        }
        Err(self.restless())
    }

    async fn refused(
        self: Arc<Self>,
        used: Option<BearerToken>,
        refusal: AuthRefusal,
    ) -> Result<bool, CredentialError> {
        let (cause, challenge) = plan::cause(&refusal, &self.scene.backend);
        if cause == Cause::Other {
            return Ok(false);
        }
        self.load().await;
        {
            let mut state = self.state();
            state.challenge = challenge.or(state.challenge.take());
            if let Some(held) = &mut state.held
                && cause == Cause::Unauthorized
                && used.as_ref() == Some(&held.token)
            {
                held.refused = true;
            }
        }
        for _ in 0..ROUNDS {
            match self.after(&cause, used.as_ref()) {
                After::Retry => return Ok(true),
                After::Nothing => return Ok(false),
                After::Renew => match self.run(Errand::Renew).await {
                    Ok(()) | Err(CredentialError::Ended { .. }) => {}
                    Err(error) => return Err(error),
                },
                After::Obtain(scopes) => {
                    if let Some(error) = self.state().paused() {
                        return Err(error);
                    }
                    self.run(Errand::Obtain(scopes)).await?;
                    self.note_hopeless(&cause);
                }
                After::StillRefused => {
                    return Err(CredentialError::StillRefused { backend: self.scene.name.clone() });
                }
                After::ScopeRefused(scopes) => {
                    return Err(CredentialError::ScopeRefused {
                        backend: self.scene.name.clone(),
                        scopes: client::quote(&scopes.join(" ")),
                    });
                }
            }
        }
        Err(self.restless())
    }

    fn after(&self, cause: &Cause, used: Option<&BearerToken>) -> After {
        let state = self.state();
        let held = state.held.as_ref();
        let same = held.is_some() && held.map(|held| &held.token) == used;
        let standing = held.map(|held| held.standing(Instant::now()));
        plan::after(self.scene.settings.flow, cause, standing.as_ref(), same, &state.hopeless)
    }

    /// A login for more scopes is over: what it did not bring is not asked for again.
    fn note_hopeless(&self, cause: &Cause) {
        let Cause::Scope(needed) = cause else { return };
        let mut state = self.state();
        let Some(held) = &state.held else { return };
        let missing: Vec<String> =
            needed.iter().filter(|scope| !held.granted.is_empty() && !held.granted.contains(scope)).cloned().collect();
        // What a backend may have us remember is bounded.
        state.hopeless = plan::union(&state.hopeless, &missing).into_iter().rev().take(100).collect();
    }

    /// Runs an errand, or waits for the one that is under way, whichever it is.
    async fn run(self: &Arc<Self>, errand: Errand) -> Outcome {
        let work = {
            let mut state = self.state();
            state.under_way().unwrap_or_else(|| {
                let work: Work = self.clone().carry_out(errand).boxed().shared();
                state.work = work.downgrade();
                work
            })
        };
        work.await
    }

    async fn carry_out(self: Arc<Self>, errand: Errand) -> Outcome {
        let whole = |work: BoxFuture<'static, Outcome>| async {
            // Torn off in the middle, it would lose a token that the server has given out already.
            tokio::spawn(work).await
        };
        let program = self.scene.settings.flow == OAuthFlow::ClientCredentials;
        let outcome = match (errand, &self.store) {
            (Errand::Renew, Some(store)) if !program => whole(self.clone().renew(store.clone()).boxed()).await,
            (Errand::Obtain(scopes), Some(store)) if !program => {
                let outcome = login::login(self.clone(), store.clone(), scopes).await;
                let failed = outcome.as_ref().err().cloned();
                self.state().failed = failed.map(|error| (Instant::now(), error));
                Ok(outcome)
            }
            (Errand::Obtain(scopes), _) => whole(self.clone().grant(scopes).boxed()).await,
            (Errand::Renew, _) => whole(self.clone().grant(Vec::new()).boxed()).await,
        };
        outcome.unwrap_or_else(|error| {
            Err(CredentialError::Internal { backend: self.scene.name.clone(), reason: error.to_string() })
        })
    }

    /// Trades the refresh token for new tokens, unless another process has done so already.
    async fn renew(self: Arc<Self>, store: Store) -> Outcome {
        let name = || self.scene.name.clone();
        let ended = |reason: &str| CredentialError::Ended { backend: name(), reason: reason.to_owned() };
        let _lock = store.lock(Purpose::Change, PATIENCE).await?;
        let mut kept = store.load().await;
        if self.adopt_if_better(&kept, &[]) {
            return Ok(());
        }
        let (Some(credentials), Some(client)) = (kept.credentials.clone(), kept.client.clone()) else {
            self.state().held = None;
            return Err(ended("the tokens are gone"));
        };
        let challenge = self.state().challenge.clone();
        let authority = Authority::find(&self.scene, challenge.as_deref()).await?;
        if kept.server.as_ref() != Some(&authority.server()) {
            // The refresh token is nobody else's business.
            self.forget(&store, kept, false).await;
            return Err(ended("the backend names another authorization server now"));
        }
        match authority.renew(&client, credentials).await {
            Ok(credentials) => {
                kept.credentials = Some(credentials.clone());
                store.save(kept).await;
                self.adopt(&credentials, Origin::Renewed)
            }
            Err(NotRenewed::Rejected(reason)) => {
                self.forget(&store, kept, false).await;
                Err(ended(&reason))
            }
            Err(NotRenewed::ClientUnknown(reason)) if client.registered => {
                self.forget(&store, kept, true).await;
                Err(ended(&reason))
            }
            Err(NotRenewed::ClientUnknown(reason)) => Err(CredentialError::ClientRefused { backend: name(), reason }),
            Err(NotRenewed::Failed(reason)) => Err(CredentialError::NotRenewed { backend: name(), reason }),
        }
    }

    /// Gets a token with the program's own credentials.
    async fn grant(self: Arc<Self>, scopes: Vec<String>) -> Outcome {
        let challenge = self.state().challenge.clone();
        let authority = Authority::find(&self.scene, challenge.as_deref()).await?;
        let server = authority.server();
        let first = self.state().server.get_or_insert_with(|| server.clone()).clone();
        if first != server {
            let issuer = |server: &Server| server.issuer.clone().unwrap_or_else(|| server.token_endpoint.clone());
            return Err(CredentialError::OtherIssuer {
                backend: self.scene.name.clone(),
                found: client::quote(&issuer(&server)),
                expected: client::quote(&issuer(&first)),
            });
        }
        let credentials = authority.grant(&scopes).await?;
        self.adopt(&credentials, Origin::Given)
    }

    async fn forget(&self, store: &Store, mut kept: Kept, client: bool) {
        kept.credentials = None;
        if client {
            kept.client = None;
        }
        store.save(kept).await;
        self.state().held = None;
    }

    fn adopt(&self, credentials: &StoredCredentials, origin: Origin) -> Outcome {
        match Held::of(credentials, origin, Instant::now(), SystemTime::now()) {
            Some(held) => {
                self.state().held = Some(held);
                Ok(())
            }
            None => Err(CredentialError::NotGranted {
                backend: self.scene.name.clone(),
                reason: "its answer holds no token that could be sent".to_owned(),
            }),
        }
    }

    /// Takes what another process has got meanwhile, if it is good and is good for `scopes`.
    fn adopt_if_better(&self, kept: &Kept, scopes: &[String]) -> bool {
        let now = Instant::now();
        let found = kept.credentials.as_ref().and_then(|found| Held::of(found, Origin::Kept, now, SystemTime::now()));
        let Some(found) = found.filter(|found| found.age(now) == Age::Good) else { return false };
        let mut state = self.state();
        let other = state.held.as_ref().is_none_or(|held| held.token != found.token);
        let enough = scopes.iter().all(|scope| found.granted.contains(scope));
        if other && enough {
            state.held = Some(found);
        }
        other && enough
    }

    /// Looks into the store, the first time.
    async fn load(&self) {
        let Some(store) = &self.store else { return };
        if self.state().loaded {
            return;
        }
        let kept = store.load().await;
        let held = kept
            .credentials
            .and_then(|credentials| Held::of(&credentials, Origin::Kept, Instant::now(), SystemTime::now()));
        let mut state = self.state();
        if !state.loaded {
            state.loaded = true;
            state.held = held;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restless(&self) -> CredentialError {
        CredentialError::Internal {
            backend: self.scene.name.clone(),
            reason: "tokens come and go faster than they can be used".to_owned(),
        }
    }
}

impl State {
    /// The errand under way, if there is one.
    fn under_way(&self) -> Option<Work> {
        self.work.as_ref()?.upgrade().filter(|work| work.peek().is_none())
    }

    /// Why no login is begun now.
    fn paused(&self) -> Option<CredentialError> {
        let (at, error) = self.failed.as_ref()?;
        let paused = self.under_way().is_none() && Instant::now() < *at + PAUSE;
        paused.then(|| error.clone())
    }
}
