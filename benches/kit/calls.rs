//! The messages that the clients of the benches send.

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A call of about 200 bytes that asks for a result of `size` bytes.
pub(crate) fn call(id: u64, size: usize) -> String {
    let note = "a note that makes the call about as long as calls are: two hundred bytes";
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"size":{size},"note":"{note}"}}}}}}"#
    )
}

/// The same call with a progress token.
pub(crate) fn call_with_progress(id: u64, size: usize) -> String {
    call(id, size).replacen(r#""params":{"#, &format!(r#""params":{{"_meta":{{"progressToken":{id}}},"#), 1)
}
