//! Tables of what follows from what.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, StatusCode};
use url::Url;

use crate::backend::http::position::{StreamPosition, StreamProgress};
use crate::backend::http::reconnect::ReconnectPace;
use crate::backend::http::rules::{self, RedirectDecision, ReplyKind};
use crate::headers::why_not_sent;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn what_a_response_is() {
    let cases = [
        (200, Some("application/json"), ReplyKind::Json),
        (200, Some("Application/JSON; charset=utf-8"), ReplyKind::Json),
        (201, Some("application/json"), ReplyKind::Json),
        (200, Some("text/event-stream;charset=UTF-8"), ReplyKind::Events),
        (200, Some("text/html; charset=utf-8"), ReplyKind::Foreign("text/html".into())),
        (200, None, ReplyKind::Foreign(String::new())),
        (202, Some("application/json"), ReplyKind::Accepted),
        (204, None, ReplyKind::Accepted),
        (404, Some("application/json"), ReplyKind::NotFound),
        (405, None, ReplyKind::NotAllowed),
        (400, Some("application/json"), ReplyKind::Refused),
        (302, Some("text/event-stream"), ReplyKind::Refused),
        (500, Some("text/event-stream"), ReplyKind::Refused),
    ];
    for (status, content_type, expected) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(rules::reply_kind(status, content_type.map(str::as_bytes)), expected, "{status} {content_type:?}");
    }
}

#[test]
fn when_the_older_transport_is_tried() {
    for (status, json_rpc_error, expected) in [
        (400, false, true),
        (400, true, false),
        (404, false, true),
        (404, true, true),
        (405, false, true),
        (405, true, true),
        (401, false, false),
        (403, false, false),
        (500, false, false),
        (502, false, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(rules::may_be_sse(status, json_rpc_error), expected, "{status} {json_rpc_error}");
    }
}

#[test]
fn where_a_redirect_leads() {
    let from = url("https://example.com/mcp?key=1");
    let post = |status, to: &str, hops| {
        rules::redirect(&Method::POST, StatusCode::from_u16(status).unwrap(), &from, Some(to.as_bytes()), hops)
    };
    let follow = |to| RedirectDecision::Follow(url(to));
    assert_eq!(post(200, "/x", 0), RedirectDecision::None);
    assert_eq!(post(304, "/x", 0), RedirectDecision::None);
    assert_eq!(post(307, "/mcp/", 0), follow("https://example.com/mcp/"));
    assert_eq!(post(308, "https://example.com:443/x", 0), follow("https://example.com/x"));
    assert_eq!(post(307, "https://user:pw@example.com/x", 0), follow("https://example.com/x"));
    let refused = |redirect: RedirectDecision, word: &str| match redirect {
        RedirectDecision::Refuse(reason) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    };
    refused(post(307, "https://example.org/x?secret=1", 0), "another origin");
    refused(post(307, "http://example.com/x", 0), "another origin");
    refused(post(307, "https://example.com:8443/x", 0), "another origin");
    refused(
        post(307, "file:///etc/passwd", 0),
        "another origin, which is not followed: if file:///etc/passwd is right",
    );
    refused(post(307, "/x", 5), "more than 5");
    refused(post(301, "/x", 0), "loses the message");
    refused(post(303, "/x", 0), "loses the message");
    refused(rules::redirect(&Method::POST, StatusCode::TEMPORARY_REDIRECT, &from, None, 0), "names no URL");
    let get = rules::redirect(&Method::GET, StatusCode::FOUND, &from, Some(b"/sse/"), 0);
    assert_eq!(get, follow("https://example.com/sse/"));
    match post(307, "https://example.org/x?secret=1", 0) {
        RedirectDecision::Refuse(reason) => assert!(!reason.contains("secret"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn which_endpoints_are_taken() {
    let from = url("https://example.com:8443/a/sse?x=1");
    for (said, expected) in [
        ("/messages?sessionId=1", "https://example.com:8443/messages?sessionId=1"),
        ("messages", "https://example.com:8443/a/messages"),
        ("?sessionId=1", "https://example.com:8443/a/sse?sessionId=1"),
        (" https://example.com:8443/m#x \n", "https://example.com:8443/m"),
        ("//example.com:8443/m", "https://example.com:8443/m"),
        ("https://user:pw@example.com:8443/m", "https://example.com:8443/m"),
    ] {
        assert_eq!(rules::endpoint(&from, said.as_bytes()).as_ref().map(Url::as_str), Ok(expected), "{said:?}");
    }
    for said in [
        "",
        "https://example.com/m",
        "http://example.com:8443/m",
        "https://evil.com:8443/m",
        "//evil.com/m",
        "https://example.com:8443@evil.com/m",
        "https://evil.example.com:8443/m",
        "file:///m",
        "javascript:alert(1)",
        "data:text/plain,x",
        "https://[",
    ] {
        let error = rules::endpoint(&from, said.as_bytes()).unwrap_err();
        assert!(error.contains("endpoint"), "{said:?}: {error}");
    }
    assert!(rules::endpoint(&from, b"\xff").is_err());
}

#[test]
fn which_session_ids_are_taken() {
    let check = |bytes: &[u8]| rules::session_id(&HeaderValue::from_bytes(bytes).unwrap());
    assert_eq!(check(b"abc-1.2_~!").unwrap(), "abc-1.2_~!");
    assert!(check(b"abc").unwrap().is_sensitive());
    assert!(check(&[b'x'; 4096]).is_ok());
    for bad in [&b""[..], b"a b", b"a\tb", "sé".as_bytes(), &[b'x'; 4097]] {
        assert!(check(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn which_versions_and_ids_become_headers() {
    assert_eq!(rules::version("2025-11-25").unwrap(), "2025-11-25");
    for bad in ["", "2025 11", "2025\r\nx: y", "é", &"9".repeat(65)] {
        assert_eq!(rules::version(bad), None, "{bad:?}");
    }
    let id = |id: Option<&'static str>| {
        rules::last_event_id(&StreamPosition { id: id.map(|id| Bytes::from_static(id.as_bytes())), retry: None })
    };
    assert_eq!(id(Some("é 1")).unwrap().as_bytes(), "é 1".as_bytes());
    assert_eq!((id(None), id(Some("")), id(Some("a\nb"))), (None, None, None));
}

/// The wait after so many failures in a row.
fn after(failures: u32, retry: Option<Duration>, random: u32) -> Duration {
    ReconnectPace { failures, ..ReconnectPace::default() }.wait(retry, random)
}

#[test]
fn how_long_to_wait() {
    let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
    assert_eq!(after(0, None, 0), second);
    assert_eq!(after(0, Some(ms(300)), 0), ms(300), "the server's word counts where nothing failed");
    assert_eq!(after(0, Some(ms(0)), 0), ms(50), "and cannot make a busy loop");
    assert_eq!(after(0, Some(Duration::from_millis(u64::MAX)), 0), second * 300);
    assert_eq!([1, 2, 3, 6, 7, 40].map(|failures| after(failures, None, 0).as_secs()), [1, 2, 4, 32, 60, 60]);
    assert_eq!(after(1, Some(ms(10)), 0), second, "failures count for more than a short word");
    assert_eq!(after(2, Some(second * 90), 0), second * 90, "and for less than a long one");
    for random in [0, 1, u32::MAX / 2, u32::MAX] {
        let wait = after(1, None, random);
        assert!((second..=second * 5 / 4).contains(&wait), "{wait:?}");
    }
}

#[test]
fn who_lets_a_client_poll_without_an_end_is_asked_slowly() {
    let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
    let waits = |retry: u64, progress: StreamProgress, lasting: Duration| {
        let mut pace = ReconnectPace::default();
        let mut next = || {
            pace.ended(progress, lasting);
            pace.wait(Some(ms(retry)), 0).as_millis()
        };
        std::array::from_fn::<_, 11, _>(|_| next())
    };
    assert_eq!(waits(0, StreamProgress::PositionsOnly, ms(0)), [50, 50, 50, 50, 100, 200, 400, 800, 1000, 1000, 1000]);
    assert_eq!(waits(500, StreamProgress::PositionsOnly, ms(0))[..7], [500; 7], "the server's word counts for a while");
    assert_eq!(waits(5000, StreamProgress::PositionsOnly, ms(0)), [5000; 11]);
    assert_eq!(waits(50, StreamProgress::Messages, ms(0)), [50; 11]);
    assert_eq!(waits(50, StreamProgress::PositionsOnly, second * 11), [50; 11], "a stream that lasts is no busy loop");
    let mut pace = ReconnectPace { failures: 3, ..ReconnectPace::default() };
    assert!(!pace.ended(StreamProgress::Nothing, second) && pace.failures == 3, "that was a failure as well");
    assert!(pace.ended(StreamProgress::Nothing, second * 11) && pace == ReconnectPace::default());
    for _ in 0..100 {
        pace.ended(StreamProgress::PositionsOnly, ms(0));
    }
    assert!(
        pace.ended(StreamProgress::Messages, ms(0)) && pace == ReconnectPace::default(),
        "a message makes up for everything"
    );
}

#[test]
fn what_404_may_mean_and_what_passes() {
    assert_eq!([-32601, -32602, 7, -32001, -32000].map(rules::is_response_with_404), [true, true, true, false, false]);
    let passing = |code| rules::is_passing(http::StatusCode::from_u16(code).unwrap());
    assert_eq!(
        [429, 502, 503, 504, 500, 400, 404, 200].map(passing),
        [true, true, true, true, false, false, false, false]
    );
}

#[test]
fn which_headers_may_be_named() {
    for good in
        ["Authorization", "cookie", "X-Api-Key", " x-tenant ", "traceparent", "User-Agent", "Origin", "MessageHeaders"]
    {
        assert!(rules::header_name(good, why_not_sent).is_ok(), "{good}");
    }
    for bad in [
        "Host",
        "content-length",
        "Content-Type",
        "Content-Anything",
        "connection",
        "Keep-Alive",
        "TE",
        "trailer",
        "Transfer-Encoding",
        "upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "accept",
        "Accept-Encoding",
        "Mcp-TestLink-Id",
        "mcp-protocol-version",
        "MCP-Method",
        "last-event-id",
        "expect",
        "",
        "a b",
        "a:b",
        "x\r\ny",
    ] {
        assert!(rules::header_name(bad, why_not_sent).is_err(), "{bad}");
    }
}

#[test]
fn which_refusals_ask_for_more() {
    assert!(rules::wants_more_scope(&["Bearer error=\"insufficient_scope\", scope=\"a\"".to_owned()]));
    assert!(!rules::wants_more_scope(&["Bearer".to_owned()]));
    assert!(!rules::wants_more_scope(&[]));
}
