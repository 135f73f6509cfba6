"""Clients and servers of a TLS relay without TLS: a client sends a hello with a server name, a server
answers with a word, and the client closes.

  traffic.py serve PORT WORD            serves until it is ended
  traffic.py ask NAME WORD              one connection; 0 if WORD comes, else says what came
  traffic.py hold NAME WORD             the same, and keeps it open until it is ended
  traffic.py load NAME WORD RATE        RATE connections a second until SIGTERM; 0 if each got WORD

Connects to port 443 of loopback (PORT in the environment: another), IPv6 and IPv4 in turn.
"""

import asyncio
import collections
import functools
import itertools
import os
import signal
import ssl
import sys
import time

ADDRESSES = itertools.cycle(["::1", "127.0.0.1"])
PORT = int(os.environ.get("PORT", "443"))
# Longer than a restart takes. A client of Fleet Server gives up after 10 s.
PATIENCE = 20


@functools.cache
def hello(name):
    """The bytes that a client sends first."""
    out = ssl.MemoryBIO()
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake without a server")


async def serve(port, word):
    async def answer(reader, writer):
        try:
            head = await reader.readexactly(5)
            await reader.readexactly(int.from_bytes(head[3:5], "big"))
            writer.write(word.encode())
            await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", int(port), backlog=4096)
    await server.serve_forever()


async def ask(name, word):
    """Makes a connection that must get WORD."""
    reader, writer = await asyncio.open_connection(next(ADDRESSES), PORT)
    try:
        # portway takes a few equal hellos that wait for their backend for a loop, so each has its own random.
        own = bytearray(hello(name))
        own[11:43] = os.urandom(32)
        writer.write(own)
        answer = await reader.read(100)
        if answer != word.encode():
            # An alert is 7 bytes, the last of which is its number.
            raise ValueError(f"alert {answer[6]}" if answer[:1] == b"\x15" else f"{answer!r}")
        return writer
    except BaseException:
        writer.close()
        raise


async def load(name, word, rate):
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    ends, waits, tasks = collections.Counter(), [], set()

    async def one():
        begun = time.monotonic()
        try:
            (await asyncio.wait_for(ask(name, word), PATIENCE)).close()
            ends["fine"] += 1
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            # Refused, reset before the first byte, silent for too long, or with another answer.
            ends[f"{type(error).__name__}: {error}"] += 1
        waits.append(time.monotonic() - begun)

    begun = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(begun + number / int(rate) - time.monotonic())
        if ended.is_set():
            break
        task = asyncio.create_task(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    seconds = time.monotonic() - begun
    if tasks:
        await asyncio.wait(tasks)
    print(f"{len(waits)} connections in {seconds:.0f} s, {len(waits) / seconds:.0f} a second: "
          f"{dict(ends)}; the longest took {max(waits):.2f} s")
    return set(ends) == {"fine"} and len(waits) >= 0.9 * seconds * int(rate)


async def main(command, *arguments):
    if command == "serve":
        await serve(*arguments)
    if command == "load":
        return await load(*arguments)
    try:
        writer = await asyncio.wait_for(ask(*arguments), PATIENCE)
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        print(f"{arguments[0]}: {type(error).__name__}: {error}")
        return False
    if command == "hold":
        print("held", flush=True)
        await asyncio.sleep(3600)
    writer.close()
    return True


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(*sys.argv[1:])) else 1)
