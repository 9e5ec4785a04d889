//! The HTTP front: `rmcp`'s own, but for one thing. A tool can close the stream that its answer would take, as SEP-1699
//! wants of `test_reconnection`; `rmcp`'s sessions can do that, but do not tell a handler which stream is its own.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use futures_util::{Stream, stream};
use rmcp::{
    model::{ClientJsonRpcMessage, GetExtensions, ServerJsonRpcMessage},
    transport::streamable_http_server::{
        SessionId, SessionManager, StreamableHttpServerConfig, StreamableHttpService,
        session::{
            ServerSseMessage,
            local::{LocalSessionHandle, LocalSessionManager, LocalSessionManagerError, SessionError},
        },
    },
};
use serde_json::json;

use crate::server::{Options, Reference, SessionCounter};

/// How long a client is told to wait before it reconnects.
const RETRY: Duration = Duration::from_millis(500);

/// Sessions at `/mcp`, with streams that can be resumed, a GET stream and DELETE. `GET /sessions` tells how many are
/// open, and how many live: one that was deleted lives until its last call has ended.
pub fn router(options: Options, counter: &SessionCounter) -> Router {
    let mut manager = LocalSessionManager::default();
    manager.session_config.sse_retry = Some(RETRY);
    let sessions = Arc::new(Sessions(manager));
    let (open, living, counter) = (sessions.clone(), counter.clone(), counter.clone());
    let count = async move || {
        let open = open.0.sessions.read().await.len();
        json!({"open": open, "living": living.count()}).to_string()
    };
    let service = StreamableHttpService::new(
        move || Ok::<_, io::Error>(Reference::new(options, &counter)),
        sessions,
        StreamableHttpServerConfig::default().with_sse_retry(Some(RETRY)),
    );
    Router::new().route_service("/mcp", service).route("/sessions", get(count))
}

/// The stream on which the answer to a call is going to travel; found among the extensions of the call.
#[derive(Clone)]
pub(crate) struct ReplyStream {
    session: LocalSessionHandle,
    id: u64,
}

impl ReplyStream {
    /// Ends the stream. What is sent on it from now on waits for a client that resumes it.
    pub(crate) async fn close(&self) -> Result<(), SessionError> {
        self.session.close_sse_stream(self.id, None).await
    }
}

/// `rmcp`'s sessions in memory, which also put a [`ReplyStream`] into each request.
struct Sessions(LocalSessionManager);

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.0.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.0.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.0.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.0.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let session = self.0.sessions.read().await.get(id).cloned();
        let session = session.ok_or_else(|| LocalSessionManagerError::SessionNotFound(id.clone()))?;
        let receiver = session.establish_request_wise_channel().await?;
        if let (ClientJsonRpcMessage::Request(request), Some(id)) = (&mut message, receiver.http_request_id) {
            request.request.extensions_mut().insert(ReplyStream { session: session.clone(), id });
        }
        session.push_message(message, receiver.http_request_id).await?;
        Ok(stream::unfold(receiver.inner, |mut inner| async { inner.recv().await.map(|event| (event, inner)) }))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.0.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.0.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.0.resume(id, last_event_id).await
    }
}
