//! Programs that log in with credentials of their own.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::*;

fn program() -> OAuthSettings {
    OAuthSettings {
        flow: OAuthFlow::ClientCredentials,
        client_id: Some("robot".to_owned()),
        client_secret: Some("r0bot-s3cret".into()),
        ..OAuthSettings::default()
    }
}

fn robots() -> Script {
    Script {
        clients: [("robot".to_owned(), Some("r0bot-s3cret".to_owned()))].into(),
        expires_in: Some(3600),
        ..Script::default()
    }
}

#[tokio::test]
async fn a_program_needs_no_person_and_no_file() {
    let harness = LoginHarness::new(robots(), program(), Person::Ignores).await;
    let answers = join_all((0..10).map(|_| harness.request("read"))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}");
    assert_eq!((harness.asked(), harness.server.count("/token")), (0, 1));
    assert_eq!(harness.server.script().asked["grant_type"], "client_credentials");
    assert!(!harness.folder.path().join("tokens").exists());
}

#[tokio::test]
async fn it_gets_another_before_the_last_expires_or_when_it_is_refused() {
    let harness = LoginHarness::new(robots(), program(), Person::Ignores).await;
    assert_eq!(harness.request("").await, Ok(200));
    for (seconds, revoke) in [(3550, false), (60, true)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        if revoke {
            harness.server.script().tokens.clear();
        }
        assert_eq!(harness.request("").await, Ok(200));
    }
    assert_eq!(harness.server.count("/token"), 3);
}

#[tokio::test]
async fn it_asks_for_more_scopes_where_they_are_needed() {
    let harness = LoginHarness::new(robots(), program(), Person::Ignores).await;
    assert_eq!(harness.request("read").await, Ok(200));
    assert_eq!(harness.request("write").await, Ok(200));
    let asked = harness.server.script().asked["scope"].clone();
    assert!(asked.contains("read") && asked.contains("write"), "what it could do before it still can: {asked}");
}

#[tokio::test]
async fn a_wrong_secret_is_told() {
    let settings = OAuthSettings { client_secret: Some("wr0ng-s3cret".into()), ..program() };
    let harness = LoginHarness::new(robots(), settings, Person::Ignores).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("invalid_client") && error.contains("check the client id and secret"), "{error}");
    assert!(!error.contains("wr0ng"), "{error}");
}

#[tokio::test]
async fn basic_authentication_is_used_where_nothing_else_is_taken() {
    let metadata = json!({ "token_endpoint_auth_methods_supported": ["client_secret_basic"] });
    let harness = LoginHarness::new(Script { metadata, ..robots() }, program(), Person::Ignores).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert!(!harness.server.script().asked.contains_key("client_secret"));
    let metadata = json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] });
    let harness = LoginHarness::new(Script { metadata, ..robots() }, program(), Person::Ignores).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("private_key_jwt"), "{error}");
}

#[tokio::test]
async fn a_server_with_no_page_for_people_will_do() {
    let metadata = json!({ "authorization_endpoint": null });
    let harness = LoginHarness::new(Script { metadata, ..robots() }, program(), Person::Ignores).await;
    assert_eq!(harness.request("").await, Ok(200));
}

#[tokio::test]
async fn the_secret_goes_to_the_first_server_only() {
    let harness = LoginHarness::new(robots(), program(), Person::Ignores).await;
    assert_eq!(harness.request("").await, Ok(200));
    let thief = LoginServer::start(Script { resource: Some(harness.server.backend()), ..robots() }).await;
    harness.server.script().elsewhere = Some(thief.origin.clone());
    harness.server.script().tokens.clear();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains(&thief.origin) && error.contains("issuer"), "{error}");
    assert_eq!(thief.count("/token"), 0);
}
