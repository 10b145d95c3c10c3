"""What is measured of a waypoint (role A). Every request carries the header that the first rule of its service matches."""

import json
import os
import re
import subprocess
import sys
import time

from accounting import RUN, Locked, cpu, measure, memory, pids, wait_until_quiet
from scenario import QUIET_SECONDS, Scenario, client, closed_loop, hold, timetable

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(f"{HERE}/waypoint")
import mesh  # noqa: E402

HEADER = ": ".join(mesh.HEADER)
ROUTES = 5000
MANY = {"ROUTES": str(ROUTES)}
# All of them at one service.
ONE_TABLE = MANY | {"TABLES": "1"}
# Idle connections that are there before those that are counted.
FIRST_IDLE = 200
# Until what a start needed is given back.
SETTLE_SECONDS = 3


def requests(address, connections=64, path="/"):
    return closed_loop(f"http://{address}{path}", connections, "A", extra=["-H", HEADER])


def on_time(addresses, rate):
    return timetable(addresses["http"], rate, "A", extra=["-H", HEADER])


def multiplexed(address, path="/", extra=(), streams=100, seconds=4):
    """h2load, one connection with many streams: requests/s, CPU microseconds per request."""
    command = client("h2load", "-c1", "-t1", f"-m{streams}", f"-D{seconds}", "-H", HEADER, *extra, f"http://{address}{path}")
    output, account = measure(command, QUIET_SECONDS)
    done, failed, errored = (
        int(re.search(rf"(\d+) {word}", output)[1]) for word in ("succeeded", "failed", "errored")
    )
    latency = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", output)
    figures = {
        "rps": float(re.search(r"([\d.]+) req/s", output)[1]),
        "mean_us": float(latency[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[latency[2]],
        "A_us_per_request": account["A"]["total"] * 1e6 / max(1, done),
        "errors": failed + errored + int(re.search(r"(\d+) timeout", output)[1]),
    }
    return figures, account


def calls(addresses):
    """gRPC unary: a message of 100 bytes each way, the status in a trailer."""
    path = f"/{mesh.GRPC_SERVICE}/Unary.grpc"
    url = f"http://{addresses['grpc']}{path}"
    grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    message = f"{RUN}/grpc{path}"
    one = client("nghttp", "-nv", *grpc, "-H", HEADER, "-d", message, url)
    said = subprocess.run(one, capture_output=True, text=True, timeout=10).stdout
    if "grpc-status: 0" not in said:
        raise RuntimeError(f"no answer of gRPC: {said[-300:]}")
    return multiplexed(addresses["grpc"], path, [*grpc, "-d", message])


def download(addresses):
    """curl, 1 GiB: Gbit/s, CPU seconds per 10^9 bytes."""
    command = client(
        "curl", "-s", "-H", HEADER, "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total}",
        f"http://{addresses['http']}/bulk",
    )
    output, account = measure(command, QUIET_SECONDS)
    status, size, seconds = output.split()
    if status != "200" or int(size) != 1 << 30:
        raise RuntimeError(f"curl: {output}")
    return {"gbit_s": int(size) * 8e-9 / float(seconds), "A_cpu_s_per_gb": account["A"]["total"] / int(size) * 1e9}, account


def idle(address, count, mode):
    """RSS before the first request, and what an idle client costs when there are some already: the program itself, and
    what is made for the first ones only, is none of its cost."""
    time.sleep(SETTLE_SECONDS)
    at_rest = memory(pids("A"))["rss_kb"] / 1024
    ip, port = address.split(":")
    first = subprocess.Popen(
        client(f"{RUN}/hold", "client", ip, port, FIRST_IDLE, mode), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        first.stdout.readline()
        time.sleep(SETTLE_SECONDS)
        figures, account = hold(address, count, "A", mode)
    finally:
        first.stdin.close()
        first.wait()
    return figures | {"A_rss_mb_at_rest": at_rest}, account


def loaded(addresses):
    """RSS with many routes, before and after every table of them was used once."""
    time.sleep(SETTLE_SECONDS)
    wait_until_quiet(QUIET_SECONDS)
    with Locked():
        figures = {"A_rss_mb_before": memory(pids("A"))["rss_kb"] / 1024}
        urls = [
            f"http://{mesh.table_service(table)[1]}{mesh.route_path(table)}" for table in range(mesh.TABLES)
        ]
        command = client("curl", "-s", "-H", HEADER, "-w", "%{stderr}%{http_code}\n", *urls)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
        figures["errors"] = sum(status != "200" for status in done.stderr.split())
        time.sleep(SETTLE_SECONDS)
        figures["A_rss_mb"] = memory(pids("A"))["rss_kb"] / 1024
    # Memory does not depend on who else computes.
    return figures, {"wall": 0, "foreign": 0}


def churn(addresses, seconds=25, rate=100):
    """One route after the other is replaced, beside 500 requests/s; from the change of one to the first answer that shows
    it."""
    command = client(
        sys.executable, f"{HERE}/waypoint/churn.py", "--to", addresses["table"], "--changes", addresses["changes"],
        "--routes", ROUTES, "--seconds", seconds, "--rate", rate, "--load", f"{RUN}/openload",
    )
    output, account = measure(command, QUIET_SECONDS)
    figures = json.loads(output)
    figures["A_cores"] = account["A"]["total"] / account["wall"]
    figures["A_rss_mb"] = memory(pids("A"))["rss_kb"] / 1024
    return figures, account


def table(addresses):
    return requests(addresses["table"], path=mesh.route_path(mesh.TABLES * (ROUTES // mesh.TABLES - 1)))


def one_table(addresses):
    return requests(addresses["table"], path=mesh.route_path(ROUTES - 1))


def scenario(group, title, figures, run, is_fresh=False, environment=None):
    return Scenario(group, title, "waypoint", figures, run, is_fresh, environment)


REQUESTS = ["rps", "p50_us", "p90_us", "p99_us", "A_us_per_request", "errors"]
TIMETABLE = ["rps", "p50_us", "p99_us", "p999_us", "A_cores", "A_rss_mb", "errors"]
STREAMS = ["rps", "mean_us", "A_us_per_request", "errors"]
IDLE = ["ready", "failed", "A_rss_mb_at_rest", "A_rss_mb_before", "A_rss_mb", "A_kb_per_connection", "A_idle_cores"]
CHURN = ["changes", "samples", "p50_ms", "p90_ms", "p99_ms", "max_ms", "requests", "errors", "A_cores", "A_rss_mb"]
SCENARIOS = {
    "w_h1": scenario("w", "wrk, 64 connections, 1 KB answers", REQUESTS, lambda a: requests(a["http"])),
    "w_r1000": scenario("w", "1000 requests/s on a timetable, 1 KB each way", TIMETABLE, lambda a: on_time(a, 1000)),
    "w_r5000": scenario("w", "5000 requests/s on a timetable, 1 KB each way", TIMETABLE, lambda a: on_time(a, 5000)),
    "w_h2": scenario("w", "h2load, 1 connection, 100 streams, 1 KB answers", STREAMS, lambda a: multiplexed(a["h2"])),
    "w_grpc": scenario("w", "h2load, 1 connection, 100 gRPC unary calls at a time, 100 bytes", STREAMS, calls),
    "w_bulk": scenario("w", "curl, one download of 1 GiB", ["gbit_s", "A_cpu_s_per_gb"], download),
    "w_idle_h1": scenario("w", "5000 idle HTTP/1.1 connections", IDLE, lambda a: idle(a["http"], 5000, "http1"), True),
    "w_idle_h2": scenario("w", "5000 idle HTTP/2 connections", IDLE, lambda a: idle(a["h2"], 5000, "http2"), True),
    "w_routes": scenario("w", "5000 routes", ["A_rss_mb_before", "A_rss_mb", "errors"], loaded, True, MANY),
    "w_churn": scenario("w", "5000 routes, 100 of them replaced each second", CHURN, churn, True, MANY),
    "w_h1_5000": scenario("wm", "as w_h1, the last of 50 routes of a service, 5000 in all", REQUESTS, table, True, MANY),
    "w_h1_1x5000": scenario("wm", "as w_h1, the last of 5000 routes of one service", REQUESTS, one_table, False, ONE_TABLE),
}
