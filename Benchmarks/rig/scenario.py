"""What scenarios of the tunnel and of the waypoint have in common."""

import json
import os
import re
import subprocess
import time

from accounting import PREFIX, RUN, Locked, cpu, measure, memory, pids, wait_until_quiet

QUIET_SECONDS = float(os.environ.get("RIG_QUIET", "45"))
# With RIG_PIN=split client and server have CPU 0 and the proxies CPU 1.
PIN = ["taskset", "-c", "0"] if os.environ.get("RIG_PIN") == "split" else []


class Scenario:
    """`run` takes the client's addresses and returns (figures, accounting)."""

    def __init__(self, group, title, capability, figures, run, needs_fresh_pair=False, environment=None):
        self.group, self.title, self.capability = group, title, capability
        self.figures, self.run, self.needs_fresh_pair = figures, run, needs_fresh_pair
        # Of the plug-in when it starts.
        self.environment = environment or {}


def client(*command):
    return ["ip", "netns", "exec", f"{PREFIX}c", *PIN, *map(str, command)]


def closed_loop(url, connections, roles="AB", seconds=4, extra=()):
    """wrk, keep-alive, answers of 1 KB: requests/s, latency, CPU microseconds per request."""
    command = client("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *extra, url)
    output, account = measure(command, QUIET_SECONDS)
    unit = {"us": 1, "ms": 1e3, "s": 1e6}
    requests = int(re.search(r"(\d+) requests in", output)[1])
    figures = {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])}
    for percent in (50, 90, 99):
        value = re.search(rf"\n\s+{percent}%\s+([\d.]+)(us|ms|s)", output)
        figures[f"p{percent}_us"] = float(value[1]) * unit[value[2]]
    for role in roles:
        figures[f"{role}_us_per_request"] = account[role]["total"] * 1e6 / requests
    refused = re.search(r"Non-2xx.*: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    figures["errors"] = (int(refused[1]) if refused else 0) + sum(map(int, broken.groups()) if broken else [0])
    return figures, account


def timetable(address, rate=1000, roles="AB", connections=16, seconds=8, extra=()):
    """openload: requests on a timetable, so latency counts from the intended send time."""
    ip, port = address.split(":")
    command = client(
        f"{RUN}/openload", "-r", rate, "-c", connections, "-d", seconds, "-w", 1, "-b", 1024, *extra, ip, port
    )
    output, account = measure(command, QUIET_SECONDS)
    figures = json.loads(output)
    for role in roles:
        figures[f"{role}_cores"] = account[role]["total"] / (seconds + 1)
        figures[f"{role}_rss_mb"] = memory(pids(role))["rss_kb"] / 1024
    return figures, account


def hold(address, count, roles="AB", mode="echo"):
    """Idle connections, one byte (or one request and its answer) exchanged on each: resident memory before and after,
    idle CPU."""
    ip, port = address.split(":")
    wait_until_quiet(QUIET_SECONDS)
    with Locked():
        before = {role: memory(pids(role)) for role in roles}
        command = client(f"{RUN}/hold", "client", ip, port, count, mode)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        figures = json.loads(process.stdout.readline())
        time.sleep(2)
        processes = {role: pids(role) for role in roles}
        after = {role: memory(processes[role]) for role in roles}
        used, began = {role: sum(cpu(processes[role])) for role in roles}, time.monotonic()
        time.sleep(3)
        wall = time.monotonic() - began
        for role in roles:
            figures[f"{role}_rss_mb_before"] = before[role]["rss_kb"] / 1024
            figures[f"{role}_rss_mb"] = after[role]["rss_kb"] / 1024
            figures[f"{role}_kb_per_connection"] = (after[role]["rss_kb"] - before[role]["rss_kb"]) / count
            figures[f"{role}_idle_cores"] = (sum(cpu(processes[role])) - used[role]) / wall
        process.stdin.close()
        process.wait()
    # Memory does not depend on who else computes.
    return figures, {"wall": round(wall, 3), "foreign": 0}
