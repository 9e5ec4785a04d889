//! Tests of frames: the rules one by one, properties against a slow oracle, and figures.

mod ids;
mod oracle;
mod parts;
mod properties;
mod rules;
mod speed;
mod splices;

use super::{Frame, FrameError, Id, Wire, error_response};

fn parse(text: &str) -> Frame {
    Frame::parse(text.to_owned()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn refusal(text: impl AsRef<[u8]>) -> FrameError {
    match Frame::parse(text.as_ref().to_vec()) {
        Ok(frame) => panic!("accepted as {frame:?}: {}", String::from_utf8_lossy(text.as_ref())),
        Err(error) => error,
    }
}

/// The error that tells the sender of a refused message.
fn error_to_sender(error: &FrameError) -> Wire {
    error_response(error.id.as_ref(), error.code(), &error.to_string(), None)
}

fn id(json: &str) -> Id {
    Id::from_raw(json.as_bytes()).unwrap()
}

fn raw(id: Option<Id>) -> Option<String> {
    id.map(|id| id.as_str().to_owned())
}

/// A request with this JSON text as `params.x`.
fn holding(value: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"x":{value}}}}}"#)
}
