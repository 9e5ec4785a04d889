//! The built-in server: something to put behind the proxy while trying it out.
//!
//! A [`Demo`] is small but *stateful*: it has a counter and a notebook that belong to one session, requests to the user
//! and to the client's model, progress, and a resource that can be subscribed to. It runs as `sessile demo` on stdio,
//! or in process. It knows nothing of sessile, and speaks the versions with a handshake only: these servers have state.
//!
//! The demo is a crate of its own because it needs all of rmcp's model, which takes as long to optimise as a third of
//! sessile. A demo need not be fast, so `cargo build --release` does not optimise it.
#![expect(deprecated, reason = "rmcp deprecates sampling and subscribe because the modern era has them no more")]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, CreateMessageRequestParams, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, Implementation, ListPromptsResult, ListResourcesResult, PaginatedRequestParams,
    ProgressNotificationParam, Prompt, PromptMessage, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, Resource, ResourceContents, ResourceUpdatedNotificationParam, Role, SamplingMessage,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, UnsubscribeRequestParams,
};
use rmcp::schemars::{self, JsonSchema};
use rmcp::service::{ElicitationError, RequestContext, ServerInitializeError, ServiceError};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, split};

/// The resource that holds the notes.
const NOTEBOOK: &str = "demo://notebook";

/// The prompt that hands the notes to a model.
const REVIEW: &str = "review_notes";

/// The longest `countdown`: enough to watch, too little to forget.
const MAX_STEPS: u32 = 1000;

/// The longest pause between two steps of a `countdown`.
const MAX_DELAY_MS: u64 = 60_000;

/// One session of the demo server. All of its state goes with it when it is dropped.
#[derive(Debug, Default)]
pub struct Demo {
    counter: AtomicI64,
    notes: Mutex<Vec<String>>,
    watched: AtomicBool,
}

/// Why the demo server could not serve its client to the end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The client did not open the connection as MCP has it.
    #[error("the handshake with the client failed: {0}")]
    Handshake(Box<ServerInitializeError>),
    /// The task that serves the client panicked.
    #[error("the demo server panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The arguments of `increment`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "schemars")]
struct Increment {
    /// How much to add; 1 if left out.
    by: Option<i64>,
}

/// The arguments of `note_add`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "schemars")]
struct Note {
    /// What to write down.
    text: String,
}

/// The arguments of `countdown`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "schemars")]
struct Countdown {
    /// How many steps to take.
    steps: u32,
    /// How many milliseconds each step takes.
    delay_ms: u64,
}

/// The form that `ask` shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "schemars")]
struct Name {
    /// What you would like to be called.
    name: String,
}

rmcp::elicit_safe!(Name);

impl Demo {
    /// A session with an empty notebook and a counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves one client on stdin and stdout until it leaves. A client that leaves without a word is no error.
    pub fn serve_stdio() -> BoxFuture<'static, Result<(), DemoError>> {
        Self::new().serve_client(Box::new(tokio::io::stdin()), Box::new(tokio::io::stdout()))
    }

    /// Serves one client on a stream of bytes until it leaves. A client that leaves without a word is no error.
    pub fn serve_stream(self, stream: DuplexStream) -> BoxFuture<'static, Result<(), DemoError>> {
        let (reader, writer) = split(stream);
        self.serve_client(Box::new(reader), Box::new(writer))
    }

    // The future is boxed so that it is compiled once, and with this crate: see the head of the file.
    fn serve_client(
        self,
        reader: Box<dyn AsyncRead + Unpin + Send>,
        writer: Box<dyn AsyncWrite + Unpin + Send>,
    ) -> BoxFuture<'static, Result<(), DemoError>> {
        Box::pin(async {
            match self.serve((reader, writer)).await {
                Ok(running) => {
                    running.waiting().await?;
                    Ok(())
                }
                Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
                Err(error) => Err(DemoError::Handshake(Box::new(error))),
            }
        })
    }

    fn notes(&self) -> MutexGuard<'_, Vec<String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The notebook as a numbered list.
    fn page(&self) -> String {
        let mut page = String::new();
        for (at, note) in self.notes().iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "{}. {note}", at + 1);
        }
        if page.is_empty() { "The notebook is empty.".into() } else { page }
    }
}

#[tool_router]
impl Demo {
    #[tool(description = "Adds to this session's counter and answers with its new value")]
    async fn increment(&self, Parameters(Increment { by }): Parameters<Increment>) -> CallToolResult {
        let by = by.unwrap_or(1);
        said(self.counter.fetch_add(by, Ordering::Relaxed).wrapping_add(by).to_string())
    }

    #[tool(description = "Answers with the value of this session's counter", annotations(read_only_hint = true))]
    async fn counter(&self) -> CallToolResult {
        said(self.counter.load(Ordering::Relaxed).to_string())
    }

    #[tool(description = "Writes a note into this session's notebook")]
    async fn note_add(
        &self,
        Parameters(Note { text }): Parameters<Note>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let count = {
            let mut notes = self.notes();
            notes.push(text);
            notes.len()
        };
        if self.watched.load(Ordering::Relaxed) {
            let update = ResourceUpdatedNotificationParam::new(NOTEBOOK);
            context.peer.notify_resource_updated(update).await.map_err(|error| unreachable(&error))?;
        }
        Ok(said(format!("Note {count} is written down.")))
    }

    #[tool(description = "Lists the notes in this session's notebook", annotations(read_only_hint = true))]
    async fn note_list(&self) -> CallToolResult {
        said(self.page())
    }

    #[tool(description = "Asks the user for a name, by a form, and greets them")]
    async fn ask(&self, context: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        Ok(match context.peer.elicit::<Name>("What is your name?").await {
            Ok(Some(Name { name })) => said(format!("Hello, {name}!")),
            Ok(None) | Err(ElicitationError::NoContent) => said("Hello, whoever you are!"),
            Err(ElicitationError::UserDeclined) => said("You would rather not say. Hello all the same!"),
            Err(ElicitationError::UserCancelled) => said("You left the question open."),
            Err(ElicitationError::CapabilityNotSupported) => {
                failed("This client cannot show forms: it did not declare the capability `elicitation`.")
            }
            Err(error) => failed(format!("The question was not answered: {error}")),
        })
    }

    #[tool(description = "Has the client's model write a haiku about the notes")]
    async fn haiku(&self, context: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        if context.client_capabilities().is_none_or(|capabilities| capabilities.sampling.is_none()) {
            return Ok(failed("This client has no model to offer: it did not declare the capability `sampling`."));
        }
        let question = SamplingMessage::user_text(format!("Write a haiku about these notes:\n\n{}", self.page()));
        let request = CreateMessageRequestParams::new(vec![question], 200)
            .with_system_prompt("You are a poet. Answer with the three lines of the poem and nothing else.");
        Ok(match context.peer.create_message(request).await {
            Ok(answer) => match answer.message.content.first().and_then(|content| content.as_text()) {
                Some(poem) => said(poem.text.clone()),
                None => failed("The client's model answered, but not with text."),
            },
            Err(error) => failed(format!("The client's model did not answer: {error}")),
        })
    }

    #[tool(description = "Counts down in steps and reports progress with each one")]
    async fn countdown(
        &self,
        Parameters(Countdown { steps, delay_ms }): Parameters<Countdown>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        if steps > MAX_STEPS || delay_ms > MAX_DELAY_MS {
            return Ok(failed(format!("At most {MAX_STEPS} steps of at most {MAX_DELAY_MS} milliseconds, please.")));
        }
        let token = context.meta.get_progress_token();
        for step in 1..=steps {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                () = context.ct.cancelled() => return Ok(failed("The countdown was cancelled.")),
            }
            if let Some(token) = token.clone() {
                let progress = ProgressNotificationParam::new(token, f64::from(step))
                    .with_total(f64::from(steps))
                    .with_message(format!("{} to go", steps - step));
                context.peer.notify_progress(progress).await.map_err(|error| unreachable(&error))?;
            }
        }
        Ok(said("Lift-off!"))
    }
}

#[tool_handler]
impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .build();
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_server_info(Implementation::new("sessile-demo", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "A demo of a server with state: the counter and the notebook belong to your session alone.\n\
                 Call `increment` twice and then `counter`, or `note_add` and then read demo://notebook.\n\
                 `ask`, `haiku` and `countdown` show questions to the user, to the model, and progress.",
            )
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&ProtocolVersion::V_2025_11_25))
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let notebook = Resource::new(NOTEBOOK, "notebook")
            .with_title("Notebook")
            .with_description("The notes of this session")
            .with_mime_type("text/plain");
        Ok(ListResourcesResult::with_all_items(vec![notebook]))
    }

    async fn read_resource(
        &self,
        wanted: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        known(&wanted.uri)?;
        Ok(ReadResourceResult::new(vec![ResourceContents::text(self.page(), NOTEBOOK)]).into())
    }

    async fn subscribe(
        &self,
        wanted: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        known(&wanted.uri)?;
        self.watched.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        wanted: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        known(&wanted.uri)?;
        self.watched.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let review = Prompt::new(REVIEW, Some("Asks a model to go through the notes of this session"), None);
        Ok(ListPromptsResult::with_all_items(vec![review.with_title("Review my notes")]))
    }

    async fn get_prompt(
        &self,
        wanted: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if wanted.name != REVIEW {
            return Err(ErrorData::invalid_params(format!("unknown prompt {:?}", wanted.name), None));
        }
        let text = format!("Go through my notes and say what is still to be done:\n\n{}", self.page());
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).into())
    }
}

/// Fails for any URI but that of the only resource.
fn known(uri: &str) -> Result<(), ErrorData> {
    if uri == NOTEBOOK {
        return Ok(());
    }
    Err(ErrorData::resource_not_found("resource not found", Some(json!({ "uri": uri }))))
}

fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// An error that the user is to read, and so no JSON-RPC error.
fn failed(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn unreachable(error: &ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

#[cfg(test)]
mod tests;
