#!/usr/bin/env python3
"""Clients and servers that stall, against the release binary: whom they slow, and how much memory they get it to hold.

    python3 stalled.py [--sessile PATH] [--list] [SCENARIO...]      all scenarios, or only those named

Each scenario measures what a session that does nothing wrong gets (500 notifications and their response in an old session and in
a new one, 16 parallel calls of 20 KB), first alone and then beside those that stall; and the resident memory and descriptors of
sessile itself. `SESSILE_E2E=full` takes the sizes that the project promises. The last line is `stalled: N passed, N failed`.
"""

import argparse
import itertools
import json
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from stalled_checks import (
    FULL,
    WITHOUT_SESSION,
    LARGEST,
    ONE_SESSION,
    OWN,
    STALL,
    Others,
    bound,
    check,
    empties,
    eventually,
    figures,
    grows,
    heard,
    settle_and_check,
    stalls,
    totals,
    within,
)
from stalled_peers import MIB, PATIENCE, Proxy, Sse, Stdio, call, head, message, post, request

HERE = os.path.dirname(os.path.abspath(__file__))
RELEASE = os.path.join(HERE, "..", "..", "target", "release")
parser = argparse.ArgumentParser()
parser.add_argument("--sessile", default=os.environ.get("SESSILE_BIN", os.path.join(RELEASE, "sessile")))
parser.add_argument("--list", action="store_true", help="name the scenarios")
parser.add_argument("scenarios", nargs="*")
arguments = parser.parse_args()
SESSILE = os.path.abspath(arguments.sessile)

# The sizes with which other sessions were found to starve, and the largest that is promised.
CROWD = 300 if FULL else 70
# Of servers it takes some more, because pipes take a part of what they do not read.
SERVERS = 300 if FULL else 100


def clients_that_do_not_read():
    """Each has called a tool that says 20 MB before its response."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        figures(proxy, "at first")
        sessions = proxy.open_many(CROWD)
        figures(proxy, f"with {CROWD} sessions")
        for session in sessions:
            proxy.stall(post(call("flood", count=20_000, bytes=1000), session))
        stalls(proxy, others, f"{CROWD} clients that do not read", CROWD, CROWD)
        empties(proxy, [*sessions, others.old])


def sse_clients_that_do_not_read():
    """The same on HTTP+SSE, where the stream is the session."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        with ThreadPoolExecutor(8) as pool:
            proxy.held += pool.map(lambda _: Sse(proxy.port), range(CROWD))
        for client in proxy.held:
            client.say(call("flood", count=20_000, bytes=1000))
        stalls(proxy, others, f"{CROWD} clients of HTTP+SSE that do not read", CROWD, CROWD)
        empties(proxy, [others.old])


def servers_that_do_not_read():
    """Each is sent 8 MB of notifications, and four requests of 100 KB. Larger ones would leave more of the room unused."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        sessions = proxy.open_many(SERVERS)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: proxy.ask(call("deaf"), one), sessions))
        notification = message("notifications/vendor", {"x": "y" * 20_000})
        for session in sessions:
            proxy.push(itertools.repeat(post(notification, session), 400), discard=True)
            for number in range(4):
                proxy.push([post(call("echo", number + 2, text="y" * 100_000), session)])
        proxy.pump.settle()
        print(f"     {proxy.pump.moved / MIB:.0f} MiB were taken", flush=True)
        stalls(proxy, others, f"{SERVERS} servers that do not read", SERVERS, 5 * SERVERS)
        empties(proxy, [*sessions, others.old])


def unread_responses():
    """Forty responses of 20 MB in each of several sessions: a connection for each, or one for all on HTTP+SSE."""
    count = 12 if FULL else 6
    for front in ("HTTP", "HTTP+SSE"):
        with Proxy(SESSILE) as proxy:
            others = Others(proxy)
            sessions = proxy.open_many(count) if front == "HTTP" else []
            clients = [] if sessions else [Sse(proxy.port) for _ in range(count)]
            proxy.held += clients
            for number in range(40):
                large = call("large", number + 1, bytes=20_000_000)
                for session in sessions:
                    proxy.stall(post(large, session))
                for client in clients:
                    client.say(large, 1)
            eventually(lambda: not grows(proxy), 30)
            stalls(proxy, others, f"{40 * count} responses of 20 MB, unread, on {front}", count, 41 * count)
            empties(proxy, [*sessions, others.old])


def half_a_body(size, session=None):
    """A request whose last megabyte never comes. The memory that it is sent from is shared by all."""
    size -= MIB
    text = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"'
    yield head("POST", size + MIB, session) + text
    yield from itertools.repeat(FILLER, (size - len(text)) // len(FILLER))


FILLER = b"f" * MIB
# Four of these fill a room of 256 MiB.
HUGE = LARGEST * MIB - 100


def half_sent_bodies():
    """63 MiB in each session."""
    count = 40 if FULL else 16
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        sessions = proxy.open_many(count)
        for session in sessions:
            proxy.push(half_a_body(HUGE, session))
        proxy.pump.settle()
        print(f"     {proxy.pump.moved / MIB:.0f} MiB were taken", flush=True)
        stalls(proxy, others, f"{count} half-sent bodies of 63 MiB", count, count)
        empties(proxy, [*sessions, others.old])


def bodies_without_a_session():
    """Four of 64 MiB and a hundred of 4 MB, which are not sent to their end."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        alone = opening(proxy)
        for count, size in ((4, HUGE), (100, 4_000_000)):
            what = f"beside {count} half-sent bodies of {size // 1_000_000} MB without a session"
            for _ in range(count):
                proxy.push(half_a_body(size))
            proxy.pump.settle()
            check_opening(proxy, what, alone)
            others.served(what)
            within(proxy, what, bound(6, count + 16, WITHOUT_SESSION))
            time.sleep(STALL)
            check_opening(proxy, f"{STALL} s later", alone)
            proxy.leave()
        empties(proxy, [others.old])


def opening(proxy):
    """How long an `initialize` of a hundred kilobytes takes, or nothing if it is not answered."""
    begun = time.monotonic()
    session = proxy.open(100_000, patience=20)
    seconds = time.monotonic() - begun
    request(proxy.port, "DELETE", session=session or "none")
    return seconds if session else None


def check_opening(proxy, when, alone):
    seconds = opening(proxy)
    said = f"{seconds:.2f} s" if seconds else "not in 20 s"
    print(f"     initialize of 100 KB: {alone:.2f} s alone, {said} {when}", flush=True)
    # Those that stall may be given five seconds to go on.
    check(f"{when}, initialize of 100 KB is answered", seconds and seconds < 6 + alone, said)


def long_id(size=60_000_000):
    """A request whose id is nearly as long as a message may be, in pieces that share their memory."""
    count = size // MIB
    begin, end = b'{"jsonrpc":"2.0","id":"', b'","method":"tools/list"}'
    return len(begin) + count * MIB + len(end), itertools.chain([begin], itertools.repeat(FILLER, count), [end])


def push_long_ids(proxy, count, session=None, path="/mcp"):
    for _ in range(count):
        length, pieces = long_id()
        proxy.push(itertools.chain([head("POST", length, session, path)], pieces))


def small_answer(proxy, when, session=None):
    """What the client of one more such request is told, when it reads."""
    body = b'{"jsonrpc":"2.0","id":"' + b"i" * 2000 + b'","method":"tools/list"}'
    answer = proxy.ask(body, session)
    said = answer.messages()
    null = bool(said) and "id" in said[-1] and said[-1]["id"] is None
    check(f"an id of 2 KB {when} is refused with id null", null and answer.error(), answer)


def long_ids():
    """Ten ids of 60 MB, whose answers nobody reads: without a session, in one, and on HTTP+SSE."""
    with Proxy(SESSILE) as proxy:
        push_long_ids(proxy, 10)
        settle_and_check(proxy, "ten ids of 60 MB without a session", bound(0, 20, WITHOUT_SESSION))
        small_answer(proxy, "without a session")
        empties(proxy, [])
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        session = proxy.open()
        push_long_ids(proxy, 10, session)
        settle_and_check(proxy, "ten ids of 60 MB in a session", bound(2, 20, ONE_SESSION))
        small_answer(proxy, "in a session", session)
        others.served("beside ten ids of 60 MB")
        empties(proxy, [session, others.old])
    with Proxy(SESSILE) as proxy:
        client = Sse(proxy.port)
        proxy.held.append(client)
        push_long_ids(proxy, 10, path=client.path)
        settle_and_check(proxy, "ten ids of 60 MB on HTTP+SSE", bound(1, 20, ONE_SESSION))
        empties(proxy, [])


def long_ids_on_stdio():
    with Stdio(SESSILE) as proxy:
        lines = [itertools.chain(long_id()[1], [b"\n"]) for _ in range(10)]
        proxy.push(itertools.chain.from_iterable(lines))
        settle_and_check(proxy, "ten ids of 60 MB on stdio", bound(1, 0, ONE_SESSION))
        said = eventually_read(proxy)
        check("an id of 60 MB on stdio is refused with id null", said.get("id", 0) is None and "error" in said, said)


def eventually_read(proxy):
    """One line of stdout, but for what is too long to be a refusal."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(proxy.process.stdout.readline(10_000)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    try:
        return json.loads(seen[0])
    except (IndexError, ValueError):
        return {"text": str(seen)[:100]}


def long_tokens():
    """Ten calls that are never answered, with progress tokens of 60 MB."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        session = proxy.open()
        count = 60_000_000 // MIB
        end = b'"},"name":"never","arguments":{}}}'
        for number in range(10):
            begin = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"_meta":{"progressToken":"' % number
            length = len(begin) + count * MIB + len(end)
            whole = [head("POST", length, session) + begin]
            proxy.push(itertools.chain(whole, itertools.repeat(FILLER, count), [end]))
        settle_and_check(proxy, "ten progress tokens of 60 MB", bound(2, 20, ONE_SESSION))
        others.served("beside ten progress tokens of 60 MB")
        empties(proxy, [session, others.old])


def lost_streams():
    """A client of each session goes away in the middle of a flood, and its stream is kept for it."""
    for size in (50, 1000):
        with Proxy(SESSILE) as proxy:
            others = Others(proxy)
            sessions = proxy.open_many(CROWD)
            flood = call("flood", count=2_000_000 // (size + 100), bytes=size)
            events = [proxy.stall(post(flood, one)).first_event() for one in sessions]
            proxy.leave()
            # The servers read one request after the other: when this one is answered, the flood is over.
            with ThreadPoolExecutor(8) as pool:
                living = sum(pool.map(lambda one: proxy.answers(one, 120), sessions))
            check("the sessions of lost streams live", living == CROWD, living)
            what = f"{CROWD} lost streams with messages of {size} bytes"
            others.served(f"beside {what}")
            within(proxy, f"with {what}", bound(CROWD + 2, 16))
            resumed(proxy, sessions[:5], events[:5])
            empties(proxy, [*sessions, others.old])


def resumed(proxy, sessions, events):
    """Whoever comes back gets the response, or hears that it was dropped."""
    answers = [request(proxy.port, "GET", session=one, Last_Event_ID=event) for one, event in zip(sessions, events)]
    good = [b'"result":' in one.body[-500:] or kind(one) == "response_dropped" for one in answers]
    check("who comes back for a lost stream hears how its call ended", all(good), [str(one) for one in answers])


def kind(answer):
    return (answer.error().get("data") or {}).get("type")


def noise_of_servers():
    """Servers say much that no client gets, while their clients do not read."""
    many = 1_000_000 if FULL else 300_000
    for what, kind, count, size, large in (
        ("garbage", 0, many, 100, 0),
        ("responses that nobody asked for", 1, many, 100, 0),
        ("large responses that nobody asked for", 1, 100, 1_000_000, 0),
        ("lines that are too long", 2, 2, 70_000_000, LARGEST),
    ):
        with Proxy(SESSILE) as proxy:
            others = Others(proxy)
            sessions = proxy.open_many(4)
            for session in sessions:
                proxy.stall(post(call("noise", kind=kind, count=count, bytes=size, first=2000), session))
            seen = [others.round() for _ in range(4)]
            slowest, problems = max(took for took, _ in seen), sum((problems for _, problems in seen), [])
            print(f"     others: {others.alone:.2f} s alone, at most {slowest:.2f} s beside {what}", flush=True)
            # Four servers that write as fast as they can leave others their part of two cores, and no more.
            check(f"beside {what}, others get all", not problems, problems)
            check(f"beside {what}, others wait for the work alone", slowest < 4 * others.alone + 4, f"{slowest:.2f} s")
            # The servers read one request after the other: this one behind the noise.
            answered = [proxy.answers(one, 90) for one in sessions]
            check(f"after {what}, each session answers", all(answered), answered)
            within(proxy, f"beside {what}", bound(6, 20, 4 * (2 * OWN + large)))
            empties(proxy, [*sessions, others.old])


def noise_of_clients():
    """Clients post responses that nobody asked for, and what is no message, to servers that do not read."""
    unsolicited = b'{"jsonrpc":"2.0","id":7,"result":{"x":"%b"}}'
    for what, body in (
        ("responses that nobody asked for", unsolicited % (b"y" * 100)),
        ("large responses that nobody asked for", unsolicited % (b"y" * 1_000_000)),
        ("garbage", b"this is no message"),
    ):
        count = max(500_000 // len(body), 100)
        with Proxy(SESSILE) as proxy:
            others = Others(proxy)
            sessions = proxy.open_many(8)
            for session in sessions:
                proxy.ask(call("deaf"), session)
                for _ in range(2):
                    proxy.push(itertools.repeat(post(body, session), count), discard=True)
            proxy.pump.settle(6)
            others.served(f"beside {what}")
            within(proxy, f"beside {what}", bound(10, 40, 8 * 2 * OWN))
            empties(proxy, [*sessions, others.old])
        with Stdio(SESSILE) as proxy:
            proxy.process.stdin.write(call("deaf") + b"\n")
            proxy.process.stdin.flush()
            proxy.read()
            proxy.push(itertools.repeat((body + b"\n") * max(1, MIB // len(body)), 100))
            settle_and_check(proxy, f"{what} on stdio", bound(1, 0, 2 * OWN + LARGEST))


def clients_that_come_back():
    """Who has stalled and reads again gets all, or an error, or the end of its stream: nobody hangs."""
    with Proxy(SESSILE) as proxy:
        sessions = proxy.open_many(70)
        stalled = [proxy.stall(post(call("flood", count=5000, bytes=1000), one)) for one in sessions]
        time.sleep(STALL)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda one: one.read(60), stalled))
        ends = {"complete": 0, "dropped": 0, "ended": 0, "hangs": 0}
        for answer in answers:
            if answer.body.count(b"notifications/message") == 5000 and b'"result":' in answer.body[-500:]:
                ends["complete"] += 1
            elif kind(answer) == "response_dropped":
                ends["dropped"] += 1
            else:
                ends["ended" if answer.whole else "hangs"] += 1
        print(f"     {ends}", flush=True)
        check("a client that reads again does not hang", ends["hangs"] == 0, ends)
        empties(proxy, sessions)


def bodies_that_give_way():
    """A half-sent body that others wait for is given up, and is told so."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        sessions = proxy.open_many(16)
        bodies = [proxy.push(half_a_body(HUGE, one)) for one in sessions]
        given_up = heard(bodies, b"HTTP/1.1 408")
        print(f"     {given_up} of 16 got 408", flush=True)
        # One after another has the memory that a message of this size takes, and gives it back five seconds later.
        check("half-sent bodies that others wait for get 408", given_up >= 4, [one.heard[:100] for one in bodies])
        other = [one.heard[:100] for one in bodies if one.heard and not one.heard.startswith(b"HTTP/1.1 408")]
        check("and none gets anything else", not other, other)
        others.served("after that")
        empties(proxy, [*sessions, others.old])


def lines_that_give_way():
    """A server's half line that others wait for is given up, and its call fails."""
    with Proxy(SESSILE) as proxy:
        others = Others(proxy)
        sessions = proxy.open_many(16)
        halves = [proxy.stall(post(call("half", bytes=62_000_000), one)) for one in sessions]
        eventually(lambda: not grows(proxy), 20)
        others.served("beside 16 half lines of 62 MB")
        failed = heard(halves, b'"error":')
        within(proxy, "with 16 half lines of 62 MB", bound(18, 32))
        print(f"     {failed} of 16 calls failed", flush=True)
        check("calls of half lines that others wait for fail", failed >= 4, [one.heard[-100:] for one in halves])
        # Those that still wait for memory to say the rest of their line can say nothing else before it.
        with ThreadPoolExecutor(16) as pool:
            living = sum(pool.map(lambda one: proxy.answers(one), sessions))
        check("and their sessions live", living >= failed, f"{living} of {failed}")
        empties(proxy, [*sessions, others.old])


SCENARIOS = (
    clients_that_do_not_read,
    sse_clients_that_do_not_read,
    servers_that_do_not_read,
    unread_responses,
    half_sent_bodies,
    bodies_without_a_session,
    long_ids,
    long_ids_on_stdio,
    long_tokens,
    lost_streams,
    noise_of_servers,
    noise_of_clients,
    clients_that_come_back,
    bodies_that_give_way,
    lines_that_give_way,
)


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for scenario in SCENARIOS:
        if arguments.list:
            print(scenario.__name__)
        elif not arguments.scenarios or scenario.__name__ in arguments.scenarios:
            print(f"-- {scenario.__name__}", flush=True)
            begun = time.monotonic()
            try:
                scenario()
            except Exception as problem:  # noqa: BLE001 - one scenario that breaks must not hide the others
                check(scenario.__name__, False, repr(problem))
            print(f"     {time.monotonic() - begun:.0f} s", flush=True)


main()
if not arguments.list:
    print(f"stalled: {totals['passed']} passed, {totals['failed']} failed")
    raise SystemExit(1 if totals["failed"] else 0)
