//! Fronts: the sides that clients connect to. Bytes on one side, sessions on the other; no knowledge of backends.

pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod stdio;
