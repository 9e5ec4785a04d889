"""What `stalled.py` holds sessile to: what others get, in what time, and how much memory it may hold."""

import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from stalled_peers import call, request

FULL = os.environ.get("SESSILE_E2E") == "full"

# What the README promises, in MiB.
BASE = 64
POOLS = 512
SESSION = 128 / 1024
CONNECTION = 64 / 1024
LARGEST = 64
OWN = 4
WITHOUT_SESSION = 32
# The allocator keeps some of what was freed, and rounds up; more than a quarter is a defect.
ALLOWANCE = 1.25

# Longer than it takes until whoever stalls has to give way.
STALL = 22 if FULL else 7
# A session that does nothing wrong may take so much longer beside those that stall; on a slow machine, twice as long.
MORE = 1.0

totals = {"passed": 0, "failed": 0}


def check(name, good, seen=""):
    totals["passed" if good else "failed"] += 1
    print(f"ok   {name}" if good else f"FAIL {name}: {str(seen)[:600]}", flush=True)


def bound(sessions=0, connections=0, shared=POOLS):
    """The most that sessile may have resident, in MiB."""
    return (BASE + shared + SESSION * sessions + CONNECTION * connections) * ALLOWANCE


# One session has, in each direction, one large message and 4 MiB besides.
ONE_SESSION = 2 * (LARGEST + OWN)


def flood_of_500(proxy, session):
    answer = proxy.ask(call("flood", count=500, bytes=1000), session)
    said = answer.messages()
    got = sum(one.get("method") == "notifications/message" for one in said)
    if got == 500 and said and "result" in said[-1]:
        return []
    return [f"{got} of 500 notifications, {'a' if said and 'result' in said[-1] else 'no'} response ({answer})"]


def calls_of_20_kb(proxy, session):
    def one(number):
        text = f"{number:05}" * 4000
        said = proxy.ask(call("echo", number, text=text), session).messages()
        return bool(said) and said[-1].get("result", {}).get("content", [{}])[0].get("text") == text

    with ThreadPoolExecutor(16) as pool:
        answered = sum(pool.map(one, range(1, 17)))
    return [] if answered == 16 else [f"{answered} of 16 parallel calls"]


class Others:
    """The sessions that do nothing wrong: an old one, opened now, and a new one in each round."""

    def __init__(self, proxy):
        self.proxy, self.old = proxy, proxy.open()
        self.alone, problems = self.rounds()
        check("alone, a session gets all", not problems, problems)

    def round(self):
        begun = time.monotonic()
        problems = [f"old: {problem}" for problem in flood_of_500(self.proxy, self.old) + calls_of_20_kb(self.proxy, self.old)]
        new = self.proxy.open()
        if new:
            problems += [f"new: {problem}" for problem in flood_of_500(self.proxy, new)]
            request(self.proxy.port, "DELETE", session=new)
        else:
            problems.append("no new session")
        return time.monotonic() - begun, problems

    def rounds(self):
        seconds = []
        for _ in range(3):
            took, problems = self.round()
            seconds.append(took)
            if problems:
                return max(seconds), problems
        return statistics.median(seconds), []

    def served(self, when):
        most = 2 * self.alone + MORE
        seconds, problems = self.rounds()
        if seconds > most and not problems:
            # Something else on this machine may have taken its turn: who starves is late a second time.
            seconds, problems = self.rounds()
        print(f"     others: {self.alone:.2f} s alone, {seconds:.2f} s {when}", flush=True)
        check(f"{when}, others get all", not problems, problems)
        check(f"{when}, no more than {MORE} s later", seconds < most, f"{seconds:.2f} s, not {self.alone:.2f}")


def figures(proxy, when):
    resident, peak = proxy.memory()
    print(f"     {when}: {resident:.0f} MiB resident, at most {peak:.0f}; {proxy.descriptors()} descriptors", flush=True)
    return resident


def within(proxy, when, most):
    figures(proxy, when)
    peak = proxy.memory()[1]
    check(f"{when}, memory is within the bound of {most:.0f} MiB", peak <= most, f"{peak:.0f} MiB")


def empties(proxy, sessions):
    """When all have left, nothing is left of them: no descriptor, no process."""
    proxy.leave()
    proxy.delete_many(sessions)
    gone = eventually(lambda: not proxy.others(), 20)
    check("when all have left, no process is there", gone, f"{len(proxy.others())} processes")
    # The system allocator keeps much of what it was given: how much is told, and not asserted.
    figures(proxy, "when all have left")
    check("and descriptors are closed", eventually(lambda: proxy.descriptors() < 40), proxy.descriptors())
    proxy.process.terminate()
    try:
        proxy.process.wait(20)
    except subprocess.TimeoutExpired:
        pass
    check("and it ends well", proxy.process.returncode == 0, proxy.process.returncode)


def eventually(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def stalls(proxy, others, what, sessions, connections, shared=POOLS):
    """What holds while somebody stalls: right away, and when those that stall have had to give way."""
    others.served(f"beside {what}")
    time.sleep(STALL)
    others.served(f"{STALL} s later")
    within(proxy, f"beside {what}", bound(sessions + 2, connections + 16, shared))


def grows(proxy):
    before = proxy.memory()[0]
    time.sleep(1)
    return proxy.memory()[0] > before + 8


def heard(clients, wanted, most=12, patience=40):
    """How many hear what is wanted; no longer waited for when it is most of them, because nobody waits for the rest."""
    count = lambda: sum(wanted in one.hear() for one in clients)
    eventually(lambda: count() >= most, patience)
    return count()


def settle_and_check(proxy, what, most):
    proxy.pump.settle()
    time.sleep(1)
    within(proxy, f"with {what}", most)
