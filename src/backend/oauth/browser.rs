//! Opens a URL in the person's browser, if there is one.
//!
//! The URL comes from the backend's authorization server. It is one argument of a program and never passes through a
//! shell, and `AddressPolicy` has checked that it is a web address and not the name of something to be run. It is done
//! by hand, because crates for it try many programs, among them browsers for the terminal, whose stdin belongs to the
//! client here.

use std::io;
use std::process::Stdio;

use tokio::process::Command;
use url::Url;

/// Starts the browser and does not wait for it.
pub(super) fn open(url: &Url) -> io::Result<()> {
    // `start` of Windows is a word of its shell, which would take `&` for the end of the URL.
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut command = Command::new("rundll32.exe");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else {
        Command::new("xdg-open")
    };
    // Stdout belongs to the protocol, and stdin to the client.
    let mut child =
        command.arg(url.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    tokio::spawn(async move {
        // Waited for, so that no zombie is left.
        let _ = child.wait().await;
    });
    Ok(())
}
