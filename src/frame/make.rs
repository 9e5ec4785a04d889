//! The few messages that sessile makes itself, as text. Relayed messages never come through here.

use super::text::{one_line, quote};
use super::{Id, Wire};

/// An error response to the request with this id; without one if the id could not be made out. `data` is raw JSON.
pub(crate) fn error_response(id: Option<&Id>, code: i32, message: &str, data: Option<&str>) -> Wire {
    let mut json = Vec::with_capacity(96 + message.len() + data.map_or(0, str::len));
    begin(&mut json, Some(id.map_or(b"null", Id::raw)));
    json.extend_from_slice(br#","error":{"code":"#);
    json.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    json.extend_from_slice(br#","message":"#);
    quote(message, &mut json);
    push_member(&mut json, br#","data":"#, data);
    json.extend_from_slice(b"}}");
    json.into()
}

/// A response with this result, which is raw JSON.
pub(crate) fn response(id: &Id, result: &str) -> Wire {
    let mut json = Vec::with_capacity(48 + result.len());
    begin(&mut json, Some(id.raw()));
    push_member(&mut json, br#","result":"#, Some(result));
    json.push(b'}');
    json.into()
}

/// A request. `params` is raw JSON.
pub(crate) fn request(id: &Id, method: &str, params: Option<&str>) -> Wire {
    request_or_notification(Some(id), method, params)
}

/// A notification. `params` is raw JSON.
pub(crate) fn notification(method: &str, params: Option<&str>) -> Wire {
    request_or_notification(None, method, params)
}

fn request_or_notification(id: Option<&Id>, method: &str, params: Option<&str>) -> Wire {
    let mut json = Vec::with_capacity(80 + method.len() + params.map_or(0, str::len));
    begin(&mut json, id.map(Id::raw));
    json.extend_from_slice(br#","method":"#);
    quote(method, &mut json);
    push_member(&mut json, br#","params":"#, params);
    json.push(b'}');
    json.into()
}

fn begin(json: &mut Vec<u8>, id: Option<&[u8]>) {
    json.extend_from_slice(br#"{"jsonrpc":"2.0""#);
    if let Some(id) = id {
        json.extend_from_slice(br#","id":"#);
        json.extend_from_slice(id);
    }
}

fn push_member(json: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        json.extend_from_slice(name);
        json.extend_from_slice(&one_line(value.as_bytes()));
    }
}
