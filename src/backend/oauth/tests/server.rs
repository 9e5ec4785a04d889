//! A protected resource and its authorization server, on one loopback port, which do as a script says.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::{Url, form_urlencoded};

use super::scripted_http::{PeerRequest, PeerResponse, ScriptedHttpServer};

/// What the servers do, and what they have seen.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in a test's script")]
pub(super) struct Script {
    /// Whether clients may register themselves.
    pub registers: bool,
    /// Whether metadata documents are taken for clients.
    pub documents: bool,
    /// Whether `register` gives out a secret, which the token endpoint then wants.
    pub gives_secrets: bool,
    /// Clients that are known, with their secrets.
    pub clients: HashMap<String, Option<String>>,
    /// Seconds that tokens last.
    pub expires_in: Option<u64>,
    /// Whether each refresh token works once only.
    pub rotates: bool,
    /// The person says no.
    pub denies: bool,
    /// An OAuth error of the token endpoint, for all that it is asked.
    pub token_error: Option<(u16, String)>,
    /// All that is ever granted; empty for all that is asked.
    pub grants: Vec<String>,
    /// What a path is answered with in place of what belongs there.
    pub instead: HashMap<String, Instead>,
    /// Added to the metadata of the authorization server, in place of what stands there.
    pub metadata: Value,
    /// The authorization server that the resource names, if not this one.
    pub elsewhere: Option<String>,
    /// The resource that tokens are for, if not this one.
    pub resource: Option<Url>,
    /// No token is good enough for the resource.
    pub refuses_all: bool,

    pub tokens: HashMap<String, Vec<String>>,
    pub refresh_tokens: HashMap<String, Vec<String>>,
    /// Refresh tokens that came back after they had been used up.
    pub reused: usize,
    /// What the token endpoint was asked, last.
    pub asked: HashMap<String, String>,
    /// Everything that nobody else may get to know.
    pub secrets: HashSet<String>,
    pub codes: HashMap<String, PendingCode>,
}

#[derive(Clone)]
pub(super) enum Instead {
    Redirect(String),
    Large(usize),
    Status(u16),
}

pub(super) struct PendingCode {
    client: String,
    challenge: String,
    redirect_uri: String,
    scopes: Vec<String>,
}

#[derive(Clone)]
pub(super) struct LoginServer {
    pub origin: String,
    script: Arc<Mutex<Script>>,
    peer: Arc<ScriptedHttpServer>,
}

impl LoginServer {
    pub(super) async fn start(script: Script) -> Self {
        let (listener, origin) = ScriptedHttpServer::listen().await;
        let script = Arc::new(Mutex::new(script));
        let (own, scripted) = (origin.clone(), script.clone());
        let peer = ScriptedHttpServer::on(listener, origin.clone(), move |request| {
            let response = answer(&own, &mut scripted.lock().unwrap(), &request);
            async { response }
        });
        Self { origin, script, peer: Arc::new(peer) }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) fn backend(&self) -> Url {
        backend_at(&self.origin)
    }

    /// The requests that have come, oldest first.
    pub(super) fn requests(&self) -> Vec<PeerRequest> {
        self.peer.requests()
    }

    /// How often a path was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| path_of(request) == path).count()
    }
}

impl Script {
    /// The resource that tokens are for.
    fn resource(&self, origin: &str) -> Url {
        self.resource.clone().unwrap_or_else(|| backend_at(origin))
    }

    fn metadata(&self, origin: &str) -> Value {
        let at = |path: &str| format!("{origin}{path}");
        let mut metadata = json!({
            "issuer": origin,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        if self.registers {
            metadata["registration_endpoint"] = json!(at("/register"));
        }
        if self.documents {
            metadata["client_id_metadata_document_supported"] = json!(true);
        }
        for (name, value) in self.metadata.as_object().into_iter().flatten() {
            metadata[name] = value.clone();
            if value.is_null() {
                metadata.as_object_mut().unwrap().remove(name);
            }
        }
        metadata
    }

    fn fresh(&mut self, what: &str) -> String {
        let made = format!("{what}-{}", uuid::Uuid::new_v4().simple());
        self.secrets.insert(made.clone());
        made
    }
}

fn backend_at(origin: &str) -> Url {
    Url::parse(&format!("{origin}/mcp")).unwrap()
}

fn path_of(request: &PeerRequest) -> &str {
    request.path.split('?').next().unwrap()
}

fn query_of(request: &PeerRequest) -> &str {
    request.path.split_once('?').map_or("", |(_, query)| query)
}

fn answer(origin: &str, script: &mut Script, request: &PeerRequest) -> PeerResponse {
    let (path, query, body) = (path_of(request), query_of(request), request.body.as_bytes());
    match script.instead.get(path) {
        Some(Instead::Redirect(to)) => return redirect(to),
        Some(Instead::Large(size)) => {
            return text(200, &json!({ "issuer": origin, "x": "x".repeat(*size) }).to_string());
        }
        Some(Instead::Status(status)) => return text(*status, ""),
        None => {}
    }
    match path {
        "/mcp" => resource(origin, script, request),
        "/.well-known/oauth-protected-resource/mcp" => {
            let authority = script.elsewhere.clone().unwrap_or_else(|| origin.to_owned());
            json_text(
                &json!({ "resource": backend_at(origin), "authorization_servers": [authority], "scopes_supported": ["read"] }),
            )
        }
        "/.well-known/oauth-authorization-server" => json_text(&script.metadata(origin)),
        "/register" if script.registers => register(script, body),
        "/authorize" => authorize(origin, script, &fields(query.as_bytes())),
        "/token" => token(origin, script, &request.headers, &fields(body)),
        _ => text(404, ""),
    }
}

/// The query is the scope that the request needs.
fn resource(origin: &str, script: &Script, request: &PeerRequest) -> PeerResponse {
    let query = query_of(request);
    let sent = request.header("authorization").unwrap_or_default();
    let granted = sent.strip_prefix("Bearer ").and_then(|token| script.tokens.get(token));
    let metadata = format!("resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\"");
    let (status, challenge) = match granted {
        Some(_) if script.refuses_all => (401, format!("Bearer error=\"invalid_token\", {metadata}")),
        Some(granted) if query.is_empty() || granted.iter().any(|scope| scope == query) => {
            return message(request);
        }
        Some(_) => (403, format!("Bearer error=\"insufficient_scope\", scope=\"{query}\", {metadata}")),
        None => (401, format!("Bearer {metadata}")),
    };
    let mut response = text(status, "");
    response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
    response
}

/// A small MCP server; what is no JSON-RPC is fine as well.
fn message(request: &PeerRequest) -> PeerResponse {
    if request.method != "POST" {
        return text(if request.method == "DELETE" { 200 } else { 405 }, "");
    }
    let Ok(message) = serde_json::from_str::<Value>(&request.body) else { return text(200, "fine") };
    let Some(id) = message.get("id") else { return text(202, "") };
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "guarded", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{ "name": "open", "inputSchema": { "type": "object" } }] }),
        _ => json!({}),
    };
    json_text(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

fn register(script: &mut Script, body: &[u8]) -> PeerResponse {
    let wanted: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(wanted["application_type"], "native");
    let id = format!("client-{}", script.clients.len() + 1);
    let secret = script.gives_secrets.then(|| script.fresh("client-secret"));
    script.clients.insert(id.clone(), secret.clone());
    let mut answer =
        json!({ "client_id": id, "redirect_uris": wanted["redirect_uris"], "client_name": wanted["client_name"] });
    if let Some(secret) = secret {
        answer["client_secret"] = json!(secret);
    }
    json_text(&answer)
}

fn authorize(origin: &str, script: &mut Script, asked: &HashMap<String, String>) -> PeerResponse {
    let client = &asked["client_id"];
    let known = script.clients.contains_key(client) || (script.documents && client.starts_with("https://"));
    if !known || asked["response_type"] != "code" || asked["code_challenge_method"] != "S256" {
        return text(400, "this client is not known");
    }
    assert_eq!(asked["resource"], script.resource(origin).as_str());
    let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
    assert_eq!(back.host_str().filter(|host| ["127.0.0.1", "localhost"].contains(host)), back.host_str());
    script.secrets.insert(asked["state"].clone());
    if script.denies {
        back.query_pairs_mut().append_pair("error", "access_denied").append_pair("error_description", "<b>no</b>");
    } else {
        let code = script.fresh("code");
        let pending = PendingCode {
            client: client.clone(),
            challenge: asked["code_challenge"].clone(),
            redirect_uri: asked["redirect_uri"].clone(),
            scopes: words(asked.get("scope")),
        };
        script.codes.insert(code.clone(), pending);
        back.query_pairs_mut().append_pair("code", &code).append_pair("iss", origin);
    }
    back.query_pairs_mut().append_pair("state", &asked["state"]);
    redirect(back.as_str())
}

fn token(origin: &str, script: &mut Script, headers: &HeaderMap, asked: &HashMap<String, String>) -> PeerResponse {
    script.asked.clone_from(asked);
    for name in ["code_verifier", "client_secret"] {
        script.secrets.extend(asked.get(name).cloned());
    }
    if let Some((status, error)) = script.token_error.clone() {
        // Some servers repeat what they were sent.
        let sent = asked.get("refresh_token").or(asked.get("code")).cloned().unwrap_or_default();
        let error = json!({ "error": error, "error_description": format!("not {sent}") });
        return text(status, &error.to_string());
    }
    assert_eq!(asked["resource"], script.resource(origin).as_str());
    let (id, secret) = client_of(headers, asked);
    let known = script.clients.get(&id).map_or(id.starts_with("https://"), |known| *known == secret);
    if !known {
        return text(401, r#"{"error":"invalid_client"}"#);
    }
    let refused = || text(400, r#"{"error":"invalid_grant"}"#);
    let scopes = match asked["grant_type"].as_str() {
        "authorization_code" => {
            let Some(pending) = script.codes.remove(&asked["code"]) else { return refused() };
            let verified = challenge(&asked["code_verifier"]) == pending.challenge;
            if !verified || pending.client != id || pending.redirect_uri != asked["redirect_uri"] {
                return refused();
            }
            pending.scopes
        }
        "refresh_token" => {
            let old = &asked["refresh_token"];
            let rotates = script.rotates;
            let found =
                if rotates { script.refresh_tokens.remove(old) } else { script.refresh_tokens.get(old).cloned() };
            let Some(scopes) = found else {
                script.reused += 1;
                return refused();
            };
            scopes
        }
        "client_credentials" if secret.is_some() => words(asked.get("scope")),
        _ => return text(400, r#"{"error":"unsupported_grant_type"}"#),
    };
    let allowed = script.grants.clone();
    let granted: Vec<String> =
        scopes.into_iter().filter(|scope| allowed.is_empty() || allowed.contains(scope)).collect();
    let (access, refresh) = (script.fresh("access"), script.fresh("refresh"));
    script.tokens.insert(access.clone(), granted.clone());
    let mut answer = json!({ "access_token": access, "token_type": "Bearer", "scope": granted.join(" "), "id_token": script.fresh("id") });
    if asked["grant_type"] == "authorization_code" || (script.rotates && asked["grant_type"] == "refresh_token") {
        script.refresh_tokens.insert(refresh.clone(), granted);
        answer["refresh_token"] = json!(refresh);
    }
    if let Some(seconds) = script.expires_in {
        answer["expires_in"] = json!(seconds);
    }
    json_text(&answer)
}

/// Who asks: by HTTP Basic, or in the body.
fn client_of(headers: &HeaderMap, asked: &HashMap<String, String>) -> (String, Option<String>) {
    let basic = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    match basic {
        Some(basic) => {
            let text = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            let (id, secret) = text.split_once(':').unwrap();
            (id.to_owned(), Some(secret.to_owned()))
        }
        None => (asked["client_id"].clone(), asked.get("client_secret").cloned()),
    }
}

/// The challenge of a verifier (RFC 7636, section 4.2).
fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

fn fields(text: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn words(text: Option<&String>) -> Vec<String> {
    text.map(String::as_str).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn text(status: u16, body: &str) -> PeerResponse {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn json_text(value: &Value) -> PeerResponse {
    let mut response = text(200, &value.to_string());
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn redirect(to: &str) -> PeerResponse {
    let mut response = text(302, "");
    response.headers_mut().insert("location", to.parse().unwrap());
    response
}
