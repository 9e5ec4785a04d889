//! What sessions cost: memory while idle, time to open them and to end them all.
//!
//! ```text
//! cargo bench --profile dist --bench sessions
//! ```
//!
//! Three backends: a stdio server (this program, started again, so it costs next to nothing), the same server in
//! sessile's own process, and sessile's demo, which is an rmcp server in sessile's process and so counts its own memory
//! as well.
//!
//! - `SESSIONS` is the number of sessions at once; 500 by default.
//! - `SESSILE_BIN` names another build of sessile.
//!
//! Linux only: memory is read from `/proc`. Without `--bench`, as from `cargo test --benches`, only a few are opened.
#![expect(clippy::disallowed_methods, reason = "a bench measures with the real clock")]
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![cfg(target_os = "linux")]

#[path = "kit/calls.rs"]
mod calls;
#[path = "kit/echo.rs"]
#[expect(dead_code, reason = "only the other bench makes calls")]
mod echo;
#[path = "kit/http.rs"]
#[expect(dead_code, reason = "only the other bench makes calls")]
mod http;
#[path = "kit/memory.rs"]
mod memory;
#[path = "kit/proxy.rs"]
mod proxy;

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use http::{Client, Format, Target};
use memory::Memory;
use proxy::Served;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use sessile::{Channel, InProcessBackend, Proxy, SessionSettings};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The argument that makes the bench a proxy with a server in its own process.
const IN_PROCESS: &str = "--in-process";
/// The number of clients that open and end sessions at once.
const CLIENTS: usize = 8;
/// How long to wait before memory is measured, and how long processes may take to end.
const REST: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == echo::STDIO) {
        return echo::serve_stdio();
    }
    if args.iter().any(|arg| arg == IN_PROCESS) {
        return serve_in_process();
    }
    let thorough = args.iter().any(|arg| arg == "--bench");
    let count = match std::env::var("SESSIONS") {
        Ok(text) => text.parse()?,
        Err(_) if thorough => 500,
        Err(_) => 16,
    };
    // Both sides of every connection are on this machine, and the proxy inherits the limit.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;

    let this = std::env::current_exe()?;
    let sessile = proxy::program();
    let most = (count * 2).to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--max-sessions", &most].map(OsStr::new);
    let stdio = [&serve[..], &["--".as_ref(), this.as_ref(), echo::STDIO.as_ref()]].concat();
    measure("stdio server", count, &Served::start(&sessile, &stdio)?)?;
    measure("server in process", count, &Served::start(&this, &[IN_PROCESS.as_ref()])?)?;
    measure("demo (rmcp) in process", count, &Served::start(&sessile, &serve)?)
}

fn serve_in_process() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings = SessionSettings { max_sessions: None, ..SessionSettings::default() };
        let backend = InProcessBackend::channel(serve_channel);
        let proxy = Proxy::builder().backend(backend).session(settings).build()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("listening on http://{}/mcp", listener.local_addr()?);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let shutdown = async {
            terminate.recv().await;
        };
        proxy.serve_http(listener, shutdown).await?;
        Ok(())
    })
}

async fn serve_channel(Channel { mut incoming, outgoing }: Channel) {
    let mut answers = echo::Answers::default();
    while let Some(message) = incoming.recv().await {
        let Some((id, rest)) = answers.to(&message) else { continue };
        let answer = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, rest].concat();
        if outgoing.send(answer.into()).await.is_err() {
            break;
        }
    }
}

fn measure(name: &str, count: usize, served: &Served) -> Outcome<()> {
    let pid = served.child.id();
    println!("\n{name}, {count} sessions");

    // Memory that is taken once only, for threads, arenas and first uses, is taken now.
    let warm = open_all(&served.target, count.min(64))?;
    end_all(&warm.sessions, &served.target)?;
    wait_until(|| memory::descendants(pid).is_empty())?;

    let empty = settled(pid)?;
    let opened = open_all(&served.target, count)?;
    let idle = settled(pid)?;
    let [p50, p99] = opened.times;
    println!(
        "  opened a second, {CLIENTS} clients at once: {:.0}; each took {p50:.2} ms (p50), {p99:.2} ms (p99)",
        opened.rate
    );
    report("an idle session", count, empty, idle);

    let listeners = opened.sessions.iter().map(|session| listen(&served.target, session));
    let listeners = listeners.collect::<Outcome<Vec<_>>>()?;
    report("an idle session with an open GET stream", count, empty, settled(pid)?);
    drop(listeners);

    let below = memory::descendants(pid);
    let reapers = below.iter().filter(|process| process.is_reaper);
    let reapers = reapers.map(|process| memory::of(process.pid)).collect::<Outcome<Vec<_>>>()?;
    let (processes, kept) = (below.len(), reapers.len() as u64);
    if kept > 0 {
        let sum = |figure: fn(&Memory) -> u64| reapers.iter().map(figure).sum::<u64>() / kept;
        let (private, resident) = (sum(|memory| memory.private), sum(|memory| memory.resident));
        println!("  a reaper: {private} KB private, {resident} KB resident; {processes} processes in all");
    }

    let start = Instant::now();
    end_all(&opened.sessions, &served.target)?;
    let answered = start.elapsed();
    wait_until(|| memory::descendants(pid).is_empty())?;
    println!("  ended by DELETE: all answered after {answered:.2?}, nothing left after {:.2?}", start.elapsed());
    report("what an ended session leaves", count, empty, settled(pid)?);

    drop(open_all(&served.target, count)?);
    report("an idle session, once more", count, empty, settled(pid)?);
    let start = Instant::now();
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no process id")?;
    kill_process(target, Signal::TERM)?;
    // A process that has ended and was not waited for yet has no memory.
    wait_until(|| memory::of(pid).is_err())?;
    println!("  the proxy ended by SIGTERM: {:.2?}", start.elapsed());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 KB")]
fn report(what: &str, count: usize, before: Memory, after: Memory) {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / count as f64;
    println!(
        "  {what}: {:.1} KB private, {:.1} KB resident ({} to {} KB)",
        each(before.private, after.private),
        each(before.resident, after.resident),
        before.resident,
        after.resident
    );
}

fn settled(pid: u32) -> Outcome<Memory> {
    std::thread::sleep(REST);
    memory::of(pid)
}

fn wait_until(done: impl Fn() -> bool) -> Outcome<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            return Err("something was left behind".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

struct Opened {
    sessions: Vec<String>,
    rate: f64,
    /// p50 and p99 of one opening, in milliseconds.
    times: [f64; 2],
}

/// Opens sessions, each with its handshake. No connection stays open.
#[expect(clippy::cast_precision_loss, reason = "nobody opens 2^52 sessions")]
fn open_all(target: &Target, count: usize) -> Outcome<Opened> {
    let start = Instant::now();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let (target, share) = (target.clone(), (at..count).step_by(CLIENTS).count());
            std::thread::spawn(move || -> Outcome<Vec<(String, f64)>> {
                let mut client = Client::connect(&target, Format::Events)?;
                let open = |_| {
                    let start = Instant::now();
                    client.initialize()?;
                    let session = client.session.take().ok_or("no Mcp-Session-Id")?;
                    Ok((session, start.elapsed().as_secs_f64() * 1e3))
                };
                (0..share).map(open).collect()
            })
        })
        .collect();
    let mut opened = Vec::with_capacity(count);
    for thread in threads {
        opened.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let (sessions, mut times): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    times.sort_unstable_by(f64::total_cmp);
    let at = |percent| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    Ok(Opened { sessions, rate, times: [at(50), at(99)] })
}

fn end_all(sessions: &[String], target: &Target) -> Outcome<()> {
    let share = sessions.len().div_ceil(CLIENTS).max(1);
    std::thread::scope(|scope| {
        let end = |share: &[String]| -> Outcome<()> {
            let mut client = Client::connect(target, Format::Events)?;
            for session in share {
                client.session = Some(session.clone());
                let status = client.send("DELETE", "")?.status;
                if !(200..300).contains(&status) {
                    return Err(format!("DELETE was answered with status {status}").into());
                }
            }
            Ok(())
        };
        let threads: Vec<_> = sessions.chunks(share).map(|share| scope.spawn(move || end(share))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
    })
}

/// A connection with an open GET stream.
fn listen(target: &Target, session: &str) -> Outcome<Client> {
    let mut client = Client::connect(target, Format::Events)?;
    client.session = Some(session.to_owned());
    client.listen()?;
    Ok(client)
}
