//! What a configuration file takes away, from the file to the client: not listed, and not callable.

use serde_json::json;
use sessile::{ConfigFile, Proxy};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{SessionClient, demo};

/// The demo server at a URL.
struct Upstream {
    proxy: Proxy,
    url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Upstream {
    async fn open() -> Self {
        let proxy = Proxy::builder().backend(demo()).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn({
            let proxy = proxy.clone();
            async move { proxy.serve_http(listener, async { drop(stopped.await) }).await }
        });
        Self { proxy, url, stop, serving }
    }

    /// A proxy of a file with these servers, in each of which `URL` stands for the demo server.
    fn behind(&self, servers: &str) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp.json");
        let url = format!(r#""type":"http","url":{:?}"#, self.url);
        std::fs::write(&path, format!(r#"{{"mcpServers":{{{}}}}}"#, servers.replace("URL", &url))).unwrap();
        let file = ConfigFile::read(&path).unwrap();
        Proxy::builder().config(&file).unwrap().build().unwrap()
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        assert!(self.proxy.sessions().is_empty());
    }
}

#[tokio::test]
async fn a_tool_that_a_file_takes_away_is_neither_listed_nor_callable() {
    let upstream = Upstream::open().await;
    for keys in [
        r#""tools":{"increment":{"enabled":false}}"#,
        r#""excludeTools":["increment"]"#,
        r#""disabledTools":["increment"],"alwaysAllow":["increment"],"sessile":{"allowTools":["*"]}"#,
        r#""includeTools":["counter","increment"],"exclude_tools":["increment"]"#,
        r#""tools":["counter"]"#,
    ] {
        let proxy = upstream.behind(&format!(r#""a":{{URL,{keys}}}"#));
        let (mut client, _) = SessionClient::open(&proxy).await;
        // Called before anything was listed, and after.
        for _ in 0..2 {
            let (code, message) = client.error("tools/call", json!({ "name": "increment", "arguments": {} })).await;
            assert_eq!(code, -32602, "{keys}: {message}");
            let tools = client.names("tools/list", "tools", "name").await;
            assert!(tools.contains(&"counter".to_owned()), "{keys}: {tools:?}");
            assert!(!tools.contains(&"increment".to_owned()), "{keys}: {tools:?}");
        }
        // The server has not heard of it.
        assert_eq!(client.tool("counter", json!({})).await, "0", "{keys}");
        client.leaves(&proxy).await;
    }
    upstream.close().await;
}

#[tokio::test]
async fn each_server_of_a_file_has_its_own_tools_taken_away() {
    let upstream = Upstream::open().await;
    let proxy = upstream.behind(
        r#""a":{URL,"tools":["counter"]},"b":{URL,"disabledTools":["counter"]},"c":{URL,"enabled":false},
           "d":{URL,"tools":[]}"#,
    );
    let (mut client, _) = SessionClient::open(&proxy).await;
    for name in ["a_increment", "b_counter", "c_counter", "d_counter", "counter"] {
        let (code, message) = client.error("tools/call", json!({ "name": name, "arguments": {} })).await;
        assert_eq!(code, -32602, "{name}: {message}");
    }
    let tools = client.names("tools/list", "tools", "name").await;
    let of =
        |server: &str| tools.iter().filter(|name| name.starts_with(server)).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("a_"), ["a_counter"]);
    assert!(of("b_").contains(&"b_increment") && !of("b_").contains(&"b_counter"), "{tools:?}");
    assert!(of("c_").is_empty() && of("d_").is_empty(), "{tools:?}");
    assert_eq!(client.tool("b_increment", json!({})).await, "1");
    assert_eq!(client.tool("a_counter", json!({})).await, "0");
    client.leaves(&proxy).await;
    upstream.close().await;
}
