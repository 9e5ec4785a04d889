//! Where the tokens of a login are kept between starts: one file for each backend and client, which its owner may read.
//!
//! Several processes may use the same file, so a process locks a file beside it before it changes it. Where nothing can
//! be written, the tokens are kept in memory.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::transport::auth::StoredCredentials;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::backend::credentials::CredentialError;
use crate::config::OAuthSettings;

/// The largest file, in bytes.
const MAX_STORE_FILE: u64 = 1024 * 1024;
/// How long to wait before a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(200);

/// What is stored of a login.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct StoredLogin {
    /// The backend, so that a person who looks into the file knows what it is about.
    #[serde(default)]
    pub backend: String,
    /// The authorization server that the client and the tokens belong to. They are sent to no other.
    #[serde(default)]
    pub server: Option<ServerIdentity>,
    /// The client that the tokens belong to.
    #[serde(default)]
    pub client: Option<ClientIdentity>,
    /// The tokens.
    #[serde(default)]
    pub credentials: Option<StoredCredentials>,
}

/// What identifies an authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerIdentity {
    pub issuer: Option<String>,
    pub token_endpoint: String,
}

/// The client as the authorization server knows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientIdentity {
    pub id: String,
    /// The secret of a client that registered itself. That of a configured client stands in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub redirect_uri: String,
    /// Whether the client registered itself.
    #[serde(default)]
    pub registered: bool,
}

/// The file with a login, and the memory that replaces it where it cannot be written.
#[derive(Clone)]
pub(super) struct TokenStore(Arc<StoreInner>);

struct StoreInner {
    path: PathBuf,
    memory: Mutex<Option<StoredLogin>>,
    warned: AtomicBool,
}

/// What a lock is for. There are two, because a login takes minutes, and a refresh must not wait for that.
#[derive(Debug, Clone, Copy)]
pub(super) enum LockKind {
    Change,
    Login,
}

/// A lock that is held until it is dropped. `None` where the file cannot be locked.
pub(super) struct TokenFileLock {
    _file: Option<File>,
}

impl TokenStore {
    pub(super) fn new(backend: &Url, settings: &OAuthSettings) -> Self {
        let client = settings.client_id.as_deref().or(settings.client_metadata_url.as_deref()).unwrap_or_default();
        let folder = settings.token_dir.clone().unwrap_or_else(|| default_folder(|name| std::env::var_os(name)));
        let path = folder.join(file_name(backend, client));
        Self(Arc::new(StoreInner { path, memory: Mutex::new(None), warned: AtomicBool::new(false) }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns what is stored; nothing if there is no such file, or none that can be read.
    pub(super) async fn load(&self) -> StoredLogin {
        let memory = self.0.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = memory {
            return kept;
        }
        let path = self.0.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        match read {
            Ok(Ok(kept)) => kept.unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::warn!(file = %self.0.path.display(), %error, "the tokens that were kept cannot be read, and a new login is needed");
                StoredLogin::default()
            }
            Err(_) => StoredLogin::default(),
        }
    }

    /// Replaces what is stored. If the file cannot be written, the login is kept in memory: a full disk must not undo a
    /// login.
    pub(super) async fn save(&self, kept: StoredLogin) {
        let (path, copy) = (self.0.path.clone(), kept.clone());
        let written = match tokio::task::spawn_blocking(move || write(&path, &copy)).await {
            Ok(written) => written,
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let failed = written.is_err();
        if let Err(error) = written {
            self.warn(&error);
        }
        *self.0.memory.lock().unwrap_or_else(PoisonError::into_inner) = failed.then_some(kept);
    }

    /// Takes a lock, and waits up to `patience` for another process that holds it.
    pub(super) async fn lock(&self, purpose: LockKind, patience: Duration) -> Result<TokenFileLock, CredentialError> {
        let path = self.0.path.with_extension(match purpose {
            LockKind::Change => "lock",
            LockKind::Login => "login.lock",
        });
        let until = Instant::now() + patience;
        loop {
            let tried = path.clone();
            let outcome = tokio::task::spawn_blocking(move || {
                let file = private_file(&tried)?;
                match file.try_lock() {
                    Ok(()) => Ok(Some(file)),
                    Err(TryLockError::WouldBlock) => Ok(None),
                    Err(TryLockError::Error(error)) => Err(error),
                }
            });
            match outcome.await {
                Ok(Ok(Some(file))) => return Ok(TokenFileLock { _file: Some(file) }),
                Ok(Ok(None)) if Instant::now() >= until => return Err(CredentialError::Locked { path }),
                Ok(Ok(None)) => sleep(LOCK_RETRY).await,
                Ok(Err(error)) => {
                    self.warn(&error);
                    return Ok(TokenFileLock { _file: None });
                }
                Err(_) => return Ok(TokenFileLock { _file: None }),
            }
        }
    }

    fn warn(&self, error: &io::Error) {
        if !self.0.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(file = %self.0.path.display(), %error, "tokens cannot be kept, and the next start needs a new login");
        }
    }
}

/// Returns a file name that is the same for the same backend and client, and short enough for every file system.
fn file_name(backend: &Url, client: &str) -> String {
    use std::fmt::Write as _;

    let mut canonical = backend.clone();
    canonical.set_fragment(None);
    let mut hash = Sha256::new();
    hash.update(canonical.as_str());
    hash.update([0]);
    hash.update(client);
    let mut name = String::new();
    for byte in &hash.finalize()[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    // The host is there for people who look for the file to delete.
    let host: String = canonical.host_str().unwrap_or_default().chars().take(60).collect();
    let host = host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "_");
    format!("{host}-{name}.json")
}

/// Returns where state belongs (XDG Base Directory Specification; the local application data on Windows). The crate
/// `dirs` has no folder for state on macOS and Windows.
fn default_folder(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> PathBuf {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| if cfg!(windows) { absolute("LOCALAPPDATA") } else { None })
        .or_else(|| Some(std::env::home_dir()?.join(".local").join("state")))
        .unwrap_or_else(|| PathBuf::from("."));
    state.join("sessile").join("tokens")
}

fn read(path: &Path) -> io::Result<Option<StoredLogin>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_STORE_FILE).read_to_end(&mut text)?;
    // The error of serde_json is not passed on, because it may quote a token.
    serde_json::from_slice(&text).map(Some).map_err(|_| io::Error::other("it is not as sessile writes it"))
}

fn write(path: &Path, kept: &StoredLogin) -> io::Result<()> {
    use std::io::Write as _;

    let folder = private_folder(path)?;
    // `tempfile` creates files that only their owner may read.
    let mut file = tempfile::Builder::new().prefix(".tokens-").tempfile_in(folder)?;
    serde_json::to_writer_pretty(&mut file, kept)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn private_folder(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    Ok(folder)
}

fn private_file(path: &Path) -> io::Result<File> {
    private_folder(path)?;
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path) -> TokenStore {
        let settings = OAuthSettings { token_dir: Some(folder.to_owned()), ..OAuthSettings::default() };
        TokenStore::new(&Url::parse("https://mcp.example.com/mcp").unwrap(), &settings)
    }

    fn kept() -> StoredLogin {
        StoredLogin { backend: "https://mcp.example.com/mcp".to_owned(), ..StoredLogin::default() }
    }

    #[test]
    fn backends_and_clients_have_files_of_their_own() {
        let name = |url: &str, client| file_name(&Url::parse(url).unwrap(), client);
        let one = name("https://Mcp.Example.com:443/mcp#x", "");
        assert_eq!(one, name("https://mcp.example.com/mcp", ""));
        assert!(
            one.starts_with("mcp.example.com-") && Path::new(&one).extension().is_some_and(|end| end == "json"),
            "{one}"
        );
        assert_ne!(one, name("https://mcp.example.com/other", ""));
        assert_ne!(one, name("https://mcp.example.com/mcp?team=1", ""));
        assert_ne!(one, name("https://mcp.example.com/mcp", "client"));
        assert!(name("https://[::1]:9/mcp", "").starts_with("___1_-"), "no colon, which Windows refuses");
    }

    #[cfg(unix)]
    #[test]
    fn tokens_are_state() {
        let folder = default_folder(|name| (name == "XDG_STATE_HOME").then(|| "/var/state".into()));
        assert_eq!(folder, Path::new("/var/state/sessile/tokens"));
        let relative = default_folder(|name| (name == "XDG_STATE_HOME").then(|| "state".into()));
        assert!(relative.ends_with(".local/state/sessile/tokens"), "{relative:?}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_may_read() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder.path().join("deep").join("tokens"));
        let _lock = store.lock(LockKind::Change, Duration::ZERO).await.unwrap();
        store.save(kept()).await;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.path()), 0o600);
        assert_eq!(mode(&store.path().with_extension("lock")), 0o600);
        assert_eq!(mode(store.path().parent().unwrap()), 0o700);
        // One that somebody has opened up is closed again.
        std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        store.save(kept()).await;
        assert_eq!(mode(store.path()), 0o600);
        assert_eq!(store.load().await.backend, kept().backend);
    }

    #[tokio::test]
    async fn what_makes_no_sense_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        for text in ["", "{", "[1]", r#"{"credentials":{"client_id":3}}"#] {
            std::fs::write(store.path(), text).unwrap();
            assert_eq!(store.load().await.backend, "", "{text}");
        }
        store.save(kept()).await;
        assert_eq!(store.load().await.backend, kept().backend);
    }

    #[tokio::test]
    async fn without_a_folder_memory_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let store = store(&file.join("tokens"));
        let _lock = store.lock(LockKind::Change, Duration::ZERO).await.unwrap();
        store.save(kept()).await;
        assert_eq!(store.load().await.backend, kept().backend);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_changes_them() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (store(folder.path()), store(folder.path()));
        let held = first.lock(LockKind::Change, Duration::ZERO).await.unwrap();
        let error = second.lock(LockKind::Change, Duration::from_secs(1)).await.err().unwrap();
        assert!(error.to_string().contains(".lock"), "{error}");
        assert!(second.lock(LockKind::Login, Duration::ZERO).await.is_ok(), "a login is another matter");
        drop(held);
        assert!(second.lock(LockKind::Change, Duration::ZERO).await.is_ok());
    }
}
