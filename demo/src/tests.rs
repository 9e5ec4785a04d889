//! The demo server as a client meets it.

use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient};
use tokio::sync::mpsc;

use super::*;

/// A client without capabilities that passes on which resources were updated.
struct Watcher(mpsc::Sender<String>);

impl ClientHandler for Watcher {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::default().with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_resource_updated(
        &self,
        update: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(update.uri).await;
    }
}

async fn open() -> (RunningService<RoleClient, Watcher>, mpsc::Receiver<String>) {
    let (client, server) = tokio::io::duplex(4096);
    tokio::spawn(async move { Demo::new().serve(server).await.unwrap().waiting().await });
    let (sender, updates) = mpsc::channel(8);
    (Watcher(sender).serve(client).await.unwrap(), updates)
}

async fn call(client: &RunningService<RoleClient, Watcher>, tool: &'static str, arguments: &str) -> CallToolResult {
    let arguments = serde_json::from_str(arguments).unwrap();
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

#[tokio::test]
async fn state_belongs_to_one_session() {
    let ((one, _), (other, _)) = (open().await, open().await);
    assert_eq!(text(&call(&one, "increment", "{}").await), "1");
    assert_eq!(text(&call(&one, "increment", r#"{"by": 5}"#).await), "6");
    assert_eq!(text(&call(&other, "counter", "{}").await), "0");
}

#[tokio::test]
async fn a_subscriber_is_told_of_a_note() {
    let (client, mut updates) = open().await;
    call(&client, "note_add", r#"{"text": "nobody watches yet"}"#).await;
    client.subscribe(SubscribeRequestParams::new(NOTEBOOK)).await.unwrap();
    call(&client, "note_add", r#"{"text": "somebody does now"}"#).await;
    assert_eq!(updates.recv().await.as_deref(), Some(NOTEBOOK));
    assert!(updates.try_recv().is_err(), "the first note must not have been announced");
    assert_eq!(text(&call(&client, "note_list", "{}").await), "1. nobody watches yet\n2. somebody does now\n");
}

#[tokio::test]
async fn a_missing_capability_is_named() {
    let (client, _) = open().await;
    for (tool, capability) in [("ask", "`elicitation`"), ("haiku", "`sampling`")] {
        let result = call(&client, tool, "{}").await;
        assert_eq!(result.is_error, Some(true));
        assert!(text(&result).contains(capability), "{result:?}");
    }
}
