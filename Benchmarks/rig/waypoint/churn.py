#!/usr/bin/env python3
"""Replaces routes of a waypoint all the time, and measures from the change of one of them to the first answer that shows it.

    churn.py --to IP:PORT --changes feed:FIFO|tables:DIR --routes N --seconds S --rate R --load OPENLOAD

`feed`: changed HTTPRoutes are lines for martlet-feed, through the product's control plane; the time begins when the line
is written. `tables`: the files that Envoy watches; the time begins when the finished file takes the place of the old one.
Meanwhile 500 requests/s go to another route of the same service. Prints JSON.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import threading
import time

import envoy
import mesh

# Between two measured changes.
PROBE_SECONDS = 0.06
# A change that nobody sees for so long counts as an error.
LIMIT_SECONDS = 5
LOAD_PER_SECOND, LOAD_CONNECTIONS = 500, 16
HEADER = ": ".join(mesh.HEADER)


class Feed:
    def __init__(self, path):
        self.fifo = os.open(path, os.O_WRONLY)

    def prepared(self, number, revision):
        line = (json.dumps(mesh.many_route(number, revision)) + "\n").encode()
        return lambda: os.write(self.fifo, line)


class Tables:
    def __init__(self, directory, routes):
        self.directory, self.routes, self.version = directory, routes, 0
        self.texts = [json.dumps(envoy.many_route(number)) for number in range(routes)]

    def prepared(self, number, revision):
        self.version += 1
        self.texts[number] = json.dumps(envoy.many_route(number, revision))
        table = number % mesh.TABLES
        texts = [self.texts[n] for n in mesh.routes_of(table, self.routes)]
        envoy.write_table(self.directory, table, self.version, texts)
        return lambda: envoy.put_table(self.directory, table)


class Prober:
    """One connection, one request at a time."""

    def __init__(self, to, path):
        self.request = f"GET {path} HTTP/1.1\r\nHost: app\r\n{HEADER}\r\n\r\n".encode()
        self.to, self.socket, self.errors = to, None, 0

    def ask(self):
        """The answer's revision; None after an error."""
        try:
            if self.socket is None:
                self.socket = socket.create_connection(self.to, LIMIT_SECONDS)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(self.request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += self.more()
            head, body = answer.split(b"\r\n\r\n", 1)
            left = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)[1]) - len(body)
            while left > 0:
                left -= len(self.more())
            if not head.startswith(b"HTTP/1.1 200"):
                self.errors += 1
                return None
            return int(re.search(rb"(?i)\r\nx-revision: *(\d+)", head)[1])
        except OSError:
            self.errors += 1
            self.socket = None
            return None

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed")
        return data


def change_all(changes, lock, routes, rate, until):
    """One route after the other, evenly; route 0 is left to the prober. Returns how many."""
    began = time.monotonic()
    done = 0
    while (now := time.monotonic()) < until:
        due = began + done / rate
        if now < due:
            time.sleep(due - now)
        with lock:
            changes.prepared(1 + done % (routes - 1), 1 + done)()
        done += 1
    return done


def percentile(values, share):
    return values[round((len(values) - 1) * share)] if values else -1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True)
    parser.add_argument("--changes", required=True)
    parser.add_argument("--routes", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=250)
    parser.add_argument("--load", required=True)
    options = parser.parse_args()
    ip, port = options.to.split(":")
    how, where = options.changes.split(":", 1)
    changes = Feed(where) if how == "feed" else Tables(where, options.routes)
    prober = Prober((ip, int(port)), mesh.route_path(0))
    if prober.ask() is None:
        raise SystemExit(f"no answer from {options.to}")
    load = [
        options.load, "-r", LOAD_PER_SECOND, "-c", LOAD_CONNECTIONS, "-d", options.seconds, "-w", "0.2", "-H", HEADER,
        "-p", mesh.route_path(mesh.TABLES), ip, port,
    ]
    load = subprocess.Popen(list(map(str, load)), stdout=subprocess.PIPE, text=True)
    lock, until, done = threading.Lock(), time.monotonic() + options.seconds, []
    churn = threading.Thread(
        target=lambda: done.append(change_all(changes, lock, options.routes, options.rate, until)))
    churn.start()
    took, lost, revision = [], 0, 1_000_000
    while time.monotonic() < until:
        revision += 1
        with lock:
            put = changes.prepared(0, revision)
            began = time.monotonic()
            put()
        while (seen := prober.ask()) != revision:
            if time.monotonic() > began + LIMIT_SECONDS:
                lost += 1
                break
        if seen == revision:
            took.append((time.monotonic() - began) * 1000)
        time.sleep(PROBE_SECONDS)
    churn.join()
    loaded = json.loads(load.communicate()[0])
    took.sort()
    print(json.dumps({
        "changes": done[0], "samples": len(took), "p50_ms": percentile(took, 0.5), "p90_ms": percentile(took, 0.9),
        "p99_ms": percentile(took, 0.99), "max_ms": percentile(took, 1), "requests": loaded["n"],
        "errors": loaded["errors"] + prober.errors + lost, "load_p99_us": loaded["p99_us"],
    }))


if __name__ == "__main__":
    main()
