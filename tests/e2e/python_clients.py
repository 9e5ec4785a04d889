"""The official Python clients, `mcp` 2.x and `fastmcp` 4.x, through sessile in front of server-everything.

    <peers>/venv/bin/python python_clients.py [--sessile PATH]
    ... --url URL          against a running server-everything, without sessile (a test of the test)

Over streamable HTTP, HTTP+SSE and, through `sessile stdio`, over stdio; each client in the mode that it has by itself (it probes with
`server/discover` and falls back) and in its `legacy` mode. Checked: the handshake, lists, calls, state that is kept
between the calls of one session and is no other's, elicitation, sampling, roots, progress.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mcp
import mcp_types as types
from fastmcp import Client as FastClient
from fastmcp.client.transports import SSETransport, StdioTransport
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = Path(os.environ.get("SESSILE_PEERS_DIR", ROOT / "target" / "peers")).resolve()
EVERYTHING = ["node", str(PEERS / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "stdio"]

passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok  ' if good else 'FAIL'} {name}", flush=True)
    if not good and detail:
        print(f"     {detail}", flush=True)


def text(result):
    return "\n".join(getattr(part, "text", "") or "" for part in result.content)


class Answers:
    """What a client answers to server requests, the same for both libraries, and how often it was asked."""

    def __init__(self, who):
        self.who = who
        self.asked = {"elicit": 0, "sample": 0, "roots": 0}

    async def mcp_elicit(self, _context, params):
        self.asked["elicit"] += 1
        return types.ElicitResult(action="accept", content={"name": self.who})

    async def mcp_sample(self, _context, params):
        self.asked["sample"] += 1
        said = types.TextContent(type="text", text=f"{self.who} sampled")
        return types.CreateMessageResult(role="assistant", model="none", content=said)

    async def mcp_roots(self, _context):
        self.asked["roots"] += 1
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///{self.who}")])

    async def fast_elicit(self, _message, _response_type, _params, _context):
        self.asked["elicit"] += 1
        return {"name": self.who}

    async def fast_sample(self, _messages, _params, _context):
        self.asked["sample"] += 1
        return f"{self.who} sampled"

    async def fast_roots(self, _context):
        self.asked["roots"] += 1
        return [f"file:///{self.who}"]


def official(target, answers, mode):
    if isinstance(target, list):
        target = StdioServerParameters(command=target[0], args=target[1:])
    elif target.endswith("/sse"):
        target = sse_client(target)
    return mcp.Client(
        target,
        mode=mode,
        elicitation_callback=answers.mcp_elicit,
        sampling_callback=answers.mcp_sample,
        list_roots_callback=answers.mcp_roots,
        client_info=types.Implementation(name=f"py-{answers.who}", version="1"),
        read_timeout_seconds=20,
    )


def fast(target, answers, mode):
    if isinstance(target, list):
        target = StdioTransport(target[0], target[1:], keep_alive=False)
    elif target.endswith("/sse"):
        target = SSETransport(target)
    return FastClient(
        target,
        mode=mode,
        elicitation_handler=answers.fast_elicit,
        sampling_handler=answers.fast_sample,
        roots=answers.fast_roots,
        log_handler=ignore,
        timeout=20,
    )


async def ignore(_message):
    pass


async def call(client, name, arguments, progress=None):
    if isinstance(client, FastClient):
        return await client.call_tool(name, arguments, progress_handler=progress, raise_on_error=False)
    return await client.call_tool(name, arguments, progress_callback=progress)


async def names(client, what):
    found = await getattr(client, f"list_{what}")()
    return [one.name for one in (found if isinstance(found, list) else getattr(found, what))]


async def gzip_resource(client, name):
    arguments = {"name": name, "data": "data:text/plain,sessile", "outputType": "resourceLink"}
    return await call(client, "gzip-file-as-resource", arguments)


async def walk(label, make, target, mode):
    """One session and beside it another one of the same client library."""
    one, two = Answers("one"), Answers("two")
    async with make(target, one, mode) as a, make(target, two, mode) as b:
        info = a.server_info
        check(f"{label}: handshake", info is not None and info.name == "mcp-servers/everything", str(info))
        check(f"{label}: version", a.protocol_version == "2025-11-25", str(a.protocol_version))
        check(f"{label}: instructions", a.instructions and len(a.instructions) > 100)

        # The server adds the tools that need something of the client after `initialized`.
        tools = await names(a, "tools")
        needed = {"echo", "get-roots-list", "trigger-sampling-request", "trigger-elicitation-request"}
        check(f"{label}: tools", needed <= set(tools), str(tools))
        check(f"{label}: prompts", len(await names(a, "prompts")) == 4)
        check(f"{label}: a call", "Echo: ünï 🦐" in text(await call(a, "echo", {"message": "ünï 🦐"})))
        bad = await call(a, "echo", {"message": 5})
        check(f"{label}: a failing call", bad.is_error, str(bad))

        # Names of this walk's own: within one process server-everything takes a resource away from the session that had
        # its name first, and its own HTTP mode has all sessions in one process.
        mine, others = (f"{who}-{type(a).__module__}-{mode}.gz" for who in ("one", "two"))
        await gzip_resource(a, mine)
        await gzip_resource(b, others)
        seen = [await names(a, "resources"), await names(b, "resources")]
        check(f"{label}: state is kept", mine in seen[0] and others in seen[1], str(seen))
        check(f"{label}: and is no other session's", others not in seen[0] and mine not in seen[1], str(seen))

        async def ask(client, who):
            elicited = text(await call(client, "trigger-elicitation-request", {}))
            sampled = text(await call(client, "trigger-sampling-request", {"prompt": "go", "maxTokens": 5}))
            return f"Name: {who}" in elicited and f"{who} sampled" in sampled, elicited + sampled

        for good, found in await asyncio.gather(ask(a, "one"), ask(b, "two")):
            check(f"{label}: elicitation and sampling, both sessions at once", good, found)
        rooted = [text(await call(client, "get-roots-list", {})) for client in (a, b)]
        check(f"{label}: roots", "file:///one" in rooted[0] and "file:///two" in rooted[1], str(rooted))
        counts = [answers.asked for answers in (one, two)]
        # Roots are asked for once by the server's clock, and possibly once more by the tool before the answer is there.
        check(f"{label}: each was asked its own requests only", all(c["elicit"] == 1 and c["sample"] == 1 and 1 <= c["roots"] <= 2 for c in counts), str(counts))

        steps = []

        async def progress(done, total=None, message=None):
            steps.append(done)

        done = await call(a, "trigger-long-running-operation", {"duration": 0.8, "steps": 4}, progress)
        check(f"{label}: progress", steps == [1, 2, 3, 4] and "completed" in text(done), str(steps))


async def guarded(label, make, target, mode):
    try:
        await asyncio.wait_for(walk(label, make, target, mode), 60)
    except BaseException as error:  # noqa: BLE001: an exception group is what these clients throw
        if isinstance(error, KeyboardInterrupt):
            raise
        inner = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        check(f"{label}: runs to its end", False, repr(inner))


@contextlib.contextmanager
def serve(sessile):
    """`sessile serve` on a free port; its URL."""
    child = subprocess.Popen([sessile, "serve", "--listen", "127.0.0.1:0", "--", *EVERYTHING], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    said, url = [], []
    ready = threading.Event()

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
        yield url[0]
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessile", default=str(ROOT / "target/release/sessile"))
    parser.add_argument("--url")
    options = parser.parse_args()

    started = time.monotonic()
    with contextlib.nullcontext(options.url) if options.url else serve(options.sessile) as url:
        stdio = EVERYTHING if options.url else [options.sessile, "stdio", "--", *EVERYTHING]
        fronts = [("http", url), ("stdio", stdio)]
        if not options.url:
            fronts.append(("sse", re.sub("/mcp$", "/sse", url)))
        walks = [
            guarded(f"{library} {version}, {front}, {mode}", make, target, mode)
            for library, version, make in (("mcp", "2.3.0", official), ("fastmcp", "4.1.6", fast))
            for front, target in fronts
            for mode in ("auto", "legacy")
        ]
        # Two at a time: the machine may have two cores only.
        for pair in zip(walks[::2], walks[1::2]):
            await asyncio.gather(*pair)
    print(f"{time.monotonic() - started:.1f} s")


# So that `timeout` ends it as an error does, with its children.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
try:
    asyncio.run(main())
except Exception as error:  # noqa: BLE001
    check("the script runs to its end", False, repr(error))
print(f"python_clients: {passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
