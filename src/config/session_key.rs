//! Session keys: the kinds of what finds a client's session, and where each of them may be used.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::ConfigError;
use crate::headers::why_no_key;

/// The names of the kinds, for errors.
const KINDS: &str = "session-id, connection, principal, header:NAME, cookie";

/// A kind of session key. [`HttpSettings::session_keys`](super::HttpSettings::session_keys) lists the kinds by which an
/// `initialize` finds a living session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// The `Mcp-Session-Id` of a client. It finds what it was given for, listed or not; an `initialize` brings none.
    SessionId,
    /// The only connection of a client (stdio, in-process, HTTP+SSE). It joins nothing.
    Connection,
    /// Who calls. Each request brings this key.
    Principal,
    /// The value of a request's header.
    Header(HeaderName),
    /// A cookie that sessile sets. Each request counts as one with this key: one without the cookie is given it.
    Cookie,
}

impl KeyKind {
    /// Whether several clients may bring the same key of this kind, so that it joins them in one session.
    pub fn joins(&self) -> bool {
        match self {
            Self::SessionId | Self::Connection => false,
            Self::Principal | Self::Header(_) | Self::Cookie => true,
        }
    }

    /// Whether each request brings a key of this kind.
    fn suits_all(&self) -> bool {
        matches!(self, Self::Principal | Self::Cookie)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionId => f.write_str("session-id"),
            Self::Connection => f.write_str("connection"),
            Self::Principal => f.write_str("principal"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie => f.write_str("cookie"),
        }
    }
}

impl FromStr for KeyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = match text.trim() {
            "session-id" => Self::SessionId,
            "connection" => Self::Connection,
            "principal" => Self::Principal,
            "cookie" => Self::Cookie,
            "handle" => return Err("handle comes with the clients of 2026-07-28: leave it out".to_owned()),
            "header" => return Err("name the header, as in header:X-User".to_owned()),
            other => {
                let shown: String = other.chars().take(80).collect();
                let Some(name) = other.strip_prefix("header:") else {
                    return Err(format!("there is no session key {shown:?}: use one of {KINDS}"));
                };
                let name = HeaderName::from_bytes(name.trim().as_bytes());
                Self::Header(name.map_err(|_| format!("{shown:?} does not name a header"))?)
            }
        };
        check_name(&kind)?;
        Ok(kind)
    }
}

fn check_name(kind: &KeyKind) -> Result<(), String> {
    let KeyKind::Header(name) = kind else { return Ok(()) };
    why_no_key(name).map_or(Ok(()), |why| Err(format!("{name} cannot be a session key: it {why}")))
}

/// Checks a list of kinds.
pub(super) fn check_list(kinds: &[KeyKind]) -> Result<(), ConfigError> {
    for (place, kind) in kinds.iter().enumerate() {
        let before = &kinds[..place];
        let wrong = |reason| Err(ConfigError::SessionKey { kind: kind.clone(), reason });
        check_name(kind).or_else(wrong)?;
        if before.contains(kind) {
            return wrong("it stands twice in the list".to_owned());
        }
        if let Some(first) = before.iter().find(|other| other.suits_all() && kind.joins()) {
            return wrong(format!("it is never looked at, because `{first}` suits all requests: put `{first}` last"));
        }
    }
    Ok(())
}

/// What decides whether a key of some kind may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyCircumstances {
    /// Whether it is known who calls.
    pub is_authenticated: bool,
    pub reach: Reach,
    /// Whether there are peers whose headers are believed. Which they are is checked with each request.
    pub has_trusted_proxies: bool,
}

/// From where requests come to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From this machine alone.
    Near,
    /// From this machine, but with other names than loopback ones: something on it may pass on what comes from elsewhere.
    NearWithOtherHosts,
    /// From anywhere.
    Everywhere,
}

impl KeyCircumstances {
    /// Why a key of this kind may not be used.
    pub(crate) fn check(self, kind: &KeyKind) -> Result<(), String> {
        match kind {
            KeyKind::Principal if !self.is_authenticated && self.reach == Reach::Everywhere => Err(
                "all callers are the same one without authentication, and would share a session: authenticate them, or \
                 listen on loopback"
                    .to_owned(),
            ),
            KeyKind::Header(name)
                if !self.is_authenticated && !self.has_trusted_proxies && self.reach != Reach::Near =>
            {
                Err(format!(
                    "without authentication any caller could send {name}: name the reverse proxy that sets it in the \
                     setting `trusted_proxies`, or listen on loopback without `allow_hosts`"
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_they_are_read() {
        for text in ["session-id", "connection", "principal", "header:x-user", "cookie"] {
            assert_eq!(text.parse::<KeyKind>().unwrap().to_string(), text);
        }
        assert_eq!(" header: X-User ".parse::<KeyKind>().unwrap().to_string(), "header:x-user");
        for (text, expected) in [
            ("handle", "comes with the clients of 2026-07-28"),
            ("header", "name the header"),
            ("header:", "does not name a header"),
            ("header:a b", "does not name a header"),
            ("", "there is no session key \"\": use one of session-id,"),
            ("Cookie", "there is no session key"),
            ("header:Authorization", "authorization cannot be a session key: it"),
            ("header:Cookie", "cookie cannot be a session key: it"),
            ("header:Host", "host cannot be a session key: it"),
            ("header:Mcp-Session-Id", "mcp-session-id cannot be a session key: it"),
            ("header:X-Forwarded-For", "x-forwarded-for cannot be a session key: it"),
        ] {
            let error = text.parse::<KeyKind>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn lists() {
        let list = |text: &str| check_list(&text.split(',').map(|kind| kind.parse().unwrap()).collect::<Vec<_>>());
        for good in [
            "session-id,connection",
            "principal",
            "principal,session-id",
            "header:a,header:b,cookie,connection",
            "session-id,header:a,principal",
        ] {
            assert_eq!(list(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("principal,principal", "session key `principal`: it stands twice in the list"),
            ("header:a,header:A", "session key `header:a`: it stands twice in the list"),
            ("principal,cookie", "`cookie`: it is never looked at, because `principal` suits all requests"),
            ("cookie,connection,header:a", "`header:a`: it is never looked at, because `cookie` suits all requests"),
        ] {
            let error = list(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        assert!(check_list(&[KeyKind::Header(http::header::AUTHORIZATION)]).is_err(), "also without the parser");
    }

    #[test]
    fn where_each_kind_may_be_used() {
        let header = KeyKind::Header(HeaderName::from_static("x-user"));
        for reach in [Reach::Near, Reach::NearWithOtherHosts, Reach::Everywhere] {
            for (is_authenticated, has_trusted_proxies) in [(false, false), (false, true), (true, false), (true, true)]
            {
                let place = KeyCircumstances { is_authenticated, reach, has_trusted_proxies };
                for always in [KeyKind::SessionId, KeyKind::Connection, KeyKind::Cookie] {
                    assert_eq!(place.check(&always), Ok(()));
                }
                let shares = is_authenticated || reach != Reach::Everywhere;
                assert_eq!(place.check(&KeyKind::Principal).is_ok(), shares, "{place:?}");
                let believes = is_authenticated || has_trusted_proxies || reach == Reach::Near;
                assert_eq!(place.check(&header).is_ok(), believes, "{place:?}");
            }
        }
    }
}
