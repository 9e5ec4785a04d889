//! Logins by a person.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::server::Instead;
use super::*;

#[tokio::test]
async fn a_person_logs_in() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.oauth.token().await, Ok(None), "nobody is asked before the backend asks");
    assert_eq!(harness.asked(), 0);
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.request("read").await, Ok(200), "the scope that the resource's metadata names");
    assert_eq!((harness.asked(), harness.server.count("/register"), harness.server.count("/token")), (1, 1, 1));
    let page = harness.pages.lock().unwrap().concat();
    assert!(page.contains("You are logged in"), "{page}");
    let kept = read_json(&harness.token_file());
    assert_eq!(kept["client"]["id"], "client-1");
    assert!(kept["credentials"]["token_response"]["refresh_token"].is_string(), "{kept}");
}

#[tokio::test]
async fn others_do_not_disturb_it() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::IsDisturbed).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.server.count("/token"), 1, "the forged code was not even tried");
}

#[tokio::test]
async fn many_sessions_share_one_login() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::LogsIn).await;
    let answers = join_all((0..20).map(|_| harness.request(""))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}");
    assert_eq!((harness.asked(), harness.server.count("/token")), (1, 1));
}

#[tokio::test]
async fn two_processes_share_one_login() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::LogsIn).await;
    let other = harness.again(OAuthSettings::default(), Person::LogsIn);
    let (one, two) = tokio::join!(harness.request(""), other.request(""));
    assert_eq!((one, two), (Ok(200), Ok(200)));
    assert_eq!(harness.asked() + other.asked(), 1);
}

#[tokio::test]
async fn tokens_survive_a_restart() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.request("").await, Ok(200));
    let again = harness.again(OAuthSettings::default(), Person::LogsIn);
    assert_eq!(again.request("").await, Ok(200));
    assert_eq!(again.asked(), 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(harness.token_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_registration_is_used_again() {
    let harness = LoginHarness::new(
        Script { gives_secrets: true, ..open_registration() },
        OAuthSettings::default(),
        Person::LogsIn,
    )
    .await;
    assert_eq!(harness.request("").await, Ok(200));
    harness.server.script().tokens.clear();
    harness.server.script().refresh_tokens.clear();
    let again = harness.again(OAuthSettings::default(), Person::LogsIn);
    assert_eq!(again.request("").await, Ok(200));
    assert_eq!((again.asked(), harness.server.count("/register")), (1, 1));
}

#[tokio::test]
async fn a_client_that_was_configured_is_not_registered() {
    let script = Script { clients: [("mine".to_owned(), Some("s3cret".to_owned()))].into(), ..open_registration() };
    let settings = OAuthSettings {
        client_id: Some("mine".to_owned()),
        client_secret: Some("s3cret".into()),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        ..OAuthSettings::default()
    };
    let harness = LoginHarness::new(script, settings, Person::LogsIn).await;
    assert_eq!(harness.request("write").await, Ok(200));
    assert_eq!(harness.server.count("/register"), 0);
    let kept = std::fs::read_to_string(harness.token_file()).unwrap();
    assert!(!kept.contains("s3cret"), "that stands in the configuration already: {kept}");
}

#[tokio::test]
async fn a_metadata_document_goes_before_registration() {
    let document = "https://sessile.example/client.json".to_owned();
    let settings = OAuthSettings { client_metadata_url: Some(document.clone()), ..OAuthSettings::default() };
    let harness =
        LoginHarness::new(Script { documents: true, ..open_registration() }, settings.clone(), Person::LogsIn).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.server.count("/register"), 0);
    assert_eq!(harness.server.script().asked["client_id"], document);
    let without = LoginHarness::new(open_registration(), settings, Person::LogsIn).await;
    assert_eq!(without.request("").await, Ok(200));
    assert_eq!(without.server.count("/register"), 1, "the server does not take documents");
}

#[tokio::test]
async fn redirects_go_where_they_were_registered() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = format!("http://localhost:{free}/oauth/callback");
    let settings = OAuthSettings { redirect_uri: Some(uri.clone()), ..OAuthSettings::default() };
    let harness = LoginHarness::new(open_registration(), settings, Person::LogsIn).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.server.script().asked["redirect_uri"], uri);
}

#[tokio::test]
async fn a_port_that_is_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = OAuthSettings { redirect_port: Some(port), ..OAuthSettings::default() };
    let harness = LoginHarness::new(open_registration(), settings, Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("free that port"), "{error}");
}

#[tokio::test]
async fn who_says_no_is_not_asked_at_once_again() {
    let harness =
        LoginHarness::new(Script { denies: true, ..open_registration() }, OAuthSettings::default(), Person::LogsIn)
            .await;
    for _ in 0..3 {
        let error = harness.request("").await.unwrap_err().to_string();
        assert!(error.contains("access_denied: <b>no</b>") && error.contains("begins a new one"), "{error}");
    }
    assert_eq!(harness.asked(), 1);
    let page = harness.pages.lock().unwrap().concat();
    assert!(page.contains("&lt;b&gt;no") && !page.contains("<b>"), "{page}");
    harness.server.script().denies = false;
    tokio::time::pause();
    tokio::time::advance(FAILED_LOGIN_PAUSE).await;
    tokio::time::resume();
    assert_eq!(harness.request("").await, Ok(200));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let settings = OAuthSettings::default();
    let harness = LoginHarness::new(open_registration(), settings, Person::Ignores).await;
    let login = harness.request("");
    tokio::pin!(login);
    loop {
        tokio::select! {
            biased;
            outcome = &mut login => panic!("it ended before its time: {outcome:?}"),
            () = tokio::task::yield_now() => {}
        }
        if harness.asked() == 1 {
            break;
        }
    }
    tokio::time::pause();
    let before = Instant::now();
    let error = login.await.unwrap_err().to_string();
    assert!(error.contains("nobody logged in") && error.contains("begins a new login"), "{error}");
    assert!(error.contains(&harness.token_file().display().to_string()), "{error}");
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(290) && waited <= Duration::from_secs(301), "{waited:?}");
}

#[tokio::test]
async fn the_listener_goes_with_the_last_who_waits() {
    let urls = Arc::new(Mutex::new(Vec::new()));
    let noted = urls.clone();
    let server = LoginServer::start(open_registration()).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = OAuthSettings {
        token_dir: Some(folder.path().to_owned()),
        open_browser: false,
        announce: Some(Announce::new(move |url| noted.lock().unwrap().push(Url::parse(url).unwrap()))),
        ..OAuthSettings::default()
    };
    let oauth = Arc::new(OAuth::new(&server.backend(), settings));
    let start = || {
        let (oauth, server) = (oauth.clone(), server.clone());
        tokio::spawn(async move { request(&oauth, &server, "").await })
    };
    let (one, two) = (start(), start());
    while urls.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let redirect = {
        let urls = urls.lock().unwrap();
        let (_, uri) = urls[0].query_pairs().find(|(name, _)| name == "redirect_uri").unwrap();
        Url::parse(&uri).unwrap()
    };
    let there = || tokio::net::TcpStream::connect(("127.0.0.1", redirect.port().unwrap()));
    assert!(there().await.is_ok());
    // Both may have come to wait, or one may still be on its way: the listener stays as long as one is left.
    tokio::time::sleep(Duration::from_millis(50)).await;
    one.abort();
    let _ = one.await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(there().await.is_ok());
    two.abort();
    let _ = two.await;
    assert!(there().await.is_err(), "nobody waits any more");
    assert_eq!(urls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_login_for_more_scopes() {
    let harness = LoginHarness::new(open_registration(), OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.request("read").await, Ok(200));
    assert_eq!(harness.request("write").await, Ok(200));
    assert_eq!(harness.asked(), 2);
    assert_eq!(harness.request("read").await, Ok(200), "what it could do before it still can");
    assert_eq!(harness.asked(), 2);
}

#[tokio::test]
async fn scopes_that_are_not_given_are_not_asked_for_again() {
    let script = Script { grants: vec!["read".to_owned()], ..open_registration() };
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.request("read").await, Ok(200));
    for _ in 0..3 {
        let error = harness.request("write").await.unwrap_err().to_string();
        assert!(error.contains("`write`"), "{error}");
    }
    assert_eq!(harness.asked(), 2, "once to log in, once for more");
    assert_eq!(harness.request("read").await, Ok(200));
}

#[tokio::test]
async fn a_token_that_is_refused_at_once_ends_it() {
    let script = Script { refuses_all: true, ..open_registration() };
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.request("").await, Ok(401), "the second answer is the backend's own");
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("just given"), "{error}");
    assert_eq!(harness.asked(), 1);
}

#[tokio::test]
async fn a_server_that_registers_nobody_is_told() {
    let harness = LoginHarness::new(Script::default(), OAuthSettings::default(), Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("client id") && error.contains("configure it"), "{error}");
}

#[tokio::test]
async fn a_backend_without_oauth_is_told() {
    let mut script = Script::default();
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"] {
        script.instead.insert(path.to_owned(), Instead::Status(404));
    }
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("nowhere how to log in") && error.contains("bearer token"), "{error}");
}

#[tokio::test]
async fn a_server_without_pkce_is_refused() {
    let script = Script { metadata: json!({ "code_challenge_methods_supported": ["plain"] }), ..open_registration() };
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("PKCE"), "{error}");
}

#[tokio::test]
async fn the_issuer_may_be_pinned() {
    let settings = OAuthSettings { issuer: Some("https://login.example.com".to_owned()), ..OAuthSettings::default() };
    let harness = LoginHarness::new(open_registration(), settings, Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("https://login.example.com") && error.contains(&harness.server.origin), "{error}");
    assert_eq!(harness.asked(), 0);
}
