//! Nothing secret is ever seen, whatever the log level.
#![cfg(feature = "cli")]

use std::time::Duration;

use super::*;
use crate::backend::captured_log::CapturedLog;

#[tokio::test]
async fn nothing_secret_is_logged() {
    let log = CapturedLog::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let script = Script { gives_secrets: true, rotates: true, ..open_registration() };
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    let mut errors = Vec::new();
    assert_eq!(harness.request("").await, Ok(200));
    assert_eq!(harness.request("write").await, Ok(200));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3590)).await;
    tokio::time::resume();
    assert_eq!(harness.request("").await, Ok(200));
    // The server repeats what it was sent in its errors.
    for error in ["invalid_request", "invalid_grant"] {
        harness.server.script().token_error = Some((400, error.to_owned()));
        harness.server.script().tokens.clear();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::resume();
        errors.push(harness.request("").await.unwrap_err().to_string());
    }
    let debug = format!("{:?} {errors:?}", harness.oauth);
    let secrets = harness.server.script().secrets.clone();
    assert!(secrets.len() > 12, "{secrets:?}");
    // The harness itself plays the browser and the backend: what hyper and axum say of these requests is not sessile's.
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains("rmcp") || line.contains("sessile")).collect();
    assert!(ours.len() > 5, "{log}");
    for secret in &secrets {
        assert!(!debug.contains(secret.as_str()), "{secret} in {debug}");
        for line in &ours {
            assert!(!line.contains(secret.as_str()), "{secret} in {line}");
        }
    }
}
