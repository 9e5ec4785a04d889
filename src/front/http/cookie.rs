//! The cookie that finds a client's session, for clients that keep cookies: its name, and how it is read, set, and taken
//! out of what is forwarded. Pure.
//!
//! The cookie is named for the listener's port, because browsers send a cookie to all ports of its host. Behind https it
//! has the prefix `__Host-`: then no other host, and no page over plain http, can set it (RFC 6265bis, section 4.1.3.2).

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The beginning of the names of all cookies that sessile sets, at whatever port.
const OWN_NAME: &[u8] = b"sessile";
const HOST_PREFIX: &[u8] = b"__Host-";

/// The name of the cookie of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CookieName {
    name: String,
    /// Whether clients reach the listener by https.
    is_https: bool,
}

impl CookieName {
    /// The name at the listener with this port, if it is known.
    pub(super) fn new(port: Option<u16>, is_https: bool) -> Self {
        let prefix = if is_https { "__Host-" } else { "" };
        let name = port.map_or_else(|| format!("{prefix}sessile"), |port| format!("{prefix}sessile-{port}"));
        Self { name, is_https }
    }

    /// The value of the cookie that a request has brought. A cookie that stands twice is none: one of the two was set by
    /// somebody else, for another path or domain.
    pub(super) fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let mut all = headers.get_all(COOKIE).iter().flat_map(|value| pairs(value.as_bytes()));
        let mut found = all.by_ref().filter(|pair| name_of(pair) == self.name.as_bytes());
        let (first, None) = (found.next()?, found.next()) else { return None };
        first.strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")
    }

    /// The header that sets the cookie. No script can read it, and no request from a page of another site has it.
    pub(super) fn set(&self, value: &str) -> Option<HeaderValue> {
        let secure = if self.is_https { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}", self.name);
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// The value of a `Cookie` header without the cookies of sessile; empty if it had no others. A server behind must not
/// get what finds a session, not even one at another port.
pub(super) fn without_own(value: &[u8]) -> Cow<'_, [u8]> {
    if !pairs(value).any(|pair| is_own(name_of(pair))) {
        return Cow::Borrowed(value);
    }
    let kept: Vec<_> = pairs(value).filter(|pair| !pair.is_empty() && !is_own(name_of(pair))).collect();
    Cow::Owned(kept.join(&b"; "[..]))
}

fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

/// The name of a cookie, which ends before its first `=`.
fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// Whether sessile sets cookies of this name, at any port.
fn is_own(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(HOST_PREFIX).unwrap_or(name).strip_prefix(OWN_NAME) else { return false };
    match rest {
        [] => true,
        [b'-', port @ ..] => !port.is_empty() && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (COOKIE, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_cookie_is_found_by_its_whole_name() {
        let plain = CookieName::new(Some(8808), false);
        for (brought, expected) in [
            (&["sessile-8808=abc"][..], Some("abc")),
            (&["a=b; sessile-8808=abc;c=d"], Some("abc")),
            (&["a=b", "sessile-8808=abc"], Some("abc")),
            (&["sessile-8808="], Some("")),
            (&["sessile-8808=a=b"], Some("a=b")),
            (&["sessile-8808"], None),
            (&["sessile-8808 =abc"], None),
            (&["sessile-880=abc; sessile-88080=abc; sessile=abc; Sessile-8808=abc"], None),
            (&["__Host-sessile-8808=abc"], None),
            (&["sessile-8808=abc; sessile-8808=abc"], None),
            (&["sessile-8808=abc", "sessile-8808=def"], None),
            (&[], None),
        ] {
            let headers = headers(brought);
            let found = plain.find(&headers).map(|value| String::from_utf8_lossy(value).into_owned());
            assert_eq!(found.as_deref(), expected, "{brought:?}");
        }
        // What was set over plain http is not believed over https.
        let https = CookieName::new(Some(8808), true);
        assert_eq!(https.find(&headers(&["sessile-8808=abc"])), None);
        assert_eq!(https.find(&headers(&["__Host-sessile-8808=abc"])), Some(&b"abc"[..]));
    }

    #[test]
    fn how_the_cookie_is_set() {
        let set = |port, is_https| CookieName::new(port, is_https).set("abc").unwrap();
        assert_eq!(set(Some(1), false), "sessile-1=abc; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(set(Some(1), true), "__Host-sessile-1=abc; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(set(None, false), "sessile=abc; Path=/; HttpOnly; SameSite=Strict");
        assert!(!format!("{:?}", set(None, false)).contains("abc"));
    }

    #[test]
    fn servers_get_the_other_cookies_only() {
        for (sent, left) in [
            ("a=b; c=d", "a=b; c=d"),
            ("a=b;  c=d ;", "a=b;  c=d ;"),
            ("sessile-8808=x", ""),
            ("sessile-8808=x;", ""),
            ("a=b; sessile-8808=x; c=d", "a=b; c=d"),
            ("__Host-sessile-1=x;a=b;sessile=y;sessile-2=z", "a=b"),
            ("sessile-8808", ""),
            ("sessile-x=1; sessile-=2; sessiles=3; xsessile=4", "sessile-x=1; sessile-=2; sessiles=3; xsessile=4"),
        ] {
            assert_eq!(String::from_utf8_lossy(&without_own(sent.as_bytes())), left, "{sent}");
        }
        assert_eq!(&*without_own(b"a=\xff; sessile=1; sessile-8808 = x"), b"a=\xff");
    }
}
