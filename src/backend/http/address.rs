//! The address of a server, and how it is shown. Pure.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::HttpBackendError;

/// How much of a URL is shown, in characters: the URL of a redirect can be very long.
const MAX_SHOWN_URL: usize = 300;

/// The URL of a server. Its parts that may be secret, the user name, the password and the query, are never shown.
#[derive(Clone)]
pub(super) struct Address {
    url: Url,
    shown: Box<str>,
}

impl Address {
    /// Reads an `http` or `https` URL.
    pub(super) fn parse(text: &str) -> Result<Self, HttpBackendError> {
        let mut url = Url::parse(text.trim()).map_err(|error| HttpBackendError::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HttpBackendError::Scheme(url.scheme().to_owned()));
        }
        url.set_fragment(None);
        Ok(Self { shown: shown(&url).into(), url })
    }

    /// The URL with all its parts.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL without a user's name and password.
    pub(super) fn without_userinfo(&self) -> Url {
        let mut url = self.url.clone();
        // Both fail only for URLs without a host, which have neither.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }

    /// Whether the host is this machine: no HTTP proxy is asked to connect to it.
    pub(super) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Returns the URL without its parts that may be secret, cut short if it is long. Many services put a key into the
/// path, so a part of the path that looks like a key is masked.
pub(super) fn shown(url: &Url) -> String {
    let parts = url.path().split('/').map(|part| if looks_like_a_key(part) { "***" } else { part });
    // Not `Url::origin`: for a `file:` URL, to which a redirect may lead, that is `null`.
    let mut shown = format!("{}:", url.scheme());
    if url.has_authority() {
        shown.push_str("//");
        shown.push_str(url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            shown.push(':');
            shown.push_str(&port.to_string());
        }
    }
    for (number, part) in parts.enumerate() {
        if number > 0 {
            shown.push('/');
        }
        shown.push_str(part);
        if let Some((cut, _)) = shown.char_indices().nth(MAX_SHOWN_URL) {
            shown.truncate(cut);
            shown.push_str("...");
            break;
        }
    }
    shown
}

/// Returns the parts of the URL that may be secret: the query, its values with and without percent-encoding, and what
/// looks like a key in the path.
pub(super) fn secrets(url: &Url) -> Vec<String> {
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let keys = url.path().split('/').filter(|part| looks_like_a_key(part)).map(str::to_owned);
    let query = query.chain(url.query().into_iter().flat_map(|query| query.split('&')).map(str::to_owned));
    query.chain(keys).collect()
}

/// Words are shorter than this, and long names rarely have digits.
fn looks_like_a_key(part: &str) -> bool {
    part.len() >= 20 && part.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_secrets() {
        let cases = [
            ("https://user:pw@example.com/mcp?key=s3cret#x", "https://example.com/mcp"),
            (" http://LOCALHOST:80 ", "http://localhost/"),
            ("http://[::1]:8080/a/b?c", "http://[::1]:8080/a/b"),
            ("https://a.test/s/0123456789abcdef0123/mcp", "https://a.test/s/***/mcp"),
            ("https://a.test/a-long-name-without-any-of-them/v1", "https://a.test/a-long-name-without-any-of-them/v1"),
        ];
        for (text, shown) in cases {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn shows_urls_that_are_no_address_of_a_server() {
        let cases = [
            ("file:///etc/passwd", "file:///etc/passwd"),
            ("data:text/plain,hello", "data:text/plain,hello"),
            ("custom://user:pw@host:7/a?b", "custom://host:7/a"),
            ("blob:https://example.com/a", "blob:https://example.com/a"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(&Url::parse(text).unwrap()), expected);
        }
    }

    #[test]
    fn shows_no_more_than_a_little() {
        for path in ["/words".repeat(20_000), format!("/{}", "word".repeat(20_000))] {
            let shown = shown(&Url::parse(&format!("http://a.test{path}")).unwrap());
            assert!(shown.starts_with("http://a.test/") && shown.ends_with("..."), "{shown}");
            assert_eq!(shown.chars().count(), MAX_SHOWN_URL + 3);
        }
    }

    #[test]
    fn knows_what_is_secret() {
        let url = Url::parse("https://a.test/mcp/0123456789abcdef0123?key=a%20b&other").unwrap();
        assert_eq!(secrets(&url), ["a b", "", "key=a%20b", "other", "0123456789abcdef0123"]);
    }

    #[test]
    fn refuses_what_is_no_address_of_a_server() {
        for text in ["", "example.com/mcp", "ftp://example.com/", "file:///etc/passwd", "http://", "https://a b/"] {
            let error = Address::parse(text).err().unwrap().to_string();
            assert!(error.contains("http://") || error.contains("https://"), "{text:?}: {error}");
        }
        let error = Address::parse("http://user:pa55@host:99999/").err().unwrap().to_string();
        assert!(!error.contains("pa55"), "{error}");
    }

    #[test]
    fn knows_this_machine() {
        for (text, here) in [
            ("http://localhost:3000/mcp", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]/", true),
            ("http://a.localhost/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_loopback(), here, "{text}");
        }
    }
}
