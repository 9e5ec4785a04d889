//! A login by a person: the person's browser is sent to the authorization server and comes back with a code (RFC 6749,
//! section 4.1; RFC 7636; RFC 8252).

use std::sync::Arc;

use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::authorization_server::AuthorizationServer;
use super::http_client::quote;
use super::plan::TokenOrigin;
use super::redirect_listener::{AuthorizationResponse, LoginPage, RedirectListener};
use super::store::{ClientIdentity, LockKind, TokenStore};
use super::{LOCK_TIMEOUT, OAuthTokens, TaskOutcome, browser};
use crate::backend::credentials::CredentialError;
use crate::config::Secret;

/// Has a person log in, and asks for `scopes` besides the usual ones. If this future is dropped, the address to which
/// the browser returns is closed.
pub(super) async fn login(tokens: Arc<OAuthTokens>, store: TokenStore, scopes: Vec<String>) -> TaskOutcome {
    let patience = tokens.context.settings.login_timeout;
    let end = Instant::now() + patience;
    // Two processes that need the same login share one: the second waits for this lock, and then finds the tokens.
    let _lock = match store.lock(LockKind::Login, patience).await {
        Ok(lock) => lock,
        Err(CredentialError::Locked { .. }) => return Err(timed_out(&tokens, &store)),
        Err(error) => return Err(error),
    };
    match timeout_at(end, log_in_once(&tokens, &store, &scopes)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out(&tokens, &store)),
    }
}

fn timed_out(tokens: &OAuthTokens, store: &TokenStore) -> CredentialError {
    // A server that has forgotten the client says so only on the page that the person sees.
    let hint = format!("; if the page says that the client is not known, delete {} first", store.path().display());
    CredentialError::TimedOut { backend: tokens.context.name.clone(), hint }
}

async fn log_in_once(tokens: &Arc<OAuthTokens>, store: &TokenStore, scopes: &[String]) -> TaskOutcome {
    let context = &tokens.context;
    let mut kept = store.load().await;
    if tokens.adopt_if_better(&kept, scopes) {
        return Ok(());
    }
    let challenge = tokens.state().challenge.clone();
    let mut authority = AuthorizationServer::discover(context, challenge.as_deref()).await?;
    let server = authority.identity();
    if kept.server.as_ref() != Some(&server) {
        // The stored client was registered at another server.
        kept.client = None;
    }
    let last = kept.client.as_ref().map(|client| client.redirect_uri.as_str());
    let redirect = RedirectListener::bind(&context.settings, last).await;
    let mut redirect = redirect.map_err(|(address, error)| CredentialError::Redirect {
        backend: context.name.clone(),
        address,
        reason: error.to_string(),
    })?;
    let wanted = authority.scopes(scopes).await;
    let client = authority.identify(kept.client.as_ref(), redirect.uri(), &wanted).await?;
    if kept.client.as_ref() != Some(&client) || kept.server.as_ref() != Some(&server) {
        // Stored before the login, so that an unfinished login needs no new registration next time.
        let _lock = store.lock(LockKind::Change, LOCK_TIMEOUT).await?;
        kept = store.load().await;
        if kept.server.as_ref() != Some(&server) {
            kept.credentials = None;
        }
        kept.backend.clone_from(&context.name);
        kept.server = Some(server);
        kept.client = Some(client.clone());
        store.save(kept).await;
    }
    let (url, state) = authority.authorization_url(&client, &wanted).await?;
    announce_url(tokens, &url);

    let (back, waiting) = redirect.wait(state.clone()).await;
    let outcome = match back {
        AuthorizationResponse::Refused { error, description } => {
            let reason = if description.is_empty() { error } else { format!("{error}: {description}") };
            Err(CredentialError::Denied { backend: context.name.clone(), reason: quote(&reason) })
        }
        AuthorizationResponse::Code { code, issuer } => {
            let exchange = exchange_and_store(tokens.clone(), store.clone(), authority, client, [code, state], issuer);
            // A code can be traded once. The trade is a task of its own, so that it goes on if this future is dropped.
            tokio::spawn(exchange).await.unwrap_or_else(|error| {
                Err(CredentialError::Internal { backend: context.name.clone(), reason: error.to_string() })
            })
        }
    };
    let page = match &outcome {
        Ok(()) => LoginPage::Done,
        Err(error) => LoginPage::Failed(error.to_string()),
    };
    redirect.finish(waiting, page).await;
    outcome
}

/// Trades the code for tokens, and stores them.
async fn exchange_and_store(
    tokens: Arc<OAuthTokens>,
    store: TokenStore,
    authority: AuthorizationServer,
    client: ClientIdentity,
    [code, state]: [Secret; 2],
    issuer: Option<String>,
) -> TaskOutcome {
    let server = authority.identity();
    let credentials = authority.exchange_code(&code, &state, issuer.as_deref()).await?;
    tokens.adopt(&credentials, TokenOrigin::Granted)?;
    // The tokens are stored even if another process does not release the lock in time.
    let lock = timeout(LOCK_TIMEOUT, store.lock(LockKind::Change, LOCK_TIMEOUT)).await;
    let mut kept = store.load().await;
    kept.backend.clone_from(&tokens.context.name);
    kept.server = Some(server);
    kept.client = Some(client);
    kept.credentials = Some(credentials);
    store.save(kept).await;
    drop(lock);
    tracing::info!(backend = %tokens.context.name, "logged in");
    Ok(())
}

/// Tells the person where to log in. The URL may be logged: the `state` in it is useless without the code that comes
/// back.
fn announce_url(tokens: &OAuthTokens, url: &Url) {
    let settings = &tokens.context.settings;
    match &settings.announce {
        Some(announce) => announce.call(url.as_str()),
        None => {
            tracing::warn!(backend = %tokens.context.name, "log in: open this URL in a browser on this machine: {url}");
        }
    }
    if settings.open_browser
        && let Err(error) = browser::open(url)
    {
        tracing::info!(%error, "no browser could be opened");
    }
}
