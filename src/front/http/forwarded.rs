//! The headers of a client's request that are forwarded to the servers, and the credentials among them.
//!
//! The settings name the headers that are forwarded; `headers.rs` has those that never are.

use std::borrow::Cow;

use http::header::{CONNECTION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::checks::Rejection;
use super::cookie;
use crate::frame::MessageHeaders;
use crate::headers::{is_credential, why_not_forwarded};
use crate::session::Credentials;

/// The most bytes of headers that are forwarded along with one message, names and values together.
const MOST_HEADER_BYTES: usize = 32 * 1024;

/// The headers of one request that are forwarded.
#[derive(Debug, Clone, Default)]
pub(super) struct ForwardedHeaders {
    pub forwarded: Option<MessageHeaders>,
    /// Their size in bytes, names and values together.
    pub bytes: usize,
    /// The digest of the credentials among them.
    pub credentials: Option<Credentials>,
}

/// Whether a header of this name may be forwarded if the settings name it.
pub(super) fn may_pass(name: &HeaderName) -> bool {
    why_not_forwarded(name).is_none()
}

/// Collects the headers of these names, in the order of the names.
pub(super) fn collect(names: &[HeaderName], headers: &HeaderMap) -> Result<ForwardedHeaders, Rejection> {
    if names.is_empty() {
        return Ok(ForwardedHeaders::default());
    }
    let of_this_hop = |name: &HeaderName| {
        let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        options.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(name.as_str()))
    };
    let found: Vec<_> = names
        .iter()
        .filter(|name| may_pass(name) && headers.contains_key(*name) && !of_this_hop(name))
        .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value_to_forward(name, value))))
        // A header that is empty was sent so, but for one that had only cookies of sessile.
        .filter(|(_, value)| !matches!(value, Cow::Owned(rest) if rest.is_empty()))
        .collect();
    if found.is_empty() {
        return Ok(ForwardedHeaders::default());
    }
    let bytes = found.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MOST_HEADER_BYTES {
        let message = format!(
            "the headers that are passed on have {bytes} bytes, and the limit is {MOST_HEADER_BYTES}: send less"
        );
        return Err(Rejection::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    }
    let secrets = found.iter().filter(|(name, _)| is_credential(name));
    let credentials = Credentials::of(secrets.map(|(name, value)| (name.as_str(), &**value)));
    let forwarded = MessageHeaders::new(found.iter().map(|(name, value)| (name.as_str().into(), (&**value).into())));
    Ok(ForwardedHeaders { forwarded: Some(forwarded), bytes, credentials })
}

/// A header's value without what finds a session of sessile.
fn value_to_forward<'a>(name: &HeaderName, value: &'a HeaderValue) -> Cow<'a, [u8]> {
    if name == COOKIE { cookie::without_own(value.as_bytes()) } else { Cow::Borrowed(value.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&'static str]) -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn passed(wanted: &[&'static str], all: &[(&'static str, &str)]) -> Vec<String> {
        let headers = collect(&names(wanted), &headers(all)).unwrap();
        let text = |(name, value): (&str, &[u8])| format!("{name}: {}", String::from_utf8_lossy(value));
        headers.forwarded.iter().flat_map(|forwarded| forwarded.iter().map(text).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn only_what_is_asked_for_goes_on() {
        let sent = [("x-tenant", "one"), ("authorization", "Bearer x"), ("x-other", "no"), ("x-tenant", "two")];
        assert_eq!(
            passed(&["authorization", "x-tenant"], &sent),
            ["authorization: Bearer x", "x-tenant: one", "x-tenant: two"]
        );
        assert!(passed(&[], &sent).is_empty() && passed(&["x-missing"], &sent).is_empty());
    }

    #[test]
    fn what_belongs_to_one_hop_never_goes_on() {
        for name in names(&["connection", "te", "upgrade", "host", "content-type", "mcp-session-id", "last-event-id"]) {
            assert!(!may_pass(&name), "{name}");
            let mut headers = HeaderMap::new();
            headers.append(&name, HeaderValue::from_static("x"));
            assert!(collect(&[name], &headers).unwrap().forwarded.is_none());
        }
        let named = [("connection", "close, X-Tenant"), ("x-tenant", "one"), ("x-other", "two")];
        assert_eq!(passed(&["x-tenant", "x-other"], &named), ["x-other: two"]);
    }

    #[test]
    fn credentials_are_what_a_caller_is_known_by() {
        let wanted = names(&["authorization", "x-tenant", "x-api-key"]);
        let of = |all: &[(&'static str, &str)]| collect(&wanted, &headers(all)).unwrap().credentials;
        let one = of(&[("authorization", "Bearer one"), ("x-tenant", "a")]);
        assert!(one.is_some());
        assert_eq!(one, of(&[("x-tenant", "b"), ("authorization", "Bearer one")]), "a tenant is no credential");
        for other in [
            &[("authorization", "Bearer two")][..],
            &[("x-api-key", "Bearer one")],
            &[("authorization", "Bearer one"), ("x-api-key", "k")],
            &[("x-tenant", "a")],
            &[],
            // Hidden from what is passed on, it is not counted either.
            &[("authorization", "Bearer one"), ("connection", "authorization")],
        ] {
            assert_ne!(one, of(other), "{other:?}");
        }
    }

    #[test]
    fn what_finds_a_session_goes_to_no_server() {
        let of = |all: &[(&'static str, &str)]| collect(&names(&["cookie"]), &headers(all)).unwrap();
        assert_eq!(passed(&["cookie"], &[("cookie", "a=b; sessile-8808=c; d=e")]), ["cookie: a=b; d=e"]);
        assert_eq!(passed(&["cookie"], &[("cookie", "__Host-sessile-1=c"), ("cookie", "a=b")]), ["cookie: a=b"]);
        let only = of(&[("cookie", "sessile-8808=c")]);
        assert!(only.forwarded.is_none() && only.credentials.is_none() && only.bytes == 0);
        // Whoever has the same other cookies is the same caller, before and after it was given the one of sessile.
        assert_eq!(of(&[("cookie", "a=b")]).credentials, of(&[("cookie", "a=b; sessile-8808=c")]).credentials);
    }

    #[test]
    fn there_is_a_bound() {
        let long = "v".repeat(MOST_HEADER_BYTES);
        let rejection = collect(&names(&["x-long"]), &headers(&[("x-long", &long)])).unwrap_err();
        assert_eq!(rejection.status, 431);
        assert!(collect(&names(&["x-short"]), &headers(&[("x-long", &long)])).is_ok());
    }

    #[test]
    fn values_do_not_show() {
        let headers = collect(&names(&["cookie"]), &headers(&[("cookie", "hush")])).unwrap();
        assert!(!format!("{headers:?}").contains("hush"));
    }
}
