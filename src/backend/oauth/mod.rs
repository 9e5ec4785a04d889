//! Logging in to a backend by OAuth 2.1 (MCP 2025-11-25 and 2026-07-28, "Authorization").
//!
//! One [`OAuth`] serves all sessions of a backend. `plan.rs` decides what to do about a token, `current_token.rs` knows
//! how long a token is good. `token_task.rs` gets tokens, with one task at a time: all requests that need a token wait
//! for the task that is under way, and it is dropped with the last of them. The trade of a code or a refresh token for
//! a token must not be dropped half-way, or the token would be lost, so it runs in a task of its own. `login.rs` is the
//! task that needs a person. `authorization_server.rs` and `discovery.rs` speak OAuth, `http_client.rs` and
//! `address_policy.rs` decide which addresses they may talk to, and `store.rs` keeps the tokens.

mod address_policy;
mod authorization_server;
mod browser;
mod current_token;
mod discovery;
mod http_client;
mod login;
mod plan;
mod redirect_listener;
mod store;
#[cfg(test)]
mod tests;
mod token_task;

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

use current_token::CurrentToken;
use http_client::HostLookup;
use plan::{AfterRefusal, BeforeRequest, RefusalCause, TokenAge, TokenOrigin};
use store::{ServerIdentity, StoredLogin, TokenStore};
use token_task::TokenTask;

/// How often it is decided again what to do about a request, because the token changed while the request waited.
const MAX_ROUNDS: usize = 5;
/// How long after a failed login none is begun: a client that retries at once must not open a browser window each time.
const FAILED_LOGIN_PAUSE: Duration = Duration::from_secs(15);
/// How long another process may take to renew the same tokens.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

type TaskOutcome = Result<(), CredentialError>;
type SharedTask = Shared<BoxFuture<'static, TaskOutcome>>;

/// The tokens of one backend, got by logging in.
pub(crate) struct OAuth(Arc<OAuthTokens>);

/// The backend, and how it is logged in to.
struct LoginContext {
    backend: Url,
    /// The backend's URL as messages show it.
    name: String,
    settings: OAuthSettings,
    lookup: HostLookup,
}

struct OAuthTokens {
    context: Arc<LoginContext>,
    /// `None` for the client credentials flow: a program can get another token at any time.
    store: Option<TokenStore>,
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    /// Whether the store was read.
    loaded: bool,
    held: Option<CurrentToken>,
    /// The last `WWW-Authenticate`, which says where to log in.
    challenge: Option<String>,
    /// The authorization server that a program's secret was sent to first. The secret is sent to no other.
    server: Option<ServerIdentity>,
    /// Scopes that a login asked for and did not get.
    ungrantable_scopes: Vec<String>,
    failed: Option<(Instant, CredentialError)>,
    work: Option<WeakShared<BoxFuture<'static, TaskOutcome>>>,
}

impl OAuth {
    /// Makes a token source for `backend`, which does nothing until it is asked for a token. `settings` have been
    /// checked.
    pub(crate) fn new(backend: &Url, settings: OAuthSettings) -> Self {
        Self::with_lookup(backend, settings, http_client::system_lookup())
    }

    fn with_lookup(backend: &Url, settings: OAuthSettings, lookup: HostLookup) -> Self {
        let mut backend = backend.clone();
        backend.set_fragment(None);
        let store = (settings.flow == OAuthFlow::Login).then(|| TokenStore::new(&backend, &settings));
        let context =
            Arc::new(LoginContext { name: http_client::without_secrets(&backend), backend, settings, lookup });
        Self(Arc::new(OAuthTokens { context, store, state: Mutex::default() }))
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("backend", &self.0.context.name)
            .field("flow", &self.0.context.settings.flow)
            .finish()
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

impl OAuthTokens {
    async fn token(self: Arc<Self>) -> Result<Option<BearerToken>, CredentialError> {
        self.load_stored().await;
        for _ in 0..MAX_ROUNDS {
            let flow = self.context.settings.flow;
            let now = Instant::now();
            let (step, token, work) = {
                let state = self.state();
                let step = plan::before_request(flow, state.held.as_ref().map(|held| held.facts(now)).as_ref());
                (step, state.held.as_ref().map(|held| held.token.clone()), state.under_way())
            };
            match (step, work) {
                (BeforeRequest::SendToken, _) => return Ok(token),
                (BeforeRequest::SendNone, None) => return Ok(None),
                (BeforeRequest::SendNone, Some(work)) => work.await?,
                (BeforeRequest::Renew, _) => match self.run(TokenTask::Renew).await {
                    // The request is sent without a token then, and its refusal says how to log in.
                    Ok(()) | Err(CredentialError::Ended { .. }) => {}
                    Err(error) => {
                        let mut state = self.state();
                        let now = Instant::now();
                        match &mut state.held {
                            Some(held) if !held.refused && held.age(now) != TokenAge::Expired => held.put_off(now),
                            _ => return Err(error),
                        }
                    }
                },
            }
        }
        Err(self.unstable_tokens())
    }

    async fn refused(
        self: Arc<Self>,
        used: Option<BearerToken>,
        refusal: AuthRefusal,
    ) -> Result<bool, CredentialError> {
        let (cause, challenge) = plan::cause_of(&refusal, &self.context.backend);
        if cause == RefusalCause::Other {
            return Ok(false);
        }
        self.load_stored().await;
        {
            let mut state = self.state();
            state.challenge = challenge.or(state.challenge.take());
            if let Some(held) = &mut state.held
                && cause == RefusalCause::Unauthorized
                && used.as_ref() == Some(&held.token)
            {
                held.refused = true;
            }
        }
        for _ in 0..MAX_ROUNDS {
            match self.decide_after_refusal(&cause, used.as_ref()) {
                AfterRefusal::Retry => return Ok(true),
                AfterRefusal::GiveUp => return Ok(false),
                AfterRefusal::Renew => match self.run(TokenTask::Renew).await {
                    Ok(()) | Err(CredentialError::Ended { .. }) => {}
                    Err(error) => return Err(error),
                },
                AfterRefusal::Obtain(scopes) => {
                    if let Some(error) = self.state().recent_login_failure() {
                        return Err(error);
                    }
                    self.run(TokenTask::Obtain(scopes)).await?;
                    self.note_ungrantable_scopes(&cause);
                }
                AfterRefusal::StillRefused => {
                    return Err(CredentialError::StillRefused { backend: self.context.name.clone() });
                }
                AfterRefusal::ScopeRefused(scopes) => {
                    return Err(CredentialError::ScopeRefused {
                        backend: self.context.name.clone(),
                        scopes: http_client::quote(&scopes.join(" ")),
                    });
                }
            }
        }
        Err(self.unstable_tokens())
    }

    fn decide_after_refusal(&self, cause: &RefusalCause, used: Option<&BearerToken>) -> AfterRefusal {
        let state = self.state();
        let held = state.held.as_ref();
        let same = held.is_some() && held.map(|held| &held.token) == used;
        let facts = held.map(|held| held.facts(Instant::now()));
        plan::after_refusal(self.context.settings.flow, cause, facts.as_ref(), same, &state.ungrantable_scopes)
    }

    /// Remembers the scopes that a login for more scopes did not grant, so that they are not asked for again.
    fn note_ungrantable_scopes(&self, cause: &RefusalCause) {
        let RefusalCause::Scope(needed) = cause else { return };
        let mut state = self.state();
        let Some(held) = &state.held else { return };
        let missing: Vec<String> =
            needed.iter().filter(|scope| !held.granted.is_empty() && !held.granted.contains(scope)).cloned().collect();
        // A backend chooses these scopes, so their number is bounded.
        state.ungrantable_scopes =
            plan::union(&state.ungrantable_scopes, &missing).into_iter().rev().take(100).collect();
    }

    fn adopt(&self, credentials: &StoredCredentials, origin: TokenOrigin) -> TaskOutcome {
        match CurrentToken::of(credentials, origin, Instant::now(), SystemTime::now()) {
            Some(held) => {
                self.state().held = Some(held);
                Ok(())
            }
            None => Err(CredentialError::NotGranted {
                backend: self.context.name.clone(),
                reason: "its answer holds no token that could be sent".to_owned(),
            }),
        }
    }

    /// Takes the token that another process has stored meanwhile, if it is another one, has not expired and has
    /// `scopes`.
    fn adopt_if_better(&self, kept: &StoredLogin, scopes: &[String]) -> bool {
        let now = Instant::now();
        let found = kept
            .credentials
            .as_ref()
            .and_then(|found| CurrentToken::of(found, TokenOrigin::Stored, now, SystemTime::now()));
        let Some(found) = found.filter(|found| found.age(now) == TokenAge::Good) else { return false };
        let mut state = self.state();
        let other = state.held.as_ref().is_none_or(|held| held.token != found.token);
        let enough = scopes.iter().all(|scope| found.granted.contains(scope));
        if other && enough {
            state.held = Some(found);
        }
        other && enough
    }

    /// Reads the store, the first time.
    async fn load_stored(&self) {
        let Some(store) = &self.store else { return };
        if self.state().loaded {
            return;
        }
        let kept = store.load().await;
        let held = kept.credentials.and_then(|credentials| {
            CurrentToken::of(&credentials, TokenOrigin::Stored, Instant::now(), SystemTime::now())
        });
        let mut state = self.state();
        if !state.loaded {
            state.loaded = true;
            state.held = held;
        }
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unstable_tokens(&self) -> CredentialError {
        CredentialError::Internal {
            backend: self.context.name.clone(),
            reason: "its tokens were replaced again and again before a request could be sent with one".to_owned(),
        }
    }
}

impl TokenState {
    /// The task under way, if there is one.
    fn under_way(&self) -> Option<SharedTask> {
        self.work.as_ref()?.upgrade().filter(|work| work.peek().is_none())
    }

    /// Returns the error of the last login if no login is to be begun now because of it.
    fn recent_login_failure(&self) -> Option<CredentialError> {
        let (at, error) = self.failed.as_ref()?;
        let recent_login_failure = self.under_way().is_none() && Instant::now() < *at + FAILED_LOGIN_PAUSE;
        recent_login_failure.then(|| error.clone())
    }
}
