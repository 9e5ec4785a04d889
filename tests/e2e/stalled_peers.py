"""What `stalled.py` works with: a sessile whose memory is watched, clients that read, clients that do not, and a pump.

The standard library alone. A client that stalls is a bare socket with the smallest buffers that the kernel gives, so that what
is not read stays with sessile. What is written to peers that may not read goes through one `Pump`, which never blocks.
"""

import glob
import http.client
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = (sys.executable, "-I", "-S", os.path.join(HERE, "stalled_server.py"))
MIB = 1 << 20
BOTH = "application/json, text/event-stream"
# How long a well-behaved client waits for one thing, before it is counted as not served.
PATIENCE = 10.0
TAG = "STALLED_RUN"


def message(method, params=None, id=None):
    """One JSON-RPC message as bytes, without spaces and with the id in front: the scripted server relies on both."""
    whole = {"jsonrpc": "2.0"} | ({} if id is None else {"id": id}) | {"method": method}
    return json.dumps(whole | ({} if params is None else {"params": params}), separators=(",", ":")).encode()


def call(tool, id=1, **arguments):
    return message("tools/call", {"name": tool, "arguments": arguments}, id)


def initialize(filler=0):
    about = {"name": "stalled", "version": "1"} | ({"title": "t" * filler} if filler else {})
    return message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about}, 0)


INITIALIZED = message("notifications/initialized")


def head(method, length=None, session=None, path="/mcp", accept=BOTH, **more):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Accept: {accept}"]
    if length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    if session:
        lines.append(f"Mcp-Session-Id: {session}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(body, session=None, path="/mcp"):
    return head("POST", len(body), session, path) + body


class Answer:
    """What came of one request within the time it was given. `whole` says that the end of it came too."""

    def __init__(self):
        self.status, self.session, self.body, self.whole = 0, None, b"", False

    def messages(self):
        texts = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")] or [self.body]
        said = []
        for text in texts:
            try:
                said.append(json.loads(text))
            except ValueError:  # what was cut off, and the empty event that primes a stream
                pass
        return said

    def error(self):
        said = self.messages()
        return said[-1].get("error", {}) if said else {}

    def __str__(self):
        return f"{self.status}, {len(self.body)} bytes, {'whole' if self.whole else 'cut off'}: {self.body[-200:]!r}"


def request(port, method, body=None, session=None, path="/mcp", patience=PATIENCE, **more):
    """One request by a client that reads, on a connection of its own."""
    answer = Answer()
    end = time.monotonic() + patience
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    headers = {"Accept": BOTH} | ({"Mcp-Session-Id": session} if session else {})
    headers |= {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, body, headers | {name.replace("_", "-"): value for name, value in more.items()})
        read_response(connection.sock, answer, end, connection.getresponse())
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return answer


def read_response(sock, answer, end, response):
    answer.status, answer.session = response.status, response.getheader("mcp-session-id")
    pieces = []
    try:
        while time.monotonic() < end:
            sock.settimeout(max(0.01, end - time.monotonic()))
            piece = response.read1(MIB)
            if not piece:
                answer.whole = response.isclosed() or response.length in (None, 0)
                break
            pieces.append(piece)
    finally:
        answer.body = b"".join(pieces)


class Stalled:
    """A connection whose client says something and does not read what comes of it, until it is asked to."""

    def __init__(self, port, said=b""):
        self.sock, self.heard = socket.socket(), b""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        if said:
            self.sock.sendall(said)

    def read(self, patience, method="POST"):
        """Reads what has come of the one request that was made."""
        answer = Answer()
        end = time.monotonic() + patience
        self.sock.settimeout(patience)
        # Through the smallest window, megabytes would take minutes.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        response = http.client.HTTPResponse(self.sock, method=method)
        try:
            response.begin()
            read_response(self.sock, answer, end, response)
        except (OSError, http.client.HTTPException):
            # A connection that was cut is an end too; one that says nothing is not.
            answer.whole = time.monotonic() < end
        return answer

    def first_event(self):
        """Reads up to the first message, and says the id of the last event that came."""
        while b"data: {" not in self.heard:
            piece = self.sock.recv(4096)
            if not piece:
                raise OSError("the stream ended before its first message")
            self.heard += piece
        return re.findall(rb"id: (\S+)", self.heard)[-1].decode()

    def hear(self):
        """What has come up to now, as it stands on the wire."""
        self.sock.setblocking(False)
        try:
            while piece := self.sock.recv(MIB):
                self.heard += piece
        except OSError:
            pass
        return self.heard

    def close(self):
        self.sock.close()


class Sse(Stalled):
    """A client of HTTP+SSE: its stream is this connection."""

    def __init__(self, port):
        super().__init__(port, head("GET", path="/sse", accept="text/event-stream"))
        self.port, self.seen = port, b""
        self.path = self._until(rb"data: (/messages\?\S+)").decode()
        self.say(initialize())
        self._until(rb'("result")')
        self.say(INITIALIZED)

    def _until(self, pattern):
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            piece = self.sock.recv(4096) if time.monotonic() < end else b""
            if not piece:
                raise OSError(f"the stream ended, or said no {pattern}")
            self.seen += piece
        return found.group(1)

    def say(self, body, patience=PATIENCE):
        return request(self.port, "POST", body, path=self.path, patience=patience)


class Pump:
    """Writes to many peers at once, and waits for none of them. What it writes is shared, not copied."""

    def __init__(self):
        self.selector, self.lock, self.stop = selectors.DefaultSelector(), threading.Lock(), False
        self.moved, self.open = 0, 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, descriptor, pieces, discard=False):
        """Writes the pieces to the descriptor; `discard` reads what is answered, and throws it away."""
        os.set_blocking(descriptor, False)
        pieces = iter(pieces)
        state = {"pieces": pieces, "view": memoryview(next(pieces)), "discard": discard}
        with self.lock:
            self.open += 1
            self.selector.register(descriptor, selectors.EVENT_WRITE | (selectors.EVENT_READ if discard else 0), state)

    def _run(self):
        while not self.stop:
            with self.lock:
                ready = self.selector.select(0)
                for key, _ in ready:
                    self._move(key.fd, key.data)
            # Paused while there is nothing to be done, and for a moment otherwise: the measuring clients need their turn.
            time.sleep(0.0005 if ready else 0.02)

    def _move(self, descriptor, state):
        try:
            if state["discard"]:
                self._discard(descriptor)
            sent = os.write(descriptor, state["view"][: MIB // 4])
            self.moved += sent
            state["view"] = state["view"][sent:] or memoryview(next(state["pieces"]))
        except BlockingIOError:
            pass
        except (OSError, StopIteration):
            self._forget(descriptor)

    @staticmethod
    def _discard(descriptor):
        try:
            os.read(descriptor, MIB)
        except BlockingIOError:
            pass

    def _forget(self, descriptor):
        try:
            self.selector.unregister(descriptor)
            self.open -= 1
        except KeyError:
            pass

    def settle(self, patience=15.0):
        """Waits until all is written, or for a second nothing more has been taken."""
        end = time.monotonic() + patience
        while time.monotonic() < end and self.open:
            moved = self.moved
            time.sleep(1)
            if self.moved == moved:
                return

    def close(self):
        self.stop = True
        self.thread.join()
        self.selector.close()


class Watched:
    """A process of sessile, marked so that all that descends from it can be found, and killed, by that mark alone."""

    def _start(self, words, **pipes):
        self.folder = tempfile.TemporaryDirectory()
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, "TMPDIR": self.folder.name, TAG: self.mark}
        self.process = subprocess.Popen(words, env=environment, **pipes)
        self.pump, self.held, self.resident = Pump(), [], (0.0, 0.0)
        threading.Thread(target=self._sample, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pump.close()
        for one in self.held:
            one.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        end = time.monotonic() + 15
        while (left := self.others()) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.folder.cleanup()

    def others(self):
        """The ids of all processes with the mark, but for sessile itself."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            pid = int(path.split("/")[2])
            try:
                with open(path, "rb") as environ:
                    marked = f"{TAG}={self.mark}".encode() in environ.read()
            except OSError:
                continue
            if marked and pid != self.process.pid:
                found.append(pid)
        return found

    def _sample(self):
        while self.process.returncode is None:
            self.memory()
            time.sleep(0.1)

    def memory(self):
        """Resident now, and at most since the start, in MiB; what was seen last, if sessile has exited."""
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                text = status.read()
        except OSError:
            return self.resident
        found = [re.search(rf"{name}:\s+(\d+)", text) for name in ("VmRSS", "VmHWM")]
        if all(found):
            self.resident = tuple(int(one.group(1)) / 1024 for one in found)
        return self.resident

    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return 0


class Proxy(Watched):
    """sessile serve, in front of the scripted server."""

    def __init__(self, sessile, *options):
        words = [sessile, "serve", "--listen", "127.0.0.1:0", "--log", "error", *options, "--", *SERVER]
        self._start(words, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/mcp", line).group(1))
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def ask(self, body, session=None, patience=PATIENCE):
        return request(self.port, "POST", body, session, patience=patience)

    def open(self, filler=0, patience=PATIENCE):
        """The `Mcp-Session-Id` of a new session, or nothing if it could not be opened in time."""
        session = self.ask(initialize(filler), patience=patience).session
        if session:
            self.ask(INITIALIZED, session, patience)
        return session

    def open_many(self, count):
        with ThreadPoolExecutor(8) as pool:
            sessions = list(pool.map(lambda _: self.open(patience=60), range(count)))
        if None in sessions:
            raise OSError(f"only {len([one for one in sessions if one])} of {count} sessions could be opened")
        return sessions

    def answers(self, session, patience=PATIENCE):
        """Whether a small request of this session is answered."""
        said = self.ask(message("tools/list", id=9), session, patience).messages()
        return bool(said) and "result" in said[-1]

    def delete_many(self, sessions):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: request(self.port, "DELETE", session=one), sessions))

    def stall(self, said=b""):
        """A connection that is not read; it is closed with the proxy, at the latest."""
        self.held.append(Stalled(self.port, said))
        return self.held[-1]

    def push(self, pieces, discard=False):
        """A connection that is written to as fast as sessile reads it, and that is not read."""
        stalled = self.stall()
        self.pump.add(stalled.sock.fileno(), pieces, discard)
        return stalled

    def leave(self):
        """All clients that stall go away at once."""
        self.pump.close()
        for one in self.held:
            one.close()
        self.held, self.pump = [], Pump()


class Stdio(Watched):
    """sessile stdio, in front of the scripted server. Nobody reads its stdout, unless `read` is called."""

    def __init__(self, sessile, *options):
        words = [sessile, "stdio", "--log", "error", *options, "--", *SERVER]
        self._start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.process.stdin.write(initialize() + b"\n")
        self.process.stdin.flush()
        self.read()
        self.process.stdin.write(INITIALIZED + b"\n")
        self.process.stdin.flush()

    def read(self):
        return self.process.stdout.readline()

    def push(self, pieces):
        self.pump.add(self.process.stdin.fileno(), pieces)
