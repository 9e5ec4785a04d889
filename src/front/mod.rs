//! Fronts: the sides that clients connect to. A front turns a client's bytes into messages for a session, and the
//! session's messages into bytes. It knows nothing of backends.

pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod stdio;
