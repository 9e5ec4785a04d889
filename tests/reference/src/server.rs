//! The server itself: one [`Reference`] is one client's session, with that session's state.

use std::{
    borrow::Cow,
    collections::HashSet,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult, CompletionInfo,
        GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, PaginatedRequestParams,
        ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ResourceUpdatedNotificationParam,
        ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, Tool,
        UnsubscribeRequestParams,
    },
    service::{NotificationContext, Peer, RequestContext, ServiceError},
};
use serde_json::Value;

use crate::{catalog, prompts, resources, tools};

/// The options of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long `test_reconnection` takes to answer.
    pub late: Duration,
    /// How many items a list has at most before it goes on in another page; `None` for all at once.
    pub page: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { late: Duration::from_millis(1500), page: None }
    }
}

/// Counts the sessions that live, so that tests can see that none is left.
#[derive(Debug, Clone, Default)]
pub struct SessionCounter(Arc<AtomicUsize>);

impl SessionCounter {
    /// How many sessions live now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> CountedSession {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountedSession(self.clone())
    }
}

/// A session in the count, until this is dropped.
struct CountedSession(SessionCounter);

impl Drop for CountedSession {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The state of a session.
#[derive(Default)]
pub(crate) struct State {
    /// Calls of `counter` in this session.
    pub(crate) counted: AtomicU64,
    /// Calls that ended because the client cancelled them.
    pub(crate) cancelled: AtomicU64,
    /// `notifications/initialized` seen.
    pub(crate) initialized: AtomicU64,
    /// `notifications/roots/list_changed` seen.
    pub(crate) roots_changed: AtomicU64,
    /// How often `test://watched-resource` was touched.
    pub(crate) touched: AtomicU64,
    /// How many tools `grow` has added.
    pub(crate) grown: AtomicU64,
    /// Log messages below this rank are not sent. It starts at zero: everything is sent until the client says
    /// otherwise.
    quietest: AtomicU8,
    subscribed: Mutex<HashSet<String>>,
    reminded: Mutex<Option<CallToolResult>>,
}

impl State {
    /// Keeps what became of a server request that belonged to no call.
    pub(crate) fn remind(&self, outcome: CallToolResult) {
        *self.reminded.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    pub(crate) fn reminded(&self) -> Option<CallToolResult> {
        self.reminded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One session of the reference server.
pub struct Reference {
    pub(crate) options: Options,
    pub(crate) state: Arc<State>,
    _counted: CountedSession,
}

impl Reference {
    /// A session that nobody has used yet, and that is counted for as long as it lives.
    pub fn new(options: Options, counter: &SessionCounter) -> Self {
        Self { options, state: Arc::default(), _counted: counter.enter() }
    }

    /// Sends a log message, unless the client asked for less.
    pub(crate) async fn log(
        &self,
        peer: &Peer<RoleServer>,
        level: LoggingLevel,
        data: Value,
    ) -> Result<(), ServiceError> {
        if rank(level) < self.state.quietest.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = LoggingMessageNotificationParam::new(level, data).with_logger("reference-server");
        peer.notify_logging_message(message).await
    }

    /// Tells the client that a resource changed, if it subscribed to it.
    pub(crate) async fn updated(&self, peer: &Peer<RoleServer>, uri: &str) -> Result<bool, ServiceError> {
        let subscribed = self.subscriptions(|uris| uris.contains(uri));
        if subscribed {
            peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await?;
        }
        Ok(subscribed)
    }

    fn tools(&self) -> Vec<Tool> {
        catalog::tools(self.state.grown.load(Ordering::Relaxed))
    }

    /// The part of a list that was asked for, and the cursor of the next. A cursor is the number of items before it.
    fn page<T>(
        &self,
        mut items: Vec<T>,
        page: Option<PaginatedRequestParams>,
    ) -> Result<(Vec<T>, Option<String>), ErrorData> {
        let cursor = page.and_then(|page| page.cursor);
        let from = match &cursor {
            Some(cursor) => cursor
                .parse()
                .ok()
                .filter(|from| *from < items.len())
                .ok_or_else(|| ErrorData::invalid_params(format!("{cursor:?} is no cursor of this list"), None))?,
            None => 0,
        };
        items.drain(..from);
        let Some(most) = self.options.page.map(NonZeroUsize::get).filter(|most| *most < items.len()) else {
            return Ok((items, None));
        };
        items.truncate(most);
        Ok((items, Some((from + most).to_string())))
    }

    fn subscriptions<T>(&self, look: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        look(&mut self.state.subscribed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn rank(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}

impl ServerHandler for Reference {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_server_info(Implementation::new("reference-server", env!("CARGO_PKG_VERSION")))
            .with_instructions("A server for tests. Nothing that it says is true.")
    }

    /// The handshake era only.
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&ProtocolVersion::V_2025_11_25))
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let (items, next) = self.page(self.tools(), page)?;
        let mut list = ListToolsResult::with_all_items(items);
        list.next_cursor = next;
        Ok(list)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        tools::call(self, call, context).await.map(CallToolResponse::from)
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let (items, next) = self.page(resources::all(), page)?;
        let mut list = ListResourcesResult::with_all_items(items);
        list.next_cursor = next;
        Ok(list)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let (items, next) = self.page(resources::templates(), page)?;
        let mut list = ListResourceTemplatesResult::with_all_items(items);
        list.next_cursor = next;
        Ok(list)
    }

    async fn read_resource(
        &self,
        wanted: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&wanted.uri, &self.state).map(ReadResourceResponse::from)
    }

    async fn subscribe(
        &self,
        wanted: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscriptions(|uris| uris.insert(wanted.uri));
        Ok(())
    }

    async fn unsubscribe(
        &self,
        wanted: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscriptions(|uris| uris.remove(&wanted.uri));
        Ok(())
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let (items, next) = self.page(prompts::all(), page)?;
        let mut list = ListPromptsResult::with_all_items(items);
        list.next_cursor = next;
        Ok(list)
    }

    async fn get_prompt(
        &self,
        wanted: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&wanted.name, wanted.arguments.unwrap_or_default()).map(GetPromptResponse::from)
    }

    async fn complete(
        &self,
        wanted: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = prompts::complete(&wanted.argument.value);
        let info = CompletionInfo::with_all_values(values).map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(info))
    }

    async fn set_level(
        &self,
        wanted: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.state.quietest.store(rank(wanted.level), Ordering::Relaxed);
        Ok(())
    }

    async fn on_initialized(&self, _context: NotificationContext<RoleServer>) {
        self.state.initialized.fetch_add(1, Ordering::Relaxed);
    }

    async fn on_roots_list_changed(&self, _context: NotificationContext<RoleServer>) {
        self.state.roots_changed.fetch_add(1, Ordering::Relaxed);
    }
}
