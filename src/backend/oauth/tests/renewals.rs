//! Tokens that get old, and what follows.

use std::time::Duration;

use futures_util::future::join_all;

use super::server::Instead;
use super::*;

/// Lets time pass, without letting timers of connections run out before their answers come.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

async fn logged_in(script: Script) -> LoginHarness {
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.asked(), 1);
    harness
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let harness = logged_in(open_registration()).await;
    pass(3500).await;
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.server.count("/token"), 1);
    pass(60).await;
    let answers = join_all((0..10).map(|_| harness.request(""))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}");
    assert_eq!((harness.asked(), harness.server.count("/token")), (1, 2), "once for all");
    assert_eq!(harness.server.script().asked["grant_type"], "refresh_token");
}

#[tokio::test]
async fn a_token_is_renewed_when_it_is_refused() {
    let harness = logged_in(open_registration()).await;
    pass(60).await;
    harness.server.script().tokens.clear();
    let answers = join_all((0..10).map(|_| harness.request(""))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}");
    assert_eq!((harness.asked(), harness.server.count("/token")), (1, 2));
}

#[tokio::test]
async fn rotated_refresh_tokens_are_kept() {
    let harness = logged_in(Script { rotates: true, ..open_registration() }).await;
    for _ in 0..3 {
        pass(3590).await;
        assert_eq!(harness.request("").await, Ok(200));
    }
    let again = harness.again(OAuthSettings::default(), Person::LogsIn);
    harness.server.script().tokens.clear();
    assert_eq!(again.request("").await, Ok(200));
    assert_eq!((again.asked(), harness.server.script().reused), (0, 0));
}

#[tokio::test]
async fn processes_do_not_use_up_each_others_refresh_tokens() {
    let harness = logged_in(Script { rotates: true, ..open_registration() }).await;
    let others: Vec<_> = (0..4).map(|_| harness.again(OAuthSettings::default(), Person::LogsIn)).collect();
    for other in &others {
        assert_eq!(other.request("").await, Ok(200));
    }
    pass(60).await;
    harness.server.script().tokens.clear();
    let answers = join_all(others.iter().map(|other| other.request(""))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}");
    assert_eq!(harness.server.count("/token"), 2, "one of them renewed it, and the others found it");
    assert_eq!(harness.server.script().reused, 0);
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(others.iter().map(LoginHarness::asked).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_refresh_that_was_left_alone_is_kept_all_the_same() {
    let harness = logged_in(Script { rotates: true, ..open_registration() }).await;
    pass(3590).await;
    let refresh = harness.oauth.token();
    // It has begun, and nobody waits for it any more.
    assert!(tokio::time::timeout(Duration::ZERO, refresh).await.is_err());
    while harness.server.count("/token") < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.server.script().reused, 0);
    assert_eq!(harness.asked(), 1);
}

#[tokio::test]
async fn when_the_refresh_token_is_void_a_person_logs_in_again() {
    let harness = logged_in(open_registration()).await;
    harness.server.script().refresh_tokens.clear();
    pass(3600).await;
    harness.server.script().tokens.clear();
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!((harness.asked(), harness.server.count("/register")), (2, 1));
}

#[tokio::test]
async fn without_a_refresh_token_a_person_logs_in_again() {
    let harness = logged_in(open_registration()).await;
    let mut kept = read_json(&harness.token_file());
    kept["credentials"]["token_response"].as_object_mut().unwrap().remove("refresh_token");
    kept["credentials"]["token_received_at"] = serde_json::json!(1000);
    std::fs::write(harness.token_file(), kept.to_string()).unwrap();
    harness.server.script().tokens.clear();
    let again = harness.again(OAuthSettings::default(), Person::LogsIn);
    assert_eq!(again.request("").await, Ok(200));
    assert_eq!(again.asked(), 1);
}

#[tokio::test]
async fn a_client_that_was_forgotten_registers_again() {
    let harness = logged_in(open_registration()).await;
    harness.server.script().clients.clear();
    harness.server.script().tokens.clear();
    pass(60).await;
    // The page would say that the client is not known: the token endpoint has said so before.
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!((harness.asked(), harness.server.count("/register")), (2, 2));
}

#[tokio::test]
async fn a_server_that_is_down_costs_nothing_until_the_token_expires() {
    let harness = logged_in(open_registration()).await;
    harness.server.script().instead.insert("/token".to_owned(), Instead::Status(503));
    pass(3550).await;
    for _ in 0..3 {
        assert_eq!(harness.request("").await, Ok(200), "the token is good for some seconds more");
    }
    assert_eq!(harness.server.count("/token"), 2, "it is not asked for each request");
    pass(60).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("could not be renewed"), "{error}");
    harness.server.script().instead.clear();
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.asked(), 1, "no person was needed");
}

#[tokio::test]
async fn a_refresh_token_is_not_shown_to_another_server() {
    let harness = logged_in(open_registration()).await;
    let thief = LoginServer::start(Script { resource: Some(harness.server.backend()), ..open_registration() }).await;
    harness.server.script().elsewhere = Some(thief.origin.clone());
    harness.server.script().tokens.clear();
    pass(60).await;
    // A person sees where they are sent, so that is not refused; but what was got from the first server stays with it.
    assert_eq!(harness.request("").await, Ok(401));
    assert_eq!((harness.server.count("/token"), harness.asked()), (1, 2));
    assert_eq!((thief.count("/token"), thief.count("/register")), (1, 1));
    assert_eq!(thief.script().asked["grant_type"], "authorization_code");
}
