//! What all sessions share of a server behind a URL: one pool of connections, the operator's headers and credentials,
//! and what is known of the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use reqwest::{Client, Response};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::address::{secrets, shown};
use super::body::ReplayableBody;
use super::reader;
use super::rules::{self, RedirectDecision, ReplyKind};
use super::secrets::RequestSecrets;
use crate::backend::credentials::{AuthRefusal, BearerToken, CredentialError, TokenSource};
use crate::frame::MessageHeaders;
use crate::headers::is_credential;
use crate::link::{CredentialsOwner, RequestFailure};

/// How often a message without a response is sent again while its server cannot be reached, and how long to wait before
/// the first time.
const MAX_CONNECT_RETRIES: u32 = 4;
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The longest `WWW-Authenticate` of a server that is read, and the most that is passed on to a client, in bytes.
const MAX_CHALLENGE: usize = 2048;

/// A server behind a URL, and what all sessions share of it.
pub(super) struct Upstream {
    pub client: Client,
    pub url: Url,
    /// The operator's headers, which every request carries.
    pub headers: HeaderMap,
    /// The names of the headers that are passed on from clients.
    pub forwards: Arc<[HeaderName]>,
    pub token_source: Option<Arc<dyn TokenSource>>,
    /// The token that was sent last, so that it is masked in what the server says.
    pub token: Mutex<Option<BearerToken>>,
    /// Whether the last session found that the server speaks HTTP+SSE.
    pub speaks_sse: AtomicBool,
}

/// An extension of a response whose message was still being written when the response came: cancelled when the server
/// does not read the rest of that message and other sessions need the memory.
#[derive(Debug, Clone)]
pub(super) struct UploadGaveWay(pub CancellationToken);

/// The headers of a client's request that are passed on to the server.
pub(super) type ClientHeaders = Vec<(HeaderName, HeaderValue)>;

/// A request to the server, before credentials and the operator's headers are added.
pub(super) struct UpstreamRequest {
    pub method: Method,
    pub url: Url,
    /// The headers of the transport.
    pub headers: HeaderMap,
    pub client_headers: ClientHeaders,
    pub body: Option<ReplayableBody>,
    /// How long to wait for the head of the response.
    pub head_timeout: Option<Duration>,
    /// Whether to try again when the server cannot be reached.
    pub retry_unreachable: bool,
}

impl UpstreamRequest {
    pub(super) fn new(method: Method, url: &Url) -> Self {
        Self {
            method,
            url: url.clone(),
            headers: HeaderMap::new(),
            client_headers: ClientHeaders::new(),
            body: None,
            head_timeout: None,
            retry_unreachable: false,
        }
    }
}

impl Upstream {
    /// Returns those headers that came with a message and are to be passed on.
    pub(super) fn client_headers(&self, forwarded: Option<&MessageHeaders>) -> ClientHeaders {
        let wanted = |(name, value): (&str, &[u8])| {
            let name = self.forwards.iter().find(|wanted| wanted.as_str().eq_ignore_ascii_case(name))?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(true);
            Some((name.clone(), value))
        };
        forwarded.into_iter().flat_map(MessageHeaders::iter).filter_map(wanted).collect()
    }

    /// Returns the secrets in this request: the operator's headers, the client's, the token, the session id, and parts
    /// of the URL. A server may repeat them in an error.
    fn secrets(&self, request: &UpstreamRequest, token: Option<&BearerToken>) -> RequestSecrets {
        let last = self.last_token().clone();
        let tokens: Vec<_> = last.iter().chain(token).map(BearerToken::header).collect();
        let client_headers = request.client_headers.iter().map(|(_, value)| value);
        let values = self.headers.values().chain(request.headers.values()).filter(|value| value.is_sensitive());
        RequestSecrets::new(
            values.chain(client_headers).chain(&tokens),
            secrets(&self.url).into_iter().chain(secrets(&request.url)),
        )
    }

    fn last_token(&self) -> MutexGuard<'_, Option<BearerToken>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request, and waits for the head of the response. Follows redirects within the origin, and sends a
    /// request that was refused for its credentials once more if there are better ones: a refused request had no
    /// effect.
    pub(super) async fn send(&self, mut request: UpstreamRequest) -> Result<Response, RequestFailure> {
        let (mut hops, mut tries, mut renewed) = (0, 0, false);
        loop {
            let token = self.token(&request).await?;
            let mut response = match self.attempt(&mut request, token.as_ref()).await {
                Err(RequestFailure::Unreachable { .. }) if request.retry_unreachable && tries < MAX_CONNECT_RETRIES => {
                    sleep(FIRST_RETRY_DELAY * 2_u32.pow(tries)).await;
                    tries += 1;
                    continue;
                }
                attempted => attempted?,
            };
            let status = response.status();
            let location = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
            match rules::redirect(&request.method, status, &request.url, location, hops) {
                RedirectDecision::None => {}
                RedirectDecision::Follow(url) => {
                    if request.is_spent() {
                        return Err(too_long_to_redirect(status, &url));
                    }
                    hops += 1;
                    request.url = url;
                    continue;
                }
                RedirectDecision::Refuse(reason) => {
                    return Err(RequestFailure::Refused { status: status.as_u16(), reason });
                }
            }
            let Some(refusal) = refusal_of(&response) else {
                if !matches!(reader::reply_kind(&response), ReplyKind::Json | ReplyKind::Events | ReplyKind::Accepted) {
                    let secrets = self.secrets(&request, token.as_ref());
                    response.extensions_mut().insert(secrets);
                }
                return Ok(response);
            };
            // The body is read to its end, so that the connection can be used again.
            reader::read_refusal(response).await;
            if !renewed && self.renew(&request, token.as_ref(), &refusal).await? {
                if request.is_spent() {
                    return Err(too_long_to_repeat(status));
                }
                renewed = true;
                continue;
            }
            let secrets = self.secrets(&request, token.as_ref());
            return Err(self.refused(&request, refusal, &secrets));
        }
    }

    async fn attempt(
        &self,
        request: &mut UpstreamRequest,
        token: Option<&BearerToken>,
    ) -> Result<Response, RequestFailure> {
        let mut outgoing = reqwest::Request::new(request.method.clone(), request.url.clone());
        let headers = outgoing.headers_mut();
        headers.clone_from(&self.headers);
        headers.extend(request.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut last = None;
        for (name, value) in &request.client_headers {
            // A client's header replaces the operator's of that name. A header that came twice is sent twice.
            if last == Some(name) {
                headers.append(name.clone(), value.clone());
            } else {
                headers.insert(name.clone(), value.clone());
            }
            last = Some(name);
        }
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token.header());
        }
        let mut packed = None;
        let mut gave_way = None;
        if let Some(body) = &mut request.body {
            let Some((content, begun)) = body.begin() else {
                return Err(too_long_to_redirect(StatusCode::TEMPORARY_REDIRECT, &request.url));
            };
            *outgoing.body_mut() = Some(content);
            packed = Some(begun);
            gave_way = body.gave_way();
        }
        // A request whose body was not begun cannot have had an effect.
        let was_sent = || packed.as_ref().is_some_and(|begun| begun.load(Ordering::Acquire));
        let failed = |reason: String| {
            let reason = format!("{}: {reason}", shown(&request.url));
            if was_sent() { RequestFailure::Broken { reason } } else { RequestFailure::Unreachable { reason } }
        };
        let executing = self.client.execute(outgoing);
        let response = async {
            match &gave_way {
                None => Some(executing.await),
                Some(gave_way) => gave_way.run_until_cancelled(executing).await,
            }
        };
        let response = match request.head_timeout {
            None => response.await,
            Some(head_timeout) => match timeout(head_timeout, response).await {
                Ok(response) => response,
                Err(_) => {
                    return Err(failed(format!("it did not answer within {} seconds", head_timeout.as_secs_f32())));
                }
            },
        };
        let Some(response) = response else {
            return Err(failed(
                "it does not read the message, and other sessions needed the memory that the message took".to_owned(),
            ));
        };
        let mut response = response.map_err(|error| failed(reader::error_chain(error)))?;
        if let Some(gave_way) = gave_way {
            // A server may respond before it has taken all of the message.
            response.extensions_mut().insert(UploadGaveWay(gave_way));
        }
        Ok(response)
    }

    /// Returns the operator's token, unless the client's own `Authorization` is passed on.
    async fn token(&self, request: &UpstreamRequest) -> Result<Option<BearerToken>, RequestFailure> {
        match &self.token_source {
            Some(token_source) if !request.has(&header::AUTHORIZATION) => {
                let token = token_source.token().await.map_err(credential_failure)?;
                self.last_token().clone_from(&token);
                Ok(token)
            }
            _ => Ok(None),
        }
    }

    async fn renew(
        &self,
        request: &UpstreamRequest,
        used: Option<&BearerToken>,
        refusal: &AuthRefusal,
    ) -> Result<bool, RequestFailure> {
        let Some(token_source) = &self.token_source else { return Ok(false) };
        let asks = refusal.status == StatusCode::UNAUTHORIZED || rules::wants_more_scope(&refusal.challenges);
        if !asks || request.has(&header::AUTHORIZATION) {
            return Ok(false);
        }
        token_source.refused(used, refusal).await.map_err(credential_failure)
    }

    fn refused(&self, request: &UpstreamRequest, refusal: AuthRefusal, secrets: &RequestSecrets) -> RequestFailure {
        let AuthRefusal { status, challenges } = refusal;
        let sent = request.client_headers.iter().any(|(name, _)| is_credential(name));
        // If clients are expected to send credentials, a client that sent none can do something about the refusal.
        let expected = self.token_source.is_none() && self.forwards.iter().any(is_credential);
        let challenge = challenge_for_client(challenges, secrets);
        let (whose, reason) = match (sent, expected) {
            (true, _) => {
                (CredentialsOwner::Client, "what the client sent with this request was not accepted".to_owned())
            }
            (false, true) => {
                let names = self.forwards.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
                (CredentialsOwner::Client, format!("the client has to send some, in one of these headers: {names}"))
            }
            (false, false) if self.token_source.is_some() || self.headers.keys().any(is_credential) => {
                (CredentialsOwner::Operator, "the operator of the proxy has to replace the configured ones".to_owned())
            }
            (false, false) => (
                CredentialsOwner::Operator,
                "none are configured: the operator of the proxy has to configure some".to_owned(),
            ),
        };
        RequestFailure::Unauthorized { status, challenge, whose, reason }
    }
}

impl UpstreamRequest {
    fn has(&self, name: &HeaderName) -> bool {
        self.client_headers.iter().any(|(client_headers, _)| client_headers == name)
    }

    /// Whether its message was sent and no copy of it was kept.
    fn is_spent(&self) -> bool {
        self.body.as_ref().is_some_and(ReplayableBody::is_spent)
    }
}

/// Returns what a client is told of a server's challenges: as many as fit, without secrets.
fn challenge_for_client(challenges: Vec<String>, secrets: &RequestSecrets) -> Option<String> {
    let mut challenge_for_client = String::new();
    for challenge in challenges {
        let challenge = secrets.mask(challenge, false);
        // A challenge that does not fit is left out: cut off, it would be another, valid challenge.
        if challenge_for_client.len() + challenge.len() + 2 > MAX_CHALLENGE {
            continue;
        }
        if !challenge_for_client.is_empty() {
            challenge_for_client.push_str(", ");
        }
        challenge_for_client.push_str(&challenge);
    }
    Some(challenge_for_client).filter(|challenge_for_client| !challenge_for_client.is_empty())
}

/// Returns the refusal if a response asks for other credentials: 401, or 403 with a challenge.
fn refusal_of(response: &Response) -> Option<AuthRefusal> {
    let challenges = || {
        let values = response.headers().get_all(header::WWW_AUTHENTICATE).into_iter();
        let values = values.filter(|value| value.len() <= MAX_CHALLENGE);
        values.take(8).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let challenges: Vec<String> = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => challenges(),
        _ => return None,
    };
    let asks = response.status() == StatusCode::UNAUTHORIZED || !challenges.is_empty();
    asks.then(|| AuthRefusal { status: response.status().as_u16(), challenges })
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn credential_failure(error: CredentialError) -> RequestFailure {
    let reason = error.to_string();
    RequestFailure::Unauthorized {
        status: StatusCode::UNAUTHORIZED.as_u16(),
        challenge: None,
        whose: CredentialsOwner::Operator,
        reason,
    }
}

fn too_long_to_redirect(status: StatusCode, to: &Url) -> RequestFailure {
    let reason = format!(
        "it redirects a message that is too long for the proxy to send twice: configure {} as the server's URL",
        shown(to)
    );
    RequestFailure::Refused { status: status.as_u16(), reason }
}

fn too_long_to_repeat(status: StatusCode) -> RequestFailure {
    let reason = "the credentials were renewed, but the message is too long for the proxy to send twice: send it again";
    RequestFailure::Refused { status: status.as_u16(), reason: reason.to_owned() }
}
