#!/usr/bin/env python3
"""The limits of the release binary, in front of the reference server, with a client of the standard library alone.

    python3 limits.py [--sessile PATH] [--reference PATH]

Sessions, idleness, sizes, drain, exits and SIGKILL: what a client gets to see at each limit, and that no other session
notices. The last line is `limits: N passed, N failed`.
"""

import argparse
import glob
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RELEASE = os.path.join(HERE, "..", "..", "target", "release")
arguments = argparse.ArgumentParser()
arguments.add_argument("--sessile", default=os.path.join(RELEASE, "sessile"))
arguments.add_argument("--reference", default=None)
arguments = arguments.parse_args()
SESSILE = os.path.abspath(arguments.sessile)
REFERENCE = arguments.reference or os.path.join(os.path.dirname(SESSILE), "reference-server")
BOTH = "application/json, text/event-stream"

passed = failed = 0


def check(name, good, seen=""):
    global passed, failed
    if good:
        passed += 1
        print(f"ok   {name}")
    else:
        failed += 1
        print(f"FAIL {name}: {str(seen)[:600]}")


class Proxy:
    """A running sessile. Its scratch folders lie in a folder of its own, so that what it leaves can be counted."""

    def __init__(self, *options, command=(REFERENCE, "stdio")):
        self.folder = tempfile.TemporaryDirectory()
        serve = [SESSILE, "serve", "--listen", "127.0.0.1:0", "--log", "warn", *options]
        environment = {**os.environ, "TMPDIR": self.folder.name}
        self.process = subprocess.Popen(
            [*serve, "--", *command] if command else serve, stderr=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stderr.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/mcp", line).group(1))
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.folder.cleanup()

    def scratch(self):
        return glob.glob(os.path.join(self.folder.name, "sessile-*"))

    def request(self, method, body=None, session=None, accept=BOTH):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if session:
            headers["Mcp-Session-Id"] = session
        connection.request(method, "/mcp", json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()

    def open(self, capabilities=None):
        """An initialized session: its `Mcp-Session-Id`, the response, and the messages in it."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities or {},
            "clientInfo": {"name": "limits", "version": "1"},
        }
        response = self.request("POST", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        said = messages(response)
        session = response.getheader("mcp-session-id")
        if session:
            self.request("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, session).read()
        return session, response, said

    def call(self, session, tool, number=1, **values):
        params = {"name": tool, "arguments": values}
        body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        response = self.request("POST", body, session)
        return response, messages(response)

    def text(self, session, tool, **values):
        _, said = self.call(session, tool, **values)
        return said[-1]["result"]["content"][0]["text"]

    def in_background(self, *call, **values):
        seen = {}
        thread = threading.Thread(target=lambda: seen.update(said=self.call(*call, **values)[1]))
        thread.start()
        return thread, seen


def messages(response):
    text = response.read().decode()
    if "event-stream" in (response.getheader("content-type") or ""):
        return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ") and line[6:].strip()]
    return [json.loads(text)] if text.strip() else []


def error(said):
    return said[-1].get("error", {}) if said else {}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def most_sessions():
    with Proxy("--max-sessions", "2") as proxy:
        first, _, _ = proxy.open()
        second, _, _ = proxy.open()
        none, response, said = proxy.open()
        check("the third of two sessions gets 503", response.status == 503 and none is None, response.status)
        check("with Retry-After", (response.getheader("retry-after") or "").isdigit(), response.getheaders())
        check("and a message that names sessions", "session" in error(said).get("message", ""), said)
        check("the others work", proxy.text(second, "echo", x=1) != "")
        check("DELETE is 2xx", proxy.request("DELETE", session=first).status // 100 == 2)
        check("then the session is 404", proxy.call(first, "echo")[0].status == 404)
        check("and there is room again", proxy.open()[1].status == 200)
        proxy.process.terminate()
        check("SIGTERM ends it well", proxy.process.wait(20) == 0, proxy.process.returncode)
        check("and leaves no scratch folder", proxy.scratch() == [], proxy.scratch())


def idleness():
    with Proxy("--idle-timeout", "2s") as proxy:
        idle, _, _ = proxy.open()
        busy, _, _ = proxy.open()
        thread, seen = proxy.in_background(busy, "sleep_ms", ms=6000)
        time.sleep(3.9)
        check("an idle session is gone within two seconds more", proxy.call(idle, "echo")[0].status == 404)
        thread.join()
        check("a call of six seconds is not touched", "result" in seen["said"][-1], seen)
        check("nor is its session", proxy.call(busy, "echo")[0].status == 200)


def sizes():
    with Proxy("--max-message-size", "24MiB") as proxy:
        session, _, _ = proxy.open()
        response, said = proxy.call(session, "big", bytes=20_000_000)
        check("a result of 20 MB passes", len(said[-1]["result"]["content"][0]["text"]) == 20_000_000, response.status)
        _, said = proxy.call(session, "big", bytes=40_000_000)
        check("one over the limit is an error", error(said).get("code") == -31014, said)
        response, said = proxy.call(session, "echo", x="y" * 30_000_000)
        check("a request over the limit is 413", response.status == 413 and error(said).get("code") == -31014, said)
        check("and the session lives", proxy.call(session, "echo")[0].status == 200)


def death():
    with Proxy() as proxy:
        dying, _, _ = proxy.open()
        other, _, _ = proxy.open()
        thread, seen = proxy.in_background(dying, "sleep_ms", number=7, ms=20_000)
        time.sleep(0.3)
        begun = time.monotonic()
        _, said = proxy.call(dying, "crash", code=7)
        thread.join()
        check("every call in flight is told at once", time.monotonic() - begun < 2)
        for name, answer in (("the deadly one", said), ("the other one", seen["said"])):
            text = error(answer).get("message", "")
            check(f"{name} hears of exit and loss", "exited" in text and "lost" in text and " 7" in text, answer)
            check(f"{name} has typed data", error(answer).get("data", {}).get("exit") == {"code": 7}, answer)
        check("the session is 404", proxy.call(dying, "echo")[0].status == 404)
        check("the others notice nothing", proxy.call(other, "echo")[0].status == 200)
    with Proxy(command=("/does/not/exist",)) as proxy:
        _, _, said = proxy.open()
        check("a program that does not exist is named", "not found" in error(said).get("message", ""), said)
    with Proxy(command=("sh", "-c", "echo out of coffee >&2; exit 3")) as proxy:
        none, _, said = proxy.open()
        text = error(said).get("message", "")
        check("a server that fails at once says why", "status 3" in text and "out of coffee" in text, said)
        check("and opens no session", none is None, none)


def drain():
    with Proxy("--drain", "5s") as proxy:
        session, _, _ = proxy.open()
        thread, seen = proxy.in_background(session, "sleep_ms", ms=1500)
        time.sleep(0.3)
        proxy.process.terminate()
        # A parent that passes the signal on, and the group that gets it as well, are no second wish.
        time.sleep(0.1)
        proxy.process.terminate()
        time.sleep(0.2)
        _, response, _ = proxy.open()
        check("while it drains a new client gets 503", response.status == 503, response.status)
        thread.join()
        check("a call in flight may end", "result" in seen["said"][-1], seen)
        check("then it exits with 0", proxy.process.wait(20) == 0, proxy.process.returncode)
    with Proxy("--drain", "1s") as proxy:
        session, _, _ = proxy.open()
        thread, seen = proxy.in_background(session, "sleep_ms", ms=20_000)
        time.sleep(0.3)
        proxy.process.terminate()
        thread.join()
        check("one that takes longer is told why", error(seen["said"]).get("code") == -31016, seen)
        check("and it exits with 0 all the same", proxy.process.wait(20) == 0, proxy.process.returncode)


def sigkill():
    with Proxy() as proxy:
        session, _, _ = proxy.open()
        detached = int(re.search(r"\d+", proxy.text(session, "spawn", seconds=1000)).group())
        check("a detached grandchild runs", alive(detached))
        proxy.request("DELETE", session=session).read()
        check("DELETE ends it too", eventually(lambda: not alive(detached)))
        session, _, _ = proxy.open()
        detached = int(re.search(r"\d+", proxy.text(session, "spawn", seconds=1000)).group())
        proxy.process.send_signal(signal.SIGKILL)
        proxy.process.wait()
        check("and so does SIGKILL of sessile", eventually(lambda: not alive(detached)))
        check("which leaves no scratch folder", eventually(lambda: proxy.scratch() == []), proxy.scratch())


def silent_readers():
    """Clients that ask for a flood and a server request each, and never read a byte of it."""
    with Proxy() as proxy:
        deaf = []
        for _ in range(2):
            session, _, _ = proxy.open({"elicitation": {}})
            for number, tool, values in ((1, "flood", {"count": 20_000, "bytes": 2000}), (2, "ask", {"message": "?"})):
                params = {"name": tool, "arguments": values}
                body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
                raw = socket.create_connection(("127.0.0.1", proxy.port))
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nMcp-Session-Id: {session}\r\nAccept: {BOTH}\r\n"
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                raw.sendall((head + body).encode())
                deaf.append(raw)
        session, _, _ = proxy.open()
        time.sleep(1.5)
        slowest = 0.0
        for _ in range(200):
            begun = time.monotonic()
            proxy.call(session, "echo", x=1)
            slowest = max(slowest, time.monotonic() - begun)
        check("clients that do not read slow no other", slowest < 1, slowest)
        with open(f"/proc/{proxy.process.pid}/status") as status:
            peak = int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))
        # The flood is 80 MB; two sessions may hold 4 MiB of it each, and the sockets what the kernel gives them.
        check("and memory stays bounded", peak < 60_000, f"{peak} KB")
        for raw in deaf:
            raw.close()
        proxy.process.terminate()
        check("it ends well all the same", proxy.process.wait(30) == 0, proxy.process.returncode)


def command_line():
    run = lambda *words: subprocess.run([SESSILE, *words], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    seen = run("serve", "--listen", "0.0.0.0:0")
    check("listening for everybody must be asked for", seen.returncode == 2 and "--insecure-no-auth" in seen.stderr, seen)
    seen = run("serve", "--idle-timeout", "soon")
    check("a bad option is explained", seen.returncode == 2 and "30s" in seen.stderr, seen)
    with Proxy() as proxy:
        seen = run("serve", "--listen", f"127.0.0.1:{proxy.port}")
        check("an address in use is exit 1", seen.returncode == 1 and "cannot listen" in seen.stderr, seen)
    check("help has examples", "EXAMPLES" in run("serve", "--help").stdout)
    check("stdio without a client ends well", run("stdio").returncode == 0)
    initialize = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize}) + "\n"
    words = [SESSILE, "stdio", "--", "sh", "-c", "exit 4"]
    seen = subprocess.run(words, input=line, capture_output=True, text=True, timeout=30)
    check("stdio tells of a server that exits by exit 3", seen.returncode == 3, seen)
    check("and on its stdout by an error", json.loads(seen.stdout)["error"]["code"] == -31011, seen)
    seen = subprocess.run([SESSILE, "stdio"], input=line, capture_output=True, text=True, timeout=30)
    check("what was piped in is answered before it ends", json.loads(seen.stdout)["id"] == 0, seen)


def deaf_server():
    """The end of stdin lies behind more than a server that does not read will ever take."""
    words = [SESSILE, "stdio", "--drain", "1s", "--log", "warn", "--", "sh", "-c", "sleep 1000"]
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.set_blocking(client.stdin.fileno(), False)
    line = (json.dumps({"jsonrpc": "2.0", "method": "notifications/vendor", "params": {"x": "y" * 10_000}}) + "\n").encode()
    full = time.monotonic() + 20
    stuck = 0
    while stuck < 20 and time.monotonic() < full:
        try:
            os.write(client.stdin.fileno(), line)
            stuck = 0
        except BlockingIOError:
            stuck += 1
            time.sleep(0.05)
    check("a server that does not read holds its client up", stuck == 20)
    client.stdin.close()
    try:
        client.wait(15)
    except subprocess.TimeoutExpired:
        client.kill()
    check("and yet does not outlive it", client.returncode == 0, client.returncode)


def unread_log():
    """A stderr that nobody reads, and one that is closed: neither may hold anybody up."""
    for closed in (False, True):
        what = "closed" if closed else "unread"
        words = [SESSILE, "serve", "--listen", "127.0.0.1:0", "--log", "info", "--", REFERENCE, "stdio"]
        proxy = Proxy.__new__(Proxy)
        proxy.folder = tempfile.TemporaryDirectory()
        proxy.process = subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": proxy.folder.name})
        line = proxy.process.stderr.readline().decode()
        proxy.port = int(re.search(r":(\d+)/mcp", line).group(1))
        if closed:
            proxy.process.stderr.close()
        with proxy:
            session, _, _ = proxy.open()
            for _ in range(80):
                proxy.call(session, "noise", to="stderr", text="z" * 3000)
            check(f"with stderr {what}, a noisy server works on", proxy.call(session, "echo")[0].status == 200)
            check(f"with stderr {what}, a new client is served", proxy.open()[1].status == 200)
            proxy.process.terminate()
            try:
                proxy.process.wait(15)
            except subprocess.TimeoutExpired:
                pass
            check(f"with stderr {what}, SIGTERM ends it", proxy.process.returncode == 0, proxy.process.returncode)


def closed_input():
    script = (
        "import json, os, sys, time\n"
        "asked = json.loads(sys.stdin.readline())\n"
        "result = {'protocolVersion': '2025-11-25', 'capabilities': {}, 'serverInfo': {'name': 'x', 'version': '1'}}\n"
        "print(json.dumps({'jsonrpc': '2.0', 'id': asked['id'], 'result': result}), flush=True)\n"
        "os.close(0)\n"
        "time.sleep(60)\n"
    )
    with Proxy(command=("python3", "-c", script)) as proxy:
        session, _, _ = proxy.open()
        time.sleep(0.3)
        begun = time.monotonic()
        response, said = proxy.call(session, "echo")
        lost = response.status == 404 or error(said).get("code") == -31010
        check("a server that takes no more input is an error at once", lost and time.monotonic() - begun < 5, said)


def early_refusals():
    with Proxy() as proxy:
        for name, session, accept, status in (("404", "0" * 64, BOTH, 404), ("406", None, "text/html", 406)):
            body = {"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"x": "y" * 20_000_000}}
            try:
                seen = proxy.request("POST", body, session, accept).status
            except OSError as problem:
                seen = problem
            check(f"{name} reaches a client that is still sending", seen == status, seen)


for part in (most_sessions, idleness, sizes, death, drain, sigkill, silent_readers, command_line, deaf_server, unread_log, closed_input,
             early_refusals):
    try:
        part()
    except Exception as problem:  # noqa: BLE001 - one part that breaks must not hide the others
        check(part.__name__, False, repr(problem))
print(f"limits: {passed} passed, {failed} failed")
raise SystemExit(1 if failed else 0)
