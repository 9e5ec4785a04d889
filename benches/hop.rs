//! What one hop through sessile adds: latency and throughput, against the direct paths, in one run.
//!
//! ```text
//! cargo bench --profile dist --bench hop
//! ```
//!
//! All paths end in the same server, which answers at once: this program, started again. They take turns in short
//! rounds, so that other load on the machine affects all of them alike; "adds" is the median of the differences between
//! the medians of a round. The ways to embed sessile in a program are compared by calls with two progress
//! notifications, which show whether small messages wait for one another.
//!
//! - `HOP_PEER_URL` names the endpoint of another proxy to be measured in the same run. Put it in front of the same
//!   server: `cargo bench --profile dist --bench hop -- --echo-stdio` on stdio, or `-- --echo-http 127.0.0.1:9000` for
//!   HTTP.
//! - `SESSILE_BIN` names another build of sessile.
//!
//! Without `--bench`, as from `cargo test --benches`, everything runs just a few times.
#![expect(clippy::disallowed_methods, reason = "a bench measures with the real clock")]
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]

#[path = "kit/calls.rs"]
mod calls;
#[path = "kit/echo.rs"]
mod echo;
#[path = "kit/embed.rs"]
mod embed;
#[path = "kit/http.rs"]
#[expect(dead_code, reason = "only the other bench listens")]
mod http;
#[path = "kit/proxy.rs"]
mod proxy;
#[path = "kit/stdio.rs"]
mod stdio;

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use http::{Format, Target};
use proxy::Served;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The argument that makes the bench serve HTTP, at the address that follows.
const ECHO_HTTP: &str = "--echo-http";

/// A result's size, the calls in a round, and the rounds.
const SIZES: [(&str, usize, usize, usize); 3] =
    [("small call", 120, 20, 300), ("10 KB result", 10_000, 20, 200), ("1 MB image", 1_000_000, 4, 120)];
/// The number of clients at once when throughput is measured, and how often and for how long that is done.
const CLIENTS: usize = 32;
const BURSTS: usize = 5;
const BURST: Duration = Duration::from_secs(1);

enum Client {
    Stdio(stdio::Client),
    Http(http::Client),
    /// Whether the calls have progress notifications.
    Progress(http::Client),
}

impl Client {
    fn call(&mut self, id: u64, size: usize) -> Outcome<()> {
        match self {
            Self::Stdio(client) => client.call(id, size),
            Self::Http(client) => client.call(id, size),
            Self::Progress(client) => client.call_with_progress(id, size),
        }
    }
}

/// Makes a client of one path.
type Open = Box<dyn Fn() -> Outcome<Client>>;

struct Route {
    name: &'static str,
    open: Open,
    /// The indices of the routes that this one is compared with.
    against: &'static [usize],
}

fn main() -> Outcome<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == echo::STDIO) {
        return echo::serve_stdio();
    }
    if let Some(at) = args.iter().position(|arg| arg == ECHO_HTTP) {
        let address = args.get(at + 1).map_or("127.0.0.1:0", String::as_str);
        let listener = TcpListener::bind(address)?;
        eprintln!("echo: listening on http://{}/mcp", listener.local_addr()?);
        echo::serve_http(&listener);
        return Ok(());
    }
    if let Some(at) = args.iter().position(|arg| arg == embed::EMBEDDED) {
        return embed::serve(args.get(at + 1).map_or("", String::as_str));
    }
    let thorough = args.iter().any(|arg| arg == "--bench");

    let this = std::env::current_exe()?;
    let proxy = proxy::program();
    let server = Served::start(&this, &[ECHO_HTTP.as_ref()])?;
    let echo = [OsStr::new("--"), this.as_ref(), echo::STDIO.as_ref()];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "warn"].map(OsStr::new);
    let front = Served::start(&proxy, &[&serve[..], &echo].concat())?;
    let url = server.target.url();
    let remote = Served::start(&proxy, &[&serve[..], &[OsStr::new(&url)]].concat())?;
    let peer = std::env::var("HOP_PEER_URL").ok().map(|url| Target::parse(&url)).transpose()?;
    let targets = Targets { server: &server.target, through: &front.target, remote: &remote.target };
    let routes = routes(&this, &proxy, &targets, peer.as_ref());

    for (name, size, calls, rounds) in SIZES {
        let rounds = if thorough { rounds } else { 2 };
        latency(name, &routes, size, calls, rounds)?;
    }
    embedded(&this, thorough)?;
    throughput(&routes, thorough)
}

/// The ways to embed sessile, in programs of their own.
fn embedded(this: &Path, thorough: bool) -> Outcome<()> {
    let serve = |way: &str| Served::start(this, &[embed::EMBEDDED.as_ref(), way.as_ref()]);
    let served = embed::WAYS.iter().map(|way| serve(way)).collect::<Outcome<Vec<_>>>()?;
    let route = |(at, served): (usize, &Served)| {
        let target = served.target.clone();
        let open: Open = Box::new(move || Ok(Client::Progress(http::Client::open(&target, Format::Events)?)));
        Route { name: embed::WAYS[at], open, against: if at == 0 { &[] } else { &[0] } }
    };
    let routes: Vec<_> = served.iter().enumerate().map(route).collect();
    let (_, size, calls, rounds) = SIZES[0];
    latency("embedded, with two progress notifications", &routes, size, calls, if thorough { rounds } else { 2 })
}

/// The programs that listen: the server itself, and sessile in front of it, on stdio and over HTTP.
struct Targets<'a> {
    server: &'a Target,
    through: &'a Target,
    remote: &'a Target,
}

fn routes(this: &Path, proxy: &Path, targets: &Targets<'_>, peer: Option<&Target>) -> Vec<Route> {
    let Targets { server, through, remote } = targets;
    let http = |target: &Target, format: Format| -> Open {
        let target = target.clone();
        Box::new(move || Ok(Client::Http(http::Client::open(&target, format)?)))
    };
    let (echo, program, child) = (this.to_owned(), proxy.to_owned(), this.to_owned());
    let stdio = move || Ok(Client::Stdio(stdio::Client::open(&echo, &[echo::STDIO.as_ref()])?));
    let through_stdio = move || {
        let options = ["stdio", "--log", "warn", "--"].map(OsStr::new);
        let args = [&options[..], &[child.as_ref(), echo::STDIO.as_ref()]].concat();
        Ok(Client::Stdio(stdio::Client::open(&program, &args)?))
    };
    let mut routes = vec![
        Route { name: "direct, stdio", open: Box::new(stdio), against: &[] },
        Route { name: "direct, HTTP with SSE", open: http(server, Format::Events), against: &[] },
        Route { name: "direct, HTTP with JSON", open: http(server, Format::Json), against: &[] },
        Route { name: "sessile, stdio to stdio", open: Box::new(through_stdio), against: &[0] },
        Route { name: "sessile, SSE to stdio", open: http(through, Format::Events), against: &[0, 1] },
        Route { name: "sessile, JSON to stdio", open: http(through, Format::Json), against: &[0, 2] },
        Route { name: "sessile, SSE to HTTP", open: http(remote, Format::Events), against: &[1] },
        Route { name: "sessile, JSON to HTTP", open: http(remote, Format::Json), against: &[2] },
    ];
    if let Some(peer) = peer {
        routes.push(Route { name: "peer, SSE", open: http(peer, Format::Events), against: &[0, 1] });
    }
    routes
}

#[derive(Default)]
struct Samples {
    all: Vec<f64>,
    /// The median of each round.
    rounds: Vec<f64>,
}

fn latency(name: &str, routes: &[Route], size: usize, calls: usize, rounds: usize) -> Outcome<()> {
    let mut clients = routes.iter().map(|route| (route.open)()).collect::<Outcome<Vec<_>>>()?;
    let mut samples: Vec<_> = routes.iter().map(|_| Samples::default()).collect();
    let mut id = 0;
    let warm_up = rounds / 20 + 1;
    for round in 0..warm_up + rounds {
        for turn in 0..clients.len() {
            // The order changes, so that no route always runs after the same other one.
            let at = (turn + round) % clients.len();
            let mut times = Vec::with_capacity(calls);
            for _ in 0..calls {
                id += 1;
                let start = Instant::now();
                clients[at].call(id, size)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            if round >= warm_up {
                samples[at].all.extend(&times);
                samples[at].rounds.push(percentile(&mut times, 50));
            }
        }
    }
    println!("\n{name}, us: {rounds} rounds of {calls} calls");
    println!("{:<26}{:>10}{:>10}{:>10}   adds (p50)", "", "p50", "p90", "p99");
    for at in 0..routes.len() {
        let all = &mut samples[at].all;
        let figures = [50, 90, 99].map(|percent| format!("{:>10.1}", percentile(all, percent))).concat();
        let adds = routes[at].against.iter().map(|other| {
            let pairs = samples[at].rounds.iter().zip(&samples[*other].rounds);
            let mut differences: Vec<_> = pairs.map(|(through, direct)| through - direct).collect();
            format!("   {:+.1} to {}", percentile(&mut differences, 50), routes[*other].name)
        });
        println!("{:<26}{figures}{}", routes[at].name, adds.collect::<String>());
    }
    Ok(())
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

fn throughput(routes: &[Route], thorough: bool) -> Outcome<()> {
    let (bursts, burst) = if thorough { (BURSTS, BURST) } else { (1, Duration::from_millis(50)) };
    println!("\nsmall calls a second, {CLIENTS} clients with a session each: {bursts} bursts of {burst:?}");
    let mut rates = vec![Vec::new(); routes.len()];
    for _ in 0..bursts {
        for (route, rates) in routes.iter().zip(&mut rates) {
            rates.push(rate(&route.open, burst)?);
        }
    }
    for (route, rates) in routes.iter().zip(&mut rates) {
        println!("{:<26}{:>10.0}", route.name, percentile(rates, 50));
    }
    Ok(())
}

/// The calls a second of [`CLIENTS`] clients, each of which sends its next call as soon as it has an answer.
fn rate(open: &Open, burst: Duration) -> Outcome<f64> {
    let clients = (0..CLIENTS).map(|_| open()).collect::<Outcome<Vec<_>>>()?;
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ready = Arc::new(Barrier::new(CLIENTS + 1));
    let (_, size, ..) = SIZES[0];
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (done, count, ready) = (done.clone(), count.clone(), ready.clone());
            std::thread::spawn(move || -> Outcome<()> {
                ready.wait();
                for id in 1.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    client.call(id, size)?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    ready.wait();
    // The first moments warm up and are not counted.
    std::thread::sleep(burst / 10);
    let (start, before) = (Instant::now(), count.load(Ordering::Relaxed));
    std::thread::sleep(burst);
    let (calls, time) = (count.load(Ordering::Relaxed) - before, start.elapsed());
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")??;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody makes 2^52 calls a second")]
    Ok(calls as f64 / time.as_secs_f64())
}
