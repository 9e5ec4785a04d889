//! Links whose code panics or blocks, whatever their backend: the session hears how its link ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::captured_log::CapturedLog;
use super::scripted_http::WAIT_LIMIT;
use super::*;
use crate::budget::Budget;
use crate::frame::{FrameError, Incoming, LostMessage, Permit, Wire};
use crate::link::{Exit, LinkEvents, LinkExit, MessageToServer, Purpose, RequestFailure};

/// A session's end of a link. Its `LinkEvents` tells only how the link ends, and panics when the server says something.
struct TestSession {
    outgoing: mpsc::Sender<MessageToServer>,
    closed: mpsc::Receiver<LinkExit>,
    stop: CancellationToken,
}

struct PanickingEvents(mpsc::Sender<LinkExit>, Budget);

impl LinkEvents for PanickingEvents {
    fn budget(&self) -> &Budget {
        &self.1
    }

    fn answers(&self) -> &Budget {
        &self.1
    }

    fn deliver(&self, _: Result<Incoming, FrameError>, _: Option<Permit>, _: Option<u64>) {
        panic!("a defect in the reader");
    }

    fn failed(&self, _: u64, _: RequestFailure) {}

    fn lost(&self, _: LostMessage, _: Permit) {}

    fn started(&self, _: u32) {}

    fn closed(&self, exit: LinkExit) {
        self.0.try_send(exit).unwrap();
    }
}

fn session() -> (LinkContext, TestSession) {
    let (outgoing, waiting) = mpsc::channel(8);
    let (ends, closed) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let budget = Budget::ample();
    let context = LinkContext {
        name: "test".into(),
        server: "test".into(),
        scratch: std::env::temp_dir().join(format!("sessile-test-{}", uuid::Uuid::new_v4())),
        message_size: 1024,
        link_events: Arc::new(PanickingEvents(ends, Budget::ample())),
        outgoing: waiting,
        backlog: budget.backlog(|| ()),
        outgoing_budget: budget,
        stalled: Arc::default(),
        stop: stop.clone(),
    };
    (context, TestSession { outgoing, closed, stop })
}

impl TestSession {
    /// Runs the link to its end, which comes by itself, and returns how it ended.
    async fn exit(mut self, link: impl Future<Output = ()>) -> LinkExit {
        timeout(WAIT_LIMIT, link).await.expect("the link does not end");
        let exit = self.closed.try_recv().expect("the session is not told");
        assert!(self.closed.try_recv().is_err(), "the session is told twice");
        exit
    }
}

fn is_broken_within(exit: &LinkExit) {
    assert_eq!(*exit, LinkExit::Lost { reason: "the link to it failed within sessile".to_owned() });
}

/// A wire that makes its writer panic, at the moment when it has been written.
fn fragile_wire() -> MessageToServer {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a defect in the writer");
        }
    }
    let wire = Wire::from("{}".to_owned()).with_permit(Permit::new(Bomb));
    MessageToServer { wire, purpose: Purpose::Notification, held: None, response: None }
}

fn speaks() -> InProcessBackend {
    InProcessBackend::over_bytes("speaks", |mut io| async move {
        let _ = io.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n").await;
        std::future::pending().await
    })
}

fn listens() -> InProcessBackend {
    InProcessBackend::over_bytes("listens", |mut io| async move {
        let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
        std::future::pending().await
    })
}

fn sh(script: &str) -> ChildBackend {
    ChildBackend::new("sh").args(["-c", script])
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_reader_ends_the_link() {
    let (context, session) = session();
    is_broken_within(&session.exit(Backend::from(speaks()).run(context)).await);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_writer_ends_the_link() {
    let (context, session) = session();
    session.outgoing.try_send(fragile_wire()).unwrap();
    is_broken_within(&session.exit(Backend::from(listens()).run(context)).await);
}

#[cfg(unix)]
#[tokio::test]
async fn a_panic_of_the_reader_ends_the_link_to_a_process() {
    let (context, session) = session();
    let backend = sh(r#"echo '{"jsonrpc":"2.0","method":"x"}'; read end"#);
    is_broken_within(&session.exit(Backend::from(backend).run(context)).await);
}

#[cfg(unix)]
#[tokio::test]
async fn a_panic_of_the_writer_ends_the_link_to_a_process() {
    let (context, session) = session();
    session.outgoing.try_send(fragile_wire()).unwrap();
    is_broken_within(&session.exit(Backend::from(sh("cat >/dev/null")).run(context)).await);
}

/// A link that panics itself.
struct Faulty;

impl LinkOpener for Faulty {
    fn run(self: Arc<Self>, _: LinkContext) -> BoxFuture<'static, ()> {
        panic!("a defect in the link")
    }

    fn describe(&self) -> String {
        "faulty".to_owned()
    }
}

#[tokio::test]
async fn a_panic_of_the_link_itself_is_told() {
    let (context, session) = session();
    is_broken_within(&session.exit(Backend::of(Faulty).run(context)).await);
}

#[tokio::test]
async fn a_factory_runs_when_its_link_does_and_may_panic() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let backend: Backend = InProcessBackend::over_bytes("panics", move |_io| {
        assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "password=hunter2");
        std::future::pending()
    })
    .into();
    let (context, session) = session();
    let link = backend.run(context);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "this is where the session's actor is");
    let reason = "its factory panicked, and the log of the proxy says why".to_owned();
    assert_eq!(session.exit(link).await, LinkExit::Failed { reason });
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// A backend whose factory blocks until it is released, and says when it has begun and when its server has.
fn blocking_backend() -> (Backend, mpsc::Receiver<()>, blocking::Sender<()>, Arc<AtomicUsize>) {
    let (begun, begins) = mpsc::channel(1);
    let (release, released) = blocking::channel();
    let released = std::sync::Mutex::new(released);
    let servers = Arc::new(AtomicUsize::new(0));
    let started = servers.clone();
    let backend = InProcessBackend::over_bytes("blocks", move |io| {
        begun.try_send(()).unwrap();
        released.lock().unwrap().recv_timeout(WAIT_LIMIT).expect("the factory was not released");
        let started = started.clone();
        async move {
            started.fetch_add(1, Ordering::Relaxed);
            drop(io);
            Ok(())
        }
    });
    (backend.into(), begins, release, servers)
}

#[tokio::test]
async fn a_factory_that_blocks_leaves_the_runtime_its_only_worker() {
    let (backend, mut begins, release, servers) = blocking_backend();
    let (context, session) = session();
    let link = tokio::spawn(backend.run(context));
    timeout(WAIT_LIMIT, begins.recv()).await.unwrap().unwrap();
    // This task runs while the factory blocks.
    release.send(()).unwrap();
    let exit = session.exit(async { link.await.unwrap() }).await;
    assert_eq!(exit, LinkExit::Exited { exit: Exit::Closed, stderr: Vec::new() });
    assert_eq!(servers.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_link_that_is_stopped_lasts_as_long_as_its_factory_and_starts_no_server() {
    let (backend, mut begins, release, servers) = blocking_backend();
    let (context, mut session) = session();
    let mut link = tokio::spawn(backend.run(context));
    timeout(WAIT_LIMIT, begins.recv()).await.unwrap().unwrap();
    session.stop.cancel();
    tokio::task::yield_now().await;
    assert!(futures_util::poll!(&mut link).is_pending(), "something of it is left");
    release.send(()).unwrap();
    timeout(WAIT_LIMIT, link).await.expect("the link does not end").unwrap();
    assert_eq!(servers.load(Ordering::Relaxed), 0);
    assert!(session.closed.try_recv().is_err(), "nobody waits for it");
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_log_says_what_panicked() {
    let log = CapturedLog::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let backend: Backend = InProcessBackend::channel(|_| -> std::future::Ready<()> { panic!("no such folder") }).into();
    let (context, session) = session();
    session.exit(backend.run(context)).await;
    let (context, session) = self::session();
    session.exit(Backend::of(Faulty).run(context)).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for line in [
        r#"the backend's factory panicked session=test server=test panic="no such folder""#,
        r#"the link to the backend panicked session="test" panic="a defect in the link""#,
    ] {
        assert!(log.contains(line), "{log}");
    }
}
