//! The cryptography behind https, chosen once for the process.

use std::sync::Once;

/// Tells rustls which cryptography to use, unless the program that embeds this crate has done so already.
pub(crate) fn ensure_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only if a provider is installed already, which then stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
