"""The lab's API server, asked without a program between, and what the machine says of processes."""

import base64
import http.client
import json
import os
import pathlib
import ssl
import tempfile
import threading
import time
import urllib.parse

import yaml

TICKS = os.sysconf("SC_CLK_TCK")


class Refused(RuntimeError):
    pass


class API:
    """One connection, for one thread."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.url = urllib.parse.urlsplit(cluster["server"])
        roots = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=roots)
        with tempfile.NamedTemporaryFile() as certificate, tempfile.NamedTemporaryFile() as key:
            for file, name in ((certificate, "client-certificate-data"), (key, "client-key-data")):
                file.write(base64.b64decode(user[name]))
                file.flush()
            self.tls.load_cert_chain(certificate.name, key.name)
        self.connection = self.connect()

    def connect(self, timeout=60):
        return http.client.HTTPSConnection(self.url.hostname, self.url.port, context=self.tls, timeout=timeout)

    def call(self, method, path, body=None, kind="application/json"):
        """What it answers; not more than once asked again, when the connection had been closed meanwhile."""
        data = None if body is None else json.dumps(body)
        for attempt in range(2):
            try:
                self.connection.request(method, path, data, {"Content-Type": kind, "Accept": "application/json"})
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError):
                self.connection.close()
                if attempt:
                    raise
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def create(self, path, body):
        return self.call("POST", path, body)

    def patch(self, path, body):
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def get(self, path):
        return self.call("GET", path)

    def delete(self, path):
        return self.call("DELETE", path)

    def watch(self, path, take):
        """Calls `take(event)` from a thread of its own; returns when the watch is open."""
        connection = self.connect(timeout=None)
        connection.request("GET", f"{path}?watch=1", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(f"watch {path}: {answer.status} {answer.read()[:300]!r}")

        def read():
            # readline of HTTPResponse waits for full buffers only when it is not chunked.
            while line := answer.readline():
                take(json.loads(line))

        threading.Thread(target=read, daemon=True).start()


def process(*words):
    """The process with these words among its arguments, as a number; the youngest."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            texts = [os.path.basename(each.decode(errors="replace")) for each in arguments[:1]] + [
                each.decode(errors="replace") for each in arguments[1:]]
            if all(any(word == text or word in text.split("/") for text in texts) for word in words):
                found.append(int(entry.name))
    if not found:
        raise SystemExit(f"there is no process {' '.join(words)}")
    return max(found)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_seconds():
    """Busy, of all cores since the start."""
    user, nice, system, _, _, irq, softirq = (int(x) for x in open("/proc/stat").readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def resident_mb(pid, kind="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(kind + ":")) / 1024


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Busy:
    """Cores that others used while something was measured."""

    def __enter__(self):
        self.begin, self.clock = machine_seconds(), time.monotonic()
        return self

    def __exit__(self, *trouble):
        self.cores = (machine_seconds() - self.begin) / (time.monotonic() - self.clock)
