//! What the link panics at, and what it makes before it runs.

use super::*;
use crate::backend::http::{HttpBackend, Transport};

/// Panics at every message of the server.
struct EventsThatPanic(RecordedEvents);

impl LinkEvents for EventsThatPanic {
    fn budget(&self) -> &Budget {
        self.0.budget()
    }

    fn answers(&self) -> &Budget {
        self.0.answers()
    }

    fn deliver(&self, _: Result<Incoming, FrameError>, _: Option<Permit>, _: Option<u64>) {
        panic!("a defect in the link");
    }

    fn failed(&self, call: u64, failure: RequestFailure) {
        self.0.failed(call, failure);
    }

    fn lost(&self, message: LostMessage, permit: Permit) {
        self.0.lost(message, permit);
    }

    fn started(&self, pid: u32) {
        self.0.started(pid);
    }

    fn closed(&self, exit: LinkExit) {
        self.0.closed(exit);
    }
}

#[tokio::test]
async fn a_panic_ends_the_link_of_either_transport() {
    let server = ScriptedHttpServer::start(async |request| match request.kind().as_str() {
        "GET" => events(Body::from_stream(stream::iter(
            ["event: endpoint\ndata: /mcp\n\n", "data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n"]
                .map(|chunk| Ok::<_, Infallible>(Bytes::from_static(chunk.as_bytes()))),
        ))),
        _ => plain_response(&request),
    })
    .await;
    for transport in [Transport::Http, Transport::Sse] {
        let backend = HttpBackend::new(&server.url()).unwrap().transport(transport);
        let mut session = TestLink::start_with(backend, |ear| Arc::new(EventsThatPanic(ear)));
        session.initialize();
        let lost = Delivery::Closed(LinkExit::Lost { reason: "the link to it failed within sessile".to_owned() });
        assert_eq!(session.rest().await, [lost]);
    }
}

#[tokio::test]
async fn nothing_is_made_before_the_link_runs() {
    let server = ScriptedHttpServer::start(async |request| plain_response(&request)).await;
    let backend = HttpBackend::new(&server.url()).unwrap();
    let upstream = backend.upstream.clone();
    let mut session = TestLink::start(backend);
    assert!(!upstream.initialized(), "the link's task has not begun");
    session.open().await;
    assert!(upstream.initialized());
    assert_eq!(session.stop().await, []);
}
