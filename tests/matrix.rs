//! Every front with every backend: the same clients do the same things in each of the sixteen cells, and nothing is
//! left.
//!
//! A cell is a test of its own, `FRONT/BACKEND`. This program is the stdio server of its own tests, and calls
//! `reaper::init` first in its `main`: what a cell leaves behind is what the program `sessile` would.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test has failed it")]

mod common;

#[path = "matrix/scenarios.rs"]
mod scenarios;
#[path = "matrix/servers.rs"]
mod servers;

use std::process::ExitCode;

use futures_util::future::join_all;
use libtest_mimic::{Arguments, Trial};
use sessile::{Proxy, reaper};

use crate::common::{Front, Fronts, until};
use crate::servers::{BackendKind, ReferenceBackend, SERVER, options};

const FRONTS: [(&str, Front); 4] =
    [("http", Front::Http), ("sse", Front::Sse), ("stdio", Front::Stdio), ("in_process", Front::InProcess)];
const BACKEND_KINDS: [(&str, BackendKind); 4] = [
    ("stdio", BackendKind::Stdio),
    ("http", BackendKind::Http),
    ("sse", BackendKind::Sse),
    ("in_process", BackendKind::InProcess),
];

fn main() -> ExitCode {
    reaper::init();
    if std::env::args().nth(1).as_deref() == Some(SERVER) {
        run(async { reference_server::serve_stdio(options()).await.unwrap() });
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    for (backend, kind) in BACKEND_KINDS {
        for (name, front) in FRONTS {
            trials.push(trial(format!("{name}/{backend}"), move || cell(front, kind)));
        }
        trials.push(trial(format!("all/{backend}"), move || all_fronts(kind)));
    }
    trials.push(trial("http/none".to_owned(), || direct(BackendKind::Http)));
    trials.push(trial("sse/none".to_owned(), || direct(BackendKind::Sse)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F: Future<Output = ()>>(name: String, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run(test());
        Ok(())
    })
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

/// Two clients on one front: one after the other, both at once, and one after the other has left.
async fn cell(front: Front, kind: BackendKind) {
    let server = ReferenceBackend::start(kind).await;
    let proxy = Proxy::builder().backend(server.backend.clone()).build().unwrap();
    let fronts = Fronts::open(proxy).await;
    let sessions = fronts.proxy.sessions();
    let mut anna = fronts.client_at(front, "Anna").await;
    scenarios::all(&mut anna).await;
    if kind == BackendKind::Http {
        scenarios::reconnection(&mut anna).await;
    }

    let mut berta = fronts.client_at(front, "Berta").await;
    assert_eq!((sessions.len(), sessions.links()), (2, 2));
    scenarios::apart(&mut anna, &mut berta).await;
    let processes = [scenarios::process(&mut anna).await, scenarios::process(&mut berta).await];
    anna.leaves().await;
    until("one session is left", || (sessions.len(), sessions.links()) == (1, 1)).await;
    server.has_only(1, &processes[..1]).await;

    // The client that stays notices nothing. Its session is ended through `Sessions`.
    scenarios::server_requests(&mut berta).await;
    assert_eq!(sessions.clear().await, 1);
    fronts.empty().await;
    server.has_only(0, &processes).await;
    // The proxy goes on, and its shutdown ends what came later.
    let mut clara = fronts.client_at(front, "Clara").await;
    assert_eq!(scenarios::count(&mut clara).await, 1);
    let process = scenarios::process(&mut clara).await;
    fronts.close().await;
    server.has_only(0, &[process]).await;
}

/// A client without a proxy in between: if this test fails, the error is in the test or the reference server.
async fn direct(kind: BackendKind) {
    let server = ReferenceBackend::start(kind).await;
    let mut anna = server.client("Anna").await;
    anna.shakes_hands().await;
    scenarios::all(&mut anna).await;
    anna.leaves().await;
    server.has_only(0, &[]).await;
}

/// Eight clients at once, two on each front of one proxy.
async fn all_fronts(kind: BackendKind) {
    let server = ReferenceBackend::start(kind).await;
    let fronts = Fronts::open(Proxy::builder().backend(server.backend.clone()).build().unwrap()).await;
    let names = ["Anna", "Berta", "Clara", "Dora", "Emma", "Frida", "Gerda", "Hanna"];
    let transports = FRONTS.iter().chain(&FRONTS).map(|(_, front)| *front);
    let entering = names.iter().zip(transports).map(|(name, front)| fronts.client_at(front, name));
    let mut clients = join_all(entering).await;
    assert_eq!(fronts.proxy.sessions().links(), names.len());
    join_all(clients.iter_mut().map(|client| scenarios::alone(client, 5))).await;
    join_all(clients.into_iter().map(common::NamedClient::leaves)).await;
    fronts.empty().await;
    server.has_only(0, &[]).await;
    fronts.close().await;
}
