//! Sessile inside another program: any rmcp transport, a router within a larger one, and the sessions as they are seen.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test has failed it")]
#![expect(deprecated, reason = "rmcp deprecates sampling and subscribe because the modern era has them no more")]

mod common;

#[path = "library/served.rs"]
mod served;

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ProgressNotificationParam, ProtocolVersion, ResourceUpdatedNotificationParam, SamplingMessage,
    SubscribeRequestParams,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ErrorData, RoleClient, ServiceExt as _};
use serde_json::json;
use sessile::demo::Demo;
use sessile::{Channel, ChildBackend, ConfigError, EndReason, HttpSettings, InProcessBackend, Proxy, SessionSettings};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use common::{
    Harness, HttpClient, HttpEndpoint, INITIALIZE, INITIALIZE_RESULT, INITIALIZED, call, notification, result, soon,
    until,
};

/// A client with a name, which answers by it, and writes down what it is told.
#[derive(Clone)]
struct RmcpClient {
    name: &'static str,
    told: mpsc::Sender<String>,
}

impl ClientHandler for RmcpClient {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().enable_elicitation().build();
        ClientConfig::new(capabilities, Implementation::new(self.name, "7"))
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": self.name })))
    }

    async fn create_message(
        &self,
        _request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let poem = SamplingMessage::assistant_text(format!("a poem by {}", self.name));
        Ok(CreateMessageResult::new(poem, "muse".to_owned()))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let _ = self.told.send(format!("progress {}", progress.progress)).await;
    }

    async fn on_resource_updated(
        &self,
        update: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.told.send(format!("updated {}", update.uri)).await;
    }
}

type Connected = RunningService<RoleClient, RmcpClient>;

fn rmcp_client(name: &'static str) -> (RmcpClient, mpsc::Receiver<String>) {
    let (told, hears) = mpsc::channel(64);
    (RmcpClient { name, told }, hears)
}

fn demo() -> Proxy {
    Proxy::builder().backend(InProcessBackend::rmcp(Demo::new)).build().unwrap()
}

/// Connects over a pipe in this process.
async fn connect(proxy: &Proxy, rmcp_client: RmcpClient) -> (Connected, JoinHandle<EndReason>) {
    let (client_end, proxy_end) = tokio::io::duplex(64 * 1024);
    let proxy = proxy.clone();
    let serving = tokio::spawn(async move { proxy.serve(tokio::io::split(proxy_end)).await });
    (soon("the client connects", rmcp_client.serve(client_end)).await.unwrap(), serving)
}

async fn use_tool(client: &Connected, tool: &'static str, arguments: serde_json::Value) -> String {
    let arguments = arguments.as_object().cloned().unwrap();
    let result: CallToolResult =
        soon(tool, client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))).await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

/// Shuts the proxy down; nothing is left of it.
async fn close(proxy: Proxy) {
    soon("the proxy shuts down", proxy.shutdown()).await;
    assert_eq!((proxy.sessions().len(), proxy.sessions().links()), (0, 0));
}

#[tokio::test]
async fn everything_passes_to_an_rmcp_client() {
    let proxy = demo();
    let (anna, mut told) = rmcp_client("Anna");
    let (client, serving) = connect(&proxy, anna).await;
    assert_eq!(client.peer_info().unwrap().server_info.as_ref().unwrap().name, "sessile-demo");
    assert_eq!(use_tool(&client, "ask", json!({})).await, "Hello, Anna!");
    assert_eq!(use_tool(&client, "haiku", json!({})).await, "a poem by Anna");
    assert_eq!(use_tool(&client, "countdown", json!({"steps": 3, "delay_ms": 1})).await, "Lift-off!");
    for step in 1..=3 {
        assert_eq!(soon("progress", told.recv()).await.unwrap(), format!("progress {step}"));
    }
    client.subscribe(SubscribeRequestParams::new("demo://notebook")).await.unwrap();
    use_tool(&client, "note_add", json!({"text": "milk"})).await;
    assert_eq!(soon("an update", told.recv()).await.unwrap(), "updated demo://notebook");
    let listed = proxy.sessions().list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].client.as_deref(), Some("Anna 7"));
    assert_eq!(listed[0].version.as_deref(), Some("2025-11-25"));
    assert_eq!((listed[0].servers[0].pid, listed[0].calls_in_flight), (None, 0));
    client.cancel().await.unwrap();
    assert!(matches!(soon("the front ends", serving).await.unwrap(), EndReason::ClientLeft));
    close(proxy).await;
}

#[tokio::test]
async fn each_session_has_a_server_of_its_own() {
    let proxy = demo();
    let (anna, _told_anna) = rmcp_client("Anna");
    let (berta, _told_berta) = rmcp_client("Berta");
    let ((one, _), (two, _)) = (connect(&proxy, anna).await, connect(&proxy, berta).await);
    for _ in 0..3 {
        use_tool(&one, "increment", json!({})).await;
    }
    assert_eq!(use_tool(&two, "increment", json!({"by": 10})).await, "10");
    assert_eq!(use_tool(&one, "counter", json!({})).await, "3");
    // Both are asked at once, again and again, and neither is asked the other's request.
    for _ in 0..50 {
        let none = || json!({});
        let (a, b) = tokio::join!(use_tool(&one, "ask", none()), use_tool(&two, "ask", none()));
        assert_eq!((a.as_str(), b.as_str()), ("Hello, Anna!", "Hello, Berta!"));
        let (a, b) = tokio::join!(use_tool(&one, "haiku", none()), use_tool(&two, "haiku", none()));
        assert_eq!((a.as_str(), b.as_str()), ("a poem by Anna", "a poem by Berta"));
    }
    assert_eq!((proxy.sessions().len(), proxy.sessions().links()), (2, 2));
    drop((one, two));
    until("both are gone", || proxy.sessions().is_empty()).await;
    close(proxy).await;
}

#[tokio::test]
async fn a_transport_is_read_and_written_at_the_same_time() {
    let (backend, mut servers) = common::scripted();
    let settings = SessionSettings { session_budget: 64 * 1024, ..SessionSettings::default() };
    let proxy = Proxy::builder().backend(backend).session(settings).build().unwrap();
    let (client_end, proxy_end) = tokio::io::duplex(1024);
    let serving = tokio::spawn({
        let proxy = proxy.clone();
        async move { proxy.serve(tokio::io::split(proxy_end)).await }
    });
    let mut client = common::LineClient::over(client_end);
    client.says(INITIALIZE).await;
    let mut server = soon("a server is started", servers.recv()).await.unwrap();
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    client.hears().await;
    // The server reads no more, until what it says is read: so does many a simple one.
    server.stops_listening();
    let line = notification("notifications/vendor", &format!(r#"{{"x":"{}"}}"#, "x".repeat(10_000)));
    while client.tries_to_say(&line).await {}
    for _ in 0..50 {
        server.says(&line).await;
        assert_eq!(client.hears_json().await["method"], "notifications/vendor");
    }
    server.listens_again();
    drop(client);
    soon("the front ends", serving).await.unwrap();
    close(proxy).await;
}

#[tokio::test]
async fn an_rmcp_client_over_http() {
    // The crate's own HTTP client brings its cryptography along; rmcp's takes what the process has.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let proxy = demo();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn({
        let proxy = proxy.clone();
        async move { proxy.serve_http(listener, async { drop(stopped.await) }).await }
    });
    let (anna, mut told) = rmcp_client("Anna");
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = soon("the client connects", anna.serve(transport)).await.unwrap();
    assert_eq!(use_tool(&client, "ask", json!({})).await, "Hello, Anna!");
    assert_eq!(use_tool(&client, "haiku", json!({})).await, "a poem by Anna");
    assert_eq!(use_tool(&client, "countdown", json!({"steps": 2, "delay_ms": 1})).await, "Lift-off!");
    assert_eq!(soon("progress", told.recv()).await.unwrap(), "progress 1");
    // It sends DELETE when it goes.
    client.cancel().await.unwrap();
    until("the session is deleted", || proxy.sessions().is_empty()).await;
    let _ = stop.send(());
    soon("the front ends", serving).await.unwrap().unwrap();
    close(proxy).await;
}

#[tokio::test]
async fn the_router_is_merged_into_a_larger_application() {
    let proxy = demo();
    let sessions = proxy.sessions();
    let app = Router::new()
        .route("/sessions", get(move || async move { sessions.len().to_string() }))
        .nest("/deep", proxy.clone().into_router())
        .merge(proxy.clone().into_router());
    let mut client = HttpClient::new(HttpEndpoint::Router(app.clone()));
    let reply = client.post(INITIALIZE).send().await;
    client.session = reply.header("mcp-session-id").map(str::to_owned);
    client.tells(INITIALIZED).await;
    assert_eq!(client.request("GET").path("/sessions").send().await.text().await, "1");
    // Wherever it stands, it is the same proxy with the same sessions.
    let listed = client.post(call(1, "tools/list", "{}")).path("/deep/mcp").send().await;
    assert_eq!(listed.status, 200);
    assert!(listed.text().await.contains("increment"));
    client.deletes().await;
    assert_eq!(client.request("GET").path("/sessions").send().await.text().await, "0");
    close(proxy).await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let mut harness = Harness::new().await;
    let (one, mut server_one) = harness.session().await;
    let (two, server_two) = harness.session().await;
    let (_three, server_three) = harness.session().await;
    let sessions = harness.proxy.sessions();
    let listed = sessions.list();
    assert_eq!(listed.len(), 3);
    assert!(listed.is_sorted_by_key(|session| session.opened_at));
    let calling = one.asks(&call(1, "slow", "{}"));
    server_one.hears("slow").await;
    assert_eq!(sessions.list()[0].calls_in_flight, 1);
    assert!(soon("the oldest ends", sessions.end(listed[0].id)).await);
    let error = calling.json().await;
    assert_eq!((&error["error"]["code"], &error["error"]["data"]["reason"]), (&json!(-31012), &json!("cleared")));
    assert_eq!(error["error"]["data"]["session"], listed[0].id.to_string());
    assert!(!soon("it ended before", sessions.end(listed[0].id)).await);
    server_one.sees_the_end().await;
    assert_eq!(one.post(INITIALIZED).send().await.status, 404);
    two.tells(INITIALIZED).await;
    assert_eq!(soon("all end", sessions.clear()).await, 2);
    assert_eq!(soon("none is left", sessions.clear()).await, 0);
    server_two.sees_the_end().await;
    server_three.sees_the_end().await;
    // The proxy goes on.
    harness.session().await;
    harness.close().await;
}

#[tokio::test]
async fn nothing_shows_a_session_secret() {
    let mut harness = Harness::new().await;
    let (client, server) = harness.session().await;
    let secret = client.session.clone().unwrap();
    let sessions = harness.proxy.sessions();
    let mut shown = format!("{:?} {:#?} {:?} {:?}", harness.proxy, harness.proxy, sessions, sessions.list());
    // Errors, before and after the end.
    for request in [client.post("{"), client.post(INITIALIZE), client.resumes_request("9-9")] {
        shown.push_str(&request.send().await.text().await);
    }
    let calling = client.asks(&call(1, "slow", "{}"));
    server.exits(Err("gone")).await;
    shown.push_str(&calling.data().await);
    shown.push_str(&client.post(INITIALIZED).send().await.text().await);
    assert!(!shown.contains(&secret), "{shown}");
    assert!(shown.contains("in-process scripted"), "the backend may be seen: {shown}");
    harness.close().await;
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn the_log_shows_the_public_name_only() {
    let log = common::CapturedLog::start();
    let mut harness = Harness::new().await;
    let (client, mut server) = harness.session().await;
    let public = harness.proxy.sessions().list()[0].id.to_string();
    let calling = client.asks(&call(1, "slow", r#"{"password":"hunter2"}"#));
    server.hears("slow").await;
    client.deletes().await;
    calling.data().await;
    harness.close().await;
    let log = log.text();
    assert!(log.contains(&public), "the session's name is missing");
    let leaks = |secret: &str| log.lines().find(|line| line.contains(secret)).map(str::to_owned);
    assert_eq!(leaks(client.session.as_deref().unwrap()), None);
    assert_eq!(leaks("hunter2"), None);
}

#[tokio::test]
async fn who_drops_the_proxy_ends_its_sessions() {
    let (backend, mut servers) = common::scripted();
    let proxy = Proxy::builder().backend(backend).build().unwrap();
    let sessions = proxy.sessions();
    let mut client = HttpClient::new(HttpEndpoint::Router(proxy.clone().into_router()));
    let opening = client.post(INITIALIZE).start();
    let mut server = soon("a server is started", servers.recv()).await.unwrap();
    let hello = server.hears("initialize").await;
    server.answers(&hello, INITIALIZE_RESULT).await;
    client.session = opening.reply().await.header("mcp-session-id").map(str::to_owned);
    client.tells(INITIALIZED).await;
    server.hears("notifications/initialized").await;
    drop(proxy);
    server.hears_nothing().await;
    assert_eq!(sessions.len(), 1, "clones are the same proxy");
    // The router holds one. Who lists the sessions holds none.
    drop(client);
    server.sees_the_end().await;
    until("nothing is left", || (sessions.len(), sessions.links()) == (0, 0)).await;
    assert_eq!((sessions.list().len(), sessions.clear().await), (0, 0));
}

/// A server that takes a second to end when its input has, as a browser does.
fn slow_to_leave() -> InProcessBackend {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    InProcessBackend::over_bytes("slow to leave", |io| async move {
        let (reader, mut writer) = tokio::io::split(io);
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: serde_json::Value = serde_json::from_str(&line).unwrap();
            let _ = writer.write_all(format!("{}\n", result(&message["id"], INITIALIZE_RESULT)).as_bytes()).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    })
}

/// Opens so many sessions with such servers, one after the other.
async fn opened(count: usize) -> (Proxy, Vec<common::LineClient>) {
    let proxy = Proxy::builder().backend(slow_to_leave()).build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = common::LineClient::new(&proxy, 4096);
        client.says(INITIALIZE).await;
        client.hears().await;
        clients.push(client);
    }
    (proxy, clients)
}

#[tokio::test(start_paused = true)]
async fn what_is_ended_is_gone() {
    let (proxy, _clients) = opened(3).await;
    let sessions = proxy.sessions();
    let begin = tokio::time::Instant::now();
    assert!(sessions.end(sessions.list()[0].id).await);
    assert_eq!((sessions.len(), sessions.links()), (2, 2));
    assert_eq!(begin.elapsed().as_secs(), 1);
    assert_eq!(sessions.clear().await, 2);
    assert_eq!((sessions.len(), sessions.links()), (0, 0));
    assert_eq!(begin.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_had_ended_before_is_gone_as_well_when_all_are_cleared() {
    let (proxy, clients) = opened(2).await;
    let sessions = proxy.sessions();
    for client in clients {
        client.leaves().await;
    }
    assert_eq!((sessions.len(), sessions.links()), (0, 2));
    assert_eq!(sessions.clear().await, 0);
    assert_eq!(sessions.links(), 0);
}

#[tokio::test]
async fn a_server_over_channels() {
    let backend = InProcessBackend::channel(|Channel { mut incoming, outgoing }| async move {
        while let Some(message) = incoming.recv().await {
            let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
            if message.get("id").is_some() {
                let answer = result(&message["id"], INITIALIZE_RESULT);
                let _ = outgoing.send(answer.into()).await;
            }
        }
    });
    let proxy = Proxy::builder().backend(backend).build().unwrap();
    let mut client = common::LineClient::new(&proxy, 4096);
    client.says(INITIALIZE).await;
    assert_eq!(client.hears().await, result("\"hello\"", INITIALIZE_RESULT));
    client.says(&call(1, "x", "{}")).await;
    assert_eq!(client.hears().await, result(1, INITIALIZE_RESULT));
    assert!(common::is_client_left(&client.leaves().await));
    close(proxy).await;
}

#[tokio::test]
async fn a_proxy_that_was_shut_down_takes_nobody() {
    let mut harness = Harness::in_process(SessionSettings::default(), HttpSettings::default());
    soon("the proxy shuts down", harness.proxy.shutdown()).await;
    let reply = harness.new_client().post(INITIALIZE).send().await;
    assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true));
    let mut client = harness.lines(1024);
    client.says(INITIALIZE).await;
    assert_eq!(client.hears_json().await["error"]["code"], sessile::code::SHUTTING_DOWN);
    client.sees_the_end().await;
    harness.no_more_servers();
    harness.close().await;
}

#[test]
fn a_proxy_is_built_without_a_runtime_and_its_settings_are_checked() {
    assert_eq!(Proxy::builder().build().unwrap_err(), ConfigError::NoBackend);
    let settings = SessionSettings { idle_timeout: Some(Duration::ZERO), ..SessionSettings::default() };
    let built = Proxy::builder().backend(ChildBackend::new("true")).session(settings).build();
    let error = built.unwrap_err().to_string();
    assert!(error.contains("idle_timeout") && error.contains("must be"), "{error}");
    let proxy = Proxy::builder().backend(ChildBackend::new("true").env("API_KEY", "hunter2-long")).build().unwrap();
    assert!(!format!("{proxy:?}").contains("hunter2"), "{proxy:?}");
    assert!(proxy.sessions().is_empty());
}
