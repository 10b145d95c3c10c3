#!/usr/bin/env python3
"""Counts what a connection and a megabyte cost the tunnel: allocations and instructions, which repeat where times do not.

    Benchmarks/counts/counts.py [--binary martlet-bench] [--write]

A release build of martlet-bench as both ends of a tunnel on loopback; connections one after the other, each with 100
bytes there and back, then one with megabytes in one direction. Fails when a count is above its threshold in
thresholds.json by more than a tenth; --write makes what was counted the new thresholds. Instructions are those outside
the kernel, counted by valgrind (callgrind), which knows no AES instructions wider than 128 bits: the figure for a
kilobyte is higher than on the processor.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOLERANCE = 1.1
MEGABYTE = 1_000_000
CLIENT = "spiffe://cluster.local/ns/foo/sa/default"
SERVER = "spiffe://cluster.local/ns/bar/sa/server"


def application():
    """Echoes what is short; takes what is long and says how much it was. Returns its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(connection):
        with connection:
            head = connection.recv(8, socket.MSG_WAITALL)
            if len(head) < 8:
                return
            size = struct.unpack("!Q", head)[0]
            left = size
            while left > 0:
                left -= len(connection.recv(min(left, 1 << 18)))
            connection.sendall(b"x" * min(size, 100))
            connection.recv(1)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def exchange(port, size):
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(struct.pack("!Q", size))
        block = b"y" * min(size, 1 << 18)
        left = size
        while left > 0:
            connection.sendall(block[: min(left, len(block))])
            left -= min(left, len(block))
        answer = connection.recv(min(size, 100), socket.MSG_WAITALL)
        assert len(answer) == min(size, 100), "the application's answer is short"


@contextlib.contextmanager
def pair(binary, folder, prefix, environment):
    """Both ends, each started with prefix(role) before it. Yields the port to connect to and the processes."""
    certificates = folder / "certs"
    if not certificates.exists():
        subprocess.run([ROOT / "Benchmarks/rig/envoy/gen-certs.sh", certificates], check=True, capture_output=True)
    tunnel, forward = free_port(), free_port()
    target = application()

    def certificate(name):
        return ["--cert", f"{certificates}/{name}.crt", "--key", f"{certificates}/{name}.key",
                "--ca", f"{certificates}/ca.crt", "--loops", "1"]

    commands = {
        "B": ["inbound", "--listen", f"127.0.0.1:{tunnel}", "--identity", SERVER, *certificate("server")],
        "A": ["outbound", "--forward", f"127.0.0.1:{forward}=127.0.0.1:{target}", "--peer", f"127.0.0.1:{tunnel}",
              "--peer-identity", SERVER, "--identity", CLIENT, *certificate("client")],
    }
    processes = {}
    try:
        for role, arguments in commands.items():
            processes[role] = subprocess.Popen(
                [*prefix(role), binary, *arguments], env={**os.environ, **environment(role)},
                stdout=subprocess.DEVNULL, stderr=open(folder / f"{role}.log", "w"))
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", tunnel if role == "B" else forward)).close()
                    break
                if time.monotonic() > deadline or processes[role].poll() is not None:
                    sys.exit(f"counts: {role} does not listen:\n" + (folder / f"{role}.log").read_text()[-2000:])
                time.sleep(0.05)
        yield forward, processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def phases(read, port, connections, megabytes):
    """Counts of both roles: per connection, and per megabyte."""
    for _ in range(50):
        exchange(port, 100)
    exchange(port, 8 * MEGABYTE)
    before = read()
    for _ in range(connections):
        exchange(port, 100)
    between = read()
    exchange(port, megabytes * MEGABYTE)
    after = read()
    one = {role: (between[role] - before[role]) / connections for role in "AB"}
    return one, {role: (after[role] - between[role] - one[role]) / megabytes for role in "AB"}


def allocations(binary, folder):
    library = folder / "liballocations.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "allocations.c"], check=True)

    def read():
        time.sleep(0.3)
        return {role: struct.unpack("Q", (folder / f"{role}.count").read_bytes())[0] for role in "AB"}

    def environment(role):
        return {"LD_PRELOAD": str(library), "MARTLET_ALLOCATIONS": str(folder / f"{role}.count")}

    with pair(binary, folder, lambda role: [], environment) as (port, _):
        return phases(read, port, 500, 64)


def instructions(binary, folder):
    for program in ("valgrind", "callgrind_control"):
        if shutil.which(program) is None:
            sys.exit(f"counts: {program} is not installed: apt-get install valgrind")
    total = {"A": 0, "B": 0}
    # Debian's valgrind cannot read the debug information of newer compilers.
    stripped = folder / "martlet-bench"
    subprocess.run(["strip", "-o", stripped, binary], check=True)

    def prefix(role):
        return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/{role}.out", "--quiet"]

    with pair(stripped, folder, prefix, lambda role: {}) as (port, processes):
        def read():
            time.sleep(0.5)
            for role, process in processes.items():
                subprocess.run(["callgrind_control", "--dump", str(process.pid)], check=True, capture_output=True)
                for dump in folder.glob(f"{role}.out.*"):
                    # A dump has what was counted since the one before.
                    total[role] += int(re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.M).group(1))
                    dump.unlink()
            return dict(total)

        return phases(read, port, 100, 16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=ROOT / ".build/release/martlet-bench")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    counted = {"A": {}, "B": {}}
    with tempfile.TemporaryDirectory(prefix="martlet-counts.") as folder:
        for name, measure, unit in (("allocations", allocations, 1), ("instructions", instructions, 1000)):
            connection, megabyte = measure(options.binary, pathlib.Path(folder))
            for role in "AB":
                counted[role][f"{name}_per_connection"] = round(connection[role], 1)
                per = "megabyte" if unit == 1 else "kilobyte"
                counted[role][f"{name}_per_{per}"] = round(megabyte[role] / unit, 2)
    file = HERE / "thresholds.json"
    if options.write:
        file.write_text(json.dumps(counted, indent=2) + "\n")
    thresholds = json.loads(file.read_text())
    failed = False
    for role, figures in counted.items():
        for name, value in figures.items():
            limit = thresholds[role][name]
            above = value > limit * TOLERANCE + 0.5
            failed |= above
            print(f"{role} {name:28} {value:12,.2f}   threshold {limit:12,.2f}{'   ABOVE' if above else ''}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
