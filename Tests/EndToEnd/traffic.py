"""Traffic that notices everything: a server, and a client that keeps a fixed timetable and counts what went wrong.

Runs inside pods (python3 and the standard library only):

    traffic.py serve                              HTTP on port 8000, echo on port 8001
    traffic.py load HOST --seconds 60 --rate 300  prints one JSON object when the time is over
    traffic.py probe HOST --seconds 60            waits for an outage and its end; prints when it was

The client sends `rate` HTTP requests a second by the clock, whether earlier ones were answered or not (but leaves out
those for which UNANSWERED_MAX would wait: a machine that is too slow is not to look like a loss): half of them on
connections of their own, half on kept ones. Beside them it holds `idle` connections that are silent for some seconds and
must then still work, and `streaming` ones that exchange bytes all the time. Every request and answer contains CANARY.
"""

import argparse
import asyncio
import collections
import json
import random
import signal
import socket
import sys
import time

CANARY = b"canary-3f9c1d77"
BODY = CANARY + b"-answer-" + b"x" * 200
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY)
LIMIT = 15.0
UNANSWERED_MAX = 200


# The server

class Http(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.seen = b""

    def data_received(self, data):
        self.seen += data
        while True:
            head, end, rest = self.seen.partition(b"\r\n\r\n")
            if not end:
                return
            self.seen = rest
            self.transport.write(ANSWER)
            if b"Connection: close" in head:
                self.transport.close()
                return


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def serve():
    loop = asyncio.get_running_loop()
    for protocol, port in ((Http, 8000), (Echo, 8001)):
        await loop.create_server(protocol, "0.0.0.0", port, backlog=1024)
    ended = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, lambda: ended.set_result(None))
    await ended


# The client

class Failed(Exception):
    pass


class Load:
    def __init__(self, options):
        self.options = options
        self.kept = []
        self.latencies = []
        self.counts = {"short": 0, "kept": 0, "idle": 0, "streaming": 0}
        self.failures = []
        self.started = time.monotonic()
        self.stopping = False

    def failed(self, kind, error):
        self.failures.append(
            {"kind": kind, "at": round(time.monotonic() - self.started, 3), "clock": time.strftime("%H:%M:%S"),
             "error": f"{type(error).__name__}: {error}"})

    async def connect(self, port):
        return await asyncio.open_connection(self.options.host, port)

    @staticmethod
    def close(writer):
        writer.close()

    async def exchange(self, reader, writer, close):
        writer.write(
            b"GET /" + CANARY + b" HTTP/1.1\r\nHost: server\r\n" + (b"Connection: close\r\n" if close else b"")
            + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Failed(head[:60])
        body = await reader.readexactly(len(BODY))
        if body != BODY:
            raise Failed("another body")
        if close and await reader.read() != b"":
            raise Failed("bytes after the answer")

    async def request(self, kind):
        begun = time.monotonic()
        try:
            if kind == "short":
                reader, writer = await asyncio.wait_for(self.connect(8000), LIMIT)
                try:
                    await asyncio.wait_for(self.exchange(reader, writer, True), LIMIT)
                finally:
                    self.close(writer)
            else:
                # A kept connection lives some seconds; what it carries when it is cut counts as a failure.
                entry = self.kept.pop() if self.kept else None
                if entry is None:
                    reader, writer = await asyncio.wait_for(self.connect(8000), LIMIT)
                    entry = (reader, writer, time.monotonic() + random.uniform(1, self.options.life))
                reader, writer, until = entry
                try:
                    await asyncio.wait_for(self.exchange(reader, writer, False), LIMIT)
                except BaseException:
                    self.close(writer)
                    raise
                if time.monotonic() < until:
                    self.kept.append(entry)
                else:
                    self.close(writer)
            self.counts[kind] += 1
            self.latencies.append(time.monotonic() - begun)
        except (OSError, EOFError, asyncio.TimeoutError, Failed) as error:
            self.failed(kind, error)

    async def hold(self, kind):
        """One connection after the other, each for some seconds."""
        while not self.stopping:
            try:
                reader, writer = await asyncio.wait_for(self.connect(8001), LIMIT)
                try:
                    until = time.monotonic() + random.uniform(1, self.options.life)
                    number = 0
                    while time.monotonic() < until:
                        if kind == "streaming":
                            number = await self.echo(reader, writer, number)
                            await asyncio.sleep(0.1)
                        else:
                            await asyncio.sleep(max(0, until - time.monotonic()))
                    await self.echo(reader, writer, number)
                    writer.write_eof()
                    if await asyncio.wait_for(reader.read(), LIMIT) != b"":
                        raise Failed("bytes that nobody sent")
                finally:
                    self.close(writer)
                self.counts[kind] += 1
            except (OSError, EOFError, asyncio.TimeoutError, Failed) as error:
                self.failed(kind, error)
                await asyncio.sleep(0.2)

    async def echo(self, reader, writer, number):
        sent = b"%s %d %s\n" % (CANARY, number, b"y" * 500)
        writer.write(sent)
        back = await asyncio.wait_for(reader.readexactly(len(sent)), LIMIT)
        if back != sent:
            raise Failed("another echo")
        return number + 1

    async def run(self):
        options = self.options
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: setattr(self, "stopping", True))
        holders = [asyncio.create_task(self.hold("idle")) for _ in range(options.idle)]
        holders += [asyncio.create_task(self.hold("streaming")) for _ in range(options.streaming)]
        requests = set()
        due = time.monotonic()
        end = due + options.seconds
        number = late = skipped = 0
        while time.monotonic() < end and not self.stopping:
            if len(requests) < UNANSWERED_MAX:
                kind = "short" if number % 2 else "kept"
                task = asyncio.create_task(self.request(kind))
                requests.add(task)
                task.add_done_callback(requests.discard)
                number += 1
            else:
                skipped += 1
            due += 1 / options.rate
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                late = max(late, -wait)
                await asyncio.sleep(0)
        sent = time.monotonic()
        self.stopping = True
        await asyncio.gather(*requests, *holders)
        for _, writer, _ in self.kept:
            self.close(writer)
        seconds = time.monotonic() - self.started
        ordered = sorted(self.latencies)

        def at(share):
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1) if ordered else None

        print(json.dumps({
            "seconds": round(seconds, 1), "requests": number, "rate": round(number / (sent - self.started)),
            "skipped": skipped, "counts": self.counts, "failed": len(self.failures), "failures": self.failures[:20],
            "errors": collections.Counter(failure["error"] for failure in self.failures),
            "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1),
            "over_900ms": sum(latency > 0.9 for latency in ordered), "behind_s": round(late, 3)}))


class Probe(Load):
    """One request every 20 ms, each on a connection of its own, until they fail and work again."""

    async def attempt(self):
        reader, writer = await asyncio.wait_for(self.connect(8000), 2)
        try:
            await asyncio.wait_for(self.exchange(reader, writer, True), 2)
        finally:
            self.close(writer)

    async def run(self):
        print("probing", flush=True)
        first = works = None
        failures = 0
        usual = []
        while works is None and time.monotonic() - self.started < self.options.seconds:
            begun = time.monotonic()
            try:
                await self.attempt()
                works = time.time() if first else None
                usual.append(time.monotonic() - begun)
            except (OSError, EOFError, asyncio.TimeoutError, Failed):
                first = first or time.time()
                failures += 1
            await asyncio.sleep(0.02)
        print(json.dumps({"fails_at": first, "works_at": works, "failures": failures, "usual_s": max(usual[:-1])}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["serve", "load", "probe"])
    parser.add_argument("host", nargs="?")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--idle", type=int, default=50)
    parser.add_argument("--streaming", type=int, default=50)
    parser.add_argument("--life", type=float, default=8)
    options = parser.parse_args()
    if options.role == "serve":
        asyncio.run(serve())
        return
    options.host = socket.gethostbyname(options.host)
    client = Load(options) if options.role == "load" else Probe(options)
    asyncio.run(client.run())


if __name__ == "__main__":
    sys.exit(main())
