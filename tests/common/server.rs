//! A scripted server: a test gets each line that the server receives, and decides what the server sends.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;
use sessile::InProcessBackend;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::{QUIET_TIME, WAIT_LIMIT, soon};

/// A backend whose servers are handed to the test, one for each session.
pub(crate) fn scripted() -> (InProcessBackend, mpsc::Receiver<ScriptedServer>) {
    let (started, servers) = mpsc::channel(2000);
    let backend = InProcessBackend::over_bytes("scripted", move |io| {
        let (said, heard) = mpsc::channel(20_000);
        let (orders, queue) = mpsc::channel(1);
        let (attention, attentive) = watch::channel(true);
        let (alive, gone) = oneshot::channel();
        let server = ScriptedServer { heard, orders, attention, gone: Arc::new(Mutex::new(Some(gone))) };
        let _ = started.try_send(server);
        run(io, said, queue, attentive, alive)
    });
    (backend, servers)
}

enum Order {
    Say(Vec<u8>, oneshot::Sender<()>),
    CloseOutput,
    Exit(Result<(), String>),
}

/// Lives as a server process does: until it is told to exit, or its input ends.
async fn run(
    io: DuplexStream,
    said: mpsc::Sender<String>,
    mut orders: mpsc::Receiver<Order>,
    mut attentive: watch::Receiver<bool>,
    alive: oneshot::Sender<()>,
) -> Result<(), String> {
    // Dropping this tells the test that the server is gone.
    let _alive = alive;
    let (reader, mut writer) = tokio::io::split(io);
    let listening = async {
        let mut lines = BufReader::new(reader).lines();
        loop {
            let _ = attentive.wait_for(|attentive| *attentive).await;
            match lines.next_line().await {
                Ok(Some(line)) => said.send(line).await.unwrap_or_default(),
                Ok(None) | Err(_) => return,
            }
        }
    };
    let acting = async {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Say(bytes, done) => {
                    if writer.write_all(&bytes).await.is_ok() {
                        let _ = done.send(());
                    }
                }
                Order::CloseOutput => writer.shutdown().await.unwrap_or_default(),
                Order::Exit(how) => return how,
            }
        }
        // The test has dropped its handle; the server goes on until its input ends.
        std::future::pending().await
    };
    tokio::select! {
        how = acting => how,
        () = listening => Ok(()),
    }
}

/// The server of one session.
pub(crate) struct ScriptedServer {
    heard: mpsc::Receiver<String>,
    orders: mpsc::Sender<Order>,
    attention: watch::Sender<bool>,
    gone: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

/// A line that the server heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub text: String,
    pub id: String,
    pub method: String,
    pub params: String,
}

impl Heard {
    fn read(text: String) -> Self {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            method: Option<&'a RawValue>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
        }
        let raw = |value: Option<&RawValue>| value.map(|value| value.get().to_owned()).unwrap_or_default();
        let message: Message<'_> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let (id, method, params) = (raw(message.id), raw(message.method), raw(message.params));
        Self { id, method: method.trim_matches('"').to_owned(), params, text }
    }

    /// The message without its id, which is the proxy's business.
    pub(crate) fn rest(&self) -> String {
        self.text.replacen(&format!(r#""id":{}"#, self.id), r#""id":#"#, 1)
    }
}

impl ScriptedServer {
    /// The next line; `None` when the input has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        soon("the server hears something", self.heard.recv()).await
    }

    /// The next line, which must be this method.
    pub(crate) async fn hears(&mut self, method: &str) -> Heard {
        let line = self.line().await.unwrap_or_else(|| panic!("the input ended before {method}"));
        let heard = Heard::read(line);
        assert_eq!(heard.method, method, "{}", heard.text);
        heard
    }

    /// The next line, which must be an answer.
    pub(crate) async fn hears_answer(&mut self) -> Heard {
        self.hears("").await
    }

    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(Some(line)) = timeout(QUIET_TIME, self.heard.recv()).await {
            panic!("the server was not to hear: {line}");
        }
    }

    /// The input ends, and the server with it.
    pub(crate) async fn sees_the_end(mut self) {
        while self.line().await.is_some() {}
        self.is_gone().await;
    }

    /// Nothing of the server is left.
    pub(crate) async fn is_gone(&self) {
        let gone = self.gone.lock().unwrap().take();
        if let Some(gone) = gone {
            let _ = soon("the server is gone", gone).await;
        }
    }

    /// Says a line, and waits until the proxy has taken it.
    pub(crate) async fn says(&self, line: &str) {
        assert!(self.tries_to_say(line).await, "nobody takes: {}", &line[..line.len().min(200)]);
    }

    pub(crate) async fn says_bytes(&self, bytes: &[u8]) {
        assert!(self.write(bytes.to_vec(), WAIT_LIMIT).await, "nobody takes it");
    }

    /// False if nobody takes it for a long time.
    pub(crate) async fn tries_to_say(&self, line: &str) -> bool {
        self.write(format!("{line}\n").into_bytes(), WAIT_LIMIT).await
    }

    /// Sends a line up to `times` times, until the proxy takes no more. Returns how often the line was taken.
    pub(crate) async fn floods(&self, line: &str, times: usize) -> usize {
        let bytes = format!("{line}\n").into_bytes();
        for taken in 0..times {
            if !self.write(bytes.clone(), QUIET_TIME * 8).await {
                return taken;
            }
        }
        times
    }

    async fn write(&self, bytes: Vec<u8>, patience: std::time::Duration) -> bool {
        let (done, told) = oneshot::channel();
        let write = async {
            self.orders.send(Order::Say(bytes, done)).await.ok()?;
            told.await.ok()
        };
        timeout(patience, write).await.ok().flatten().is_some()
    }

    pub(crate) async fn answers(&self, heard: &Heard, result: &str) {
        self.says(&super::result(&heard.id, result)).await;
    }

    pub(crate) async fn exits(&self, how: Result<(), &str>) {
        let _ = self.orders.send(Order::Exit(how.map_err(str::to_owned))).await;
        self.is_gone().await;
    }

    pub(crate) async fn closes_its_output(&self) {
        let _ = self.orders.send(Order::CloseOutput).await;
        // The order is carried out when the next one is taken; there is none.
        sleep(QUIET_TIME / 10).await;
    }

    /// Reads nothing from now on, beyond what is buffered already.
    pub(crate) fn stops_listening(&self) {
        self.attention.send_replace(false);
    }

    pub(crate) fn listens_again(&self) {
        self.attention.send_replace(true);
    }
}
