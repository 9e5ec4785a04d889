//! Servers that run in this process: any rmcp server, or a closure that reads and writes messages.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sessile_demo::Demo;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::queue_writer::QueueWriter;
use super::{delivery, factory, panics};
use crate::frame::Wire;
use crate::lines::write_lines;
use crate::link::{Exit, LinkContext, LinkExit, LinkOpener};

/// Bytes between the two ends of an in-process link before the writer has to wait.
const DUPLEX_BUFFER: usize = 64 * 1024;
/// How long a server may go on after its input has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server that closed its output may take to end. After that its exit is reported without a reason.
const EXIT_WAIT: Duration = Duration::from_millis(500);

/// A server in this process; each session gets a new one.
///
/// The closure that makes the servers may block: it runs on one of the runtime's blocking threads. If it panics, the
/// client of that session gets an error in place of its server, and no other session is affected.
#[derive(Clone)]
pub struct InProcessBackend {
    start: Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    name: &'static str,
}

/// The server's ends of a pair of message queues.
///
/// Messages are JSON texts without newlines. The server ends by dropping `outgoing`, and has to end when `incoming`
/// does.
#[derive(Debug)]
pub struct Channel {
    /// Messages from the client.
    pub incoming: mpsc::Receiver<bytes::Bytes>,
    /// Messages to the client.
    pub outgoing: mpsc::Sender<bytes::Bytes>,
}

impl InProcessBackend {
    /// An rmcp server: `make` is called once for each session, so what it makes is that session's own state.
    pub fn rmcp<S>(make: impl Fn() -> S + Send + Sync + 'static) -> Self
    where
        S: rmcp::Service<rmcp::RoleServer> + Send + 'static,
    {
        Self::over_bytes(std::any::type_name::<S>(), move |io| {
            let server = make();
            async move {
                let running = rmcp::serve_server(server, io).await.map_err(|error| error.to_string())?;
                running.waiting().await.map(drop).map_err(|error| error.to_string())
            }
        })
    }

    /// The built-in [`Demo`] server.
    pub fn demo() -> Self {
        Self::over_bytes("demo", |io| async { Demo::new().serve_stream(io).await.map_err(|error| error.to_string()) })
    }

    /// A server over a pair of bounded message queues.
    pub fn channel<F>(start: impl Fn(Channel) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::over_bytes("channel", move |io| {
            let (to_server, incoming) = mpsc::channel(64);
            let (outgoing, from_server) = mpsc::channel(64);
            let server = start(Channel { incoming, outgoing });
            async move {
                let (reader, writer) = tokio::io::split(io);
                tokio::join!(server, pump_in(reader, to_server), pump_out(writer, from_server));
                Ok(())
            }
        })
    }

    /// A server over a stream of bytes with a message on each line.
    ///
    /// The future is the server's whole life; its error is told to the client of the session that it belongs to.
    pub fn over_bytes<F>(name: &'static str, start: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { start: Arc::new(move |io| Box::pin(start(io))), name }
    }
}

async fn pump_in(reader: impl tokio::io::AsyncRead + Unpin, to_server: mpsc::Sender<bytes::Bytes>) {
    let mut lines = crate::lines::LineReader::new(reader, usize::MAX, None);
    while let Ok(Some(crate::lines::Line::Message { bytes: message, .. })) = lines.next().await {
        if to_server.send(message).await.is_err() {
            break;
        }
    }
}

async fn pump_out(writer: impl tokio::io::AsyncWrite + Unpin, mut from_server: mpsc::Receiver<bytes::Bytes>) {
    let (queue, wires) = mpsc::channel(64);
    let forward = async move {
        while let Some(message) = from_server.recv().await {
            if queue.send(Wire::from(message)).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::join!(forward, write_lines(writer, wires, |_: &Wire, _| {}));
}

impl LinkOpener for InProcessBackend {
    fn run(self: Arc<Self>, context: LinkContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (ours, theirs) = duplex(DUPLEX_BUFFER);
            match factory::make(&context, move || (self.start)(theirs)).await {
                // The link was stopped while the factory ran: the server is not started.
                Some(Ok(_server)) if context.stop.is_cancelled() => {}
                Some(Ok(server)) => run(context, ours, server).await,
                Some(Err(exit)) => context.link_events.closed(exit),
                None => {}
            }
        })
    }

    fn describe(&self) -> String {
        format!("in-process {}", self.name)
    }
}

async fn run(context: LinkContext, io: DuplexStream, server: BoxFuture<'static, Result<(), String>>) {
    let LinkContext { name, link_events, outgoing, backlog, stalled, stop, message_size, .. } = context;
    let (reader, writer) = tokio::io::split(io);
    let mut server = spawn(server);
    let queue_writer = QueueWriter { queue: outgoing, backlog, stalled, link_events: link_events.clone() };
    // When the session drops its end of the queue, the writer ends, and the server sees its input end.
    let mut writing = spawn(async move {
        let mut writer = writer;
        let written = queue_writer.write(&mut writer).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
        written
    });
    let mut reading = spawn(delivery::deliver_lines(reader, message_size, link_events.clone()));
    let exit = tokio::select! {
        // Its last messages are still in the pipe; or it has given its end of the pipe to another task, which goes on.
        ended = &mut server => tokio::select! {
            read = &mut reading => Some(match read {
                Ok(()) => exit_of(Some(ended)),
                Err(error) => panics::exit(&name, error),
            }),
            () = stop.cancelled() => None,
        },
        read = &mut reading => Some(match read {
            // The server has closed its output. Most likely it is about to end, with a reason.
            Ok(()) => exit_of(timeout(EXIT_WAIT, &mut server).await.ok()),
            Err(error) => panics::exit(&name, error),
        }),
        written @ (Ok(Err(_)) | Err(_)) = &mut writing => Some(match written {
            // A server that takes no more input cannot answer further calls: without an end here they would wait for
            // ever.
            Ok(_) => exit_of(timeout(EXIT_WAIT, &mut server).await.ok()),
            Err(error) => panics::exit(&name, error),
        }),
        () = stop.cancelled() => None,
    };
    if let Some(exit) = exit {
        link_events.closed(exit);
    }
    end(server).await;
}

fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Returns the exit of a server, with its error if it has ended with one.
fn exit_of(ended: Option<Result<Result<(), String>, JoinError>>) -> LinkExit {
    let words = match ended {
        Some(Ok(Err(reason))) => vec![reason],
        Some(Err(panic)) => vec![panic.to_string()],
        Some(Ok(Ok(()))) | None => Vec::new(),
    };
    LinkExit::Exited { exit: Exit::Closed, stderr: words }
}

/// Waits for a server whose input has ended, but not for ever.
async fn end(mut server: AbortOnDropHandle<Result<(), String>>) {
    if server.is_finished() {
        return;
    }
    if timeout(SHUTDOWN_TIMEOUT, &mut server).await.is_err() {
        server.abort();
        let _ = server.await;
    }
}
