//! Serves a client on any rmcp transport, in this process or elsewhere, through a pipe into the stdio front. This is
//! the one place where a relayed message becomes a typed one, because rmcp's transports carry nothing else.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rmcp::RoleServer;
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use tokio::io::{AsyncWriteExt as _, duplex, split};
use tracing::warn;

use super::stdio;
use crate::lines::{Line, LineReader};
use crate::session::{EndReason, SupervisorHandle};

/// How many bytes the pipe between the transport and the session holds before either has to wait.
const PIPE_BYTES: usize = 64 * 1024;

/// Serves one client until it leaves or its session ends.
pub(crate) async fn serve(supervisor: Arc<SupervisorHandle>, mut transport: impl Transport<RoleServer>) -> EndReason {
    let limit = supervisor.plan().limits.message_size;
    let (ours, theirs) = duplex(PIPE_BYTES);
    let (reader, writer) = split(theirs);
    let never = || Box::pin(std::future::pending());
    let session = tokio::spawn(stdio::serve(supervisor, Box::new(reader), Box::new(writer), never(), never()));
    let (reader, mut writer) = split(ours);
    let mut lines = LineReader::new(reader, limit.saturating_mul(2), None);
    // One message of each direction is under way at a time, and the directions do not wait for each other.
    let mut from_client = Bytes::new();
    let mut client_is_open = true;
    let mut sending = None;
    loop {
        tokio::select! {
            message = transport.receive(), if client_is_open && from_client.is_empty() => {
                if let Some(message) = message {
                    from_client = to_line(&message);
                } else {
                    client_is_open = false;
                    let _ = writer.shutdown().await;
                }
            }
            written = writer.write_buf(&mut from_client), if !from_client.is_empty() => {
                if written.is_err() {
                    // The session has ended; its last messages may still be on their way to the client.
                    from_client.clear();
                    client_is_open = false;
                }
            }
            line = lines.next(), if sending.is_none() => {
                let Ok(Some(Line::Message { bytes, .. })) = line else { break };
                sending = from_line(&bytes).map(|message| Box::pin(transport.send(message)));
            }
            sent = is_sent(&mut sending), if sending.is_some() => {
                sending = None;
                if !sent {
                    break;
                }
            }
        }
    }
    drop((writer, lines));
    let _ = transport.close().await;
    session.await.unwrap_or(EndReason::Failed)
}

/// Waits until the message under way is sent, and returns whether that succeeded; waits for ever if there is none.
async fn is_sent<T, E>(sending: &mut Option<Pin<Box<impl Future<Output = Result<T, E>>>>>) -> bool {
    match sending {
        Some(future) => future.await.is_ok(),
        None => std::future::pending().await,
    }
}

// `to_line` and `from_line` are inlined so that rmcp's whole model is compiled only in programs that call
// `Proxy::serve`: it would be a tenth of this crate's code.
#[inline]
fn to_line(message: &impl serde::Serialize) -> Bytes {
    match serde_json::to_vec(message) {
        Ok(mut line) => {
            line.push(b'\n');
            line.into()
        }
        Err(error) => {
            warn!(%error, "a message of the client cannot be written as JSON and was dropped");
            Bytes::new()
        }
    }
}

#[inline]
fn from_line(bytes: &[u8]) -> Option<TxJsonRpcMessage<RoleServer>> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| warn!(%error, "a message does not fit rmcp's model and was dropped"))
        .ok()
}
