//! The cryptography behind https, chosen once for the process.

use std::sync::Once;

/// Sees to it that TLS can be spoken: rustls wants to be told which cryptography to use, and a program that embeds this
/// crate may have told it already, which stands.
pub(crate) fn ensure_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where one is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
