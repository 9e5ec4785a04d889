//! The errand that needs a person: a browser is sent to the authorization server and comes back with a code (RFC 6749,
//! section 4.1; RFC 7636; RFC 8252).

use std::sync::Arc;

use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::authority::Authority;
use super::client::quote;
use super::plan::Origin;
use super::redirect::{Page, Redirect, Return};
use super::store::{KnownClient, Purpose, Store};
use super::{Inner, Outcome, PATIENCE, browser};
use crate::backend::credentials::CredentialError;
use crate::config::Secret;

/// Lets a person log in, and asks for `scopes` besides those that are wanted anyway. When it is dropped, nobody listens for
/// the browser any more.
pub(super) async fn login(inner: Arc<Inner>, store: Store, scopes: Vec<String>) -> Outcome {
    let patience = inner.scene.settings.login_timeout;
    let end = Instant::now() + patience;
    // Two programs that need the same login share one: the other waits here, and then finds the tokens.
    let _lock = match store.lock(Purpose::Login, patience).await {
        Ok(lock) => lock,
        Err(CredentialError::Locked { .. }) => return Err(timed_out(&inner, &store)),
        Err(error) => return Err(error),
    };
    match timeout_at(end, attempt(&inner, &store, &scopes)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out(&inner, &store)),
    }
}

fn timed_out(inner: &Inner, store: &Store) -> CredentialError {
    // A server that has forgotten the client shows that to the person only.
    let hint = format!("; if the page says that the client is not known, delete {} first", store.path().display());
    CredentialError::TimedOut { backend: inner.scene.name.clone(), hint }
}

async fn attempt(inner: &Arc<Inner>, store: &Store, scopes: &[String]) -> Outcome {
    let scene = &inner.scene;
    let mut kept = store.load().await;
    if inner.adopt_if_better(&kept, scopes) {
        return Ok(());
    }
    let challenge = inner.state().challenge.clone();
    let mut authority = Authority::find(scene, challenge.as_deref()).await?;
    let server = authority.server();
    if kept.server.as_ref() != Some(&server) {
        // What is known belongs to another server.
        kept.client = None;
    }
    let last = kept.client.as_ref().map(|client| client.redirect_uri.as_str());
    let redirect = Redirect::bind(&scene.settings, last).await;
    let mut redirect = redirect.map_err(|(address, error)| CredentialError::Redirect {
        backend: scene.name.clone(),
        address,
        reason: error.to_string(),
    })?;
    let wanted = authority.scopes(scopes).await;
    let client = authority.identify(kept.client.as_ref(), redirect.uri(), &wanted).await?;
    if kept.client.as_ref() != Some(&client) || kept.server.as_ref() != Some(&server) {
        // Kept now, so that a login which is not finished needs no new registration next time.
        let _lock = store.lock(Purpose::Change, PATIENCE).await?;
        kept = store.load().await;
        if kept.server.as_ref() != Some(&server) {
            kept.credentials = None;
        }
        kept.backend.clone_from(&scene.name);
        kept.server = Some(server);
        kept.client = Some(client.clone());
        store.save(kept).await;
    }
    let (url, state) = authority.ask(&client, &wanted).await?;
    announce(inner, &url);

    let (back, waiting) = redirect.wait(state.clone()).await;
    let outcome = match back {
        Return::Refused { error, description } => {
            let reason = if description.is_empty() { error } else { format!("{error}: {description}") };
            Err(CredentialError::Denied { backend: scene.name.clone(), reason: quote(&reason) })
        }
        Return::Code { code, issuer } => {
            let trade = trade(inner.clone(), store.clone(), authority, client, [code, state], issuer);
            // The code is worth something once only: nobody who goes away now may waste it.
            tokio::spawn(trade).await.unwrap_or_else(|error| {
                Err(CredentialError::Internal { backend: scene.name.clone(), reason: error.to_string() })
            })
        }
    };
    let page = match &outcome {
        Ok(()) => Page::Done,
        Err(error) => Page::Failed(error.to_string()),
    };
    redirect.finish(waiting, page).await;
    outcome
}

/// Trades the code for tokens, and keeps them.
async fn trade(
    inner: Arc<Inner>,
    store: Store,
    authority: Authority,
    client: KnownClient,
    [code, state]: [Secret; 2],
    issuer: Option<String>,
) -> Outcome {
    let server = authority.server();
    let credentials = authority.redeem(&code, &state, issuer.as_deref()).await?;
    inner.adopt(&credentials, Origin::Given)?;
    // What was got counts even if another process is slow to let go of the file.
    let lock = timeout(PATIENCE, store.lock(Purpose::Change, PATIENCE)).await;
    let mut kept = store.load().await;
    kept.backend.clone_from(&inner.scene.name);
    kept.server = Some(server);
    kept.client = Some(client);
    kept.credentials = Some(credentials);
    store.save(kept).await;
    drop(lock);
    tracing::info!(backend = %inner.scene.name, "logged in");
    Ok(())
}

/// Tells the person where to log in. The `state` in the address is worth nothing without the code that comes back with it.
fn announce(inner: &Inner, url: &Url) {
    let settings = &inner.scene.settings;
    match &settings.announce {
        Some(announce) => announce.call(url.as_str()),
        None => {
            tracing::warn!(backend = %inner.scene.name, "log in: open this URL in a browser on this machine: {url}");
        }
    }
    if settings.open_browser
        && let Err(error) = browser::open(url)
    {
        tracing::info!(%error, "no browser could be opened");
    }
}
