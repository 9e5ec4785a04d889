//! Decides by which session key an `initialize` finds its session, from what its request has brought and from whom it
//! has come. Pure: the session itself is found by the supervisor.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::checks::Rejection;
use super::cookie::CookieName;
use crate::config::{HttpSettings, KeyKind};
use crate::session::{Caller, JoinBy, SessionKey};

/// The scheme by which a client has reached a reverse proxy, as the proxy says it.
const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// By what clients find a session that lives already.
#[derive(Debug, Clone)]
pub(crate) struct KeyRules {
    settings: HttpSettings,
    /// The kinds of keys that join clients, in the order in which they count.
    kinds: Vec<KeyKind>,
}

/// From where a request has come, and at which listener.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrival {
    /// The other end of the connection: a client, or a reverse proxy.
    pub peer: Option<IpAddr>,
    /// The address of the listener. It is not known in an embedding program that serves connections itself.
    pub listener: Option<SocketAddr>,
}

/// The key by which an `initialize` finds its session, or opens one for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantedKey<'a> {
    /// The value is what stands in the request.
    Brought { kind: &'a KeyKind, value: &'a [u8] },
    /// A cookie, which counts only if sessile has set it. A client without such a one is given it.
    Cookie { kind: &'a KeyKind, value: Option<&'a [u8]> },
}

impl KeyRules {
    pub(crate) fn new(settings: HttpSettings) -> Self {
        let kinds = settings.session_keys.iter().filter(|kind| kind.joins()).cloned().collect();
        Self { settings, kinds }
    }

    /// Whether a client may join the session of another one.
    pub(super) fn joins(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// The headers that are looked at.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.kinds.iter().filter_map(|kind| match kind {
            KeyKind::Header(name) => Some(name),
            _ => None,
        })
    }

    /// Whether the other end of the connection is a reverse proxy that is believed.
    pub(super) fn is_trusted_proxy(&self, arrival: Arrival) -> bool {
        arrival.peer.is_some_and(|peer| self.settings.trusted_proxies.iter().any(|range| range.contains(peer)))
    }

    /// Refuses a request with a header that would be a key and cannot be believed. Whoever sends it counts on its
    /// effect, so it is not ignored.
    pub(super) fn check_headers(
        &self,
        headers: &HeaderMap,
        caller: &Caller,
        arrival: Arrival,
    ) -> Result<(), Rejection> {
        for kind in &self.kinds {
            let KeyKind::Header(name) = kind else { continue };
            let mut values = headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            if values.next().is_some() {
                let message = format!("the {name} header stands more than once: send one");
                return Err(Rejection::new(StatusCode::BAD_REQUEST, message));
            }
            if value.is_empty() {
                let message = format!("the {name} header is empty: send a value, or leave it out");
                return Err(Rejection::new(StatusCode::BAD_REQUEST, message));
            }
            if !self.settings.trusted_proxies.is_empty() && !self.is_trusted_proxy(arrival) {
                let message = format!(
                    "the {name} header is believed only if a reverse proxy sends it that the setting `trusted_proxies` \
                     names: leave it out, or have the operator add {} to that setting",
                    arrival.peer.map_or_else(|| "the peer".to_owned(), |peer| peer.to_canonical().to_string()),
                );
                return Err(Rejection::new(StatusCode::FORBIDDEN, message));
            }
            self.check_kind(kind, caller, arrival)?;
        }
        Ok(())
    }

    /// The first key of the list that a request brings. Its headers were checked before.
    pub(super) fn wanted<'a>(
        &'a self,
        headers: &'a HeaderMap,
        caller: &Caller,
        arrival: Arrival,
    ) -> Result<Option<WantedKey<'a>>, Rejection> {
        for kind in &self.kinds {
            let key = match kind {
                KeyKind::SessionId | KeyKind::Connection => continue,
                KeyKind::Principal => WantedKey::Brought { kind, value: b"" },
                KeyKind::Header(name) => match headers.get(name) {
                    Some(value) => WantedKey::Brought { kind, value: value.as_bytes() },
                    None => continue,
                },
                KeyKind::Cookie => WantedKey::Cookie { kind, value: self.cookie_name(headers, arrival).find(headers) },
            };
            self.check_kind(kind, caller, arrival)?;
            return Ok(Some(key));
        }
        Ok(None)
    }

    fn check_kind(&self, kind: &KeyKind, caller: &Caller, arrival: Arrival) -> Result<(), Rejection> {
        let circumstances = self.settings.circumstances(arrival.listener, !caller.principal.is_anonymous());
        circumstances.check(kind).map_err(|reason| {
            Rejection::new(StatusCode::FORBIDDEN, format!("the session key `{kind}` cannot be used here: {reason}"))
        })
    }

    /// The name of the cookie for a client that has come this way.
    pub(super) fn cookie_name(&self, headers: &HeaderMap, arrival: Arrival) -> CookieName {
        let mut schemes = headers.get_all(FORWARDED_SCHEME).iter();
        let is_https = matches!((schemes.next(), schemes.next()), (Some(scheme), None) if is_https(scheme));
        CookieName::new(arrival.listener.map(|address| address.port()), is_https && self.is_trusted_proxy(arrival))
    }
}

fn is_https(scheme: &HeaderValue) -> bool {
    scheme.as_bytes().eq_ignore_ascii_case(b"https")
}

impl WantedKey<'_> {
    /// What the supervisor is asked for. `minted` is the value that the client is given where it has brought no cookie
    /// of ours.
    pub(super) fn join_by(self, minted: &str, caller: &Caller) -> JoinBy {
        match self {
            Self::Brought { kind, value } => {
                JoinBy::Brought { kind: kind.clone(), key: SessionKey::of(kind, value, caller) }
            }
            Self::Cookie { kind, value } => JoinBy::Minted {
                kind: kind.clone(),
                brought: value.map(|value| SessionKey::of(kind, value, caller)),
                fresh: SessionKey::of(kind, minted.as_bytes(), caller),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;

    const LOOPBACK: &str = "127.0.0.1:8808";

    fn rules(keys: &str, proxies: &[&str], hosts: &[&str]) -> KeyRules {
        KeyRules::new(HttpSettings {
            session_keys: keys.split(',').map(|kind| kind.parse().unwrap()).collect(),
            trusted_proxies: proxies.iter().map(|range| range.parse().unwrap()).collect(),
            allow_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..HttpSettings::default()
        })
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn arrival(peer: &str, listener: &str) -> Arrival {
        Arrival { peer: peer.parse().ok(), listener: listener.parse().ok() }
    }

    fn ada() -> Caller {
        Caller { principal: Principal::embedder("ada"), credentials: None }
    }

    #[test]
    fn the_first_key_that_is_brought_counts() {
        let caller = Caller::default();
        let wanted = |keys: &str, sent: &[(&'static str, &str)]| {
            let (rules, headers) = (rules(keys, &[], &[]), headers(sent));
            let found = rules.wanted(&headers, &caller, arrival("127.0.0.1", LOOPBACK)).unwrap();
            found.map(|key| match key {
                WantedKey::Brought { kind, value } => format!("{kind}={}", String::from_utf8_lossy(value)),
                WantedKey::Cookie { kind, value } => {
                    format!("{kind}={}", value.map_or("none".into(), String::from_utf8_lossy))
                }
            })
        };
        let sent = [("x-user", "ada"), ("x-window", "2"), ("cookie", "a=b; sessile-8808=c")];
        for (keys, with, without) in [
            ("session-id,connection", None, None),
            ("session-id,header:x-window,header:x-user", Some("header:x-window=2"), None),
            ("header:x-none,header:x-user", Some("header:x-user=ada"), None),
            ("header:x-user,principal", Some("header:x-user=ada"), Some("principal=")),
            ("header:x-none,cookie,connection", Some("cookie=c"), Some("cookie=none")),
        ] {
            assert_eq!(wanted(keys, &sent).as_deref(), with, "{keys}");
            assert_eq!(wanted(keys, &[]).as_deref(), without, "{keys}");
        }
    }

    #[test]
    fn whose_header_is_believed() {
        let sent = headers(&[("x-user", "ada")]);
        let public = "10.0.0.2:8808";
        for (proxies, hosts, peer, listener, anonymous, known) in [
            (&[][..], &[][..], "127.0.0.1", LOOPBACK, true, true),
            (&[], &["mcp.example"], "127.0.0.1", LOOPBACK, false, true),
            (&[], &[], "10.0.0.9", public, false, true),
            // The listener is not known.
            (&[], &[], "127.0.0.1", "", false, true),
            (&["127.0.0.1/32"], &["mcp.example"], "127.0.0.1", LOOPBACK, true, true),
            (&["127.0.0.1/32"], &[], "::ffff:127.0.0.1", public, true, true),
            (&["127.0.0.1/32"], &[], "127.0.0.2", LOOPBACK, false, false),
            (&["10.0.0.0/8"], &[], "10.0.0.9", public, true, true),
            (&["10.0.0.0/8"], &[], "127.0.0.1", LOOPBACK, false, false),
            (&["10.0.0.0/8"], &[], "", public, false, false),
        ] {
            let (rules, arrival) = (rules("header:x-user", proxies, hosts), arrival(peer, listener));
            let row = format!("{proxies:?} {hosts:?} {peer} {listener}");
            for (caller, expected) in [(Caller::default(), anonymous), (ada(), known)] {
                let checked = rules.check_headers(&sent, &caller, arrival);
                assert_eq!(checked.is_ok(), expected, "{row}");
                if let Err(rejection) = checked {
                    assert_eq!(rejection.status, 403);
                    assert!(rejection.message.contains("trusted_proxies"), "{row}: {}", rejection.message);
                }
                assert_eq!(rules.check_headers(&HeaderMap::new(), &caller, arrival), Ok(()), "{row}");
            }
        }
    }

    #[test]
    fn a_key_stands_once_and_has_a_value() {
        let rules = rules("header:x-user", &[], &[]);
        let at = arrival("127.0.0.1", LOOPBACK);
        for (sent, expected) in [
            (&[("x-user", "ada"), ("x-user", "ada")][..], "more than once"),
            (&[("x-user", "ada"), ("x-user", "bob")], "more than once"),
            (&[("x-user", "")], "is empty"),
        ] {
            let rejection = rules.check_headers(&headers(sent), &ada(), at).unwrap_err();
            assert!(rejection.status == 400 && rejection.message.contains(expected), "{rejection:?}");
        }
        let other = headers(&[("x-other", "a"), ("x-other", "b")]);
        assert_eq!(rules.check_headers(&other, &ada(), at), Ok(()));
    }

    #[test]
    fn all_anonymous_callers_share_on_loopback_only() {
        let rules = rules("principal", &["10.0.0.0/8"], &[]);
        for (listener, caller, expected) in [
            (LOOPBACK, Caller::default(), true),
            ("[::1]:1", Caller::default(), true),
            ("0.0.0.0:1", Caller::default(), false),
            ("", Caller::default(), false),
            ("0.0.0.0:1", ada(), true),
        ] {
            let empty = HeaderMap::new();
            let wanted = rules.wanted(&empty, &caller, arrival("10.0.0.1", listener));
            assert_eq!(wanted.is_ok(), expected, "{listener}");
            assert!(wanted.is_ok_and(|key| key.is_some()) == expected);
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_https() {
        let rules = rules("cookie", &["10.0.0.0/8"], &[]);
        let name = |sent: &[(&'static str, &str)], peer: &str| {
            let headers = headers(sent);
            rules.cookie_name(&headers, arrival(peer, "10.0.0.1:443")) == CookieName::new(Some(443), true)
        };
        assert!(name(&[("x-forwarded-proto", "HTTPS")], "10.0.0.9"));
        assert!(!name(&[("x-forwarded-proto", "https")], "11.0.0.9"));
        assert!(!name(&[("x-forwarded-proto", "http")], "10.0.0.9"));
        assert!(!name(&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")], "10.0.0.9"));
        assert!(!name(&[], "10.0.0.9"));
    }

    #[test]
    fn a_minted_key_is_not_the_one_that_was_brought() {
        let caller = ada();
        let kind = KeyKind::Cookie;
        let wanted = WantedKey::Cookie { kind: &kind, value: Some(b"theirs") };
        let JoinBy::Minted { brought, fresh, .. } = wanted.join_by("ours", &caller) else { panic!("a cookie") };
        assert_eq!(brought, Some(SessionKey::of(&kind, b"theirs", &caller)));
        assert_eq!(fresh, SessionKey::of(&kind, b"ours", &caller));
    }
}
