//! The reference server as a program.
//!
//! ```text
//! reference-server stdio [--late-ms N] [--page N]
//! reference-server http --listen 127.0.0.1:PORT [--late-ms N] [--page N]
//! reference-server sse --listen 127.0.0.1:PORT [--late-ms N] [--page N] [--absolute | --endpoint TEXT]
//! ```
//!
//! `--late-ms` is how long `test_reconnection` takes to answer (1500 by default), `--page` the longest page of a list
//! (no pages by default). `--absolute` makes the `endpoint` event say a whole URL, `--endpoint` whatever it is told.
//! The two HTTP modes say on stderr where they listen, and at `/sessions` how many sessions they have.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use axum::Router;
use reference_server::{Failure, Options, SessionCounter, http, serve, serve_stdio, sse, sse::Endpoint};
use tokio::net::TcpListener;

const USAGE: &str = "usage: reference-server stdio|http|sse [--listen ADDRESS] [--late-ms N] [--page N]
       http and sse need --listen; sse takes --absolute or --endpoint TEXT";

/// How the clients reach this server.
enum Mode {
    Stdio,
    Http(SocketAddr),
    Sse(SocketAddr, Endpoint),
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
    let counter = SessionCounter::default();
    match mode {
        Mode::Stdio => serve_stdio(options).await,
        Mode::Http(address) => listen(address, http::router(options, &counter), "/mcp").await,
        Mode::Sse(address, endpoint) => listen(address, sse::router(options, &counter, endpoint), "/sse").await,
    }
}

/// Serves until the process ends.
async fn listen(address: SocketAddr, router: Router, path: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("reference-server: listening on http://{}{path}", listener.local_addr()?);
    serve(listener, router).await
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Mode, Options), Failure> {
    let mode = words.next().ok_or(USAGE)?;
    let mut options = Options::default();
    let (mut listen, mut endpoint) = (None, None);
    while let Some(word) = words.next() {
        if word == "--absolute" {
            endpoint = Some(Endpoint::Absolute);
            continue;
        }
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--listen" => listen = Some(value.parse()?),
            "--late-ms" => options.late = Duration::from_millis(value.parse()?),
            "--page" => {
                let most = value.parse().map_err(|_| format!("--page is {value}: it must be a number from 1 on"))?;
                options.page = Some(most);
            }
            "--endpoint" => endpoint = Some(Endpoint::Other(value)),
            _ => return Err(USAGE.into()),
        }
    }
    match (mode.as_str(), listen, endpoint) {
        ("stdio", None, None) => Ok((Mode::Stdio, options)),
        ("http", Some(address), None) => Ok((Mode::Http(address), options)),
        ("sse", Some(address), endpoint) => Ok((Mode::Sse(address, endpoint.unwrap_or_default()), options)),
        _ => Err(USAGE.into()),
    }
}
