//! A backend that wants a login, from the client's end: several sessions, one login, and errors that say what to do.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "../src/backend/oauth/tests/server.rs"]
#[expect(dead_code, reason = "the unit tests use more of it")]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(feature = "cli")]
use common::{HttpClient, HttpEndpoint, Reply};
use common::{LineClient, scripted_http};
use serde_json::{Value, json};
use server::{LoginServer, Script};
use sessile::{Announce, HttpBackend, OAuthFlow, OAuthSettings, Proxy, Transport};

/// A client on lines that asks one thing after the other.
struct Client(LineClient);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        Self(LineClient::new(proxy, 64 * 1024))
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params });
        self.0.says(&request.to_string()).await;
        self.0.hears_json().await
    }

    async fn open(&mut self) -> Value {
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        self.ask("initialize", params).await
    }
}

fn proxy(server: &LoginServer, settings: OAuthSettings) -> Proxy {
    let backend = HttpBackend::new(server.backend().as_str()).unwrap().transport(Transport::Http);
    Proxy::builder().backend(backend.oauth(settings).unwrap()).build().unwrap()
}

fn login(folder: &tempfile::TempDir, asked: &Arc<AtomicUsize>) -> OAuthSettings {
    let asked = asked.clone();
    OAuthSettings {
        token_dir: Some(folder.path().to_owned()),
        open_browser: false,
        announce: Some(Announce::new(move |url| {
            asked.fetch_add(1, Ordering::Relaxed);
            // The browser follows the redirect to the listener by itself.
            let url = url.to_owned();
            tokio::spawn(async move { reqwest::get(url).await.map(|response| response.status()) });
        })),
        ..OAuthSettings::default()
    }
}

#[tokio::test]
async fn sessions_of_a_guarded_backend_share_one_login() {
    let server = LoginServer::start(Script { registers: true, expires_in: Some(3600), ..Script::default() }).await;
    let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
    let proxy = proxy(&server, login(&folder, &asked));
    let (mut one, mut two) = (Client::connect(&proxy), Client::connect(&proxy));
    let (first, second) = tokio::join!(one.open(), two.open());
    for initialize_result in [first, second] {
        assert_eq!(initialize_result["result"]["serverInfo"]["name"], "guarded", "{initialize_result}");
    }
    let tools = one.ask("tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"][0]["name"], "open", "{tools}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(server.count("/token"), 1);

    // The next token is fetched where nobody notices.
    server.script().tokens.clear();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let tools = two.ask("tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"][0]["name"], "open", "{tools}");
    assert_eq!((asked.load(Ordering::Relaxed), server.count("/token")), (1, 2));
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_to_the_client() {
    let server = LoginServer::start(Script { registers: true, denies: true, ..Script::default() }).await;
    let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
    let proxy = proxy(&server, login(&folder, &asked));
    let refused = Client::connect(&proxy).open().await;
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("access_denied") && message.contains("begins a new one"), "{refused}");
}

#[tokio::test]
async fn a_program_logs_in_by_itself() {
    let secret = "r0bot-s3cret";
    let clients = [("robot".to_owned(), Some(secret.to_owned()))].into();
    let server = LoginServer::start(Script { clients, ..Script::default() }).await;
    let settings = OAuthSettings {
        flow: OAuthFlow::ClientCredentials,
        client_id: Some("robot".to_owned()),
        client_secret: Some(secret.into()),
        ..OAuthSettings::default()
    };
    let initialize_result = Client::connect(&proxy(&server, settings.clone())).open().await;
    assert_eq!(initialize_result["result"]["serverInfo"]["name"], "guarded", "{initialize_result}");

    let wrong = OAuthSettings { client_secret: Some("wr0ng".into()), ..settings };
    let refused = Client::connect(&proxy(&server, wrong)).open().await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("check the client id and secret"), "{refused}");
    assert!(!refused.to_string().contains("wr0ng"), "{refused}");
}

/// Opens a URL on this machine.
#[cfg(feature = "cli")]
async fn browse(url: &str) -> Reply {
    let url = url::Url::parse(url).unwrap();
    let address = url.socket_addrs(|| None).unwrap()[0];
    HttpClient::new(HttpEndpoint::Tcp(address))
        .request("GET")
        .path(url[url::Position::BeforePath..].to_owned())
        .send()
        .await
}

/// The library knows no commands; the program names the one that logs in.
#[cfg(feature = "cli")]
#[tokio::test]
async fn a_check_names_the_command_that_logs_in() {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    let server = LoginServer::start(Script { registers: true, denies: true, ..Script::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.backend();
    let mut check = tokio::process::Command::new(env!("CARGO_BIN_EXE_sessile"))
        .args(["check", "--json", "--no-browser", "--oauth", "login", "--oauth-token-dir"])
        .args([folder.path().as_os_str(), url.as_str().as_ref()])
        .env_remove("SESSILE_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(check.stderr.take().unwrap()).lines();
    let asked = common::soon("the program asks for a login", lines.next_line()).await.unwrap().unwrap();
    let (_, login) = asked.split_once(", open ").unwrap();
    // The server sends the browser back to the program.
    let redirect = browse(login).await;
    browse(redirect.header("location").unwrap()).await;
    let ended = common::soon("the check ends", check.wait_with_output()).await.unwrap();
    let table: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let error = table.to_string();
    assert!(error.contains("access_denied"), "{error}");
    assert!(error.contains(&format!("run `sessile check --oauth login {url}` in a terminal")), "{error}");
}
