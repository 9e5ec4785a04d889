//! A raw client on lines.

use sessile::{EndReason, Proxy};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream, duplex, split,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{QUIET_TIME, soon};

pub(crate) struct LineClient {
    input: Option<Box<dyn AsyncWrite + Unpin + Send>>,
    output: BufReader<Box<dyn AsyncRead + Unpin + Send>>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<EndReason>)>,
}

impl LineClient {
    /// Served by `serve_io` over pipes that hold so many bytes.
    pub(crate) fn new(proxy: &Proxy, pipe: usize) -> Self {
        let (input, reader) = duplex(pipe);
        let (output, writer) = duplex(pipe);
        let (stop, stopped) = oneshot::channel();
        let proxy = proxy.clone();
        let serving = tokio::spawn(async move {
            let stopped = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            proxy.serve_io(reader, writer, stopped).await
        });
        Self { input: Some(Box::new(input)), output: BufReader::new(Box::new(output)), serving: Some((stop, serving)) }
    }

    /// On a stream whose other end is served by somebody else.
    pub(crate) fn over(stream: DuplexStream) -> Self {
        let (output, input) = split(stream);
        Self { input: Some(Box::new(input)), output: BufReader::new(Box::new(output)), serving: None }
    }

    pub(crate) async fn says(&mut self, line: &str) {
        self.says_bytes(format!("{line}\n").as_bytes()).await;
    }

    pub(crate) async fn says_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("the input was closed");
        soon("the proxy takes a line", input.write_all(bytes)).await.unwrap();
    }

    /// Whether the proxy takes the line within a moment. A part of it may be taken.
    pub(crate) async fn tries_to_say(&mut self, line: &str) -> bool {
        let line = format!("{line}\n");
        let input = self.input.as_mut().expect("the input was closed");
        timeout(QUIET_TIME * 5, input.write_all(line.as_bytes())).await.is_ok()
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = soon("the client hears something", self.output.read_line(&mut line)).await.unwrap();
        if read == 0 {
            return None;
        }
        assert_eq!(line.pop(), Some('\n'), "half a line: {line}");
        Some(line)
    }

    pub(crate) async fn hears(&mut self) -> String {
        self.line().await.expect("the output ended")
    }

    pub(crate) async fn hears_json(&mut self) -> serde_json::Value {
        let line = self.hears().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub(crate) fn closes_its_input(&mut self) {
        self.input = None;
    }

    /// What a signal does.
    pub(crate) fn is_told_to_stop(&mut self) {
        let (stop, serving) = self.serving.take().expect("it was told before");
        let _ = stop.send(());
        self.serving = Some((oneshot::channel().0, serving));
    }

    /// The output ends, and `serve_io` with it.
    pub(crate) async fn sees_the_end(mut self) -> EndReason {
        if let Some(line) = self.line().await {
            panic!("nothing was to follow: {line}");
        }
        self.ended().await
    }

    /// Leaves in both directions.
    pub(crate) async fn leaves(mut self) -> EndReason {
        let serving = self.serving.take();
        drop((self.input, self.output));
        soon("the front ends", serving.expect("it is served by somebody else").1).await.unwrap()
    }

    async fn ended(&mut self) -> EndReason {
        let (_, serving) = self.serving.take().expect("it is served by somebody else");
        soon("the front ends", serving).await.unwrap()
    }
}
