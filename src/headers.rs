//! Rules for HTTP headers by their names: which may be sent or passed on to a server, and which are credentials. Pure.
//!
//! The front, the HTTP backends and the configuration share these rules, so that a header which one of them lets
//! through is treated by the others as expected.

use http::HeaderName;

/// Headers that belong to one connection (RFC 9110, section 7.6.1), and older ones of that kind.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns why the operator may not configure a header of this name, or `None` if it may be sent to servers.
pub(crate) fn why_not_sent(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        name if HOP_BY_HOP.contains(&name) => Some("belongs to a connection, and sessile sets it"),
        "host" | "expect" | "http2-settings" | "sec-websocket-key" => {
            Some("belongs to a connection, and sessile sets it")
        }
        "accept" | "accept-encoding" => Some("belongs to each message, and sessile sets it"),
        name if name.starts_with("content-") => Some("belongs to each message, and sessile sets it"),
        name if name.starts_with("mcp-") || name == "last-event-id" => {
            Some("belongs to the protocol, and sessile sets it")
        }
        _ => None,
    }
}

/// Returns why a client's header of this name may not be passed on to a server, or `None` if it may be.
pub(crate) fn why_not_forwarded(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        name if HOP_BY_HOP.contains(&name) => Some("it belongs to the connection between the client and sessile"),
        "host" => Some("it names sessile, not the server"),
        "accept" | "accept-encoding" | "expect" | "http2-settings" | "last-event-id" => {
            Some("sessile speaks to the server for itself")
        }
        name if name.starts_with("content-") => Some("it describes a message that sessile may send in another form"),
        name if name.starts_with("mcp-") => Some("it belongs to the session between the client and sessile"),
        name if name.starts_with("sec-") => Some("a browser sets it for the request to sessile, not for the server"),
        _ => None,
    }
}

/// Whether a header of this name is likely to hold credentials.
///
/// A session belongs to the credentials with which it was opened, and they are sent with all that is done for its
/// client. A credential that is not recognised would let others take over a session whose id they learn; a header that
/// is wrongly recognised costs a client its session when the value changes. So the rule is wide, and leaves out headers
/// that are known to change with each request.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    const CREDENTIAL_WORDS: [&str; 10] =
        ["auth", "token", "key", "secret", "credential", "password", "jwt", "assertion", "cookie", "session"];
    let name = name.as_str();
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word)) && !name.contains("idempotency")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_header_is() {
        let own = [
            "host",
            "te",
            "connection",
            "content-type",
            "content-encoding",
            "mcp-session-id",
            "accept",
            "last-event-id",
        ];
        for name in own.map(HeaderName::from_static) {
            assert!(why_not_sent(&name).is_some() && why_not_forwarded(&name).is_some(), "{name}");
        }
        for name in ["authorization", "cookie", "x-user-id", "traceparent"].map(HeaderName::from_static) {
            assert!(why_not_sent(&name).is_none() && why_not_forwarded(&name).is_none(), "{name}");
        }
        assert!(why_not_forwarded(&HeaderName::from_static("sec-fetch-mode")).is_some());
    }

    #[test]
    fn which_headers_say_who_somebody_is() {
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "x-goog-iap-jwt-assertion",
            "x-auth-request-user",
            "x-amz-security-token",
            "x-client-secret",
        ] {
            assert!(is_credential(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["traceparent", "x-request-id", "idempotency-key", "user-agent", "accept-language"] {
            assert!(!is_credential(&HeaderName::from_static(name)), "{name}");
        }
    }
}
