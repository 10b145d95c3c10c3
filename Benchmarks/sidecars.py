#!/usr/bin/env python3
"""Measures what sidecars cost and how soon things are there, in a lab of its own:

    Benchmarks/sidecars.py [--parts ready,push,cost] [--changes 100] [--clients 100] [--services 1000] [--pods 15] [--reps 1]

    ready   from a pod's creation to Ready: without a mesh, in the ambient mesh, with a sidecar
    push    from the write of a pod's readiness to its arrival at many sidecars' streams, few services and many
    cost    what services cost a real Envoy and its stream

Needs root and release builds (MARTLET_BIN: where they are; .build/release without it). Writes results/sidecars.md.
"""

import argparse
import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = HERE.parent / ".tools" / "python" / "bin" / "python"
try:
    import grpc
    import envoy  # noqa: F401
except ImportError:
    if not PYTHON.exists() or pathlib.Path(sys.prefix) == PYTHON.parents[1]:
        sys.exit("sidecars: grpcio or xds-protos is missing; run scripts/prepare.sh")
    os.execv(PYTHON, [PYTHON, *sys.argv])
sys.path[:0] = [str(HERE / "sidecar"), str(HERE.parent / "Tests" / "EndToEnd")]

import cost  # noqa: E402
import push  # noqa: E402
import ready  # noqa: E402
from cluster import Busy, quantile  # noqa: E402
from lab import operator_of  # noqa: E402
from world import CLUSTER, World, log  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="ready,push,cost")
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=15)
    parser.add_argument("--reps", type=int, default=1, help="of ready and push, in one lab")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "sidecars.md")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - {"ready", "push", "cost"}:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}")
    load = os.getloadavg()[0]
    found = {"ready": {}, "push": [], "push_many": [], "cost": [], "start": None, "ready_cores": 0}
    with tempfile.TemporaryDirectory(prefix="martlet-figures.") as folder, operator_of(CLUSTER, pathlib.Path(folder)) as operator:
        world = World(operator)
        capture = world.folder / "wire.pcap"
        count = options.pods * options.reps
        if "ready" in parts:
            found["ready"] = ready.measure(world, count, ready.ALONE)
        world.install()
        if "ready" in parts:
            with Busy() as busy:
                found["ready"] |= ready.measure(world, count, ready.KINDS)
            found["ready_cores"] = busy.cores
        clients = push.crowd(world, options.clients) if {"push", "cost"} & set(parts) else []
        if "push" in parts:
            found["push"] = [push.measure(world, clients, options.changes, capture) for _ in range(options.reps)]
        if "cost" in parts:
            found["cost"] = cost.measure(world, clients[0], options.services)
            found["start"] = cost.start(world)
            if "push" in parts:
                found["push_many"] = [push.measure(world, clients, options.changes, capture) for _ in range(options.reps)]
    options.out.write_text(report(options, found, load))
    log(f"results in {options.out}")


def report(options, found, load):
    root = HERE.parent
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    text = subprocess.run([root / ".tools" / "bin" / "envoy", "--version"], capture_output=True, text=True).stdout
    version = text.split("version:")[-1].split("/")
    lines = [
        "# Sidecars and readiness", "",
        "Written by `Benchmarks/sidecars.py`, in a lab of a server and an agent, all of whose parts run on this machine; how it measures is in "
        "[the page of the benchmarks](../README.md).", "",
        f"- Date: {datetime.date.today()}, commit {commit or '?'}",
        f"- Machine: {os.cpu_count()} × {model}, kernel {platform.release()}; load before the start {load:.1f}",
        f"- Envoy: {version[1] if len(version) > 1 else '?'}, grpcio {grpc.__version__}",
        "- Command: `Benchmarks/sidecars.py " + " ".join(sys.argv[1:]) + "`", ""]
    if found["ready"]:
        middles = {kind: statistics.median(values) for kind, values in found["ready"].items()}
        lines += [
            "## From creation to Ready", "",
            "`alone`: before the mesh was installed. The others in turn, afterwards: `outside` is in no mesh, but the node's chain has our plugin.", "",
            "| Pod | n | median, ms | p90, ms | max, ms | later than alone, ms | later than outside, ms |", "|---|---|---|---|---|---|---|"]
        for kind, values in found["ready"].items():
            lines.append(
                f"| {kind} | {len(values)} | {middles[kind]:.0f} | {quantile(values, 0.9):.0f} | {max(values):.0f} | "
                f"{middles[kind] - middles['alone']:.0f} | {middles[kind] - middles['outside']:.0f} |")
        lines += ["", f"{found['ready_cores']:.2f} cores were in use meanwhile, of everybody.", ""]
    for title, name in (("few services", "push"), (f"{options.services} services", "push_many")):
        if found[name]:
            lines += [f"## An endpoint's change, {title}", "", *push_table(found[name]), ""]
    if found["cost"]:
        lines += ["## What services cost", "", *cost_table(found["cost"]), ""]
        start = found["start"]
        lines += [f"With all of them a new pod with a sidecar is Ready after {start['median_s']:.2f} s (median of 5; at most "
                  f"{start['max_s']:.2f} s).", ""]
    return "\n".join(lines)


def push_table(runs):
    yield "| | " + " | ".join(f"run {index + 1}" for index in range(len(runs))) + " |"
    yield "|---|" + "---|" * len(runs)
    rows = [
        ("clients, changes", lambda run: f"{run['clients']}, {run['changes']}"),
        ("all arrivals: p50, p99, max, ms", lambda run: f"{run['all_p50']:.1f}, **{run['all_p99']:.1f}**, {run['all_max']:.1f}"),
        ("the first client: p50, p99, ms", lambda run: f"{run['first_p50']:.1f}, {run['first_p99']:.1f}"),
        ("the last client: p50, p99, ms", lambda run: f"{run['last_p50']:.1f}, {run['last_p99']:.1f}"),
        ("at the client's socket: p50, p99, max, ms", lambda run: "{p50:.1f}, {p99:.1f}, {max:.1f}".format(**run["wire"])),
        ("packets found for arrivals", lambda run: f"{100 * run['wire']['share']:.0f} %"),
        ("the write itself, ms", lambda run: f"{run['write_ms']:.1f}"),
        ("bytes of a response", lambda run: f"{run['bytes']}"),
        ("responses with anything else", lambda run: f"{run['others']}"),
        ("CPU of a change: control plane, all clients, ms", lambda run: f"{run['plane_cpu_ms']:.1f}, {run['client_cpu_ms']:.1f}"),
        ("cores in use meanwhile, of everybody", lambda run: f"{run['cores']:.2f}"),
    ]
    for title, value in rows:
        yield f"| {title} | " + " | ".join(value(run) for run in runs) + " |"


def cost_table(rows):
    yield ("| Services | Envoy RSS, MB | agent RSS, MB | applied after the last write, s | writing, s | Envoy's CPU, s | control plane's CPU, s "
           "| its RSS, MB | a whole stream, KB | its resources | sent while growing, KB |")
    yield "|---|" + "---|" * 10
    for row in rows:
        whole = {type: each for type, each in row["whole"].items() if type != "seconds"}
        size = sum(each["bytes"] for each in whole.values()) / 1000
        yield (
            f"| {row['services']} | {row['rss_mb']:.1f} | {row['agent_rss_mb']:.1f} | {row['applied_s']:.2f} | {row['writing_s']:.1f} | "
            f"{row['envoy_cpu_s']:.2f} | {row['plane_cpu_s']:.2f} | {row['plane_rss_mb']:.0f} | {size:.0f} | "
            f"{sum(each['resources'] for each in whole.values())} | {row['grown_bytes'] / 1000:.0f} |")
    first, last = rows[0], rows[-1]
    if last["services"] > first["services"]:
        count = last["services"] - first["services"]

        def size(row, *types):
            return sum(each["bytes"] for type, each in row["whole"].items() if type in types)

        per = {type: (size(last, type) - size(first, type)) / count for type in first["whole"] if type != "seconds"}
        yield ""
        yield (
            f"For each service: {(last['rss_mb'] - first['rss_mb']) * 1024 / count:.1f} KB of Envoy's memory, "
            f"{sum(per.values()):.0f} bytes of a whole stream (" + ", ".join(f"{type} {value:.0f}" for type, value in per.items()) + ").")


main()
