//! Decides by a request's headers alone whether the HTTP front accepts it, and in which format it responds.

use std::net::IpAddr;

use http::header::{
    ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::mcp;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The first protocol version whose clients accept an event without data, which primes them to resume.
const PRIMING_SINCE: &str = "2025-11-25";

/// A request that is not accepted: the status and the text of the response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub status: StatusCode,
    pub message: String,
}

impl Rejection {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// The header in which a browser says how the page that makes a request relates to this server (W3C, Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that decide something here, and so may stand once only: of two, a reverse proxy may have checked the other
/// one.
const SINGLE: [HeaderName; 8] =
    [HOST, ORIGIN, AUTHORIZATION, CONTENT_TYPE, SESSION_ID, PROTOCOL_VERSION, LAST_EVENT_ID, FETCH_SITE];

/// Refuses requests that have one of the headers in [`SINGLE`] twice.
pub(super) fn check_single(headers: &HeaderMap) -> Result<(), Rejection> {
    let twice = SINGLE.into_iter().find(|name| headers.get_all(name).iter().nth(1).is_some());
    let Some(name) = twice else { return Ok(()) };
    let message = format!("the {name} header stands more than once: send one");
    Err(Rejection::new(StatusCode::BAD_REQUEST, message))
}

/// The hosts and origins that are accepted besides loopback.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowList {
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
}

impl AllowList {
    /// Protects against DNS rebinding: a browser that was sent here under another name gives that name in `Host`
    /// (2025-11-25, basic/transports, "Security Warning").
    pub(super) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Rejection> {
        let named = headers.get(HOST).map(|value| value.to_str().unwrap_or_default());
        let addressed = uri.authority().map(http::uri::Authority::as_str);
        let wrong = |host: &&str| !is_loopback(host) && !matches_list(host, &self.hosts);
        // If `Host` and the URI both name a host, a reverse proxy may have gone by either: both must be allowed.
        let hosts = [named, addressed, Some("").filter(|_| named.is_none() && addressed.is_none())];
        let Some(host) = hosts.into_iter().flatten().find(wrong) else { return Ok(()) };
        let message = format!(
            "host {host:?} is not allowed: use a loopback address, or have the operator add it to the setting `allow_hosts`"
        );
        Err(Rejection::new(StatusCode::FORBIDDEN, message))
    }

    /// The origin for the CORS headers of the response; `None` for a request that does not come from a web page.
    pub(super) fn check_origin<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Rejection> {
        let Some(value) = headers.get(ORIGIN) else { return Ok(None) };
        let origin = value.to_str().unwrap_or_default();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let listed = self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin));
        if listed || host.is_some_and(is_loopback) {
            return Ok(Some(value));
        }
        let message =
            format!("origin {origin:?} is not allowed: have the operator add it to the setting `allow_origins`");
        Err(Rejection::new(StatusCode::FORBIDDEN, message))
    }
}

/// Refuses a browser's request for a page of another site that does not name its origin, as for an image or a frame:
/// the page cannot read the response, but the request would have its effect all the same. Programs do not send this
/// header.
pub(super) fn check_site(headers: &HeaderMap, has_allowed_origin: bool) -> Result<(), Rejection> {
    let Some(site) = headers.get(FETCH_SITE) else { return Ok(()) };
    if has_allowed_origin || [&b"same-origin"[..], b"none"].contains(&site.as_bytes()) {
        return Ok(());
    }
    let message = format!(
        "a request of a web page of another origin ({}) is not allowed without its origin: send `Origin`, and have the \
         operator add it to the setting `allow_origins`",
        site.to_str().unwrap_or_default()
    );
    Err(Rejection::new(StatusCode::FORBIDDEN, message))
}

/// Whether a browser asks by this request what its page may send (Fetch, "CORS-preflight request").
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether `list` has this host, with or without its port, or `*`.
fn matches_list(host: &str, list: &[String]) -> bool {
    let name = without_port(host);
    list.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address has colons inside its brackets.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The format of the response to a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// An SSE stream; with `or_json` also JSON where that is better, because the client accepts both.
    Sse { or_json: bool },
    /// JSON only.
    Json,
}

/// The format that the client prefers by its `Accept` header; SSE if it prefers none, because only a stream can carry
/// all messages.
pub(super) fn check_accept(headers: &HeaderMap) -> Result<ResponseFormat, Rejection> {
    let (sse, json, any) = accepted(headers);
    match (sse, json) {
        (Some(sse), json) if sse >= json.unwrap_or(0.0) && sse > 0.0 => {
            Ok(ResponseFormat::Sse { or_json: json.is_some_and(|quality| quality > 0.0) })
        }
        (_, Some(json)) if json > 0.0 => Ok(ResponseFormat::Json),
        (None, None) if any => Ok(ResponseFormat::Json),
        _ => {
            let message = "not acceptable: the client must accept application/json, text/event-stream, or both";
            Err(Rejection::new(StatusCode::NOT_ACCEPTABLE, message))
        }
    }
}

pub(super) fn check_accepts_sse(headers: &HeaderMap) -> Result<(), Rejection> {
    let (sse, _, any) = accepted(headers);
    if sse.is_some_and(|quality| quality > 0.0) || sse.is_none() && any {
        return Ok(());
    }
    Err(Rejection::new(StatusCode::NOT_ACCEPTABLE, "not acceptable: the client must accept text/event-stream"))
}

/// The qualities of SSE and JSON in `Accept`, and whether it accepts anything.
fn accepted(headers: &HeaderMap) -> (Option<f32>, Option<f32>, bool) {
    let (mut sse, mut json, mut any) = (None, None, !headers.contains_key(ACCEPT));
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|text| text.parse().ok()).unwrap_or(1.0);
        match kind.as_str() {
            "text/event-stream" | "text/*" => sse = Some(quality),
            "application/json" | "application/*" => json = Some(quality),
            "*/*" => any |= quality > 0.0,
            _ => {}
        }
    }
    (sse, json, any)
}

pub(super) fn check_body_headers(headers: &HeaderMap) -> Result<(), Rejection> {
    let encoded =
        headers.get(CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        let message = "compressed bodies are not taken: send it without Content-Encoding";
        return Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "unsupported media type: the body must be application/json";
    Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

/// Accepts any protocol version with a handshake, whatever the session has negotiated. Without the header the version
/// is 2025-03-26 by the specification.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(version) = headers.get(PROTOCOL_VERSION) else { return Ok(()) };
    let version = version.to_str().unwrap_or_default();
    if mcp::HANDSHAKE_VERSIONS.contains(&version) {
        return Ok(());
    }
    let message = format!(
        "unsupported protocol version {version:?} in MCP-Protocol-Version: supported are {}",
        mcp::HANDSHAKE_VERSIONS.join(", ")
    );
    Err(Rejection::new(StatusCode::BAD_REQUEST, message))
}

/// Whether a client of this protocol version accepts the event without data that primes it to resume.
pub(super) fn can_be_primed(version: &str) -> bool {
    // Versions are dates, so they can be compared as text.
    version >= PRIMING_SINCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_loopback_and_listed_hosts() {
        let allow_list = AllowList { hosts: vec!["mcp.example.com".into(), "box:99".into()], origins: vec![] };
        let allowed = |host: &str| allow_list.check_host(&headers(HOST, host), &Uri::from_static("/mcp")).is_ok();
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8808",
            "127.8.8.8",
            "[::1]:1",
            "[::1]",
            "mcp.example.com:7",
            "box:99",
        ] {
            assert!(allowed(host), "{host}");
        }
        for host in
            ["evil.com", "localhost.evil.com", "127.0.0.1.evil.com:80", "10.0.0.1", "box:98", "box", "", "[::2]:1"]
        {
            assert!(!allowed(host), "{host}");
        }
    }

    #[test]
    fn both_hosts_count() {
        let allow_list = AllowList::default();
        let allowed = |host: Option<&str>, uri: &'static str| {
            let headers = host.map(|host| headers(HOST, host)).unwrap_or_default();
            allow_list.check_host(&headers, &Uri::from_static(uri)).is_ok()
        };
        assert!(allowed(Some("localhost"), "http://127.0.0.1/mcp") && allowed(None, "http://localhost:1/mcp"));
        assert!(!allowed(Some("localhost"), "http://evil.com/mcp"));
        assert!(!allowed(Some("evil.com"), "http://localhost/mcp"));
        assert!(!allowed(None, "/mcp"));
    }

    #[test]
    fn what_counts_is_said_once() {
        for name in SINGLE {
            let mut headers = headers(name.clone(), "localhost");
            assert_eq!(check_single(&headers), Ok(()));
            // The same value twice is no better: the next one may not be.
            headers.append(&name, HeaderValue::from_static("localhost"));
            let rejection = check_single(&headers).unwrap_err();
            assert!(rejection.status == 400 && rejection.message.contains(name.as_str()), "{rejection:?}");
        }
        let mut many = HeaderMap::new();
        many.append(ACCEPT, HeaderValue::from_static("text/event-stream"));
        many.append(ACCEPT, HeaderValue::from_static("application/json"));
        assert_eq!(check_single(&many), Ok(()));
    }

    #[test]
    fn only_loopback_and_listed_origins() {
        let allow_list = AllowList { hosts: vec![], origins: vec!["https://app.example.com".into()] };
        let allowed = |origin: &str| allow_list.check_origin(&headers(ORIGIN, origin)).is_ok();
        for origin in ["http://localhost:6274", "https://127.0.0.1", "http://[::1]:3", "https://app.example.com"] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in ["null", "https://evil.com", "http://app.example.com", "http://localhost.evil.com", "file://", ""]
        {
            assert!(!allowed(origin), "{origin}");
        }
        assert_eq!(allow_list.check_origin(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn pages_of_elsewhere_name_their_origin() {
        let allowed = |site: &str, origin: bool| check_site(&headers(FETCH_SITE, site), origin).is_ok();
        for site in ["same-origin", "none"] {
            assert!(allowed(site, false) && allowed(site, true), "{site}");
        }
        for site in ["cross-site", "same-site", "", "None", "same-origin, none", "new-in-2030"] {
            assert!(!allowed(site, false) && allowed(site, true), "{site}");
        }
        assert_eq!(check_site(&HeaderMap::new(), false), Ok(()));
    }

    #[test]
    fn what_is_accepted() {
        let cases = [
            ("application/json, text/event-stream", Some(ResponseFormat::Sse { or_json: true })),
            ("text/event-stream", Some(ResponseFormat::Sse { or_json: false })),
            ("application/json", Some(ResponseFormat::Json)),
            ("application/json, text/event-stream;q=0.5", Some(ResponseFormat::Json)),
            ("application/json;q=0, text/event-stream", Some(ResponseFormat::Sse { or_json: false })),
            ("text/event-stream; q=0, application/json", Some(ResponseFormat::Json)),
            ("*/*", Some(ResponseFormat::Json)),
            ("text/html", None),
            ("text/html, application/*", Some(ResponseFormat::Json)),
            ("", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(check_accept(&headers(ACCEPT, accept)).ok(), expected, "{accept}");
        }
        assert_eq!(check_accept(&HeaderMap::new()), Ok(ResponseFormat::Json));
        assert!(check_accepts_sse(&headers(ACCEPT, "application/json")).is_err());
        assert!(check_accepts_sse(&headers(ACCEPT, "text/event-stream")).is_ok());
    }

    #[test]
    fn versions() {
        assert_eq!(check_version(&HeaderMap::new()), Ok(()));
        assert_eq!(check_version(&headers(PROTOCOL_VERSION, "2024-11-05")), Ok(()));
        assert_eq!(check_version(&headers(PROTOCOL_VERSION, "2026-07-28")).unwrap_err().status, 400);
        assert!(can_be_primed("2025-11-25") && !can_be_primed("2025-06-18"));
    }
}
