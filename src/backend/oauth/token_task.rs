//! The tasks that get a token: one at a time for each backend, and shared by all who wait for a token.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::authorization_server::{AuthorizationServer, RenewalError};
use super::plan::TokenOrigin;
use super::store::{LockKind, ServerIdentity, StoredLogin, TokenStore};
use super::{LOCK_TIMEOUT, OAuthTokens, SharedTask, TaskOutcome, http_client, login};
use crate::backend::credentials::CredentialError;
use crate::config::OAuthFlow;

/// A task that gets a token.
pub(super) enum TokenTask {
    /// Get a new token in the way that needs no person.
    Renew,
    /// Log in, and ask for these scopes as well.
    Obtain(Vec<String>),
}

impl OAuthTokens {
    /// Runs a task, or waits for the task that is under way, whichever that is.
    pub(super) async fn run(self: &Arc<Self>, token_task: TokenTask) -> TaskOutcome {
        let work = {
            let mut state = self.state();
            state.under_way().unwrap_or_else(|| {
                let work: SharedTask = self.clone().run_task(token_task).boxed().shared();
                state.work = work.downgrade();
                work
            })
        };
        work.await
    }

    async fn run_task(self: Arc<Self>, token_task: TokenTask) -> TaskOutcome {
        let whole = |work: BoxFuture<'static, TaskOutcome>| async {
            // Dropped half-way, the trade would lose a token that the server has given out already.
            tokio::spawn(work).await
        };
        let program = self.context.settings.flow == OAuthFlow::ClientCredentials;
        let outcome = match (token_task, &self.store) {
            (TokenTask::Renew, Some(store)) if !program => whole(self.clone().renew(store.clone()).boxed()).await,
            (TokenTask::Obtain(scopes), Some(store)) if !program => {
                let outcome = login::login(self.clone(), store.clone(), scopes).await;
                let failed = outcome.as_ref().err().cloned();
                self.state().failed = failed.map(|error| (Instant::now(), error));
                Ok(outcome)
            }
            (TokenTask::Obtain(scopes), _) => whole(self.clone().grant(scopes).boxed()).await,
            (TokenTask::Renew, _) => whole(self.clone().grant(Vec::new()).boxed()).await,
        };
        outcome.unwrap_or_else(|error| {
            Err(CredentialError::Internal { backend: self.context.name.clone(), reason: error.to_string() })
        })
    }

    /// Trades the refresh token for new tokens, unless another process has done so already.
    async fn renew(self: Arc<Self>, store: TokenStore) -> TaskOutcome {
        let name = || self.context.name.clone();
        let ended = |reason: &str| CredentialError::Ended { backend: name(), reason: reason.to_owned() };
        let _lock = store.lock(LockKind::Change, LOCK_TIMEOUT).await?;
        let mut kept = store.load().await;
        if self.adopt_if_better(&kept, &[]) {
            return Ok(());
        }
        let (Some(credentials), Some(client)) = (kept.credentials.clone(), kept.client.clone()) else {
            self.state().held = None;
            return Err(ended("the tokens are gone"));
        };
        let challenge = self.state().challenge.clone();
        let authority = AuthorizationServer::discover(&self.context, challenge.as_deref()).await?;
        if kept.server.as_ref() != Some(&authority.identity()) {
            // A refresh token is sent to no other server than the one that issued it.
            self.forget(&store, kept, false).await;
            return Err(ended("the backend names another authorization server now"));
        }
        match authority.renew(&client, credentials).await {
            Ok(credentials) => {
                kept.credentials = Some(credentials.clone());
                store.save(kept).await;
                self.adopt(&credentials, TokenOrigin::Renewed)
            }
            Err(RenewalError::Rejected(reason)) => {
                self.forget(&store, kept, false).await;
                Err(ended(&reason))
            }
            Err(RenewalError::ClientUnknown(reason)) if client.registered => {
                self.forget(&store, kept, true).await;
                Err(ended(&reason))
            }
            Err(RenewalError::ClientUnknown(reason)) => Err(CredentialError::ClientRefused { backend: name(), reason }),
            Err(RenewalError::Failed(reason)) => Err(CredentialError::NotRenewed { backend: name(), reason }),
        }
    }

    /// Gets a token with the program's own credentials.
    async fn grant(self: Arc<Self>, scopes: Vec<String>) -> TaskOutcome {
        let challenge = self.state().challenge.clone();
        let authority = AuthorizationServer::discover(&self.context, challenge.as_deref()).await?;
        let server = authority.identity();
        let first = self.state().server.get_or_insert_with(|| server.clone()).clone();
        if first != server {
            let issuer =
                |server: &ServerIdentity| server.issuer.clone().unwrap_or_else(|| server.token_endpoint.clone());
            return Err(CredentialError::OtherIssuer {
                backend: self.context.name.clone(),
                found: http_client::quote(&issuer(&server)),
                expected: http_client::quote(&issuer(&first)),
            });
        }
        let credentials = authority.grant(&scopes).await?;
        self.adopt(&credentials, TokenOrigin::Granted)
    }

    async fn forget(&self, store: &TokenStore, mut kept: StoredLogin, client: bool) {
        kept.credentials = None;
        if client {
            kept.client = None;
        }
        store.save(kept).await;
        self.state().held = None;
    }
}
