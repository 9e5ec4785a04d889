"""Clients that open a session for every call, and many clients at once, in one living session behind `--session-key`.

    <peers>/venv/bin/python shared_sessions.py [--sessile PATH] [--chromium PATH] [SCENARIO...]

The official Python client drives `@playwright/mcp` and deletes its session after each call. Its page must be where it left it,
with a bearer token and `principal`, with `header:NAME`, and with `cookie` over one HTTP client that keeps cookies. Two users
never see each other's page, and with default options two sessions of one token never share. Thirty-two clients then call and
are asked in one session of a server that asks; a server that is killed between two calls is one typed error.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import mcp
import mcp_types as types
from mcp.client.streamable_http import streamable_http_client

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = Path(os.environ.get("SESSILE_PEERS_DIR", ROOT / "target" / "peers")).resolve()
EVERYTHING = ["node", str(PEERS / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "stdio"]

parser = argparse.ArgumentParser()
parser.add_argument("--sessile", default=str(ROOT / "target/release/sessile"))
parser.add_argument("--chromium", default="/usr/bin/chromium")
parser.add_argument("scenarios", nargs="*")
options = parser.parse_args()
PLAYWRIGHT = [
    "node",
    str(PEERS / "node_modules/@playwright/mcp/cli.js"),
    "--headless",
    "--isolated",
    "--no-sandbox",
    "--executable-path",
    options.chromium,
]

passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok  ' if good else 'FAIL'} {name}", flush=True)
    if not good and detail:
        print(f"     {str(detail)[:800]}", flush=True)


def text(result):
    return "\n".join(getattr(part, "text", "") or "" for part in result.content)


class Pages(BaseHTTPRequestHandler):
    """A page whose title says its path, so that nobody can mistake one for another."""

    def do_GET(self):
        body = f"<!doctype html><title>page {self.path}</title><h1>marker {self.path} end</h1>".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def pages():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def serve(*arguments, backend):
    """`sessile serve` on a free port: its URL and its process."""
    command = [options.sessile, "serve", "--listen", "127.0.0.1:0", *arguments, "--", *backend]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    said, url, ready = [], [], threading.Event()

    def listen():
        for line in child.stderr:
            said.append(line)
            found = re.search(r"https?://\S+?/mcp\b", line)
            if found and not url:
                url.append(found[0])
                ready.set()
        ready.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        if not ready.wait(15) or not url:
            raise RuntimeError(f"no URL line of sessile: {''.join(said)}")
        yield url[0], child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Asked:
    """What one client answers when it is asked, and how often it was."""

    def __init__(self, who):
        self.who, self.count = who, 0

    async def elicit(self, _context, _params):
        self.count += 1
        return types.ElicitResult(action="accept", content={"name": self.who})

    async def sample(self, _context, _params):
        self.count += 1
        said = types.TextContent(type="text", text=f"{self.who} sampled")
        return types.CreateMessageResult(role="assistant", model="none", content=said)

    async def roots(self, _context):
        self.count += 1
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///{self.who}")])


def http_client(headers):
    return httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(60))


@contextlib.asynccontextmanager
async def session(url, http, asked=None):
    """One client session: opened, and deleted at its end. The HTTP client stays open."""
    callbacks = {}
    if asked:
        callbacks = {
            "elicitation_callback": asked.elicit,
            "sampling_callback": asked.sample,
            "list_roots_callback": asked.roots,
        }
    transport = streamable_http_client(url, http_client=http)
    async with mcp.Client(transport, mode="legacy", read_timeout_seconds=60, **callbacks) as client:
        yield client


async def once(url, http, tool, arguments):
    """What a per-call client does: a session for one call."""
    async with session(url, http) as client:
        return await client.call_tool(tool, arguments)


async def per_call(label, url, site, users):
    """Each user navigates in one session, and looks in the next ones: its own page is there, and never another's."""
    for round_ in range(2):
        goes = [once(url, http, "browser_navigate", {"url": f"{site}/{who}/{round_}"}) for who, http in users.items()]
        await asyncio.gather(*goes)
        for look in range(2):
            looks = [once(url, http, "browser_snapshot", {}) for http in users.values()]
            for who, seen in zip(users, await asyncio.gather(*looks)):
                others = [other for other in users if other != who]
                good = f"/{who}/{round_}" in text(seen) and not any(f"/{other}/" in text(seen) for other in others)
                check(f"{label}: {who} sees its own page, round {round_}, look {look}", good, text(seen))


def token_file(folder, *names):
    """A file with a token for each name; the names and tokens."""
    tokens, lines = {}, []
    for name in names:
        out = subprocess.run([options.sessile, "token", name], capture_output=True, text=True, check=True)
        said = out.stdout + "\n" + out.stderr
        line = re.search(rf"^\s*({name} [0-9a-f]{{64}})\s*$", said, re.M)[1]
        found = [word for word in re.findall(r"\S{32,}", said) if word not in line]
        tokens[name], lines = found[0], [*lines, line]
    path = Path(folder) / "tokens"
    path.write_text("\n".join(lines) + "\n")
    return str(path), tokens


async def principal():
    with pages() as site, tempfile.TemporaryDirectory() as folder:
        path, tokens = token_file(folder, "ada", "bo")
        with serve("--tokens", path, "--session-key", "principal", backend=PLAYWRIGHT) as (url, _):
            users = {who: http_client({"Authorization": f"Bearer {token}"}) for who, token in tokens.items()}
            await per_call("principal", url, site, users)
            stranger = httpx2.post(url, json={}, headers={"Accept": "application/json, text/event-stream"})
            check("principal: without a token nobody is let in", stranger.status_code == 401, stranger)
        # With default options, two sessions of one token never share.
        with serve("--tokens", path, backend=PLAYWRIGHT) as (url, _):
            http = http_client({"Authorization": f"Bearer {tokens['ada']}"})
            async with session(url, http) as one, session(url, http) as two:
                await one.call_tool("browser_navigate", {"url": f"{site}/one"})
                seen = text(await two.call_tool("browser_snapshot", {}))
                check("by default two sessions of one token do not share", "/one" not in seen, seen)


async def header():
    with pages() as site, serve("--session-key", "header:X-User", backend=PLAYWRIGHT) as (url, _):
        users = {who: http_client({"X-User": who}) for who in ("cy", "di")}
        await per_call("header", url, site, users)


async def cookie():
    with pages() as site, serve("--session-key", "cookie", backend=PLAYWRIGHT) as (url, _):
        users = {who: http_client({}) for who in ("ed", "flo")}
        await per_call("cookie", url, site, users)
        check("cookie: each HTTP client got one", all(len(http.cookies) == 1 for http in users.values()))


async def crowd():
    """Thirty-two clients of one session, with the same ids at the same time, of a server on stdio that asks."""
    with serve("--session-key", "header:X-Team", backend=EVERYTHING) as (url, _):
        async with contextlib.AsyncExitStack() as stack:
            asked = [Asked(f"c{number}") for number in range(32)]
            opening = [stack.enter_async_context(session(url, http_client({"X-Team": "t"}), one)) for one in asked]
            clients = [await one for one in opening]
            await clients[0].call_tool("echo", {"message": "warm"})

            async def echo(number, client):
                said = [text(await client.call_tool("echo", {"message": f"{number}-{turn}"})) for turn in range(10)]
                return said == [f"Echo: {number}-{turn}" for turn in range(10)]

            good = await asyncio.gather(*(echo(number, client) for number, client in enumerate(clients)))
            check("crowd: 320 responses go back to their own requests", all(good), good)

            before = [one.count for one in asked]

            async def elicit(client):
                return text(await client.call_tool("trigger-elicitation-request", {}))

            said = await asyncio.gather(*(elicit(client) for client in clients))
            answered = [re.search(r"Name: (c\d+)", one) for one in said]
            check("crowd: each elicitation was answered", all(answered), said)
            times = sum(one.count for one in asked) - sum(before)
            check("crowd: and each was put to exactly one client", times == 32, times)


async def killed():
    """The server is killed between two calls: one typed error, then a fresh session with the next generation."""
    with serve("--session-key", "header:X-User", backend=EVERYTHING) as (url, child):
        http = http_client({"X-User": "gus"})
        check("killed: it works at first", "Echo: a" in text(await once(url, http, "echo", {"message": "a"})))
        for generation in (2, 3):
            for pid in servers(child.pid):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(1)
            lost = None
            try:
                await once(url, http, "echo", {"message": "b"})
            except BaseException as error:  # noqa: BLE001: an exception group is what this client throws
                lost = error
                while isinstance(lost, BaseExceptionGroup):
                    lost = lost.exceptions[0]
            data = getattr(getattr(lost, "error", None), "data", None) or {}
            check(
                f"killed: the first call is told that the state is lost, generation {generation}",
                data.get("stateLost") is True and data.get("generation") == generation,
                f"{lost!r} {data}",
            )
            for word in ("c", "d"):
                said = text(await once(url, http, "echo", {"message": word}))
                check(f"killed: then it goes on, {word}, generation {generation}", f"Echo: {word}" in said, said)


def servers(pid):
    """The processes of server-everything under sessile."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"server-everything" in b"".join((entry / "cmdline").read_bytes().split(b"\0")[1:2]):
                above, number = int(entry.name), 0
                while above not in (0, 1, pid) and number < 10:
                    above, number = int((Path("/proc") / str(above) / "stat").read_text().rsplit(")", 1)[1].split()[1]), number + 1
                found += [int(entry.name)] if above == pid else []
    return found


async def many():
    """Two thousand clients that attach and never say DELETE: memory is bounded."""
    with serve("--session-key", "header:X-User", "--idle-timeout", "20s", "--lost-stream", "2s", backend=EVERYTHING) as (url, child):
        body = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "m", "version": "1"}},
        }
        headers = {"Accept": "application/json, text/event-stream", "X-User": "many"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            ids = set()
            for _ in range(int(os.environ.get("SESSILE_MANY", "2000"))):
                response = await http.post(url, json=body)
                ids.add(response.headers.get("mcp-session-id"))
                if response.status_code != 200:
                    break
            check("many: each client got an id of its own", None not in ids and len(ids) == int(os.environ.get("SESSILE_MANY", "2000")), len(ids))
        resident = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text())[1]) / 1024
        check("many: memory stays small", resident < 64, f"{resident:.0f} MiB")
        check("many: with one server", len(servers(child.pid)) == 1, servers(child.pid))
        deadline = time.monotonic() + 40
        while servers(child.pid) and time.monotonic() < deadline:
            await asyncio.sleep(1)
        check("many: and the clocks end it", not servers(child.pid), servers(child.pid))


SCENARIOS = [principal, header, cookie, crowd, killed, many]


async def main():
    for scenario in SCENARIOS:
        if options.scenarios and scenario.__name__ not in options.scenarios:
            continue
        begun = time.monotonic()
        try:
            await asyncio.wait_for(scenario(), 150)
        except BaseException as error:  # noqa: BLE001: an exception group is what these clients throw
            if isinstance(error, KeyboardInterrupt):
                raise
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            check(f"{scenario.__name__}: runs to its end", False, repr(error))
        print(f"     {scenario.__name__}: {time.monotonic() - begun:.1f} s", flush=True)


# So that `timeout` ends it as an error does, with its children.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
asyncio.run(main())
print(f"shared_sessions: {passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
