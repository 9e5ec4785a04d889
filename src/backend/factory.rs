//! Runs code that makes a server or an HTTP client: an embedder's closure, or the reading of the certificate store.
//!
//! Such code may block or panic. On a worker thread of the runtime it would stop other sessions as well, so it runs on
//! a blocking thread, and a panic ends only the link that was to be opened.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::error;

use super::panics;
use crate::link::{LinkContext, LinkExit};

/// Most factories that run at the same time. tokio has 512 blocking threads; factories that never return must leave
/// some of them to the start of processes and to the look-up of host names.
static RUNNING_FACTORIES: Semaphore = Semaphore::const_new(256);

/// Runs `factory` on a blocking thread and returns what it made. Returns `None` if the link is stopped while it waits
/// for a thread.
///
/// A factory cannot be interrupted: once it has begun, this returns when it has.
pub(super) async fn make<T: Send + 'static>(
    context: &LinkContext,
    factory: impl FnOnce() -> T + Send + 'static,
) -> Option<Result<T, LinkExit>> {
    let place = tokio::select! {
        biased;
        () = context.stop.cancelled() => return None,
        place = RUNNING_FACTORIES.acquire() => place.ok()?,
    };
    let making = spawn_blocking(move || {
        let _place = place;
        factory()
    });
    match making.await {
        Ok(made) => Some(Ok(made)),
        Err(error) => {
            // Without a panic it is the runtime that shuts down.
            let panic = error.try_into_panic().ok()?;
            let (session, server) = (&context.name, &context.server);
            error!(%session, %server, panic = panics::message(&*panic), "the backend's factory panicked");
            Some(Err(LinkExit::Failed { reason: "its factory panicked, and the log of the proxy says why".to_owned() }))
        }
    }
}
