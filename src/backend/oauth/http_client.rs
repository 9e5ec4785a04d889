//! The HTTP client of logins: all requests that rmcp makes for a login go through it.
//!
//! It talks only to addresses that [`AddressPolicy`] permits. It resolves names itself and checks the addresses then,
//! so that a name which stands for another address a moment later does not get past the policy. It follows no
//! redirects, takes no more than [`MAX_RESPONSE`] bytes, unpacked, and waits no longer than [`LOGIN_REQUEST_TIMEOUT`].

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rmcp::transport::auth::{
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRedirectPolicy, OAuthHttpRequest,
};
use serde::Deserialize;
use tokio::time::timeout;
use url::{Url, form_urlencoded};

use super::address_policy::{AddressPolicy, UrlRefusal};
use crate::backend::tls;

/// The largest response, in bytes after unpacking.
const MAX_RESPONSE: usize = 1024 * 1024;
/// How long one request may take.
const LOGIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an authorization server's text an error quotes, in characters.
const MAX_QUOTED: usize = 200;

/// The environment variables that name HTTP proxies.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Resolves a name to its addresses.
pub(super) type HostLookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Resolves names as the system does.
pub(super) fn system_lookup() -> HostLookup {
    Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    })
}

/// The HTTP client of one login or refresh.
pub(super) struct LoginClient {
    policy: AddressPolicy,
    tls: reqwest::Client,
    plain: reqwest::Client,
    last_error: Mutex<Option<ExchangeError>>,
}

/// Why a request failed. It is kept for the error message, because rmcp reports only that a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExchangeError {
    /// The policy refuses the URL.
    Refused { url: String, refusal: UrlRefusal },
    /// There was no response, or none that could be used.
    Failed { url: String, reason: String },
    /// An OAuth error (RFC 6749, section 5.2).
    OAuth { error: String, description: String },
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { url, refusal } => write!(f, "{url} is refused: {}", refusal.reason()),
            Self::Failed { url, reason } => write!(f, "{url}: {reason}"),
            Self::OAuth { error, description } if description.is_empty() => f.write_str(error),
            Self::OAuth { error, description } => write!(f, "{error}: {description}"),
        }
    }
}

impl Error for ExchangeError {}

impl LoginClient {
    /// A client for logging in to `backend`.
    pub(super) async fn open(backend: &Url, lookup: HostLookup) -> Result<Self, String> {
        tls::ensure_provider();
        let resolved = match backend.domain() {
            // A name that cannot be resolved here may be known to an HTTP proxy. Only public addresses are permitted
            // then.
            Some(name) => {
                timeout(CONNECT_TIMEOUT, lookup(name.to_owned())).await.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let policy = AddressPolicy::of(backend, &resolved);
        let build = |plain| {
            let builder = reqwest::Client::builder();
            let builder = if plain && policy.is_loopback() { builder.no_proxy() } else { builder };
            builder
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(LOGIN_REQUEST_TIMEOUT)
                .user_agent(concat!("sessile/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(CheckedResolver {
                    policy: policy.clone(),
                    plain,
                    proxies: proxy_hosts(|variable| std::env::var(variable).ok()).into(),
                    lookup: lookup.clone(),
                }))
                .build()
                .map_err(|error| error_chain(&error))
        };
        Ok(Self { tls: build(false)?, plain: build(true)?, policy, last_error: Mutex::new(None) })
    }

    pub(super) fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Returns why the last request failed, and forgets it.
    pub(super) fn take_error(&self) -> Option<ExchangeError> {
        self.last_error().take()
    }

    fn last_error(&self) -> MutexGuard<'_, Option<ExchangeError>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches `url`, and returns the body of a successful response.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, ExchangeError> {
        let failed = |reason| ExchangeError::Failed { url: without_secrets(url), reason };
        let request = Request::get(url.as_str()).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
        let answer =
            timeout(LOGIN_REQUEST_TIMEOUT, self.send(request, true)).await.map_err(|_| failed(timed_out()))??;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(failed(answer.status().to_string())) }
    }

    async fn send(
        &self,
        request: Request<Vec<u8>>,
        refuse_redirects: bool,
    ) -> Result<Response<Vec<u8>>, ExchangeError> {
        let secrets = SentForm::of(request.body());
        let request = reqwest::Request::try_from(request)
            .map_err(|error| ExchangeError::Failed { url: "a request".to_owned(), reason: error_chain(&error) })?;
        let url = without_secrets(request.url());
        self.policy.check(request.url()).map_err(|refusal| ExchangeError::Refused { url: url.clone(), refusal })?;
        let failed = |reason| ExchangeError::Failed { url: url.clone(), reason };

        let client = if request.url().scheme() == "http" { &self.plain } else { &self.tls };
        let response = client.execute(request).await.map_err(|error| failed(error_chain(&error.without_url())))?;
        // Where rmcp asks for `Stop`, it follows redirects within one origin itself.
        if response.status().is_redirection() && refuse_redirects {
            return Err(failed("it sends the request elsewhere, and such redirects are not followed".to_owned()));
        }
        let mut answer = Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let events = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        let refused = response.status().is_client_error();
        let mut body = Vec::new();
        // A backend without authorization may answer the request for its metadata with an endless stream of events.
        if !events {
            let mut chunks = response.bytes_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| failed(error_chain(&error.without_url())))?;
                if chunk.len() > MAX_RESPONSE - body.len() {
                    return Err(failed(format!("its answer is larger than {MAX_RESPONSE} bytes")));
                }
                body.extend_from_slice(&chunk);
            }
        }
        if refused && let Some(said) = secrets.and_then(|form| form.error_in(&body)) {
            *self.last_error() = Some(said);
        }
        answer.body(body).map_err(|error| failed(error.to_string()))
    }
}

impl OAuthHttpClient for LoginClient {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            *self.last_error() = None;
            let OAuthHttpRequest { request, redirect_policy, .. } = request;
            let refuse_redirects = redirect_policy == OAuthHttpRedirectPolicy::Follow;
            let outcome = match timeout(LOGIN_REQUEST_TIMEOUT, self.send(request, refuse_redirects)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    Err(ExchangeError::Failed { url: "the authorization server".to_owned(), reason: timed_out() })
                }
            };
            outcome.map_err(|error| {
                *self.last_error() = Some(error.clone());
                Box::new(error) as OAuthHttpClientError
            })
        })
    }
}

/// The secrets that were sent to a token or registration endpoint. They are masked in errors, because servers repeat
/// them.
struct SentForm(Vec<String>);

impl SentForm {
    /// Reads the secrets in a form. Returns `None` for an empty body, which a request for metadata has.
    fn of(body: &[u8]) -> Option<Self> {
        let hidden = ["code", "code_verifier", "refresh_token", "client_secret"];
        (!body.is_empty()).then(|| {
            Self(
                form_urlencoded::parse(body)
                    .filter(|(name, value)| hidden.contains(&name.as_ref()) && !value.is_empty())
                    .map(|(_, value)| value.into_owned())
                    .collect(),
            )
        })
    }

    fn error_in(&self, body: &[u8]) -> Option<ExchangeError> {
        #[derive(Deserialize)]
        struct OAuthErrorBody {
            error: String,
            #[serde(default)]
            error_description: Option<String>,
        }
        let said: OAuthErrorBody = serde_json::from_slice(body).ok()?;
        Some(ExchangeError::OAuth {
            error: self.quote(&said.error),
            description: self.quote(said.error_description.as_deref().unwrap_or_default()),
        })
    }

    fn quote(&self, text: &str) -> String {
        let masked = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"));
        quote(&masked)
    }
}

fn timed_out() -> String {
    format!("no answer within {} seconds", LOGIN_REQUEST_TIMEOUT.as_secs())
}

/// Returns foreign text cut short and on one line.
pub(super) fn quote(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED).collect();
    plain.trim().to_owned()
}

/// Returns a URL without its parts that may be secret.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Returns an error with its causes, in which reqwest says what happened.
fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    quote(&text)
}

/// Returns the hosts of the HTTP proxies. They may have any address, because the operator chose them.
fn proxy_hosts(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let host = |proxy: String| {
        let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
        Url::parse(&proxy).ok()?.host_str().map(str::to_ascii_lowercase)
    };
    PROXY_VARIABLES.iter().filter_map(|name| host(variable(name)?)).collect()
}

/// Resolves names for reqwest, and leaves out addresses that the policy does not permit.
struct CheckedResolver {
    policy: AddressPolicy,
    plain: bool,
    proxies: Arc<[String]>,
    lookup: HostLookup,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        let (policy, plain) = (self.policy.clone(), self.plain);
        let proxy = self.proxies.contains(&host);
        let lookup = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut found = lookup.await?;
            found.retain(|address| proxy || policy.permits(*address, plain));
            if found.is_empty() {
                return Err(format!("the addresses of {host} are refused: {}", UrlRefusal::Address.reason()).into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_told_on() {
        let form = SentForm::of(b"grant_type=x&code=c0de&client_secret=s3cret").unwrap();
        let said = form.error_in(br#"{"error":"invalid_grant","error_description":"no c0de\n s3cret"}"#).unwrap();
        assert_eq!(said.to_string(), "invalid_grant: no ***  ***");
        assert_eq!(form.error_in(b"<html>"), None);
        assert!(SentForm::of(b"").is_none());
    }

    #[test]
    fn urls_are_shown_without_their_secrets() {
        let url = Url::parse("https://me:word@a.test/cb?code=c0de#x").unwrap();
        assert_eq!(without_secrets(&url), "https://a.test/cb");
    }

    #[test]
    fn proxies_are_found() {
        let hosts = proxy_hosts(|name| match name {
            "HTTPS_PROXY" => Some("http://Proxy.corp:3128".to_owned()),
            "all_proxy" => Some("10.0.0.7:1080".to_owned()),
            _ => None,
        });
        assert_eq!(hosts, ["proxy.corp", "10.0.0.7"]);
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_caught() {
        // Public when the policy is made and when it is checked, and this machine when it is connected to.
        let asked = Arc::new(Mutex::new(0));
        let lookup: HostLookup = Arc::new(move |_| {
            let asked = asked.clone();
            Box::pin(async move {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                let address = if *asked == 1 { "93.184.216.34" } else { "127.0.0.1" };
                Ok(vec![address.parse().unwrap()])
            })
        });
        let client = LoginClient::open(&Url::parse("https://mcp.example.com/mcp").unwrap(), lookup).await.unwrap();
        let names = CheckedResolver {
            policy: client.policy().clone(),
            plain: false,
            proxies: Arc::new([]),
            lookup: Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })),
        };
        let error = names.resolve("auth.example.com".parse().unwrap()).await.err().unwrap().to_string();
        assert!(error.contains("auth.example.com") && error.contains("not public"), "{error}");
        let mixed = CheckedResolver {
            lookup: Arc::new(|_| {
                Box::pin(async { Ok(vec!["10.0.0.1".parse().unwrap(), "93.184.216.35".parse().unwrap()]) })
            }),
            ..names
        };
        let kept: Vec<_> = mixed.resolve("auth.example.com".parse().unwrap()).await.unwrap().collect();
        assert_eq!(kept, ["93.184.216.35:0".parse().unwrap()]);
    }
}
