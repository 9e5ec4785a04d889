//! Decides what is to be done about a token before a request and after a refusal. Pure.
//!
//! ```text
//!   nothing held ──────────── request goes bare ──▶ 401 ──▶ log in
//!   held, not due ─────────── request carries it ─▶ 401 ──▶ refresh, else log in
//!   held, due or refused ──── refresh first ──────▶ no longer possible: as if nothing were held
//!                                                   403 insufficient_scope ──▶ log in for more
//! ```
//!
//! A program that logs in with its own credentials does so where a person would be sent to the browser, and also before
//! its first request. If a token is refused that was granted a moment ago, there is no further login, or a browser
//! would open again and again.

use rmcp::transport::auth::WWWAuthenticateParams;
use url::Url;

use crate::backend::credentials::AuthRefusal;
use crate::config::OAuthFlow;

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenOrigin {
    /// The store, where an earlier login had left it.
    Stored,
    /// A refresh token that was traded for it.
    Renewed,
    /// A login, or the client credentials of a program.
    Granted,
}

/// Whether a token is still good, by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenAge {
    Good,
    /// It is about to expire.
    Due,
    Expired,
}

/// What a decision needs to know of the token that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenFacts<'a> {
    pub age: TokenAge,
    pub origin: TokenOrigin,
    /// Whether the token was obtained a moment ago.
    pub young: bool,
    /// Whether the backend has refused it.
    pub refused: bool,
    /// Whether there is a refresh token.
    pub renewable: bool,
    /// The scopes of the token, where they are known.
    pub granted: &'a [String],
}

/// What to do before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BeforeRequest {
    /// Send the token that is held.
    SendToken,
    /// Send no token, unless a task is under way that gets one.
    SendNone,
    /// Get a new token first, in the way that needs no person.
    Renew,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RefusalCause {
    /// The request had no token, or the token is not accepted.
    Unauthorized,
    /// The token is accepted, but lacks these scopes.
    Scope(Vec<String>),
    /// Another token would not help.
    Other,
}

/// What to do after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterRefusal {
    /// Send the request again with the token that is held, which is not the refused one.
    Retry,
    /// Leave it at the refusal.
    GiveUp,
    Renew,
    /// Log in, and ask for these scopes as well.
    Obtain(Vec<String>),
    /// Fail: the refused token is new, so another login would end as the last one did.
    StillRefused,
    /// Fail: these scopes were granted already, or a login asked for them in vain.
    ScopeRefused(Vec<String>),
}

/// Decides what to do before a request.
pub(super) fn before_request(flow: OAuthFlow, held: Option<&TokenFacts<'_>>) -> BeforeRequest {
    let program = flow == OAuthFlow::ClientCredentials;
    match held {
        None if program => BeforeRequest::Renew,
        None => BeforeRequest::SendNone,
        Some(held) if held.refused && (held.renewable || program) => BeforeRequest::Renew,
        Some(held) if held.refused => BeforeRequest::SendNone,
        Some(held) if held.age == TokenAge::Good => BeforeRequest::SendToken,
        Some(held) if held.renewable || program => BeforeRequest::Renew,
        // The backend's refusal of an expired token also says how to log in.
        Some(_) => BeforeRequest::SendToken,
    }
}

/// Decides what to do after a refusal. `same` is whether the token that is held is the refused one;
/// `ungrantable_scopes` are scopes that a login asked for and did not get.
pub(super) fn after_refusal(
    flow: OAuthFlow,
    cause: &RefusalCause,
    held: Option<&TokenFacts<'_>>,
    same: bool,
    ungrantable_scopes: &[String],
) -> AfterRefusal {
    match (cause, held) {
        (RefusalCause::Other, _) => AfterRefusal::GiveUp,
        (RefusalCause::Unauthorized, None) => AfterRefusal::Obtain(Vec::new()),
        (RefusalCause::Unauthorized, Some(held)) if !same && !held.refused => AfterRefusal::Retry,
        (RefusalCause::Unauthorized, Some(held)) => match held.origin {
            TokenOrigin::Granted if held.young => AfterRefusal::StillRefused,
            TokenOrigin::Renewed if held.young => AfterRefusal::Obtain(Vec::new()),
            _ if held.renewable && flow == OAuthFlow::Login => AfterRefusal::Renew,
            _ => AfterRefusal::Obtain(Vec::new()),
        },
        (RefusalCause::Scope(needed), None) => AfterRefusal::Obtain(needed.clone()),
        (RefusalCause::Scope(needed), Some(held)) => {
            let has = needed.iter().all(|scope| held.granted.contains(scope));
            if !same && (has || held.granted.is_empty()) {
                AfterRefusal::Retry
            } else if has || needed.iter().any(|scope| ungrantable_scopes.contains(scope)) {
                AfterRefusal::ScopeRefused(needed.clone())
            } else {
                AfterRefusal::Obtain(union(held.granted, needed))
            }
        }
    }
}

/// Returns all scopes of both lists, each once, in their order. A login for more scopes asks for the old ones as well,
/// because the new token replaces the old one (SEP-2350).
pub(super) fn union(some: &[String], more: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for scope in some.iter().chain(more) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

/// Returns why a request was refused, and the challenge that says how to log in.
pub(super) fn cause_of(refusal: &AuthRefusal, backend: &Url) -> (RefusalCause, Option<String>) {
    let bearer = |challenge: &&String| challenge.to_ascii_lowercase().contains("bearer");
    let challenge = refusal.challenges.iter().find(bearer).or(refusal.challenges.first());
    let params = challenge.map(|challenge| WWWAuthenticateParams::parse(challenge, backend));
    let cause = match (refusal.status, params) {
        (401, _) => RefusalCause::Unauthorized,
        (403, Some(params)) if params.is_insufficient_scope() => {
            let scope = params.scope.unwrap_or_default();
            let scopes: Vec<String> = scope.split_whitespace().map(str::to_owned).collect();
            // A challenge that names no scopes gives nothing to ask for.
            if scopes.is_empty() { RefusalCause::Other } else { RefusalCause::Scope(scopes) }
        }
        _ => RefusalCause::Other,
    };
    (cause, challenge.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: TokenFacts<'_> = TokenFacts {
        age: TokenAge::Good,
        origin: TokenOrigin::Stored,
        young: false,
        refused: false,
        renewable: true,
        granted: &[],
    };

    fn scopes(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn before_a_request() {
        use OAuthFlow::{ClientCredentials, Login};

        let plain = TokenFacts { renewable: false, ..HELD };
        let table = [
            (Login, None, BeforeRequest::SendNone),
            (Login, Some(HELD), BeforeRequest::SendToken),
            (Login, Some(plain), BeforeRequest::SendToken),
            (Login, Some(TokenFacts { age: TokenAge::Due, ..HELD }), BeforeRequest::Renew),
            (Login, Some(TokenFacts { age: TokenAge::Expired, ..HELD }), BeforeRequest::Renew),
            (Login, Some(TokenFacts { age: TokenAge::Due, ..plain }), BeforeRequest::SendToken),
            (Login, Some(TokenFacts { age: TokenAge::Expired, ..plain }), BeforeRequest::SendToken),
            (Login, Some(TokenFacts { refused: true, ..HELD }), BeforeRequest::Renew),
            (Login, Some(TokenFacts { refused: true, ..plain }), BeforeRequest::SendNone),
            (ClientCredentials, None, BeforeRequest::Renew),
            (ClientCredentials, Some(plain), BeforeRequest::SendToken),
            (ClientCredentials, Some(TokenFacts { age: TokenAge::Expired, ..plain }), BeforeRequest::Renew),
            (ClientCredentials, Some(TokenFacts { refused: true, ..plain }), BeforeRequest::Renew),
        ];
        for (flow, held, expected) in table {
            assert_eq!(before_request(flow, held.as_ref()), expected, "{flow:?} {held:?}");
        }
    }

    #[test]
    fn after_a_refusal() {
        use OAuthFlow::{ClientCredentials, Login};

        let obtain = || AfterRefusal::Obtain(Vec::new());
        let refused = TokenFacts { refused: true, ..HELD };
        let plain = TokenFacts { renewable: false, ..refused };
        let given = TokenFacts { origin: TokenOrigin::Granted, young: true, ..refused };
        let renewed = TokenFacts { origin: TokenOrigin::Renewed, young: true, ..refused };
        let table = [
            (Login, None, false, obtain()),
            (Login, Some(HELD), false, AfterRefusal::Retry),
            (Login, Some(refused), true, AfterRefusal::Renew),
            (Login, Some(refused), false, AfterRefusal::Renew),
            (Login, Some(plain), true, obtain()),
            (Login, Some(given), true, AfterRefusal::StillRefused),
            (Login, Some(TokenFacts { young: false, ..given }), true, AfterRefusal::Renew),
            (Login, Some(renewed), true, obtain()),
            (ClientCredentials, None, false, obtain()),
            (ClientCredentials, Some(refused), true, obtain()),
            (ClientCredentials, Some(given), true, AfterRefusal::StillRefused),
        ];
        for (flow, held, same, expected) in table {
            assert_eq!(
                after_refusal(flow, &RefusalCause::Unauthorized, held.as_ref(), same, &[]),
                expected,
                "{held:?} {same}"
            );
            assert_eq!(after_refusal(flow, &RefusalCause::Other, held.as_ref(), same, &[]), AfterRefusal::GiveUp);
        }
    }

    #[test]
    fn after_a_refusal_for_want_of_scope() {
        let (read, write) = (scopes("read"), scopes("write"));
        let both = scopes("read write");
        let reader = TokenFacts { granted: &read, ..HELD };
        let writer = TokenFacts { granted: &both, ..HELD };
        let cause = RefusalCause::Scope(write.clone());
        let table = [
            (None, false, &[][..], AfterRefusal::Obtain(write.clone())),
            (Some(reader), true, &[], AfterRefusal::Obtain(both.clone())),
            // Another session has renewed the token meanwhile, which gives it no more than it had.
            (Some(reader), false, &[], AfterRefusal::Obtain(both.clone())),
            (Some(writer), false, &[], AfterRefusal::Retry),
            (Some(writer), true, &[], AfterRefusal::ScopeRefused(write.clone())),
            (Some(reader), true, &write, AfterRefusal::ScopeRefused(write.clone())),
            (Some(HELD), true, &[], AfterRefusal::Obtain(write.clone())),
            (Some(HELD), false, &[], AfterRefusal::Retry),
        ];
        for (held, same, ungrantable_scopes, expected) in table {
            assert_eq!(
                after_refusal(OAuthFlow::Login, &cause, held.as_ref(), same, ungrantable_scopes),
                expected,
                "{held:?} {same}"
            );
        }
    }

    #[test]
    fn causes_are_read_from_the_challenge() {
        let backend = Url::parse("https://mcp.example.com/mcp").unwrap();
        let table = [
            (401, vec![], RefusalCause::Unauthorized),
            (401, vec!["Basic realm=x"], RefusalCause::Unauthorized),
            (403, vec![], RefusalCause::Other),
            (403, vec!["Bearer error=\"insufficient_scope\", scope=\"a b\""], RefusalCause::Scope(scopes("a b"))),
            (
                403,
                vec!["Basic x", "bearer scope=\"a\", error=\"insufficient_scope\""],
                RefusalCause::Scope(scopes("a")),
            ),
            (403, vec!["Bearer error=\"insufficient_scope\""], RefusalCause::Other),
            (403, vec!["Bearer error=\"invalid_token\", scope=\"a\""], RefusalCause::Other),
            (404, vec!["Bearer error=\"insufficient_scope\", scope=\"a\""], RefusalCause::Other),
        ];
        for (status, challenges, expected) in table {
            let refusal =
                AuthRefusal { status, challenges: challenges.iter().map(|text| (*text).to_owned()).collect() };
            assert_eq!(cause_of(&refusal, &backend).0, expected, "{refusal:?}");
        }
        let two = AuthRefusal { status: 401, challenges: vec!["Basic x".to_owned(), "Bearer y=z".to_owned()] };
        assert_eq!(cause_of(&two, &backend).1.as_deref(), Some("Bearer y=z"));
    }
}
