//! The `sessile` object beside the servers.

use std::time::Duration;

use super::{bad, good};
use crate::config::{AddressRange, Bearer, KeyKind, OAuthMode, SessionSettings, Settings, Timeout, Transport};

#[test]
fn settings_are_checked() {
    assert_eq!(SessionSettings::default().check(), Ok(()));
    let bad = [
        SessionSettings { max_message_size: 1, ..Default::default() },
        SessionSettings { max_sessions: Some(0), ..Default::default() },
        SessionSettings { idle_timeout: Some(Duration::ZERO), ..Default::default() },
    ];
    for settings in bad {
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains("must be"), "{error}");
    }
}

fn with(settings: &str) -> String {
    format!("{{\"mcpServers\": {{\"a\": {{\"url\": \"http://x\"}}}},\n\"sessile\": {settings}}}")
}

#[test]
fn every_setting_is_read() {
    let settings = good(&with(
        r#"{
        "listen": "0.0.0.0:99", "tokens": "/k", "insecureNoAuth": true, "exposeStderr": true, "allowHost": ["h"], "allowOrigins": ["https://o"],
        "sessionKey": "header:X-User, principal", "trustedProxy": ["10.0.0.0/8", "::1"],
        "idleTimeout": "off", "lostStream": "1m", "streamWait": "2s", "requestTimeout": "3m", "drain": "4s", "serverWait": "9s", "maxSessions": 5,
        "maxMessageSize": "6MiB", "log": "debug", "prefixUris": true, "noPrefix": false, "inheritEnv": true,
        "allowTool": ["a"], "denyTool": ["b"], "allowResource": ["c"], "denyResource": ["d"], "allowPrompt": ["e"], "denyPrompt": ["f"],
        "transport": "http", "header": ["X-A: 1"], "forwardHeader": ["X-B"], "bearerEnv": "T", "unixSocket": "/s",
        "connectTimeout": "7s", "oauth": "off", "oauthClientId": "i", "oauthClientSecretFile": "/f", "oauthScope": "s",
        "oauthClientMetadataUrl": "https://x/c", "oauthRedirectPort": 8, "oauthTokenDir": "/t", "noBrowser": true
        }"#,
    ))
    .settings;
    let seconds = Duration::from_secs;
    assert_eq!(settings.listen, Some(([0, 0, 0, 0], 99).into()));
    assert_eq!(settings.http().tokens, Some("/k".into()));
    assert_eq!((settings.insecure_no_auth, settings.expose_stderr), (Some(true), Some(true)));
    assert_eq!((settings.allow_hosts, settings.allow_origins), (vec!["h".to_owned()], vec!["https://o".to_owned()]));
    assert_eq!(settings.session_keys, ["header:x-user", "principal"].map(|kind| kind.parse::<KeyKind>().unwrap()));
    assert_eq!(settings.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|range| range.parse::<AddressRange>().unwrap()));
    assert_eq!((settings.idle_timeout, settings.lost_stream), (Some(Timeout::Off), Some(seconds(60))));
    assert_eq!((settings.stream_wait, settings.drain), (Some(seconds(2)), Some(seconds(4))));
    assert_eq!(
        (settings.request_timeout, settings.server_wait),
        (Some(Timeout::After(seconds(180))), Some(seconds(9)))
    );
    assert_eq!((settings.max_sessions, settings.max_message_size), (Some(5), Some(6 << 20)));
    assert_eq!((settings.log.as_deref(), settings.inherit_env), (Some("debug"), Some(true)));
    assert_eq!((settings.prefix_uris, settings.no_prefix), (Some(true), Some(false)));
    let filters = settings.filters;
    assert_eq!((filters.tools.allow.unwrap(), filters.tools.deny), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert_eq!(
        (filters.resources.allow.unwrap(), filters.resources.deny),
        (vec!["c".to_owned()], vec!["d".to_owned()])
    );
    assert_eq!((filters.prompts.allow.unwrap(), filters.prompts.deny), (vec!["e".to_owned()], vec!["f".to_owned()]));
    let remote = settings.remote;
    assert_eq!((remote.transport, remote.connect_timeout), (Some(Transport::Http), Some(seconds(7))));
    assert_eq!((remote.bearer, remote.forward_headers), (Some(Bearer::Env("T".into())), vec!["x-b".to_owned()]));
    assert_eq!(remote.headers, [("X-A".to_owned(), "1".into())]);
    assert_eq!(remote.unix_socket, Some("/s".into()));
    assert_eq!((remote.oauth.mode, remote.oauth.redirect_port), (Some(OAuthMode::Off), Some(8)));
    assert_eq!((remote.oauth.token_dir, remote.oauth.no_browser), (Some("/t".into()), Some(true)));
    assert_eq!(good(&with("{}")).settings, Settings::default());
    let listed = good(&with(r#"{"sessionKey": ["session-id", "cookie"]}"#)).settings.session_keys;
    assert_eq!(listed, [KeyKind::SessionId, KeyKind::Cookie]);
    assert_eq!(good(&with(r#"{"maxMessageSize": 4096}"#)).settings.max_message_size, Some(4096));
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        ("[]", "mcp.json:2:12: sessile: expected an object, found a list"),
        (
            r#"{"idleTimeouts": "1m"}"#,
            "mcp.json:2:13: sessile.idleTimeouts: there is no such setting: did you mean idleTimeout?",
        ),
        (
            r#"{"max_sessions": 1}"#,
            "mcp.json:2:13: sessile.max_sessions: there is no such setting: did you mean maxSessions?",
        ),
        (
            r#"{"idleTimeout": "soon"}"#,
            "mcp.json:2:28: sessile.idleTimeout: expected a time or off: expected number at 0: write a time such as 30s, 10m or 1h30m, or off",
        ),
        (r#"{"idleTimeout": 30}"#, "mcp.json:2:28: sessile.idleTimeout: expected a time or off, found a number"),
        (
            r#"{"listen": "8808"}"#,
            "mcp.json:2:23: sessile.listen: expected an address and a port such as 127.0.0.1:8808: it is none",
        ),
        (
            r#"{"maxSessions": 0}"#,
            "mcp.json:2:28: sessile.maxSessions: expected a whole number from 1: must be at least 1",
        ),
        (
            r#"{"maxSessions": 1.5}"#,
            "mcp.json:2:28: sessile.maxSessions: expected a whole number from 1: not a whole number",
        ),
        (r#"{"maxSessions": true}"#, "mcp.json:2:28: sessile.maxSessions: expected a whole number from 1, found true"),
        (
            r#"{"maxMessageSize": 10}"#,
            "mcp.json:2:12: sessile: max_message_size is 10: it must be between 1 KiB and 4 GiB",
        ),
        (r#"{"tokens": ""}"#, "mcp.json:2:23: sessile.tokens: expected a path: a path cannot be empty"),
        (r#"{"prefixUris": "yes"}"#, "mcp.json:2:27: sessile.prefixUris: expected true or false, found a string"),
        (
            r#"{"bearerEnv": "T", "oauth": "login"}"#,
            "mcp.json:2:12: sessile: a bearer token and OAuth cannot go together: keep one of them",
        ),
        (
            r#"{"sessionKey": "handle"}"#,
            "mcp.json:2:27: sessile.sessionKey: expected a list such as header:X-User,principal: handle comes with the clients of 2026-07-28: leave it out",
        ),
        (
            r#"{"sessionKey": ["user"]}"#,
            "mcp.json:2:28: sessile.sessionKey[0]: expected a session key: there is no session key \"user\": use one of session-id, connection, principal, header:NAME, cookie",
        ),
        (
            r#"{"sessionKey": "principal,cookie"}"#,
            "mcp.json:2:12: sessile: session key `cookie`: it is never looked at, because `principal` suits all requests: put `principal` last",
        ),
        (
            r#"{"trustedProxy": ["10.0.0.1/8"]}"#,
            "mcp.json:2:30: sessile.trustedProxy[0]: expected a range of addresses: 10.0.0.1/8 is not the first address of its range: write that, or 10.0.0.1 for this one alone",
        ),
    ];
    for (settings, expected) in cases {
        assert_eq!(bad(&with(settings)), expected, "{settings}");
    }
    let error = bad(&with(r#"{"colour": 1}"#));
    assert!(error.contains("there is no such setting: the keys here are allowHost, allowHosts,"), "{error}");
}
