//! Sessions that are found by the cookie that sessile sets.

use crate::common::{INITIALIZE, Reply, Request, until};
use crate::{Served, attach, count_once, kinds, plain, settings};

/// The cookie that a response sets, as a client sends it back.
fn cookie(reply: &Reply) -> Option<String> {
    Some(reply.header("set-cookie")?.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_client_that_keeps_cookies_keeps_its_session() {
    let served = Served::new(settings("cookie")).await;
    let opening = served.client.post(INITIALIZE).send().await;
    let set = opening.header("set-cookie").unwrap().to_owned();
    let (name, rest) = set.split_once('=').unwrap();
    assert_eq!(name, format!("sessile-{}", served.port));
    let (value, attributes) = rest.split_once("; ").unwrap();
    assert!(value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    let kept = cookie(&opening).unwrap();
    drop(opening);
    let keeps = |request: Request| request.header("cookie", &format!("theme=dark; {kept}"));
    for expected in 1..=3 {
        assert_eq!(count_once(&served.client, keeps).await, expected);
    }
    let again = keeps(served.client.post(INITIALIZE)).send().await;
    assert_eq!((again.status, again.header("set-cookie")), (200, None), "it has one that counts");
    assert_eq!(kinds(&served.sessions()[0]), ["session-id", "cookie"]);
    assert_eq!(served.sessions().len(), 1);
    for _ in 0..2 {
        assert_eq!(count_once(&served.client, plain).await, 1, "without cookies each is alone");
    }
    served.close().await;
}

#[tokio::test]
async fn a_value_of_somebody_else_is_never_taken_over() {
    let served = Served::new(settings("cookie")).await;
    let name = format!("sessile-{}", served.port);
    let foreign = format!("{name}={}", "a".repeat(64));
    for _ in 0..2 {
        let opening = served.client.post(INITIALIZE).header("cookie", &foreign).send().await;
        assert_eq!(opening.status, 200);
        let given = cookie(&opening).unwrap();
        assert_ne!(given, foreign, "a fresh one is set");
        // Nor does one count that was set for another port, or that stands twice.
        for odd in [given.replace(&name, "sessile-1"), given.replace(&name, "sessile"), format!("{given}; {foreign}")] {
            let other = served.client.post(INITIALIZE).header("cookie", &odd).send().await;
            assert!(cookie(&other).is_some_and(|cookie| cookie != given), "{odd}");
        }
    }
    assert_eq!(served.sessions().len(), 8);
    served.close().await;
}

#[tokio::test]
async fn a_cookie_is_worth_as_much_as_its_session() {
    let served = Served::new(settings("cookie")).await;
    // No session is opened, so there is nothing to be found by a cookie.
    let refused = served.client.post(crate::call(1, "tools/list", "{}")).send().await;
    assert_eq!((refused.status, refused.header("set-cookie")), (400, None));
    let opening = served.client.post(INITIALIZE).send().await;
    let kept = cookie(&opening).unwrap();
    drop(opening);
    let keeps = |request: Request| request.header("cookie", &kept);
    let client = attach(&served.client, keeps).await;
    assert_eq!(crate::increment(&client, keeps).await, 1);
    let id = served.sessions()[0].id;
    assert!(served.proxy.sessions().end(id).await);
    until("the session is gone", || served.sessions().is_empty()).await;
    // Its value outlives a session whose state was lost: the next one has to tell.
    let again = keeps(served.client.post(INITIALIZE)).send().await;
    assert_eq!(again.header("set-cookie"), None);
    assert_eq!(served.sessions()[0].generation, 2);
    served.close().await;
}

#[tokio::test]
async fn behind_https_only_https_sets_it() {
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let served = Served::new(sessile::HttpSettings { trusted_proxies: trusted, ..settings("cookie") }).await;
    let https = |request: Request| request.header("x-forwarded-proto", "https");
    let opening = https(served.client.post(INITIALIZE)).send().await;
    let set = opening.header("set-cookie").unwrap();
    assert!(set.starts_with(&format!("__Host-sessile-{}=", served.port)), "{set}");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{set}");
    let kept = cookie(&opening).unwrap();
    let again = https(served.client.post(INITIALIZE)).header("cookie", &kept).send().await;
    assert_eq!(again.header("set-cookie"), None);
    let stripped = kept.replace("__Host-", "");
    let other = https(served.client.post(INITIALIZE)).header("cookie", &stripped).send().await;
    assert!(other.header("set-cookie").is_some(), "it was set over plain http, by whomever");
    served.close().await;
}

#[tokio::test]
async fn pages_of_other_origins_never_get_it() {
    let served = Served::new(settings("cookie")).await;
    let page = |request: Request| request.header("origin", "http://localhost:3000");
    let opening = page(served.client.post(INITIALIZE)).send().await;
    assert_eq!(opening.status, 200);
    let preflight = page(served.client.request("OPTIONS")).header("access-control-request-method", "POST").send().await;
    for reply in [&opening, &preflight] {
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    served.close().await;
}
