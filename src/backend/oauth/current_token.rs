//! The token that is held for a backend, and how long it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmcp::transport::auth::StoredCredentials;
use serde::Deserialize;
use tokio::time::Instant;

use super::plan::{TokenAge, TokenFacts, TokenOrigin};
use crate::backend::credentials::BearerToken;

/// How long before its end a token is renewed, at most: it must not expire while a request is on its way.
const RENEWAL_MARGIN: Duration = Duration::from_secs(60);
/// How long a token counts as new. A new token that is refused is not replaced by another login.
const JUST_OBTAINED: Duration = Duration::from_secs(10);
/// How long a token that could not be renewed is used on before the next attempt.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);

/// A token, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct CurrentToken {
    pub token: BearerToken,
    pub granted: Vec<String>,
    pub refused: bool,
    renewable: bool,
    origin: TokenOrigin,
    since: Instant,
    due: Option<Instant>,
    end: Option<Instant>,
}

/// A token response (RFC 6749, section 5.1). It is read again here, because rmcp's type has no way to its fields.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl CurrentToken {
    /// Reads stored or received credentials. Returns `None` if they hold no token that can be sent. `wall` is the
    /// system time, which stored tokens refer to.
    pub(super) fn of(
        credentials: &StoredCredentials,
        origin: TokenOrigin,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Self> {
        let response = serde_json::to_value(credentials.token_response.as_ref()?).ok()?;
        let response: TokenResponse = serde_json::from_value(response).ok()?;
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let spent = credentials
            .token_received_at
            .map(|received| wall.saturating_sub(Duration::from_secs(received)))
            .unwrap_or_default();
        // Some servers send 0 for a token that does not expire.
        let whole = response.expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let left = whole.map(|whole| whole.saturating_sub(spent));
        let margin = whole.map(|whole| RENEWAL_MARGIN.min(whole / 5)).unwrap_or_default();
        // A lifetime beyond the range of `Instant` counts as none.
        let end = left.and_then(|left| now.checked_add(left));
        let due = left.and_then(|left| now.checked_add(left.saturating_sub(margin)));
        Some(Self {
            token: BearerToken::new(&response.access_token)?,
            granted: credentials.granted_scopes.clone(),
            refused: false,
            renewable: response.refresh_token.is_some(),
            origin,
            since: now,
            due,
            end,
        })
    }

    pub(super) fn age(&self, now: Instant) -> TokenAge {
        let over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if over(self.end) {
            TokenAge::Expired
        } else if over(self.due) {
            TokenAge::Due
        } else {
            TokenAge::Good
        }
    }

    pub(super) fn facts(&self, now: Instant) -> TokenFacts<'_> {
        TokenFacts {
            age: self.age(now),
            origin: self.origin,
            young: now < self.since + JUST_OBTAINED,
            refused: self.refused,
            renewable: self.renewable,
            granted: &self.granted,
        }
    }

    /// Puts off the next attempt to renew the token.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.due = Some(now + RENEWAL_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(response: &str, received: Option<u64>) -> StoredCredentials {
        let response = serde_json::from_str(response).unwrap();
        StoredCredentials::new("client".to_owned(), Some(response), vec!["read".to_owned()], received)
    }

    fn held(response: &str, received: Option<u64>, wall: u64) -> Option<CurrentToken> {
        let wall = UNIX_EPOCH + Duration::from_secs(wall);
        CurrentToken::of(&credentials(response, received), TokenOrigin::Stored, Instant::now(), wall)
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_age() {
        let hour = r#"{"access_token":"abc","token_type":"bearer","expires_in":3600,"refresh_token":"r"}"#;
        let minute = r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#;
        let ever = r#"{"access_token":"abc","token_type":"bearer"}"#;
        let long = r#"{"access_token":"abc","token_type":"bearer","expires_in":18446744073709551615}"#;
        let nought = r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#;
        let table = [
            (hour, Some(1000), 1000, TokenAge::Good),
            (hour, Some(1000), 1000 + 3539, TokenAge::Good),
            (hour, Some(1000), 1000 + 3541, TokenAge::Due),
            (hour, Some(1000), 1000 + 3600, TokenAge::Expired),
            (hour, Some(9000), 1000, TokenAge::Good),
            (hour, None, 1000, TokenAge::Good),
            (minute, Some(1000), 1000 + 47, TokenAge::Good),
            (minute, Some(1000), 1000 + 49, TokenAge::Due),
            (ever, Some(0), u64::from(u32::MAX), TokenAge::Good),
            (long, Some(1000), 1000, TokenAge::Good),
            (nought, Some(1000), 9000, TokenAge::Good),
        ];
        for (response, received, wall, expected) in table {
            assert_eq!(held(response, received, wall).unwrap().age(Instant::now()), expected, "{response} {wall}");
        }
        let held = held(hour, Some(1000), 1000).unwrap();
        assert!(held.facts(Instant::now()).young && held.facts(Instant::now()).renewable);
        tokio::time::advance(Duration::from_secs(3550)).await;
        assert_eq!(held.age(Instant::now()), TokenAge::Due);
        assert!(!held.facts(Instant::now()).young);
    }

    #[test]
    fn what_cannot_be_sent_is_not_held() {
        let wall = SystemTime::now();
        let broken = credentials(r#"{"access_token":"a\nb","token_type":"bearer"}"#, None);
        let none = StoredCredentials::new("client".to_owned(), None, Vec::new(), None);
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            for credentials in [broken, none] {
                assert!(CurrentToken::of(&credentials, TokenOrigin::Stored, Instant::now(), wall).is_none());
            }
        });
    }
}
