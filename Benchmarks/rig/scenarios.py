"""What is measured. Each scenario takes the client's addresses and returns (figures, accounting)."""

import json
import subprocess
import time

import waypoint_scenarios
from accounting import RUN, measure, memory, pids
from scenario import QUIET_SECONDS, Scenario, client, closed_loop, hold, timetable


def at(addresses):
    return f"http://{addresses['http']}/"


def bulk(addresses, streams, seconds=5, extra=()):
    """iperf3: Gbit/s, CPU seconds per 10^9 bytes."""
    ip, port = addresses["bulk"].split(":")
    command = client("iperf3", "-c", ip, "-p", port, "-t", seconds, "-P", streams, "-J", *extra)
    output, account = measure(command, QUIET_SECONDS)
    received = json.loads(output)["end"]["sum_received"]
    gigabytes = received["bytes"] / 1e9
    figures = {"gbit_s": gigabytes * 8 / received["seconds"]}
    for role in "AB":
        figures[f"{role}_cpu_s_per_gb"] = account[role]["total"] / gigabytes
    return figures, account


def short(addresses, workers=16, seconds=4):
    """openload: one request per connection."""
    ip, port = addresses["http"].split(":")
    command = client(f"{RUN}/openload", "-S", "-c", workers, "-d", seconds, "-w", "0.5", ip, port)
    output, account = measure(command, QUIET_SECONDS)
    figures = json.loads(output)
    connections = max(1, figures["rps"] * (seconds + 0.5))
    for role in "AB":
        figures[f"{role}_us_per_connection"] = account[role]["total"] * 1e6 / connections
    return figures, account


def churn(addresses, count=1_000_000, slice_seconds=20):
    """Connections opened and closed, `count` in all: resident memory after the first tenth and at the end."""
    ip, port = addresses["http"].split(":")
    command = client(f"{RUN}/openload", "-S", "-c", 16, "-d", slice_seconds, "-w", "0", ip, port)
    done, errors, early, began = 0, 0, None, time.monotonic()
    while done < count:
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        done += int(result["rps"] * slice_seconds)
        errors += result["errors"]
        if early is None and done >= count / 10:
            early = {role: memory(pids(role))["rss_kb"] / 1024 for role in "AB"}
    time.sleep(2)
    late = {role: memory(pids(role))["rss_kb"] / 1024 for role in "AB"}
    figures = {"connections": done, "errors": errors}
    for role in "AB":
        figures |= {f"{role}_rss_mb_early": early[role], f"{role}_rss_mb_late": late[role]}
    # Memory does not depend on who else computes.
    return figures, {"wall": round(time.monotonic() - began, 3), "foreign": 0}


BULK = ["gbit_s", "A_cpu_s_per_gb", "B_cpu_s_per_gb"]
REQUESTS = ["rps", "p50_us", "p90_us", "p99_us", "A_us_per_request", "B_us_per_request", "errors"]
TIMETABLE = ["rps", "p50_us", "p99_us", "p999_us", "A_cores", "B_cores", "A_rss_mb", "B_rss_mb", "errors"]
SHORT = ["rps", "p50_us", "p99_us", "A_us_per_connection", "B_us_per_connection", "errors"]
HOLD = [
    *("ready", "failed", "seconds", "A_rss_mb_before", "B_rss_mb_before", "A_rss_mb", "B_rss_mb"),
    *("A_kb_per_connection", "B_kb_per_connection", "A_idle_cores", "B_idle_cores"),
]
CHURN = ["connections", "errors", "A_rss_mb_early", "B_rss_mb_early", "A_rss_mb_late", "B_rss_mb_late"]
SCENARIOS = {
    "t1_1": Scenario("t1", "iperf3, 1 stream, 5 s", "bulk", BULK, lambda a: bulk(a, 1)),
    "t1_8": Scenario("t1", "iperf3, 8 streams, 5 s", "bulk", BULK, lambda a: bulk(a, 8)),
    "t1_1r": Scenario("t1r", "iperf3, 1 stream, server sends", "bulk", BULK, lambda a: bulk(a, 1, 5, ["-R"])),
    "t2_c1": Scenario("t2", "wrk, 1 connection, 1 KB answers", "http", REQUESTS, lambda a: closed_loop(at(a), 1)),
    "t2_c16": Scenario("t2", "wrk, 16 connections", "http", REQUESTS, lambda a: closed_loop(at(a), 16)),
    "t2_c64": Scenario("t2", "wrk, 64 connections", "http", REQUESTS, lambda a: closed_loop(at(a), 64)),
    "t2_r1000": Scenario("t2", "1000 requests/s on a timetable, 1 KB each way", "http", TIMETABLE, lambda a: timetable(a["http"])),
    "t3": Scenario("t3", "one request per connection, 16 at a time", "short", SHORT, short),
    "t5": Scenario("t5", "one full handshake per connection, 16 at a time", "handshake", SHORT, short),
    "t4_1000": Scenario("t4", "1000 idle connections", "hold", HOLD, lambda a: hold(a["hold"], 1000), True),
    "t4_5000": Scenario("t4", "5000 idle connections", "hold", HOLD, lambda a: hold(a["hold"], 5000), True),
    "t4_18000": Scenario("t4l", "18 000 idle connections", "hold", HOLD, lambda a: hold(a["hold"], 18000), True),
    "t6": Scenario("t6", "1 000 000 connections opened and closed", "short", CHURN, churn, True),
}
SCENARIOS |= waypoint_scenarios.SCENARIOS
