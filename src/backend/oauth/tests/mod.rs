//! Logging in from end to end, against a scripted authorization server, with a person who is a closure.

mod bounds;
mod logins;
mod program;
mod renewals;
mod secrets;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::backend::scripted_http;
use crate::config::Announce;
use server::{LoginServer, Script};

/// What the person does with the address that they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Person {
    /// Follows it to its end.
    LogsIn,
    /// Somebody else's page comes to the listener first.
    IsDisturbed,
    /// Looks the other way.
    Ignores,
}

/// A backend that is logged in to, and how often somebody was asked to.
struct LoginHarness {
    server: LoginServer,
    oauth: Arc<OAuth>,
    asked: Arc<AtomicUsize>,
    pages: Arc<Mutex<Vec<String>>>,
    folder: Arc<tempfile::TempDir>,
}

impl LoginHarness {
    async fn new(script: Script, settings: OAuthSettings, person: Person) -> Self {
        let server = LoginServer::start(script).await;
        Self::on(server, Arc::new(tempfile::tempdir().unwrap()), settings, person)
    }

    /// The same backend and tokens, as another process has them.
    fn again(&self, settings: OAuthSettings, person: Person) -> Self {
        Self::on(self.server.clone(), self.folder.clone(), settings, person)
    }

    fn on(server: LoginServer, folder: Arc<tempfile::TempDir>, settings: OAuthSettings, person: Person) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let pages = Arc::new(Mutex::new(Vec::new()));
        let (count, shown) = (asked.clone(), pages.clone());
        let announce = Announce::new(move |url| {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(browse(url.to_owned(), person, shown.clone()));
        });
        let settings = OAuthSettings {
            token_dir: Some(folder.path().join("tokens")),
            open_browser: false,
            announce: Some(announce),
            ..settings
        };
        settings.check().unwrap();
        let oauth = Arc::new(OAuth::new(&server.backend(), settings));
        Self { server, oauth, asked, pages, folder }
    }

    /// One request, as an HTTP backend sends it: with the token, and once more if that helps. `scope` is what it needs.
    async fn request(&self, scope: &str) -> Result<u16, CredentialError> {
        request(&self.oauth, &self.server, scope).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn token_file(&self) -> std::path::PathBuf {
        let mut files: Vec<_> = std::fs::read_dir(self.folder.path().join("tokens"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }
}

async fn request(oauth: &OAuth, server: &LoginServer, scope: &str) -> Result<u16, CredentialError> {
    let mut url = server.backend();
    url.set_query(Some(scope).filter(|scope| !scope.is_empty()));
    let http = http_client();
    let mut again = true;
    loop {
        let token = oauth.token().await?;
        let mut request = http.post(url.clone());
        if let Some(token) = &token {
            request = request.header("authorization", token.header());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        if !matches!(status, 401 | 403) || !again {
            return Ok(status);
        }
        let challenges = response.headers().get_all("www-authenticate").iter();
        let challenges = challenges.map(|value| value.to_str().unwrap().to_owned()).collect();
        if !oauth.refused(token.as_ref(), &AuthRefusal { status, challenges }).await? {
            return Ok(status);
        }
        again = false;
    }
}

fn http_client() -> reqwest::Client {
    super::super::tls::ensure_provider();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

async fn browse(url: String, person: Person, pages: Arc<Mutex<Vec<String>>>) {
    if person == Person::Ignores {
        return;
    }
    let http = http_client();
    let response = http.get(&url).send().await.unwrap();
    let Some(back) = response.headers().get("location") else {
        let page = response.text().await.unwrap();
        pages.lock().unwrap().push(page);
        return;
    };
    let back = Url::parse(back.to_str().unwrap()).unwrap();
    if person == Person::IsDisturbed {
        let mut forged = back.clone();
        forged.set_query(Some("code=stolen&state=guessed"));
        let page = http.get(forged).send().await.unwrap();
        assert_eq!(page.status(), 400);
        let mut elsewhere = back.clone();
        elsewhere.set_path("/favicon.ico");
        assert_eq!(http.get(elsewhere).send().await.unwrap().status(), 404);
        assert_eq!(http.post(back.clone()).send().await.unwrap().status(), 405);
    }
    let page = http.get(back).send().await.unwrap().text().await.unwrap();
    pages.lock().unwrap().push(page);
}

/// A server at which clients register themselves.
fn open_registration() -> Script {
    Script { registers: true, expires_in: Some(3600), ..Script::default() }
}

fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
