//! The stdio front: one client, one connection, one session. It serves stdin and stdout, and any other pair of byte
//! streams with one message on each line.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::error::ProxyError;
use crate::frame::{self, Incoming, LostMessage, Permit, Wire};
use crate::lines::{Line, LineReader, write_lines};
use crate::mcp;
use crate::session::{
    Caller, EndReason, FoundBy, MessageRole, MessageToClient, Refused, RespondOn, SessionHandle, StreamConnection,
    StreamKind, SupervisorHandle,
};

/// The most messages that wait between the session and the writer.
const OUTPUT_QUEUE: usize = 16;
/// How long a client may take to read what is left after its session has ended.
const LAST_READ_WITHIN: Duration = Duration::from_secs(2);

/// The byte streams that a client's messages come from, and that the messages for the client go to.
pub(crate) type ClientReader = Box<dyn AsyncRead + Unpin + Send>;
pub(crate) type ClientWriter = Box<dyn AsyncWrite + Unpin + Send>;

/// Serves one client until its input ends, its session ends, or `stop` resolves.
///
/// `hangup` resolves when the client has closed its end, even while its earlier messages cannot be read because the
/// server takes none: then the server has the time of a drain to take them.
///
/// The session is opened with the first message that needs one: a client may start a proxy only to find out which era
/// it speaks, and no server is started for that.
///
/// The arguments and the future are boxed so that this is compiled with this crate, and not again with each program
/// that calls it.
pub(crate) fn serve<'a>(
    supervisor: Arc<SupervisorHandle>,
    reader: ClientReader,
    writer: ClientWriter,
    hangup: BoxFuture<'a, ()>,
    stop: BoxFuture<'a, ()>,
) -> BoxFuture<'a, EndReason> {
    Box::pin(serve_client(supervisor, reader, writer, hangup, stop))
}

async fn serve_client(
    supervisor: Arc<SupervisorHandle>,
    reader: ClientReader,
    writer: ClientWriter,
    hangup: BoxFuture<'_, ()>,
    mut stop: BoxFuture<'_, ()>,
) -> EndReason {
    let drain = supervisor.plan().limits.drain;
    let (output, queue) = mpsc::channel(OUTPUT_QUEUE);
    let writing = tokio::spawn(write_out(writer, queue));
    let upward = supervisor.upward();
    let lines = LineReader::new(reader, supervisor.plan().limits.message_size, upward.buffer_charge());
    let mut input = ClientInput { lines, supervisor, upward, output, cut: CancellationToken::new() };
    let cut = input.cut.clone();
    let first = tokio::select! {
        first = input.await_first_message() => first,
        () = &mut stop => None,
    };
    let Some((session, stream)) = first else {
        drop(input);
        let _ = timeout(LAST_READ_WITHIN, writing).await;
        return EndReason::ClientLeft;
    };
    let id = stream.id;
    let sending = forward_messages(stream, input.output.clone());
    let receiving = async {
        tokio::select! {
            () = input.relay(&session, id) => {}
            () = async {
                hangup.await;
                sleep(drain).await;
            } => {}
        }
        session.input_ended();
    };
    let mut sending = std::pin::pin!(sending);
    tokio::select! {
        () = &mut sending => {}
        () = async {
            tokio::join!(receiving, async {
                stop.await;
                session.drain_then_end(drain).await;
            });
        } => {}
        // The client does not read its messages, and others need the memory.
        () = cut.cancelled() => session.end(EndReason::ClientStalled),
        // The session has ended. A client that does not read the last messages now does not get them.
        () = async {
            session.ended().await;
            sleep(LAST_READ_WITHIN).await;
        } => {}
    }
    // The session's stream has ended, or the client is gone.
    session.end(EndReason::ClientLeft);
    session.ended().await;
    let reason = session.facts().ended.borrow().clone();
    drop(input);
    // Without a time limit, a client that does not read would keep the process alive.
    let mut writing = writing;
    if timeout(LAST_READ_WITHIN, &mut writing).await.is_err() {
        writing.abort();
    }
    reason.unwrap_or(EndReason::Failed)
}

async fn write_out(mut writer: ClientWriter, queue: mpsc::Receiver<MessageToClient>) {
    let moved = |message: &MessageToClient, bytes| {
        if let Some(held) = &message.held {
            held.moved(bytes);
        }
    };
    let _ = write_lines(&mut writer, queue, moved).await;
    let _ = writer.shutdown().await;
}

/// Forwards the session's messages to the writer, until there are no more or the client is gone.
async fn forward_messages(mut stream: StreamConnection, output: mpsc::Sender<MessageToClient>) {
    while let Some(message) = stream.next().await {
        if output.send(message).await.is_err() {
            return;
        }
    }
}

/// The client's messages: they open the session, and are then handed on to it.
struct ClientInput {
    lines: LineReader<ClientReader>,
    supervisor: Arc<SupervisorHandle>,
    /// The budget of what the client sends to the servers, before the session is open and afterwards.
    upward: Budget,
    output: mpsc::Sender<MessageToClient>,
    /// Cancelled when the client does not read what it is sent and others need the memory.
    cut: CancellationToken,
}

impl ClientInput {
    /// Waits for the first message that needs a session, and opens it. `None` if no such message comes, or no session
    /// can be opened.
    async fn await_first_message(&mut self) -> Option<(SessionHandle, StreamConnection)> {
        while let Ok(Some(line)) = self.lines.next().await {
            let (bytes, grown) = match line {
                Line::Message { bytes, permit } => (bytes, permit),
                Line::Lost(LostMessage { id, size, why, .. }) => {
                    let error = ProxyError::from_lost(why, self.supervisor.plan().limits.message_size, size);
                    self.send_to_client(error.to_wire(id.as_ref())).await?;
                    continue;
                }
            };
            let size = bytes.len();
            let frame = match frame::split(bytes) {
                Ok(Incoming::One(frame)) => frame,
                Ok(incoming @ Incoming::Batch(_)) => return self.open_session(incoming, size, grown).await,
                Err(error) => {
                    let id = error.id.clone();
                    self.send_to_client(ProxyError::Frame(error).to_wire(id.as_ref())).await?;
                    continue;
                }
            };
            if frame.method() == Some(mcp::SERVER_DISCOVER) {
                let error = ProxyError::MethodNotFound(mcp::SERVER_DISCOVER.to_owned());
                self.send_to_client(error.to_wire(frame.id().as_ref())).await?;
                continue;
            }
            return self.open_session(Incoming::One(frame), size, grown).await;
        }
        None
    }

    /// Opens the session with the client's first message.
    async fn open_session(
        &mut self,
        first: Incoming,
        size: usize,
        grown: Option<Permit>,
    ) -> Option<(SessionHandle, StreamConnection)> {
        // Whoever can write to this process's stdin, or has the other end of a pipe, needs no name (2025-11-25,
        // basic/authorization, "Protocol Requirements").
        let caller = Caller::default();
        let fresh = match self.supervisor.open(caller, FoundBy::Nobody, true, Some(self.upward.clone())).await {
            Ok(fresh) => fresh,
            Err(refused) => {
                let error = match refused {
                    Refused::Limit(limit) => ProxyError::SessionLimit { limit },
                    Refused::ClientLimit(limit) => ProxyError::ClientLimit { limit },
                    Refused::Ended => ProxyError::SessionNotFound,
                    Refused::ShuttingDown => ProxyError::ShuttingDown,
                    Refused::Failed => ProxyError::BackendUnavailable {
                        reason: "the session could not be made; the log of the proxy says why".to_owned(),
                        stderr: Vec::new(),
                    },
                };
                let id = match &first {
                    Incoming::One(frame) => frame.id(),
                    Incoming::Batch(_) => None,
                };
                self.send_to_client(error.to_wire(id.as_ref())).await?;
                return None;
            }
        };
        let (session, _) = fresh.take()?;
        let stream = session.open_stream(StreamKind::Duplex, self.cut.clone());
        let first = session.let_in(Ok(first), size, grown).await;
        session.receive(RespondOn::Stream(stream.id), first);
        Some((session, stream))
    }

    /// Sends the client a message that does not come from a session; `None` if the client is gone.
    async fn send_to_client(&mut self, wire: Wire) -> Option<()> {
        self.output.send(MessageToClient { event: None, wire, role: MessageRole::ErrorResponse, held: None }).await.ok()
    }

    /// Hands the client's messages to the session until its input ends.
    async fn relay(&mut self, session: &SessionHandle, stream: crate::session::StreamId) {
        while let Ok(Some(line)) = self.lines.next().await {
            match line {
                Line::Lost(message) => session.client_lost(stream, message).await,
                Line::Message { bytes, permit } => {
                    let size = bytes.len();
                    let received = session.let_in(frame::split(bytes), size, permit).await;
                    session.receive(RespondOn::Stream(stream), received);
                }
            }
        }
    }
}

/// The stdin and stdout of this process.
pub(crate) struct StandardStreams {
    pub reader: ClientReader,
    pub writer: ClientWriter,
    /// Resolves when the client has closed its end of stdin; never if that cannot be observed.
    pub hangup: BoxFuture<'static, ()>,
}

/// Opens stdin and stdout. Pipes and sockets, which clients use, are polled; a file or a terminal is read by a thread.
pub(crate) fn standard_streams() -> StandardStreams {
    #[cfg(unix)]
    return StandardStreams {
        reader: unix::input().unwrap_or_else(|| Box::new(tokio::io::stdin())),
        writer: unix::output().unwrap_or_else(|| Box::new(tokio::io::stdout())),
        hangup: Box::pin(unix::hangup()),
    };
    #[cfg(not(unix))]
    StandardStreams {
        reader: Box::new(tokio::io::stdin()),
        writer: Box::new(tokio::io::stdout()),
        hangup: Box::pin(std::future::pending()),
    }
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt as _;
    use std::os::unix::net::UnixStream as StdStream;

    use tokio::io::{AsyncRead, AsyncWrite, Interest};
    use tokio::net::UnixStream;
    use tokio::net::unix::pipe;

    /// A standard stream that the runtime can poll.
    enum PolledStream {
        Pipe(File),
        Socket(UnixStream),
    }

    fn polled(stream: impl AsFd) -> Option<PolledStream> {
        let file = File::from(stream.as_fd().try_clone_to_owned().ok()?);
        let kind = file.metadata().ok()?.file_type();
        if kind.is_fifo() {
            return Some(PolledStream::Pipe(file));
        }
        if !kind.is_socket() {
            return None;
        }
        let socket = StdStream::from(OwnedFd::from(file));
        // The address can be read of a Unix socket only: one of another family cannot be used as this type.
        socket.local_addr().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(PolledStream::Socket(UnixStream::from_std(socket).ok()?))
    }

    pub(super) fn input() -> Option<Box<dyn AsyncRead + Unpin + Send>> {
        Some(match polled(std::io::stdin())? {
            PolledStream::Pipe(file) => Box::new(pipe::Receiver::from_file(file).ok()?),
            PolledStream::Socket(socket) => Box::new(socket),
        })
    }

    pub(super) fn output() -> Option<Box<dyn AsyncWrite + Unpin + Send>> {
        Some(match polled(std::io::stdout())? {
            PolledStream::Pipe(file) => Box::new(pipe::Sender::from_file(file).ok()?),
            PolledStream::Socket(socket) => Box::new(socket),
        })
    }

    /// Resolves when the other end of stdin is closed. This polls stdin beside its reader, and reads nothing.
    pub(super) async fn hangup() {
        if watch_for_close().await.is_none() {
            // Stdin is a file or a terminal, whose end can only be seen by reading.
            std::future::pending::<()>().await;
        }
    }

    async fn watch_for_close() -> Option<()> {
        // After each check that did not show the end, this clears the readiness, so that the next wait is for a change.
        let again = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        match polled(std::io::stdin())? {
            PolledStream::Pipe(file) => {
                let pipe = pipe::Receiver::from_file(file).ok()?;
                while !pipe.ready(Interest::READABLE).await.ok()?.is_read_closed() {
                    let _ = pipe.try_io(again);
                }
            }
            PolledStream::Socket(socket) => {
                while !socket.ready(Interest::READABLE).await.ok()?.is_read_closed() {
                    let _ = socket.try_io(Interest::READABLE, again);
                }
            }
        }
        Some(())
    }
}
