//! What a client has declared in `initialize`, and what a server request needs of the client that it is for
//! (2025-11-25, basic/lifecycle, "Capability Negotiation").

use serde_json::Value;

use crate::frame::Frame;
use crate::mcp;

/// The largest declaration that is read, in bytes. The client of a larger one counts as one that declares nothing.
const LARGEST_DECLARATION: usize = 64 * 1024;

/// What a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub(super) struct ClientCapabilities {
    pub roots: bool,
    pub roots_list_changed: bool,
    pub sampling: bool,
    pub sampling_tools: bool,
    pub elicitation_form: bool,
    pub elicitation_url: bool,
}

/// What a server request needs of the client that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Roots,
    Sampling,
    SamplingWithTools,
    ElicitationForm,
    ElicitationUrl,
    /// sessile does not know the method: any client may be asked.
    Unknown,
}

impl ClientCapabilities {
    /// Reads the capabilities in a client's `initialize`.
    pub(super) fn read(frame: &Frame) -> Self {
        let raw = frame.lookup(&["params", "capabilities"]).ok().flatten();
        let raw = raw.filter(|raw| raw.len() <= LARGEST_DECLARATION);
        raw.and_then(|raw| serde_json::from_slice(raw).ok()).map(|value| Self::of(&value)).unwrap_or_default()
    }

    fn of(capabilities: &Value) -> Self {
        let (sampling, elicitation) = (&capabilities["sampling"], &capabilities["elicitation"]);
        let elicitation_url = elicitation["url"].is_object();
        Self {
            roots: capabilities["roots"].is_object(),
            roots_list_changed: capabilities["roots"]["listChanged"] == Value::Bool(true),
            sampling: sampling.is_object(),
            sampling_tools: sampling["tools"].is_object(),
            // An empty object means forms, as before there were URLs.
            elicitation_form: elicitation.is_object() && (elicitation["form"].is_object() || !elicitation_url),
            elicitation_url,
        }
    }

    pub(super) fn have(self, need: Need) -> bool {
        match need {
            Need::Roots => self.roots,
            Need::Sampling => self.sampling,
            Need::SamplingWithTools => self.sampling && self.sampling_tools,
            Need::ElicitationForm => self.elicitation_form,
            Need::ElicitationUrl => self.elicitation_url,
            Need::Unknown => true,
        }
    }
}

impl Need {
    pub(super) fn of(request: &Frame) -> Self {
        let has = |member| request.lookup(&["params", member]).is_ok_and(|found| found.is_some());
        match request.method() {
            Some(mcp::ROOTS_LIST) => Self::Roots,
            Some(mcp::SAMPLING_CREATE_MESSAGE) if has("tools") || has("toolChoice") => Self::SamplingWithTools,
            Some(mcp::SAMPLING_CREATE_MESSAGE) => Self::Sampling,
            Some(mcp::ELICITATION_CREATE) => {
                let mode = request.lookup(&["params", "mode"]).ok().flatten();
                if mode == Some(br#""url""#) { Self::ElicitationUrl } else { Self::ElicitationForm }
            }
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_declares_is_what_it_can_be_asked() {
        let table = [
            ("{}", [false, false, false, false, false]),
            (r#"{"roots":{}}"#, [true, false, false, false, false]),
            (r#"{"sampling":{}}"#, [false, true, false, false, false]),
            (r#"{"sampling":{"tools":{}}}"#, [false, true, true, false, false]),
            (r#"{"elicitation":{}}"#, [false, false, false, true, false]),
            (r#"{"elicitation":{"form":{}}}"#, [false, false, false, true, false]),
            (r#"{"elicitation":{"url":{}}}"#, [false, false, false, false, true]),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, [false, false, false, true, true]),
            (r#"{"elicitation":true,"roots":null,"sampling":[]}"#, [false, false, false, false, false]),
            ("[]", [false, false, false, false, false]),
        ];
        let requests = [
            r#""method":"roots/list""#,
            r#""method":"sampling/createMessage","params":{"messages":[]}"#,
            r#""method":"sampling/createMessage","params":{"tools":[]}"#,
            r#""method":"elicitation/create","params":{"message":"?"}"#,
            r#""method":"elicitation/create","params":{"mode":"url"}"#,
        ];
        for (declared, expected) in table {
            let initialize =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"capabilities":{declared}}}}}"#);
            let capabilities = ClientCapabilities::read(&Frame::parse(initialize).unwrap());
            for (request, expected) in requests.into_iter().zip(expected) {
                let need = Need::of(&Frame::parse(format!(r#"{{"jsonrpc":"2.0","id":1,{request}}}"#)).unwrap());
                assert_eq!(capabilities.have(need), expected, "{declared} {request}");
            }
            assert!(capabilities.have(Need::Unknown));
        }
    }
}
