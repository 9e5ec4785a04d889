//! What is to be done about a token: decisions only.
//!
//! ```text
//!   nothing held ──────────── request goes bare ──▶ 401 ──▶ log in
//!   held, not due ─────────── request carries it ─▶ 401 ──▶ refresh, else log in
//!   held, due or refused ──── refresh first ──────▶ no longer possible: as if nothing were held
//!                                                   403 insufficient_scope ──▶ log in for more
//! ```
//!
//! A program that logs in with its own credentials does so where a person would be sent to the browser, and also before
//! its first request. A token that was given a moment ago and is refused all the same ends the matter, or a browser would
//! open again and again.

use rmcp::transport::auth::WWWAuthenticateParams;
use url::Url;

use crate::backend::credentials::AuthRefusal;
use crate::config::OAuthFlow;

/// How a token was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was kept from earlier.
    Kept,
    /// A refresh token was traded for it.
    Renewed,
    /// A login ended with it.
    Given,
}

/// Whether a token is still good, by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Good,
    /// It is about to expire.
    Due,
    Expired,
}

/// The token that is held, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub age: Age,
    pub origin: Origin,
    /// Whether it was come by a moment ago.
    pub young: bool,
    /// Whether the backend has refused it.
    pub refused: bool,
    /// Whether there is a refresh token.
    pub renewable: bool,
    /// What it is good for, where that is known.
    pub granted: &'a [String],
}

/// What to do before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Send what is held.
    Use,
    /// Send no token, once nobody is about to get one.
    Bare,
    /// Get a new one first, in the way that needs no person.
    Renew,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// There was no token, or it is no good.
    Unauthorized,
    /// The token is good, but not for this.
    Scope(Vec<String>),
    /// Nothing that another token would mend.
    Other,
}

/// What to do after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    /// What is held is better than what was sent.
    Retry,
    /// Nothing can be done.
    Nothing,
    Renew,
    /// Log in, and ask for these scopes as well.
    Obtain(Vec<String>),
    /// A new login would end as the last one did.
    StillRefused,
    /// The scopes were asked for, or are there, and the backend wants them all the same.
    ScopeRefused(Vec<String>),
}

pub(super) fn before(flow: OAuthFlow, held: Option<&Standing<'_>>) -> Before {
    let program = flow == OAuthFlow::ClientCredentials;
    match held {
        None if program => Before::Renew,
        None => Before::Bare,
        Some(held) if held.refused && (held.renewable || program) => Before::Renew,
        Some(held) if held.refused => Before::Bare,
        Some(held) if held.age == Age::Good => Before::Use,
        Some(held) if held.renewable || program => Before::Renew,
        // Let the backend say that it has expired: its refusal also says how to log in.
        Some(_) => Before::Use,
    }
}

/// `same` is whether what is held is what the refused request carried; `hopeless` are scopes that a login asked for and did
/// not get.
pub(super) fn after(
    flow: OAuthFlow,
    cause: &Cause,
    held: Option<&Standing<'_>>,
    same: bool,
    hopeless: &[String],
) -> After {
    match (cause, held) {
        (Cause::Other, _) => After::Nothing,
        (Cause::Unauthorized, None) => After::Obtain(Vec::new()),
        (Cause::Unauthorized, Some(held)) if !same && !held.refused => After::Retry,
        (Cause::Unauthorized, Some(held)) => match held.origin {
            Origin::Given if held.young => After::StillRefused,
            Origin::Renewed if held.young => After::Obtain(Vec::new()),
            _ if held.renewable && flow == OAuthFlow::Login => After::Renew,
            _ => After::Obtain(Vec::new()),
        },
        (Cause::Scope(needed), None) => After::Obtain(needed.clone()),
        (Cause::Scope(needed), Some(held)) => {
            let has = needed.iter().all(|scope| held.granted.contains(scope));
            if !same && (has || held.granted.is_empty()) {
                After::Retry
            } else if has || needed.iter().any(|scope| hopeless.contains(scope)) {
                After::ScopeRefused(needed.clone())
            } else {
                After::Obtain(union(held.granted, needed))
            }
        }
    }
}

/// All of both, each once, in their order (SEP-2350: a token for more must still do for what the last one did).
pub(super) fn union(some: &[String], more: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for scope in some.iter().chain(more) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

/// Why, and the challenge that says how to log in.
pub(super) fn cause(refusal: &AuthRefusal, backend: &Url) -> (Cause, Option<String>) {
    let bearer = |challenge: &&String| challenge.to_ascii_lowercase().contains("bearer");
    let challenge = refusal.challenges.iter().find(bearer).or(refusal.challenges.first());
    let params = challenge.map(|challenge| WWWAuthenticateParams::parse(challenge, backend));
    let cause = match (refusal.status, params) {
        (401, _) => Cause::Unauthorized,
        (403, Some(params)) if params.is_insufficient_scope() => {
            let scope = params.scope.unwrap_or_default();
            let scopes: Vec<String> = scope.split_whitespace().map(str::to_owned).collect();
            // Not to say which is to say nothing.
            if scopes.is_empty() { Cause::Other } else { Cause::Scope(scopes) }
        }
        _ => Cause::Other,
    };
    (cause, challenge.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Standing<'_> =
        Standing { age: Age::Good, origin: Origin::Kept, young: false, refused: false, renewable: true, granted: &[] };

    fn scopes(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn before_a_request() {
        use OAuthFlow::{ClientCredentials, Login};

        let plain = Standing { renewable: false, ..HELD };
        let table = [
            (Login, None, Before::Bare),
            (Login, Some(HELD), Before::Use),
            (Login, Some(plain), Before::Use),
            (Login, Some(Standing { age: Age::Due, ..HELD }), Before::Renew),
            (Login, Some(Standing { age: Age::Expired, ..HELD }), Before::Renew),
            (Login, Some(Standing { age: Age::Due, ..plain }), Before::Use),
            (Login, Some(Standing { age: Age::Expired, ..plain }), Before::Use),
            (Login, Some(Standing { refused: true, ..HELD }), Before::Renew),
            (Login, Some(Standing { refused: true, ..plain }), Before::Bare),
            (ClientCredentials, None, Before::Renew),
            (ClientCredentials, Some(plain), Before::Use),
            (ClientCredentials, Some(Standing { age: Age::Expired, ..plain }), Before::Renew),
            (ClientCredentials, Some(Standing { refused: true, ..plain }), Before::Renew),
        ];
        for (flow, held, expected) in table {
            assert_eq!(before(flow, held.as_ref()), expected, "{flow:?} {held:?}");
        }
    }

    #[test]
    fn after_a_refusal() {
        use OAuthFlow::{ClientCredentials, Login};

        let obtain = || After::Obtain(Vec::new());
        let refused = Standing { refused: true, ..HELD };
        let plain = Standing { renewable: false, ..refused };
        let given = Standing { origin: Origin::Given, young: true, ..refused };
        let renewed = Standing { origin: Origin::Renewed, young: true, ..refused };
        let table = [
            (Login, None, false, obtain()),
            (Login, Some(HELD), false, After::Retry),
            (Login, Some(refused), true, After::Renew),
            (Login, Some(refused), false, After::Renew),
            (Login, Some(plain), true, obtain()),
            (Login, Some(given), true, After::StillRefused),
            (Login, Some(Standing { young: false, ..given }), true, After::Renew),
            (Login, Some(renewed), true, obtain()),
            (ClientCredentials, None, false, obtain()),
            (ClientCredentials, Some(refused), true, obtain()),
            (ClientCredentials, Some(given), true, After::StillRefused),
        ];
        for (flow, held, same, expected) in table {
            assert_eq!(after(flow, &Cause::Unauthorized, held.as_ref(), same, &[]), expected, "{held:?} {same}");
            assert_eq!(after(flow, &Cause::Other, held.as_ref(), same, &[]), After::Nothing);
        }
    }

    #[test]
    fn after_a_refusal_for_want_of_scope() {
        let (read, write) = (scopes("read"), scopes("write"));
        let both = scopes("read write");
        let reader = Standing { granted: &read, ..HELD };
        let writer = Standing { granted: &both, ..HELD };
        let cause = Cause::Scope(write.clone());
        let table = [
            (None, false, &[][..], After::Obtain(write.clone())),
            (Some(reader), true, &[], After::Obtain(both.clone())),
            // Another session has renewed the token meanwhile, which gives it no more than it had.
            (Some(reader), false, &[], After::Obtain(both.clone())),
            (Some(writer), false, &[], After::Retry),
            (Some(writer), true, &[], After::ScopeRefused(write.clone())),
            (Some(reader), true, &write, After::ScopeRefused(write.clone())),
            (Some(HELD), true, &[], After::Obtain(write.clone())),
            (Some(HELD), false, &[], After::Retry),
        ];
        for (held, same, hopeless, expected) in table {
            assert_eq!(after(OAuthFlow::Login, &cause, held.as_ref(), same, hopeless), expected, "{held:?} {same}");
        }
    }

    #[test]
    fn causes_are_read_from_the_challenge() {
        let backend = Url::parse("https://mcp.example.com/mcp").unwrap();
        let table = [
            (401, vec![], Cause::Unauthorized),
            (401, vec!["Basic realm=x"], Cause::Unauthorized),
            (403, vec![], Cause::Other),
            (403, vec!["Bearer error=\"insufficient_scope\", scope=\"a b\""], Cause::Scope(scopes("a b"))),
            (403, vec!["Basic x", "bearer scope=\"a\", error=\"insufficient_scope\""], Cause::Scope(scopes("a"))),
            (403, vec!["Bearer error=\"insufficient_scope\""], Cause::Other),
            (403, vec!["Bearer error=\"invalid_token\", scope=\"a\""], Cause::Other),
            (404, vec!["Bearer error=\"insufficient_scope\", scope=\"a\""], Cause::Other),
        ];
        for (status, challenges, expected) in table {
            let refusal =
                AuthRefusal { status, challenges: challenges.iter().map(|text| (*text).to_owned()).collect() };
            assert_eq!(cause(&refusal, &backend).0, expected, "{refusal:?}");
        }
        let two = AuthRefusal { status: 401, challenges: vec!["Basic x".to_owned(), "Bearer y=z".to_owned()] };
        assert_eq!(cause(&two, &backend).1.as_deref(), Some("Bearer y=z"));
    }
}
