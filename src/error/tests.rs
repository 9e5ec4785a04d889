//! Tests of the texts of errors.

use super::*;

#[test]
fn an_error_does_not_repeat_a_name_of_any_length() {
    for (length, told) in [(1024, 1024), (1025, 1027), (60_000_000, 1027)] {
        assert_eq!(shortened(&"x".repeat(length)).len(), told);
    }
    assert_eq!(shortened(&"é".repeat(1000)), format!("{}...", "é".repeat(512)));
    let name = "n".repeat(10_000_000);
    for error in [
        ProxyError::MethodNotFound(name.clone()),
        ProxyError::InvalidParams(name.clone()),
        ProxyError::Unknown { noun: "resource", name: name.clone(), hint: None },
        ProxyError::Clash { noun: "tool", name, servers: Vec::new(), remedy: "" },
    ] {
        assert!(error.to_wire(None).len() < 3000, "{}", error.code());
    }
}
