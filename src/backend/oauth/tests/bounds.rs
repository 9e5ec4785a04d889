//! Where a login does not go, and how much it takes.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::server::Instead;
use super::*;
use crate::backend::scripted_http::ScriptedHttpServer;

const AUTHORITY: &str = "/.well-known/oauth-authorization-server";
const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";

async fn outcome(script: Script) -> (String, LoginHarness) {
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert_eq!(harness.asked(), 0, "{error}");
    (error, harness)
}

#[tokio::test]
async fn oversized_metadata_is_not_taken() {
    let mut script = open_registration();
    script.instead.insert(AUTHORITY.to_owned(), Instead::Large(2 * 1024 * 1024));
    let (error, _) = outcome(script).await;
    assert!(error.contains("larger than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn redirects_to_other_origins_are_not_followed() {
    let other = LoginServer::start(open_registration()).await;
    for path in [AUTHORITY, RESOURCE] {
        let mut script = open_registration();
        script.instead.insert(path.to_owned(), Instead::Redirect(format!("{}{path}", other.origin)));
        let (error, _) = outcome(script).await;
        assert!(error.contains("redirect"), "{error}");
    }
    let mut script = open_registration();
    script.instead.insert("/register".to_owned(), Instead::Redirect(format!("{}/register", other.origin)));
    let (error, _) = outcome(script).await;
    assert!(error.contains("did not register"), "{error}");
    assert!(other.requests().is_empty(), "nobody came");
}

#[tokio::test]
async fn a_token_endpoint_does_not_send_codes_elsewhere() {
    let other = LoginServer::start(open_registration()).await;
    let mut script = open_registration();
    script.instead.insert("/token".to_owned(), Instead::Redirect(format!("{}/token", other.origin)));
    let harness = LoginHarness::new(script, OAuthSettings::default(), Person::LogsIn).await;
    let error = harness.request("").await.unwrap_err().to_string();
    assert!(error.contains("gave no token"), "{error}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn endpoints_are_where_they_may_be() {
    let table = [
        ("token_endpoint", "http://10.0.0.1/token"),
        ("token_endpoint", "http://169.254.169.254/token"),
        ("token_endpoint", "http://auth.example.com@10.0.0.1/token"),
        ("authorization_endpoint", "file:///etc/passwd"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "http://93.184.216.34/authorize"),
        ("registration_endpoint", "https://192.168.0.1/register"),
    ];
    for (name, url) in table {
        let (error, _) = outcome(Script { metadata: json!({ name: url }), ..open_registration() }).await;
        assert!(error.contains("is refused"), "{name} {url}: {error}");
    }
}

/// A backend whose name stands for a public address, and metadata that points into this machine.
#[tokio::test]
async fn a_public_backend_does_not_reach_this_machine() {
    let inside = LoginServer::start(open_registration()).await;
    let port = Url::parse(&inside.origin).unwrap().port().unwrap();
    // The backend itself is nowhere, so all that could be reached is what its challenge names.
    let lookup: HostLookup = Arc::new(|name| {
        Box::pin(async move {
            let address: &str = if name == "mcp.example.com" { "203.0.114.1" } else { "127.0.0.1" };
            Ok(vec![address.parse::<IpAddr>().unwrap()])
        })
    });
    let backend = Url::parse("https://mcp.example.com/mcp").unwrap();
    let client = http_client::LoginClient::open(&backend, lookup.clone()).await.unwrap();
    for url in [
        format!("https://127.0.0.1:{port}{AUTHORITY}"),
        format!("http://127.0.0.1:{port}{AUTHORITY}"),
        format!("https://auth.example.com:{port}{AUTHORITY}"),
        format!("https://localhost:{port}{AUTHORITY}"),
    ] {
        let trouble = client.get(&Url::parse(&url).unwrap()).await.unwrap_err().to_string();
        assert!(trouble.contains("refused"), "{url}: {trouble}");
    }
    let challenge = format!("Bearer resource_metadata=\"https://auth.example.com:{port}{RESOURCE}\"");
    let folder = tempfile::tempdir().unwrap();
    let settings = OAuthSettings {
        token_dir: Some(folder.path().to_owned()),
        open_browser: false,
        announce: Some(Announce::new(|url| panic!("nobody should be sent to {url}"))),
        ..OAuthSettings::default()
    };
    let oauth = OAuth::with_lookup(&backend, settings, lookup);
    let refusal = AuthRefusal { status: 401, challenges: vec![challenge] };
    let error =
        tokio::time::timeout(Duration::from_secs(20), oauth.refused(None, &refusal)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("addresses of auth.example.com are refused"), "{error}");
    assert!(inside.requests().is_empty(), "nobody came");
}

#[tokio::test]
async fn a_compressed_answer_is_measured_unpacked() {
    let packed = packed(1536 * 1024);
    assert!(packed.len() < 64 * 1024, "{}", packed.len());
    let server = ScriptedHttpServer::start(move |_| {
        let mut response = scripted_http::json(packed.clone());
        response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        async { response }
    })
    .await;
    let url = Url::parse(&server.url()).unwrap();
    let client = http_client::LoginClient::open(&url, http_client::system_lookup()).await.unwrap();
    let trouble = client.get(&url).await.unwrap_err().to_string();
    assert!(trouble.contains("larger than"), "{trouble}");
}

#[tokio::test]
async fn a_stream_without_end_is_left() {
    let server = ScriptedHttpServer::start(async |_| scripted_http::silence()).await;
    let url = Url::parse(&server.url()).unwrap();
    let client = http_client::LoginClient::open(&url, http_client::system_lookup()).await.unwrap();
    let body = tokio::time::timeout(Duration::from_secs(10), client.get(&url)).await.unwrap();
    assert_eq!(body, Ok(Vec::new()));
}

/// A gzip stream (RFC 1951, section 3.2.6; RFC 1952) of so many equal bytes, and more. Its end is missing: nobody gets
/// there.
fn packed(bytes: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut byte, mut used) = (0_u8, 0);
    let mut push = |bits: &str| {
        for bit in bits.bytes() {
            byte |= (bit - b'0') << used;
            used += 1;
            if used == 8 {
                out.push(byte);
                (byte, used) = (0, 0);
            }
        }
    };
    // The last block, with fixed codes; the letter `0`; then again and again 258 times what stood one byte before.
    push("1");
    push("10");
    push("01100000");
    for _ in 0..=bytes / 258 {
        push("1100010100000");
    }
    out
}
