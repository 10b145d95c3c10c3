"""Mixed traffic that looks at every answer: HTTP/1.1, HTTP/2, gRPC, WebSocket and lines of text. Runs in a client's pod.

    load.py HOST [HOST ...] --seconds 60 --rate 150 --held 8

`rate` requests a second, by the clock and evenly over the hosts and kinds, and per host `held` connections that exchange
something all the time for a few seconds (half WebSockets, half lines). What each request must get does not depend on time, so
that routes may be edited meanwhile. Of the host app.namespace, /v1/... is answered by a pod app-v1-..., /v2/... by one of v2,
/any/... by either, /edited/... with or without a header X-Edit, /flip/... with 200 or 403, and /forbidden/... with 403 alone;
/mirror gives the body back. Every answer has to name what was asked.

A line of JSON for each failure and wrong answer, when it happens; every 5 s one with counts; one with a summary at the end, which
comes with SIGTERM or after `seconds`.
"""

import argparse
import asyncio
import base64
import collections
import hashlib
import json
import os
import random
import signal
import socket
import sys
import time

sys.path.insert(0, os.environ.get("ECHO_FOLDER", "/opt/echo"))
import grpcecho  # noqa: E402
import h2.config  # noqa: E402
import h2.connection  # noqa: E402
import h2.errors  # noqa: E402
import h2.events  # noqa: E402
import h2.exceptions  # noqa: E402

LIMIT = 20.0
UNANSWERED_MAX = 300
MIRRORED_MAX = 40_000
# Streams of one HTTP/2 connection at a time.
STREAMS_MAX = 20
GOAWAY = 7


class Failed(Exception):
    """No answer, or one that says that there is none."""


class Wrong(Exception):
    """An answer to something else."""


class Refused(Exception):
    """A connection that was kept is not taken any more, and nothing of the request was looked at: it goes elsewhere."""


# What is asked, and what has to come back

def application(host):
    return host.partition(".")[0]


class Question:
    PATHS = ["v1", "v2", "any", "edited", "flip", "forbidden"]

    def __init__(self, host, number):
        self.host = host
        self.tag = f"{os.getpid()}-{number}"
        kind = random.choices(["path", "mirror"], [8, 2])[0]
        self.kind = random.choice(self.PATHS) if kind == "path" else "mirror"
        self.body = b""
        self.method, self.path = "GET", f"/{self.kind}/{self.tag}"
        if self.kind == "mirror":
            self.method, self.path = "POST", "/mirror"
            self.body = (self.tag.encode() + b" ") * random.randrange(1, max(2, MIRRORED_MAX // 12))
        self.headers = [("x-ask", self.tag), ("x-echo-set-header", f"x-answer:{self.tag}")]

    def check(self, status, headers, body):
        if self.kind == "forbidden":
            if status == 403:
                return
            raise (Wrong if status == 200 else Failed)(f"{status} for what policy forbids: {body[:80]!r}")
        if self.kind == "flip" and status == 403:
            return
        if status != 200:
            raise Failed(f"status {status}: {body[:120].decode(errors='replace')}")
        if headers.get("x-answer") != self.tag:
            raise Wrong(f"the answer is to {headers.get('x-answer')}, {self.tag} was asked")
        if self.kind == "mirror":
            if body != self.body:
                raise Wrong(f"the body is another: {len(body)} bytes of {len(self.body)}")
            return
        try:
            echo = json.loads(body)
        except ValueError:
            raise Wrong(f"no echo: {body[:80]!r}") from None
        self.check_echo(echo, echo["path"])

    def check_echo(self, echo, path):
        if path != self.path or echo["headers"].get("X-Ask", echo["headers"].get("x-ask")) != [self.tag]:
            raise Wrong(f"the pod saw {path} and {echo['headers']}, asked was {self.path} with {self.tag}")
        if not echo["pod"].startswith(application(self.host) + (f"-{self.kind}-" if self.kind in ("v1", "v2") else "-")):
            raise Wrong(f"{self.path} was answered by {echo['pod']}")


# HTTP/1.1

class One:
    """A connection that is kept for some seconds."""

    def __init__(self, life):
        self.until = time.monotonic() + random.uniform(1, life)
        self.used = 0

    async def open(self, host):
        self.reader, self.writer = await asyncio.open_connection(host, 80)

    async def ask(self, question):
        """Status, headers and body; the connection is closed when it cannot be used again."""
        head = [f"{question.method} {question.path} HTTP/1.1", f"host: {question.host}"]
        head += [f"{name}: {value}" for name, value in question.headers]
        chunked = bool(question.body) and random.random() < 0.5
        if question.body:
            head.append("transfer-encoding: chunked" if chunked else f"content-length: {len(question.body)}")
        body = question.body
        if chunked:
            at = random.randrange(len(body))
            parts = [part for part in (body[:at], body[at:]) if part]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        try:
            self.writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            answer = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            # RFC 9112, 9.3.1: a connection that was idle may end at any time; a GET is asked again elsewhere.
            partial = getattr(error, "partial", b"")
            if self.used and not partial and question.method == "GET":
                raise Refused("kept connection ended") from None
            raise
        lines = answer.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "chunked" in headers.get("transfer-encoding", ""):
            content = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                content += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        else:
            content = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self.used += 1
        if "close" in headers.get("connection", ""):
            self.until = 0
        return status, headers, content

    def close(self):
        self.writer.close()


# HTTP/2 and gRPC

class Two:
    """One connection with many streams."""

    def __init__(self, life):
        self.until = time.monotonic() + random.uniform(1, life)
        self.streams = {}
        self.window = asyncio.Event()
        self.ended = None

    async def open(self, host, port):
        self.reader, self.writer = await asyncio.open_connection(host, port)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.task = asyncio.create_task(self.read())

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def read(self):
        """Frame by frame: of GOAWAY the library is not told, because it understands nothing that comes after it."""
        try:
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == GOAWAY:
                    self.going_away(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF)
                    continue
                for event in self.h2.receive_data(head + payload):
                    self.received(event)
                self.flush()
        except asyncio.IncompleteReadError:
            self.end(Failed("the connection ended"))
        except (OSError, h2.exceptions.ProtocolError) as error:
            self.end(error)

    def going_away(self, last):
        """What the server has not looked at goes elsewhere; what it has is answered still."""
        self.until = 0
        for number, stream in self.streams.items():
            if number > last:
                stream.fail(Refused("GOAWAY"))

    def end(self, error):
        self.ended = self.ended or error
        self.until = 0
        for stream in self.streams.values():
            stream.fail(error)
        self.window.set()

    def received(self, event):
        if isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.window.set()
            return
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            refused = event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
            stream.fail(Refused("REFUSED_STREAM") if refused else Failed(f"stream reset: {event.error_code!r}"))
        elif isinstance(event, h2.events.StreamEnded):
            stream.done.set()

    async def ask(self, method, path, authority, fields, body):
        """Headers, body and trailers."""
        if self.ended:
            raise Refused("the connection is over")
        try:
            number = self.h2.get_next_available_stream_id()
            self.h2.send_headers(
                number, [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path), *fields],
                end_stream=not body)
        except h2.exceptions.ProtocolError as error:
            raise Refused(f"no stream: {error}") from None
        stream = self.streams[number] = Stream()
        try:
            while body and not stream.done.is_set():
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if room <= 0:
                    self.flush()
                    self.window.clear()
                    await self.window.wait()
                    if self.ended:
                        break
                    continue
                part, body = body[:room], body[room:]
                self.h2.send_data(number, part, end_stream=not body)
            self.flush()
            await stream.done.wait()
        except h2.exceptions.ProtocolError as error:
            raise stream.error or Failed(f"{type(error).__name__}: {error}") from None
        finally:
            del self.streams[number]
        if stream.error:
            raise stream.error
        return stream.headers, bytes(stream.body), stream.trailers

    def close(self):
        self.task.cancel()
        self.writer.close()


class Stream:
    def __init__(self):
        self.headers, self.body, self.trailers, self.error = {}, bytearray(), {}, None
        self.done = asyncio.Event()

    def fail(self, error):
        self.error = self.error or error
        self.done.set()


# Held connections

async def websocket(host, tag, until, moved):
    reader, writer = await asyncio.open_connection(host, 80)
    try:
        key = base64.b64encode(random.randbytes(16)).decode()
        writer.write((
            f"GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            f"sec-websocket-key: {key}\r\n\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise Failed(head[:60].decode(errors="replace"))
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if wanted not in head:
            raise Wrong("another WebSocket's answer")
        number = 0
        while time.monotonic() < until:
            payload = f"{tag} {number} ".encode() * random.randrange(1, 30)
            size = bytes([128 | len(payload)]) if len(payload) < 126 else bytes([254]) + len(payload).to_bytes(2, "big")
            mask = random.randbytes(4)
            writer.write(b"\x81" + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))
            first, second = await reader.readexactly(2)
            length = int.from_bytes(await reader.readexactly(2), "big") if second == 126 else second
            if (first, await reader.readexactly(length)) != (0x81, payload):
                raise Wrong("another frame")
            number += 1
            moved()
            await asyncio.sleep(random.uniform(0.05, 0.5))
        writer.write(b"\x88\x80" + bytes(4))
        if await reader.readexactly(2) != b"\x88\x00":
            raise Wrong("no answer to the closing frame")
    finally:
        writer.close()


async def lines(host, tag, until, moved):
    reader, writer = await asyncio.open_connection(host, 9090)
    try:
        number, pod = 0, None
        while time.monotonic() < until:
            line = f"{tag} {number} ".encode() * random.randrange(1, 60) + b"\n"
            writer.write(line)
            back = await reader.readuntil(b"\n")
            name, _, rest = back.partition(b" ")
            if rest != line or not name.decode().startswith(application(host) + "-") or pod not in (None, name):
                raise Wrong("another line")
            pod = name
            number += 1
            moved()
            await asyncio.sleep(random.uniform(0.05, 0.5))
        writer.write_eof()
        if await reader.read() != b"":
            raise Wrong("bytes after the end")
    finally:
        writer.close()


class Load:
    KINDS = ["http1", "http1-short", "http2", "http2-to-1", "grpc"]

    def __init__(self, options):
        self.options = options
        self.addresses = {}
        self.kept = collections.defaultdict(list)
        self.counts = collections.Counter()
        self.codes = collections.Counter()
        self.again = collections.Counter()
        self.latencies = []
        self.failures = self.wrong = 0
        self.stopping = False

    @staticmethod
    def say(**line):
        print(json.dumps(line), flush=True)

    def trouble(self, kind, host, begun, error):
        is_wrong = isinstance(error, Wrong)
        self.failures += not is_wrong
        self.wrong += is_wrong
        self.say(
            event="wrong" if is_wrong else "failed", kind=kind, host=host, begun=round(begun, 3), ended=round(time.time(), 3),
            error=f"{type(error).__name__}: {error}")

    async def request(self, kind, host, number):
        begun, started = time.time(), time.monotonic()
        question = Question(host, number)
        try:
            for attempt in range(3):
                try:
                    await asyncio.wait_for(self.attempt(kind, question), LIMIT)
                    break
                except Refused as error:
                    self.again[str(error)] += 1
                    if attempt == 2:
                        raise Failed(f"refused three times: {error}") from None
            self.counts[kind] += 1
            self.latencies.append(time.monotonic() - started)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError, Failed, Wrong, h2.exceptions.ProtocolError) as error:
            self.trouble(f"{kind} {question.kind}", host, begun, error)

    async def attempt(self, kind, question):
        pool = self.kept[kind, question.host]
        if kind.startswith("http1"):
            connection = None
            while pool and connection is None:
                connection = pool.pop()
                if connection.reader.at_eof():
                    connection.close()
                    connection = None
            if connection is None:
                connection = One(self.options.life)
                await connection.open(question.host)
            keep = False
            try:
                question.check(*await connection.ask(question))
                keep = kind == "http1" and time.monotonic() < connection.until
            finally:
                pool.append(connection) if keep else connection.close()
            return
        connection = await self.multiplexed(kind, question.host, pool)
        if kind == "grpc":
            await self.call(connection, question)
            return
        headers, body, _ = await connection.ask(
            question.method, question.path, question.host, question.headers, question.body)
        question.check(int(headers.get(":status", 0)), headers, body)

    async def multiplexed(self, kind, host, pool):
        now = time.monotonic()
        for connection in list(pool):
            if now >= connection.until:
                pool.remove(connection)
                asyncio.create_task(self.retire(connection))
        for connection in pool:
            if len(connection.streams) < STREAMS_MAX:
                return connection
        connection = Two(self.options.life)
        # To a port of HTTP/1 the waypoint speaks HTTP/1, whatever the client speaks.
        await connection.open(host, 7070 if kind in ("grpc", "http2") else 80)
        pool.append(connection)
        return connection

    @staticmethod
    async def retire(connection):
        while connection.streams:
            await asyncio.sleep(0.1)
        connection.close()

    @staticmethod
    async def call(connection, question):
        path = f"/{grpcecho.SERVICE}/Echo"
        fields = [("content-type", "application/grpc"), ("te", "trailers"), *question.headers]
        headers, body, trailers = await connection.ask("POST", path, question.host, fields, grpcecho.framed(b""))
        status = trailers.get("grpc-status", headers.get("grpc-status"))
        if headers.get(":status") != "200" or status != "0":
            message = trailers.get("grpc-message", headers.get("grpc-message"))
            raise Failed(f"status {headers.get(':status')}, gRPC {status}: {message}")
        if headers.get("x-answer") != question.tag:
            raise Wrong(f"the answer is to {headers.get('x-answer')}, {question.tag} was asked")
        if len(body) < 5 or len(body) - 5 != int.from_bytes(body[1:5], "big"):
            raise Wrong(f"no message: {body[:40]!r}")
        echo = grpcecho.parsed(body[5:])
        if echo["headers"].get("x-ask") != [question.tag]:
            raise Wrong(f"the pod saw {echo['headers'].get('x-ask')}, {question.tag} was asked")

    async def hold(self, kind, host, index):
        """One connection after the other, each for some seconds."""
        number = 0

        def moved():
            self.counts[kind.__name__] += 1

        while not self.stopping:
            begun = time.time()
            number += 1
            try:
                until = time.monotonic() + random.uniform(1, self.options.life)
                await asyncio.wait_for(
                    kind(host, f"{os.getpid()}-{index}-{number}", until, moved), self.options.life + LIMIT)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError, Failed, Wrong) as error:
                self.trouble(kind.__name__, host, begun, error)
                await asyncio.sleep(0.2)

    async def tell(self):
        while True:
            await asyncio.sleep(5)
            self.say(
                event="counts", at=round(time.time(), 1), total=sum(self.counts.values()), failed=self.failures, wrong=self.wrong)

    async def run(self):
        options = self.options
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: setattr(self, "stopping", True))
        held = [
            asyncio.create_task(self.hold(websocket if at % 2 else lines, host, at))
            for host in options.hosts for at in range(options.held)]
        teller = asyncio.create_task(self.tell())
        self.say(event="loading", at=round(time.time(), 3))
        started = due = time.monotonic()
        requests, number, skipped = set(), 0, 0
        while time.monotonic() < started + options.seconds and not self.stopping:
            if len(requests) < UNANSWERED_MAX:
                kind = random.choice(self.KINDS)
                task = asyncio.create_task(self.request(kind, options.hosts[number % len(options.hosts)], number))
                requests.add(task)
                task.add_done_callback(requests.discard)
                number += 1
            else:
                skipped += 1
            due += 1 / options.rate
            await asyncio.sleep(max(0, due - time.monotonic()))
        seconds = time.monotonic() - started
        self.stopping = True
        await asyncio.gather(*requests, *held)
        teller.cancel()
        ordered = sorted(self.latencies)

        def at(share):
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1) if ordered else None

        self.say(
            event="summary", seconds=round(seconds, 1), requests=number, rate=round(number / seconds, 1), skipped=skipped,
            counts=self.counts, again=self.again, failed=self.failures, wrong=self.wrong, p50_ms=at(0.5), p99_ms=at(0.99),
            max_ms=at(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--held", type=int, default=8)
    parser.add_argument("--life", type=float, default=8)
    options = parser.parse_args()
    for host in options.hosts:
        socket.gethostbyname(host)
    asyncio.run(Load(options).run())


if __name__ == "__main__":
    sys.exit(main())
