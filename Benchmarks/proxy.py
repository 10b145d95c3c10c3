#!/usr/bin/env python3
"""Measures the node proxy as a process: start to ready, memory at rest, and what a big mesh costs it.

    Benchmarks/proxy.py [--repetitions 3] [--workloads 100000 --services 20000]

Starts `martlet proxy` beside a control plane with a generated mesh (martlet-feed) in a network namespace of its own,
with a node agent that has no pods. Needs root and release builds of both. Writes results/proxy.md.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
DELTAS = 20
SNAPSHOT_SENT = b"\x1a\x00"


def agent(path):
    """The node agent's side of the pod socket, for any number of proxies, none of which gets a pod."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    server.listen(4)

    def serve():
        held = []
        while True:
            connection, _ = server.accept()
            connection.recv(1024)
            connection.send(SNAPSHOT_SENT)
            held.append(connection)

    threading.Thread(target=serve, daemon=True).start()


def resident_mb(pid, kind="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(kind + ":")) / 1024


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_ready(started, limit=120):
    while time.monotonic() < started + limit:
        try:
            with urllib.request.urlopen("http://127.0.0.1:15021/healthz/ready", timeout=1) as answer:
                if answer.status == 200:
                    return time.monotonic() - started
        except OSError:
            pass
        time.sleep(0.001)
    raise SystemExit("the proxy did not become ready")


def once(binaries, workloads, services):
    with tempfile.TemporaryDirectory() as directory:
        feed = subprocess.Popen(
            [binaries / "martlet-feed", "--directory", directory, "--workloads", str(workloads), "--services", str(services)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        proxy = None
        try:
            if feed.stdout.readline().strip() != "listening":
                raise SystemExit("martlet-feed did not start")
            agent(f"{directory}/agent.sock")
            environment = {
                "XDS_ADDRESS": "https://localhost:15012", "CA_ADDRESS": "https://localhost:15012",
                "XDS_ROOT_CA": f"{directory}/root.pem", "CA_ROOT_CA": f"{directory}/root.pem",
                "AUTH_TOKEN": f"{directory}/token", "INPOD_UDS": f"{directory}/agent.sock", "NODE_NAME": "node-0",
                "POD_NAME": "ztunnel", "POD_NAMESPACE": "istio-system", "INSTANCE_IP": "127.0.0.1", "RUST_LOG": "warn",
            }
            started = time.monotonic()
            proxy = subprocess.Popen([binaries / "martlet", "proxy"], env=environment)
            figures = {"ready_s": wait_until_ready(started), "ready_cpu_s": cpu_seconds(proxy.pid)}
            time.sleep(3)
            figures["rss_mb"] = resident_mb(proxy.pid)
            figures["rss_anonymous_mb"] = resident_mb(proxy.pid, "RssAnon")
            figures["rss_peak_mb"] = resident_mb(proxy.pid, "VmHWM")
            used = cpu_seconds(proxy.pid)
            time.sleep(5)
            figures["idle_cores"] = (cpu_seconds(proxy.pid) - used) / 5
            if workloads:
                deltas = []
                used = cpu_seconds(proxy.pid)
                for index in range(DELTAS):
                    feed.stdin.write(f"delta {index * 97 % workloads}\n")
                    feed.stdin.flush()
                    deltas.append(json.loads(feed.stdout.readline())["delta_ms"])
                figures["delta_ms"] = statistics.median(deltas)
                figures["delta_cpu_ms"] = (cpu_seconds(proxy.pid) - used) * 1000 / DELTAS
                figures["rss_after_deltas_mb"] = resident_mb(proxy.pid)
            return figures
        finally:
            for process in (proxy, feed):
                if process:
                    process.terminate()
                    process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--services", type=int, default=20_000)
    parser.add_argument("--binaries", type=pathlib.Path, default=HERE.parent / ".build/release")
    options = parser.parse_args()
    if os.environ.get("MARTLET_BENCH_NAMESPACE") != "1":
        # The proxy's ports are fixed: they need a network of their own.
        os.environ["MARTLET_BENCH_NAMESPACE"] = "1"
        inside = "ip link set lo up && exec python3 \"$0\" \"$@\""
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", inside, *([str(HERE / "proxy.py")] + os.sys.argv[1:])])
    lines = [
        "# The node proxy as a process", "",
        "Written by `Benchmarks/proxy.py`: `martlet proxy` with xDS and CA connected over TLS, no pods. Medians of "
        f"{options.repetitions} (range). A delta is one changed workload, from the control plane's change to the proxy's "
        "acknowledgement after it was applied, both sides' work included. Resident memory is that of three seconds after "
        "ready: by then the proxy has given back the program pages that only its start needed (they stay in the page "
        "cache), and its peak is from before; the anonymous part is what nobody but the proxy can use.", "",
        f"- Date: {time.strftime('%F')}, machine: {os.cpu_count()} cores, kernel {os.uname().release}", "",
        "| mesh | figure | median (range) |", "|---|---|---|",
    ]
    for workloads, services in ((0, 0), (options.workloads, options.services)):
        runs = [once(options.binaries, workloads, services) for _ in range(options.repetitions)]
        for key in runs[0]:
            values = sorted(run[key] for run in runs)
            lines.append(
                f"| {workloads} workloads, {services} services | {key} | "
                f"{statistics.median(values):.4g} ({values[0]:.4g}–{values[-1]:.4g}) |")
            print(lines[-1], flush=True)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/proxy.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
