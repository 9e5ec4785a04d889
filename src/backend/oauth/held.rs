//! The token that is held for a backend, and how long it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmcp::transport::auth::StoredCredentials;
use serde::Deserialize;
use tokio::time::Instant;

use super::plan::{Age, Origin, Standing};
use crate::backend::credentials::BearerToken;

/// How long before its end a token is replaced, at most: a request must not outlive its token on the way.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token counts as come by a moment ago.
const YOUNG: Duration = Duration::from_secs(10);
/// How long a token that is due is used on when it could not be renewed.
const RETRY: Duration = Duration::from_secs(5);

/// A token and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub token: BearerToken,
    pub granted: Vec<String>,
    pub refused: bool,
    renewable: bool,
    origin: Origin,
    since: Instant,
    due: Option<Instant>,
    end: Option<Instant>,
}

/// A token response (RFC 6749, section 5.1), of which rmcp gives no field out.
#[derive(Deserialize)]
struct Response {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Held {
    /// `None` if there is no token in it that could be sent. `wall` is the clock's time, by which tokens are kept.
    pub(super) fn of(credentials: &StoredCredentials, origin: Origin, now: Instant, wall: SystemTime) -> Option<Self> {
        let response = serde_json::to_value(credentials.token_response.as_ref()?).ok()?;
        let response: Response = serde_json::from_value(response).ok()?;
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let spent = credentials
            .token_received_at
            .map(|received| wall.saturating_sub(Duration::from_secs(received)))
            .unwrap_or_default();
        // Some servers write nought for a token that does not expire.
        let whole = response.expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let left = whole.map(|whole| whole.saturating_sub(spent));
        let margin = whole.map(|whole| MARGIN.min(whole / 5)).unwrap_or_default();
        // A token that lasts for longer than clocks reach does not expire.
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

    pub(super) fn age(&self, now: Instant) -> Age {
        let over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if over(self.end) {
            Age::Expired
        } else if over(self.due) {
            Age::Due
        } else {
            Age::Good
        }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing<'_> {
        Standing {
            age: self.age(now),
            origin: self.origin,
            young: now < self.since + YOUNG,
            refused: self.refused,
            renewable: self.renewable,
            granted: &self.granted,
        }
    }

    /// It could not be renewed, and is used on for a moment before the next attempt.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.due = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(response: &str, received: Option<u64>) -> StoredCredentials {
        let response = serde_json::from_str(response).unwrap();
        StoredCredentials::new("client".to_owned(), Some(response), vec!["read".to_owned()], received)
    }

    fn held(response: &str, received: Option<u64>, wall: u64) -> Option<Held> {
        let wall = UNIX_EPOCH + Duration::from_secs(wall);
        Held::of(&credentials(response, received), Origin::Kept, Instant::now(), wall)
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_age() {
        let hour = r#"{"access_token":"abc","token_type":"bearer","expires_in":3600,"refresh_token":"r"}"#;
        let minute = r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#;
        let ever = r#"{"access_token":"abc","token_type":"bearer"}"#;
        let long = r#"{"access_token":"abc","token_type":"bearer","expires_in":18446744073709551615}"#;
        let nought = r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#;
        let table = [
            (hour, Some(1000), 1000, Age::Good),
            (hour, Some(1000), 1000 + 3539, Age::Good),
            (hour, Some(1000), 1000 + 3541, Age::Due),
            (hour, Some(1000), 1000 + 3600, Age::Expired),
            (hour, Some(9000), 1000, Age::Good),
            (hour, None, 1000, Age::Good),
            (minute, Some(1000), 1000 + 47, Age::Good),
            (minute, Some(1000), 1000 + 49, Age::Due),
            (ever, Some(0), u64::from(u32::MAX), Age::Good),
            (long, Some(1000), 1000, Age::Good),
            (nought, Some(1000), 9000, Age::Good),
        ];
        for (response, received, wall, expected) in table {
            assert_eq!(held(response, received, wall).unwrap().age(Instant::now()), expected, "{response} {wall}");
        }
        let held = held(hour, Some(1000), 1000).unwrap();
        assert!(held.standing(Instant::now()).young && held.standing(Instant::now()).renewable);
        tokio::time::advance(Duration::from_secs(3550)).await;
        assert_eq!(held.age(Instant::now()), Age::Due);
        assert!(!held.standing(Instant::now()).young);
    }

    #[test]
    fn what_cannot_be_sent_is_not_held() {
        let wall = SystemTime::now();
        let broken = credentials(r#"{"access_token":"a\nb","token_type":"bearer"}"#, None);
        let none = StoredCredentials::new("client".to_owned(), None, Vec::new(), None);
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            for credentials in [broken, none] {
                assert!(Held::of(&credentials, Origin::Kept, Instant::now(), wall).is_none());
            }
        });
    }
}
