//! `sessile serve` and `sessile stdio`: run a proxy until a signal stops it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use sessile::config::Settings;
use sessile::{ConfigError, EndReason, Exit, LinkExit, Proxy};
use tokio::net::TcpListener;
use tracing::warn;

use super::target::ServerSelection;
use super::{fail, usage_error};
use crate::telemetry::print_notice;

/// The default address to listen on.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8808);

/// The exit code of `stdio` for a backend that exited or could not be started.
const BACKEND_GONE_EXIT: u8 = 3;

pub(super) async fn http(servers: ServerSelection, settings: &Settings) -> ExitCode {
    let listen = settings.listen.unwrap_or(DEFAULT_LISTEN);
    let is_remote = !listen.ip().is_loopback();
    if is_remote && settings.tokens.is_none() && !settings.insecure_no_auth.unwrap_or(false) {
        return usage_error(&format!(
            "{listen} can be reached from other machines, and clients are not authenticated: listen on 127.0.0.1, give \
             them tokens with --tokens FILE, or add --insecure-no-auth if something in front of sessile authenticates them"
        ));
    }
    if let Err(error) = settings.http().check_listener(listen) {
        return usage_error(&error.to_string());
    }
    let proxy = match proxy(servers, settings) {
        Ok(proxy) => proxy,
        Err(error) => return usage_error(&error.to_string()),
    };
    let bound = TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => return fail(&format!("cannot listen on {listen}: {error}")),
    };
    print_notice(&format!("listening on http://{address}/mcp"));
    if is_remote && settings.tokens.is_some() {
        warn!(%address, "tokens of clients that are not on this machine can be read on their way: put something with TLS in front");
    }
    match proxy.serve_http(listener, shutdown_requested()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

pub(super) async fn stdio(servers: ServerSelection, settings: &Settings) -> ExitCode {
    // Settings of the listener have no effect here. The tokens are those of its clients.
    let settings = Settings { tokens: None, ..settings.clone() };
    let proxy = match proxy(servers, &settings) {
        Ok(proxy) => proxy,
        Err(error) => return usage_error(&error.to_string()),
    };
    match proxy.serve_stdio_until(shutdown_requested()).await {
        EndReason::BackendGone(LinkExit::Exited { exit: Exit::Code(0), .. }) => ExitCode::SUCCESS,
        EndReason::BackendGone(_) => ExitCode::from(BACKEND_GONE_EXIT),
        EndReason::Failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn proxy(servers: ServerSelection, settings: &Settings) -> Result<Proxy, ConfigError> {
    let builder = Proxy::builder().settings(settings);
    let builder = servers.build()?.into_iter().fold(builder, |builder, server| {
        builder.server(&server.name, server.backend).filter(&server.name, server.filter)
    });
    builder.build()
}

/// A second signal within this time counts as the first one.
const SIGNAL_DEBOUNCE: Duration = Duration::from_secs(1);

/// Resolves with the first SIGINT or SIGTERM. The second one ends the process at once; its reapers end the rest.
async fn shutdown_requested() {
    stop_signal().await;
    tracing::info!("draining; a second signal ends at once");
    tokio::spawn(async {
        // One signal often comes twice: once from a parent that passes it on, and once to the whole process group.
        tokio::time::sleep(SIGNAL_DEBOUNCE).await;
        stop_signal().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
pub(super) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
pub(super) async fn stop_signal() {
    let _ = tokio::signal::ctrl_c().await;
}
