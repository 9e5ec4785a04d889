"""A server on stdio that behaves as badly as it is asked to, for `stalled.py`. Start it with `python3 -I -S`.

It imports nothing that takes time to load, because three hundred of it run at once: hence it reads no JSON, but finds what it
needs in the text, which `stalled.py` writes without spaces. Its tools and their arguments:

    echo                        answers with what came
    flood   count, bytes        as many notifications of so many bytes, then the response
    large   bytes               a response of so many bytes
    never                       no response at all
    deaf                        a response, and nothing is read from then on
    half    bytes               the beginning of a response; its end comes with the next request
    noise   kind, count, bytes, first
                                `first` notifications of 1000 bytes, then `count` lines of so many bytes, then the response. The
                                lines are garbage (0), responses that nobody asked for (1), or notifications (2)
"""

import os
import time

# So much is collected before it is written.
MOST = 1 << 16
ABOUT = (
    b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},'
    b'"serverInfo":{"name":"stalled","version":"1"}}'
)


def lines():
    """The lines of stdin. A long one is collected in pieces, and searched once."""
    rest = []
    while piece := os.read(0, 1 << 20):
        *whole, last = piece.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest = []
        rest.append(last)


def write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view[: 1 << 20]) :]


def after(line, key, until=b",}"):
    """What stands behind a key of one word or number, up to the next comma or brace."""
    begin = line.find(b'"' + key + b'":')
    if begin < 0:
        return b""
    begin += len(key) + 3
    ends = [end for end in (line.find(bytes([mark]), begin) for mark in until) if end >= 0]
    return line[begin : min(ends)].strip(b'"')


def number(line, key):
    return int(after(line, key) or 0)


def answer(id, text):
    write(b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"%b"}]}}\n' % (id, text))


def flood(count, size):
    filler = b"n" * size
    said = []
    held = 0
    for at in range(count):
        line = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":{"at":%d,"filler":"%b"}}}\n'
        said.append(line % (at, filler))
        held += size
        if held > MOST:
            write(b"".join(said))
            said, held = [], 0
    write(b"".join(said))


def noise(kind, count, size):
    line = (
        b"this is no message: %b\n",
        b'{"jsonrpc":"2.0","id":999999999,"result":{"filler":"%b"}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%b"}}\n',
    )[kind] % (b"g" * size)
    together = max(1, MOST // len(line))
    block = line * together
    for _ in range(0, count, together):
        write(block)


def call(line, id):
    tool = after(line, b"name")
    if tool == b"echo":
        begin = line.find(b'"text":"') + 8
        answer(id, line[begin : line.find(b'"', begin)])
    elif tool == b"flood":
        flood(number(line, b"count"), number(line, b"bytes"))
        answer(id, b"flooded")
    elif tool == b"large":
        answer(id, b"l" * number(line, b"bytes"))
    elif tool == b"deaf":
        answer(id, b"deaf")
        while True:
            time.sleep(1000)
    elif tool == b"half":
        write(b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"' % id + b"h" * number(line, b"bytes"))
    elif tool == b"noise":
        flood(number(line, b"first"), 1000)
        noise(number(line, b"kind"), number(line, b"count"), number(line, b"bytes"))
        answer(id, b"noisy")
    elif tool != b"never":
        answer(id, b"there is no such tool")


def main():
    is_half = False
    for line in lines():
        head = line[:200]
        if is_half:
            write(b'"}]}}\n')
        is_half = b'"name":"half"' in head
        id = after(head, b"id")
        if b'"method":"initialize"' in head:
            write(b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (id, ABOUT))
        elif b'"method":"tools/call"' in head:
            call(line, id)
        elif id and b'"method"' in head:
            write(b'{"jsonrpc":"2.0","id":%b,"result":{}}\n' % id)


try:
    main()
except BrokenPipeError:
    pass
