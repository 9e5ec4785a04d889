//! A handshake-era MCP server that can do everything: the tools, resources and prompts that the conformance suite calls
//! by name, and a few more that sessile's tests find useful (state, floods, crashes, questions, stray processes).
//!
//! ```text
//! reference-server stdio [--late-ms N]
//! reference-server http --listen 127.0.0.1:PORT [--late-ms N]
//! ```
//!
//! `--late-ms` is how long `test_reconnection` takes to answer (1500 by default). It is deliberately a typed `rmcp`
//! server and no scripted peer: what a message looks like byte by byte is tested elsewhere.
#![expect(deprecated, reason = "logging is deprecated in the modern era, and this server is of the other one")]

mod catalog;
mod extras;
mod http;
mod prompts;
mod questions;
mod resources;
mod server;
mod tools;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use rmcp::{ServiceExt, transport::io::stdio_pipes};

use crate::server::{Options, Reference};

const USAGE: &str = "usage: reference-server stdio [--late-ms N] | http --listen ADDRESS [--late-ms N]";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How the clients reach this server.
enum Mode {
    Stdio,
    Http(SocketAddr),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reference-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let (mode, options) = parse(std::env::args().skip(1))?;
    match mode {
        Mode::Stdio => {
            Reference::new(options).serve(stdio_pipes()).await?.waiting().await?;
            Ok(())
        }
        Mode::Http(address) => http::serve(address, options).await,
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Mode, Options), Failure> {
    let mode = words.next().ok_or(USAGE)?;
    let mut options = Options::default();
    let mut listen = None;
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--listen" => listen = Some(value.parse()?),
            "--late-ms" => options.late = Duration::from_millis(value.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    match (mode.as_str(), listen) {
        ("stdio", None) => Ok((Mode::Stdio, options)),
        ("http", Some(address)) => Ok((Mode::Http(address), options)),
        _ => Err(USAGE.into()),
    }
}
