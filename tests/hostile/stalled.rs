//! Many peers that stall at once: the memory of the process stays bounded, and whoever does not stall notices nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use sessile::{HttpSettings, SessionSettings};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::common::{
    Harness, HttpClient, HttpEndpoint, INITIALIZE, INITIALIZE_RESULT, ScriptedServer, call, notification, result, until,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// How long those who do not stall may take for all that they do.
const TAKES: Duration = Duration::from_secs(10);
/// What each session may have under way besides the budget of the process.
const RESERVE: usize = 64 * KIB + 256;

/// An eighth of the defaults, so that as many sessions as there fill the budget with an eighth of the bytes.
fn settings() -> SessionSettings {
    SessionSettings {
        max_message_size: 8 * MIB,
        session_budget: 512 * KIB,
        process_budget: 32 * MIB,
        ..SessionSettings::default()
    }
}

/// What is under way stays within its bounds.
fn is_bounded(harness: &Harness, settings: &SessionSettings, sessions: usize) {
    let bound = settings.process_budget + sessions * RESERVE;
    let taken = harness.proxy.bytes_under_way();
    assert!(taken.to_clients <= bound && taken.to_servers <= bound, "{taken:?} is more than {bound}");
}

/// Opens the GET stream of a session on a socket that takes next to nothing unread, and reads none of it.
async fn listens_and_does_not_read(address: SocketAddr, client: &HttpClient) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(address).await.unwrap();
    client.request("GET").header("accept", "text/event-stream").write_to(&mut socket).await;
    socket
}

/// What a session does that does not stall: a call with 500 notifications, and 16 calls of 20 KB side by side.
async fn is_served(client: &HttpClient, server: &mut ScriptedServer) {
    let asking = client.asks(&call("\"many\"", "many", "{}"));
    let heard = server.hears("many").await;
    let step = notification("notifications/message", r#"{"level":"info","data":"step"}"#);
    for _ in 0..500 {
        server.says(&step).await;
    }
    server.answers(&heard, "true").await;
    let mut reply = asking.reply().await;
    for number in 0..500 {
        assert_eq!(reply.data().await, step, "notification {number}");
    }
    assert_eq!(reply.data().await, result("\"many\"", "true"));
    let large = format!(r#"["{}"]"#, "y".repeat(20_000));
    let asking: Vec<_> = (0..16).map(|number| client.asks(&call(number, "echo", &large))).collect();
    for _ in 0..16 {
        let heard = server.hears("echo").await;
        server.answers(&heard, &large).await;
    }
    for (number, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.data().await, result(number, &large));
    }
}

/// Serves a session that was there before, and one that is opened now.
async fn others_are_served(harness: &mut Harness, old: &mut (HttpClient, ScriptedServer)) {
    #[expect(clippy::disallowed_methods, reason = "it is real time that is measured")]
    let begin = Instant::now();
    is_served(&old.0, &mut old.1).await;
    let (client, mut server) = harness.session().await;
    is_served(&client, &mut server).await;
    assert!(begin.elapsed() < TAKES, "it took {:?}", begin.elapsed());
}

/// While `count` sessions stall, the memory is bounded, and the others are served: `old`, which was there before, and
/// one that is opened now.
async fn others_do_not_notice(mut harness: Harness, mut old: (HttpClient, ScriptedServer), count: usize) -> Harness {
    is_bounded(&harness, &settings(), count + 2);
    others_are_served(&mut harness, &mut old).await;
    is_bounded(&harness, &settings(), count + 3);
    harness
}

async fn clients_that_do_not_read(count: usize) {
    let mut harness = Harness::on_tcp(settings(), HttpSettings::default()).await;
    let HttpEndpoint::Tcp(address) = *harness.endpoint() else { unreachable!() };
    let old = harness.session().await;
    let mut stalled = Vec::new();
    for _ in 0..count {
        let (client, server) = harness.session().await;
        let socket = listens_and_does_not_read(address, &client).await;
        stalled.push((server, socket));
    }
    let line = notification("notifications/message", &format!(r#"{{"data":"{}"}}"#, "x".repeat(60 * KIB)));
    join_all(stalled.iter().map(|(server, _)| server.floods(&line, 60))).await;
    let taken = harness.proxy.bytes_under_way().to_clients;
    assert!(taken > 20 * MIB, "{taken} bytes are not enough to be in anybody's way");
    let harness = others_do_not_notice(harness, old, count).await;
    drop(stalled);
    harness.close().await;
}

#[tokio::test]
async fn seventy_clients_that_do_not_read() {
    clients_that_do_not_read(70).await;
}

#[tokio::test]
async fn three_hundred_clients_that_do_not_read() {
    clients_that_do_not_read(300).await;
}

async fn servers_that_do_not_read(count: usize) {
    let mut harness = Harness::on_tcp(settings(), HttpSettings::default()).await;
    let old = harness.session().await;
    let large = notification("notifications/x", &format!(r#"["{}"]"#, "y".repeat(60 * KIB)));
    let mut stalled = Vec::new();
    for _ in 0..count {
        let (client, server) = harness.session().await;
        server.stops_listening();
        let posts: Vec<_> = (0..12).map(|_| client.post(large.clone()).start()).collect();
        stalled.push((client, server, posts));
    }
    until("the budget is full", || harness.proxy.bytes_under_way().to_servers > 20 * MIB).await;
    let harness = others_do_not_notice(harness, old, count).await;
    drop(stalled);
    harness.close().await;
}

#[tokio::test]
async fn seventy_servers_that_do_not_read() {
    servers_that_do_not_read(70).await;
}

#[tokio::test]
async fn three_hundred_servers_that_do_not_read() {
    servers_that_do_not_read(300).await;
}

/// Posts the first `sent` bytes of a body that is said to be longer, and no more.
fn posts_a_part(harness: &Harness, session: Option<&str>, sent: usize) -> JoinHandle<http::StatusCode> {
    let mut request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("content-length", sent + 1000);
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let pieces =
        stream::iter((0..sent / (16 * KIB)).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 16 * KIB]))));
    let request = request.body(Body::from_stream(pieces.chain(stream::pending()))).unwrap();
    let mut router = harness.proxy.clone().into_router();
    tokio::spawn(async move { tower_service::Service::call(&mut router, request).await.unwrap().status() })
}

#[tokio::test(start_paused = true)]
async fn bodies_that_stop_half_way_give_way_to_others() {
    let settings = SessionSettings {
        max_message_size: 512 * KIB,
        session_budget: 256 * KIB,
        process_budget: 2 * MIB,
        ..SessionSettings::default()
    };
    let mut harness = Harness::in_process(settings.clone(), HttpSettings::default());
    let mut sessions = Vec::new();
    let mut halves = Vec::new();
    for _ in 0..8 {
        let (client, server) = harness.session().await;
        halves.push(posts_a_part(&harness, client.session.as_deref(), 400 * KIB));
        sessions.push((client, server));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    is_bounded(&harness, &settings, 9);
    // Half of them wait for memory that the others hold; and so does somebody who sends all of it.
    let (client, mut server) = harness.session().await;
    let whole = notification("notifications/whole", &format!(r#"["{}"]"#, "z".repeat(400 * KIB)));
    let telling = client.post(whole).start();
    let heard = timeout(Duration::from_secs(60), server.hears("notifications/whole")).await.expect("it waits for ever");
    assert!(heard.params.len() > 400 * KIB);
    assert_eq!(telling.reply().await.status, 202);
    // Whoever stopped is told so, sooner or later, and the sessions live.
    for half in halves {
        let status = timeout(Duration::from_secs(120), half).await.expect("it is held for ever").unwrap();
        assert!([400, 408].contains(&status.as_u16()), "{status}");
    }
    for (client, mut server) in sessions {
        client.tells(&notification("notifications/x", "{}")).await;
        server.hears("notifications/x").await;
    }
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_no_session_is_bounded_and_in_nobodys_way() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    let too_large = format!("{}{INITIALIZE}", " ".repeat(4 * MIB));
    assert_eq!(harness.new_client().post(too_large).send().await.status, 413);
    let halves: Vec<_> = (0..40).map(|_| posts_a_part(&harness, None, 3 * MIB)).collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = harness.proxy.bytes_under_way();
    assert!((16 * MIB..=32 * MIB).contains(&taken.without_session), "{taken:?}");
    // One that sends all of it waits for those who stopped, and no longer than they may.
    let long = format!("{}{INITIALIZE}", " ".repeat(100 * KIB));
    let opening = harness.new_client().post(long).start();
    let mut server = timeout(Duration::from_secs(12), harness.server()).await.expect("it waits for those who stopped");
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    assert_eq!(opening.reply().await.status, 200);
    // All of them are over after their time.
    for half in halves {
        assert_eq!(timeout(Duration::from_secs(31), half).await.expect("it is held longer").unwrap().as_u16(), 408);
    }
    assert_eq!(harness.proxy.bytes_under_way().without_session, 0);
    harness.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_call_fails_whose_response_stops_half_way_while_others_need_the_memory() {
    let settings = SessionSettings {
        max_message_size: 512 * KIB,
        session_budget: 256 * KIB,
        process_budget: 2 * MIB,
        ..SessionSettings::default()
    };
    let mut harness = Harness::in_process(settings.clone(), HttpSettings::default());
    let mut calls = Vec::new();
    for number in 0..8 {
        let (client, mut server) = harness.session().await;
        let asking = client.asks(&call(number, "large", "{}"));
        server.hears("large").await;
        let half =
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"text":"{}"#, number_of_call(), "x".repeat(400 * KIB));
        let saying = tokio::spawn(async move {
            server.says_bytes(half.as_bytes()).await;
            server
        });
        calls.push((client, asking, saying));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_bounded(&harness, &settings, 8);
    let answers = calls.into_iter().map(|(_client, asking, _saying)| async move {
        // Whoever is not asked to give way goes on to hold what it has: nobody needs it.
        let Ok(text) = timeout(Duration::from_secs(60), asking.data_at_last()).await else { return false };
        let error: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(error["error"]["code"], -31020, "{error}");
        true
    });
    let stalled = join_all(answers).await.into_iter().filter(|stalled| *stalled).count();
    assert!((1..8).contains(&stalled), "{stalled} of 8 gave way");
    harness.close().await;
}

/// The number under which the server gets to know the first call behind the handshake.
fn number_of_call() -> u64 {
    2
}
