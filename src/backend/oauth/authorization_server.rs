//! The authorization server of one backend. rmcp speaks the protocol (RFC 9728, 8414, 7591, 7636, 8707, 9207); this
//! file decides with which server and as which client, and what an error says.

use std::future::Future;
use std::sync::Arc;

use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, AuthorizationMetadataSource, ClientCredentialsConfig,
    CredentialStore as _, InMemoryCredentialStore, OAuthClientConfig, StoredCredentials,
};
use serde_json::Value;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use url::Url;

use super::LoginContext;
use super::discovery::{check, discover_among, not_found};
use super::http_client::{ExchangeError, LoginClient, quote};
use super::plan;
use super::store::{ClientIdentity, ServerIdentity};
use crate::backend::credentials::CredentialError;
use crate::config::Secret;

/// The metadata field of an authorization server that accepts client id metadata documents.
const TAKES_DOCUMENTS: &str = "client_id_metadata_document_supported";

/// An authorization server that was discovered, for one task.
pub(super) struct AuthorizationServer {
    context: Arc<LoginContext>,
    client: Arc<LoginClient>,
    manager: AuthorizationManager,
    metadata: AuthorizationMetadata,
    /// Whether the server publishes its endpoints. If not, they are those that early versions of MCP prescribed.
    published: bool,
    /// Where rmcp puts the tokens that it receives.
    received: InMemoryCredentialStore,
}

/// Why a refresh token was not traded for a token.
pub(super) enum RenewalError {
    /// The server rejected the refresh token for good.
    Rejected(String),
    /// The server does not know the client any more.
    ClientUnknown(String),
    /// The attempt failed, and another may succeed.
    Failed(String),
}

impl AuthorizationServer {
    /// Finds the authorization server of the backend, by its `WWW-Authenticate` where there is one.
    pub(super) async fn discover(
        context: &Arc<LoginContext>,
        challenge: Option<&str>,
    ) -> Result<Self, CredentialError> {
        let name = || context.name.clone();
        let internal = |reason| CredentialError::Internal { backend: name(), reason };
        let client = LoginClient::open(&context.backend, context.lookup.clone()).await.map_err(internal)?;
        let client = Arc::new(client);
        let mut manager = AuthorizationManager::new_with_oauth_http_client(context.backend.clone(), client.clone())
            .await
            .map_err(|error| internal(quote(&error.to_string())))?;
        let received = InMemoryCredentialStore::new();
        manager.set_credential_store(received.clone());

        let (metadata, published) = match manager.resolve_metadata_from_challenge(challenge).await {
            Ok(found) => {
                let published = found.source != AuthorizationMetadataSource::LegacyEndpointFallback;
                (found.metadata, published)
            }
            Err(AuthError::AuthorizationServersUnavailable { authorization_servers, .. }) => {
                (discover_among(context, &client, &authorization_servers).await?, true)
            }
            Err(error) => return Err(not_found(context, &client, &error)),
        };
        manager.set_metadata(metadata.clone());
        let found = Self { context: context.clone(), client, manager, metadata, published, received };
        found.check(&found.metadata.token_endpoint)?;
        found.check(&found.metadata.authorization_endpoint)?;
        if let Some(expected) = &context.settings.issuer {
            let issuer = found.metadata.issuer.clone().unwrap_or_default();
            if issuer.trim_end_matches('/') != expected.trim_end_matches('/') {
                return Err(CredentialError::OtherIssuer {
                    backend: name(),
                    found: quote(&issuer),
                    expected: expected.clone(),
                });
            }
        }
        Ok(found)
    }

    /// What identifies this server.
    pub(super) fn identity(&self) -> ServerIdentity {
        ServerIdentity { issuer: self.metadata.issuer.clone(), token_endpoint: self.metadata.token_endpoint.clone() }
    }

    /// Returns the scopes to ask for: the configured ones, else those that the backend says it needs; and `more`.
    pub(super) async fn scopes(&self, more: &[String]) -> Vec<String> {
        let configured = &self.context.settings.scopes;
        if configured.is_empty() {
            return plan::union(&self.manager.select_initial_scopes(&[]).await, more);
        }
        let mut scopes = plan::union(configured, more);
        // Many servers give refresh tokens only with this scope.
        let offline = "offline_access".to_owned();
        if self.metadata.scopes_supported.as_ref().is_some_and(|known| known.contains(&offline)) {
            scopes = plan::union(&scopes, &[offline]);
        }
        scopes
    }

    /// Returns the client to log in as: the configured one, a metadata document, the one that registered itself last
    /// time for the same redirect URI, or a new one (MCP 2025-11-25, authorization, "Client Registration Approaches").
    pub(super) async fn identify(
        &mut self,
        known: Option<&ClientIdentity>,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<ClientIdentity, CredentialError> {
        let redirect_uri = redirect_uri.to_owned();
        let named = |id: &str| ClientIdentity {
            id: id.to_owned(),
            secret: None,
            redirect_uri: redirect_uri.clone(),
            registered: false,
        };
        let settings = &self.context.settings;
        if let Some(id) = &settings.client_id {
            return Ok(named(id));
        }
        let documents = self.metadata.additional_fields.get(TAKES_DOCUMENTS).and_then(Value::as_bool) == Some(true);
        if let Some(document) = &settings.client_metadata_url
            && documents
        {
            return Ok(named(document));
        }
        if let Some(known) = known.filter(|known| known.registered && known.redirect_uri == redirect_uri) {
            return Ok(known.clone());
        }
        let refused = |reason| CredentialError::Registration { backend: self.context.name.clone(), reason };
        let Some(endpoint) = &self.metadata.registration_endpoint else {
            return Err(refused("it does not offer registration".to_owned()));
        };
        self.check(endpoint)?;
        let name = settings.client_name.clone();
        let asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
        match without_logging(self.manager.register_client(&name, &redirect_uri, &asked)).await {
            Ok(config) => Ok(ClientIdentity {
                id: config.client_id,
                secret: config.client_secret,
                redirect_uri,
                registered: true,
            }),
            Err(AuthError::PkceUnsupported) => Err(self.no_pkce()),
            Err(_) if !self.published => Err(CredentialError::NoLogin {
                backend: self.context.name.clone(),
                reason: "it publishes no OAuth metadata".to_owned(),
            }),
            Err(_) => Err(CredentialError::Registration {
                backend: self.context.name.clone(),
                reason: self.last_error_or("its answer is no client registration"),
            }),
        }
    }

    /// Returns the URL of the login, and the `state` with which the browser has to come back.
    pub(super) async fn authorization_url(
        &mut self,
        client: &ClientIdentity,
        scopes: &[String],
    ) -> Result<(Url, Secret), CredentialError> {
        self.configure(client)?;
        let asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let url = match self.manager.get_authorization_url(&asked).await {
            Ok(url) => url,
            Err(AuthError::PkceUnsupported) => return Err(self.no_pkce()),
            Err(error) => return Err(self.internal(&error)),
        };
        let url = self.check(&url)?;
        let state = url.query_pairs().find(|(name, _)| name == "state").map(|(_, state)| Secret::new(state));
        match state {
            Some(state) => Ok((url, state)),
            None => Err(CredentialError::Internal {
                backend: self.context.name.clone(),
                reason: "the address of the login has no `state`".to_owned(),
            }),
        }
    }

    /// Trades the code for tokens.
    pub(super) async fn exchange_code(
        self,
        code: &Secret,
        state: &Secret,
        issuer: Option<&str>,
    ) -> Result<StoredCredentials, CredentialError> {
        let exchange = self.manager.exchange_code_for_token_with_issuer(code.expose(), state.expose(), issuer);
        match without_logging(exchange).await {
            Ok(_) => self.received_credentials().await,
            Err(error) => Err(CredentialError::NotGranted {
                backend: self.context.name.clone(),
                reason: self.failure_reason(&error),
            }),
        }
    }

    /// Trades the refresh token for new tokens.
    pub(super) async fn renew(
        mut self,
        client: &ClientIdentity,
        credentials: StoredCredentials,
    ) -> Result<StoredCredentials, RenewalError> {
        let failed = |error: CredentialError| RenewalError::Failed(error.to_string());
        self.configure(client).map_err(failed)?;
        self.received.save(credentials).await.map_err(|error| failed(self.internal(&error)))?;
        let Err(error) = without_logging(self.manager.refresh_token()).await else {
            return self.received_credentials().await.map_err(failed);
        };
        let exchange = self.client.take_error();
        let reason = match &exchange {
            Some(error) => error.to_string(),
            None => "the answer is no token".to_owned(),
        };
        Err(match (error, exchange) {
            (AuthError::TokenRefreshRejected(_) | AuthError::AuthorizationRequired, _) => {
                RenewalError::Rejected(reason)
            }
            (_, Some(ExchangeError::OAuth { error, .. })) if is_client_error(&error) => {
                RenewalError::ClientUnknown(reason)
            }
            _ => RenewalError::Failed(reason),
        })
    }

    /// Gets a token for the client itself.
    pub(super) async fn grant(mut self, more: &[String]) -> Result<StoredCredentials, CredentialError> {
        let settings = &self.context.settings;
        let config = ClientCredentialsConfig::ClientSecret {
            client_id: settings.client_id.clone().unwrap_or_default(),
            client_secret: settings.client_secret.as_ref().map(Secret::expose).unwrap_or_default().to_owned(),
            scopes: self.scopes(more).await,
            resource: Some(self.resource().await),
        };
        let refused = |this: &Self, reason| CredentialError::NotGranted { backend: this.context.name.clone(), reason };
        if let Err(error) = self.manager.validate_client_credentials_metadata(&config) {
            return Err(refused(&self, quote(&error.to_string())));
        }
        if let Err(error) = self.manager.configure_client_credentials(&config) {
            return Err(self.internal(&error));
        }
        let Err(error) = without_logging(self.manager.exchange_client_credentials(&config)).await else {
            return self.received_credentials().await;
        };
        match self.client.take_error() {
            Some(ExchangeError::OAuth { error, description }) if is_client_error(&error) => {
                Err(CredentialError::ClientRefused {
                    backend: self.context.name.clone(),
                    reason: ExchangeError::OAuth { error, description }.to_string(),
                })
            }
            Some(error) => Err(refused(&self, error.to_string())),
            None => Err(refused(&self, self.failure_reason(&error))),
        }
    }

    /// Returns the resource that tokens are for (RFC 8707). rmcp takes it from the backend's metadata, and shows it
    /// only in the URL of a login, so such a URL is made here.
    async fn resource(&mut self) -> String {
        let named = async {
            let client = OAuthClientConfig::new("resource", "http://127.0.0.1/");
            self.manager.configure_client(client).ok()?;
            let url = Url::parse(&self.manager.get_authorization_url(&[]).await.ok()?).ok()?;
            url.query_pairs().find(|(name, _)| name == "resource").map(|(_, resource)| resource.into_owned())
        };
        match named.await {
            Some(resource) if !resource.is_empty() => resource,
            _ => self.context.backend.to_string(),
        }
    }

    fn configure(&mut self, client: &ClientIdentity) -> Result<(), CredentialError> {
        let mut config = OAuthClientConfig::new(&client.id, &client.redirect_uri);
        let configured = self.context.settings.client_secret.as_ref().filter(|_| !client.registered);
        if let Some(secret) = configured.map(Secret::expose).or(client.secret.as_deref()) {
            config = config.with_client_secret(secret);
        }
        self.manager.configure_client(config).map_err(|error| self.internal(&error))
    }

    /// Returns the tokens that rmcp has received.
    async fn received_credentials(&self) -> Result<StoredCredentials, CredentialError> {
        self.received.load().await.ok().flatten().ok_or_else(|| CredentialError::Internal {
            backend: self.context.name.clone(),
            reason: "what was given is gone".to_owned(),
        })
    }

    fn check(&self, url: &str) -> Result<Url, CredentialError> {
        check(&self.context, &self.client, url)
    }

    fn last_error_or(&self, otherwise: &str) -> String {
        self.client.take_error().map_or_else(|| otherwise.to_owned(), |error| error.to_string())
    }

    /// Returns why an exchange failed. Most errors of rmcp are not quoted, because they may quote a response with
    /// tokens in it.
    fn failure_reason(&self, error: &AuthError) -> String {
        self.last_error_or(&match error {
            AuthError::AuthorizationServerMismatch { .. } | AuthError::AuthorizationServerMissingIssuer { .. } => {
                quote(&error.to_string())
            }
            _ => "its answer is no token response".to_owned(),
        })
    }

    fn internal(&self, error: &AuthError) -> CredentialError {
        CredentialError::Internal { backend: self.context.name.clone(), reason: quote(&error.to_string()) }
    }

    fn no_pkce(&self) -> CredentialError {
        CredentialError::NoLogin {
            backend: self.context.name.clone(),
            reason: "its authorization server does not support PKCE with S256".to_owned(),
        }
    }
}

/// Whether an OAuth error means that the client itself is refused, and not its code or refresh token.
fn is_client_error(error: &str) -> bool {
    matches!(error, "invalid_client" | "unauthorized_client")
}

/// Runs an exchange of rmcp's without its log, in which it writes codes and whole responses.
async fn without_logging<F: Future>(work: F) -> F::Output {
    work.with_subscriber(NoSubscriber::default()).await
}
