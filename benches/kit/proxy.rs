//! The proxy that is measured, or another program that prints its address on stderr.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Outcome;
use crate::http::Target;

/// The `sessile` that was built with this bench, or the one that `SESSILE_BIN` names.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("SESSILE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_sessile").into(), PathBuf::from)
}

/// A proxy with an HTTP front. It is killed when this is dropped; its reapers end the servers.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) target: Target,
}

impl Served {
    pub(crate) fn start(program: impl AsRef<OsStr>, args: &[&OsStr]) -> Outcome<Self> {
        let mut child = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| Some(line[line.find("http://")?..].to_owned()));
        // The log has to be read on, or the proxy would block once the pipe is full.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let target = Target::parse(&url.ok_or("the proxy did not say where it listens")?)?;
        Ok(Self { child, target })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
