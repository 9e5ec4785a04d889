//! Rules about HTTP headers by their names alone: which of them may be sent or forwarded to a server, and which are
//! credentials. Pure.
//!
//! The front, the HTTP backends and the configuration all use these rules, so that none of them lets through a header
//! that another one does not expect.

use http::HeaderName;

/// Headers that belong to one connection (RFC 9110, section 7.6.1), and older ones of the same kind.
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

/// The reason why an operator must not configure a header of this name to be sent to a server; `None` if that is
/// allowed.
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

/// The reason why a client's header of this name must not be forwarded to a server; `None` if that is allowed.
pub(crate) fn why_not_forwarded(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        name if HOP_BY_HOP.contains(&name) => Some("it belongs to the connection between the client and sessile"),
        "host" => Some("it names sessile, not the server"),
        "accept" | "accept-encoding" | "expect" | "http2-settings" | "last-event-id" => {
            Some("sessile speaks to the server for itself")
        }
        name if name.starts_with("content-") => Some("it describes a message that sessile may send in another form"),
        name if name.starts_with("mcp-") => Some("it belongs to the session between the client and sessile"),
        name if name.starts_with("sec-") => {
            Some("it is set by a browser for the request to sessile, not for the server")
        }
        _ => None,
    }
}

/// The reason why no session can be found by a header of this name; `None` if that is allowed.
pub(crate) fn why_no_key(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "authorization" | "www-authenticate" => Some("says who calls: use the key `principal`"),
        "cookie" | "set-cookie" => Some("has the cookies of other servers too: use the key `cookie`"),
        "forwarded" | "via" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-prefix"
        | "x-forwarded-proto" | "x-real-ip" => Some("describes the way of a request, not its sender"),
        "origin" | "referer" | "user-agent" | "date" | "cache-control" | "pragma" | "range" => Some("belongs to HTTP"),
        name if name.starts_with("if-") || name.starts_with("accept-") || name.starts_with("access-control-") => {
            Some("belongs to HTTP")
        }
        // Also what a client's request has for sessile alone: the headers of a connection, of its body and of MCP.
        _ => why_not_forwarded(name).map(|_| "belongs to HTTP or to MCP"),
    }
}

/// Whether a header of this name is a credential: it says who the client is.
///
/// A session belongs to the credentials that it was opened with. If a credential were missed here, anybody who learns a
/// session's id could take the session over. If another header were taken for a credential, a client would lose its
/// session when the value changes. So the rule is wide, and leaves out names that are known to change with each
/// request.
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
    fn which_headers_find_no_session() {
        for name in [
            "authorization",
            "cookie",
            "host",
            "mcp-session-id",
            "mcp-name",
            "last-event-id",
            "origin",
            "content-type",
            "connection",
            "sec-fetch-site",
            "accept",
            "accept-language",
            "if-match",
            "x-forwarded-proto",
            "x-real-ip",
        ] {
            assert!(why_no_key(&HeaderName::from_static(name)).is_some(), "{name}");
        }
        for name in ["x-user", "x-forwarded-user", "x-api-key", "x-session-key", "remote-user", "x-tenant"] {
            assert!(why_no_key(&HeaderName::from_static(name)).is_none(), "{name}");
        }
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
