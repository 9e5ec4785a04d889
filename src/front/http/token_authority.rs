//! Lets clients in by the tokens of a file, and ends what is theirs when their tokens are taken out of it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::leases::{Lease, Leases};
use crate::principal::Principal;
use crate::session::{EndReason, Registry};
use crate::tokens::{KnownTokensFile, TokenFileError, TokenHash};

/// How often the file is looked at. A version counts when two looks have found it, so it counts after a second at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Lets clients in by the tokens of a file.
#[derive(Debug)]
pub(crate) struct TokenAuthority {
    file: Mutex<KnownTokensFile>,
    leases: Mutex<Leases>,
    registry: Arc<Registry>,
    /// The task that follows the file.
    following: Mutex<Option<JoinHandle<()>>>,
}

impl TokenAuthority {
    /// Reads the file. It is followed from the first request on, because a proxy may be built where no runtime is.
    /// Sessions whose principals have no token left are those of `registry`.
    pub(crate) fn open(path: &Path, registry: Arc<Registry>) -> Result<Self, TokenFileError> {
        let (file, known) = KnownTokensFile::open(path)?;
        let leases = Mutex::new(Leases::new(known));
        Ok(Self { file: Mutex::new(file), leases, registry, following: Mutex::default() })
    }

    /// Lets a request in, if its token is known. `cut` ends its connection.
    pub(super) fn admit(self: &Arc<Self>, token: &[u8], cut: CancellationToken) -> Option<Lease> {
        self.follow();
        let admission = self.leases().admit(TokenHash::of(token), cut)?;
        Some(Lease::new(self.clone(), admission))
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    /// Sees to it that the file is followed.
    fn follow(self: &Arc<Self>) {
        let mut following = lock(&self.following);
        if following.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        // Nobody has looked for a while, so these two looks stand for the ones that were left out.
        self.look();
        self.look();
        *following = Some(tokio::spawn(look_again_and_again(Arc::downgrade(self))));
    }

    /// Looks at the file, and obeys what is new in it.
    fn look(&self) {
        self.leases().cut_overdue();
        let mut file = lock(&self.file);
        let known = match file.look() {
            None => return,
            Some(Err(error)) => {
                warn!(%error, "the tokens that were known before stay known");
                return;
            }
            Some(Ok(known)) => known,
        };
        let (gone, names) = {
            let mut leases = self.leases();
            (leases.replace(known), leases.names())
        };
        info!(file = %file.path().display(), names, "the tokens have changed");
        for session in self.registry.all() {
            // A session that is being opened right now is ended by its request, which ends with its token.
            if matches!(&session.facts().principal, Principal::Token { name } if gone.contains(name)) {
                info!(session = %session.facts().id, principal = %session.facts().principal, "its principal has no token left");
                session.end(EndReason::Revoked);
            }
        }
    }
}

impl Drop for TokenAuthority {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.following).take() {
            task.abort();
        }
    }
}

async fn look_again_and_again(authority: Weak<TokenAuthority>) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(authority) = authority.upgrade() else { return };
        authority.look();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tokio::task::yield_now;

    use super::*;
    use crate::tokens::NewToken;

    fn authority(path: &Path, tokens: &[&NewToken]) -> Arc<TokenAuthority> {
        write(path, tokens);
        Arc::new(TokenAuthority::open(path, Arc::default()).unwrap())
    }

    fn write(path: &Path, tokens: &[&NewToken]) {
        let lines: Vec<_> = tokens.iter().map(|new| new.line()).collect();
        std::fs::write(path, lines.join("\n")).unwrap();
    }

    fn admit(authority: &Arc<TokenAuthority>, new: &NewToken) -> Option<Lease> {
        authority.admit(new.expose().as_bytes(), CancellationToken::new())
    }

    // Without a runtime: a proxy may be built before there is one.
    #[test]
    fn what_has_changed_before_the_first_request_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let [alice, bob] = ["alice", "bob"].map(|name| NewToken::generate(name).unwrap());
        let authority = authority(&path, &[&alice]);
        write(&path, &[&bob]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(admit(&authority, &alice).is_none());
            assert_eq!(admit(&authority, &bob).unwrap().principal().to_string(), "token \"bob\"");
        });
        // The task has ended with the runtime. In another one it begins anew.
        drop(runtime);
        write(&path, &[&alice]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { assert!(admit(&authority, &bob).is_none() && admit(&authority, &alice).is_some()) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let [alice, bob] = ["alice", "bob"].map(|name| NewToken::generate(name).unwrap());
        let authority = authority(&path, &[&alice, &bob]);
        let [hers, his] = [&alice, &bob].map(|new| admit(&authority, new).unwrap());
        write(&path, &[&bob]);
        let begin = tokio::time::Instant::now();
        hers.revoked().await;
        assert!(begin.elapsed() <= LOOK_EVERY * 2, "{:?}", begin.elapsed());
        assert!(admit(&authority, &alice).is_none() && admit(&authority, &bob).is_some());
        assert!(futures_util::FutureExt::now_or_never(his.revoked()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_follows_the_file_of_a_proxy_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let alice = NewToken::generate("alice").unwrap();
        let authority = authority(&path, &[&alice]);
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let lease = admit(&authority, &alice);
        assert_eq!(tasks(), before + 1);
        drop(admit(&authority, &alice));
        assert_eq!(tasks(), before + 1, "there is one task");
        drop((authority, lease));
        yield_now().await;
        assert_eq!(tasks(), before);
    }
}
