"""The soak: mixed load through two waypoints for a long time, while routes and policies are edited, endpoints die, and one of the
waypoints is rolled out, scaled and killed, at random. The seed is printed; with it the same things happen in the same order.

    soak.py --seconds 1800 --rate 300 --seed 1 --out .build/soak

Wrong answers: none is allowed. A failed request is explained when an endpoint or a waypoint of its application was killed at
that time, and by nothing else: edits, rollouts and scaling lose nothing. The memory of what is not restarted (the waypoint
`steady`, the node proxies, the control plane) has to be the same in the last third of the time as in the first. Writes
summary.json, summary.md and events.jsonl; ends with 1 when something is not as it should be.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lab import Failed, eventually, operator_of  # noqa: E402
from shop import Shop, client, document, echo, load_routes, policy, programs, service  # noqa: E402

CLUSTER = "soak"
APPLICATIONS = ["steady", "restless"]
# What a death may explain, in seconds before (clocks are read at different moments) and after it.
BEFORE, AFTER = 0.5, 5.0
# Between two events.
PAUSES = (2.0, 6.0)
SAMPLE_SECONDS = 5
# Of resident memory, from the first third of the time to the last.
GROWTH_SHARE, GROWTH_MB = 0.10, 8


def processes(*words):
    """Process ids of the programs whose command line and environment have all the words."""
    found = []
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                text = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
            except OSError:
                continue
            if all(word in text.decode(errors="replace").split("\0") for word in words):
                found.append(int(process.name))
    return found


def resident(pid):
    """Megabytes; None when the process is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return None


def refusing(path, app):
    """Of HTTP alone: without ports all of what has no paths would be refused."""
    operation = {"paths": [f"/{path}/*"], "ports": ["80", "7070"]}
    return policy(f"{path}-{app}", app, {"action": "DENY", "rules": [{"to": [{"operation": operation}]}]})


class SoakShop(Shop):
    def fill(self):
        mesh = {"istio.io/dataplane-mode": "ambient"}
        self.apply(document("Namespace", "shop", labels=mesh), document("Namespace", "clients", labels=mesh))
        self.apply(programs("clients"), *client("alice", f"k3d-{self.cluster}-agent-0"))
        for app in APPLICATIONS:
            self.ok("martlet", "waypoint", "apply", "-n", "shop", "--name", f"{app}-waypoint", "--wait", timeout=180)
            labels = {"istio.io/use-waypoint": f"{app}-waypoint"}
            self.apply(
                service(app, {"app": app}, labels=labels),
                *(service(f"{app}-{v}", {"app": app, "version": v}, labels=labels) for v in ("v1", "v2")),
                *(echo(v, app=app, replicas=2) for v in ("v1", "v2")),
                refusing("forbidden", app),
                *load_routes(app=app))
        self.kubectl("scale", "deploy/restless-waypoint", "-n", "shop", "--replicas=2")
        for namespace in ("shop", "clients"):
            self.kubectl("rollout", "status", "deploy", "-n", namespace, "--timeout=180s", timeout=200)
            eventually(f"{namespace} to be captured", lambda: all(
                "gateway.networking.k8s.io/gateway-name" in pod["metadata"]["labels"]
                or pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"
                for pod in self.objects("pods", namespace)))
        script = (
            "import urllib.request as r, urllib.error as e, sys\n"
            "def code(url):\n"
            "    try: return r.urlopen(url, timeout=10).status\n"
            "    except e.HTTPError as error: return error.code\n"
            "    except OSError as error: return repr(error)\n"
            "print([code(f'http://{a}.shop/{p}/x') for a in sys.argv[1:] for p in ('forbidden', 'v1')])")
        said = []

        def right():
            said[:] = [self.run(
                "kubectl", "exec", "-n", "clients", "deploy/alice", "--", "python3", "-c", script, *APPLICATIONS)]
            return said[0].stdout.strip() == str([403, 200] * len(APPLICATIONS))

        try:
            eventually("routes and policies to be in force", right, 60)
        except Failed:
            raise Failed(f"routes and policies are not in force: {said[0].stdout}{said[0].stderr}") from None


class Soak:
    def __init__(self, shop, options):
        self.shop, self.options = shop, options
        self.random = random.Random(options.seed)
        self.events = []
        self.memory = collections.defaultdict(list)
        # Of the whole machine: one that is too busy answers late, and whoever reads the result has to know.
        self.busy = []
        self.replicas = {"restless": 2, **{f"{app}-{v}": 2 for app in APPLICATIONS for v in ("v1", "v2")}}
        self.flipped = set()
        self.over = threading.Event()

    # What happens

    def note(self, what, app, explains=False, **more):
        event = {"at": round(time.time(), 3), "what": what, "app": app, "explains": explains, **more}
        self.events.append(event)
        with open(self.options.out / "events.jsonl", "a") as file:
            file.write(json.dumps(event) + "\n")

    def edit_routes(self):
        app = self.random.choice(APPLICATIONS)
        weights = self.random.choice([(1, 1), (1, 0), (0, 1), (9, 1), (1, 99)])
        self.note("routes edited", app, weights=weights)
        self.shop.apply(*load_routes(self.random.randrange(1_000_000), weights, app))

    def flip_policy(self):
        app = self.random.choice(APPLICATIONS)
        flip = refusing("flip", app)
        self.note("policy flipped", app, on=app not in self.flipped)
        if app in self.flipped:
            self.flipped.remove(app)
            self.shop.remove(flip)
        else:
            self.flipped.add(app)
            self.shop.apply(flip)

    def scale_endpoints(self):
        """Between 2 and 3; whom it costs an endpoint is told like of a death: the application does not drain."""
        app, version = self.random.choice(APPLICATIONS), self.random.choice(["v1", "v2"])
        name = f"{app}-{version}"
        count = 5 - self.replicas[name]
        self.note("endpoints scaled", app, explains=count < self.replicas[name], to=count)
        self.replicas[name] = count
        self.shop.kubectl("scale", f"deploy/{name}", "-n", "shop", f"--replicas={count}")

    def kill_endpoint(self):
        app, version = self.random.choice(APPLICATIONS), self.random.choice(["v1", "v2"])
        pods = self.ready(f"app={app},version={version}")
        if len(pods) < 2:
            return
        name = self.random.choice(pods)
        for pid in processes("/opt/echo/server.py", f"POD_NAME={name}"):
            self.note("endpoint killed", app, explains=True, pod=name)
            os.kill(pid, signal.SIGKILL)

    def delete_endpoint(self):
        app, version = self.random.choice(APPLICATIONS), self.random.choice(["v1", "v2"])
        pods = self.ready(f"app={app},version={version}")
        if len(pods) < 2:
            return
        name = self.random.choice(pods)
        self.note("endpoint deleted", app, explains=True, pod=name)
        self.shop.kubectl("delete", "pod", name, "-n", "shop", "--wait=false")

    def roll_waypoint(self):
        self.note("waypoint rolled out", "restless")
        self.shop.kubectl("rollout", "restart", "deploy/restless-waypoint", "-n", "shop")

    def scale_waypoint(self):
        count = self.random.choice([count for count in (1, 2, 3) if count != self.replicas["restless"]])
        self.note("waypoint scaled", "restless", to=count)
        self.replicas["restless"] = count
        self.shop.kubectl("scale", "deploy/restless-waypoint", "-n", "shop", f"--replicas={count}")

    def delete_waypoint_pod(self):
        pods = self.ready("gateway.networking.k8s.io/gateway-name=restless-waypoint")
        if len(pods) < 2:
            return
        name = self.random.choice(pods)
        self.note("waypoint's pod deleted", "restless", pod=name)
        self.shop.kubectl("delete", "pod", name, "-n", "shop", "--wait=false")

    def kill_waypoint(self):
        pods = self.ready("gateway.networking.k8s.io/gateway-name=restless-waypoint")
        if len(pods) < 2:
            return
        name = self.random.choice(pods)
        for pid in processes("waypoint", f"POD_NAME={name}"):
            self.note("waypoint killed", "restless", explains=True, pod=name)
            os.kill(pid, signal.SIGKILL)

    def ready(self, selector):
        return sorted(
            pod["metadata"]["name"] for pod in self.shop.objects("pods", "shop", selector)
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])))

    WEIGHTS = {
        "edit_routes": 8, "flip_policy": 4, "kill_endpoint": 2, "delete_endpoint": 2, "scale_endpoints": 2, "roll_waypoint": 2,
        "scale_waypoint": 2, "delete_waypoint_pod": 2, "kill_waypoint": 1}

    # The time

    def watched(self):
        """What is not restarted: names and process ids."""
        found = {}
        for pod in self.shop.objects("pods", "shop", "gateway.networking.k8s.io/gateway-name=steady-waypoint"):
            found["waypoint steady"] = processes("waypoint", f"POD_NAME={pod['metadata']['name']}")[0]
        for node in ("server-0", "agent-0", "agent-1"):
            found[f"node proxy {node}"] = processes("proxy", f"NODE_NAME=k3d-{CLUSTER}-{node}")[0]
        for pod in self.shop.objects("pods", "istio-system", "app=istiod"):
            found["control plane"] = processes("control", f"POD_NAME={pod['metadata']['name']}")[0]
        return found

    def sample(self, watched, started):
        while not self.over.wait(SAMPLE_SECONDS):
            self.busy.append(os.getloadavg()[0])
            for name, pid in watched.items():
                self.memory[name].append((time.time() - started, resident(pid)))

    def run(self):
        options = self.options
        load = self.shop.load(
            *(f"{app}.shop" for app in APPLICATIONS), seconds=options.seconds + 600, rate=options.rate, held=options.held)
        started = time.time()
        watched = self.watched()
        sampler = threading.Thread(target=self.sample, args=(watched, started))
        sampler.start()
        names, weights = zip(*((name, weight) for name, weight in self.WEIGHTS.items() if name in options.only))
        try:
            while (left := started + options.seconds - time.time()) > 0:
                time.sleep(min(self.random.uniform(*PAUSES), left))
                getattr(self, self.random.choices(names, weights)[0])()
                if load.process.poll() is not None:
                    raise Failed(f"the load ended early: {load.process.stderr.read()}")
        finally:
            self.over.set()
            sampler.join()
            seen = load.stop()
            self.keep_logs()
        return self.judge(seen, load.troubles, time.time() - started)

    def keep_logs(self):
        for pod in self.shop.objects("pods"):
            labels = pod["metadata"].get("labels", {})
            if "gateway.networking.k8s.io/gateway-name" in labels or labels.get("app") in ("ztunnel", "istiod"):
                done = self.shop.run(
                    "kubectl", "logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], "--tail=20000")
                (self.options.out / f"{pod['metadata']['name']}.log").write_text(done.stdout)

    # What it says

    def cause(self, trouble):
        app = trouble["host"].partition(".")[0]
        for event in self.events:
            if event["explains"] and event["app"] == app and event["at"] - BEFORE <= trouble["ended"] <= event["at"] + AFTER:
                return event["what"]
        return None

    def judge(self, seen, troubles, seconds):
        wrong = [trouble for trouble in troubles if trouble["event"] == "wrong"]
        failed = [trouble for trouble in troubles if trouble["event"] == "failed"]
        explained = collections.Counter(cause for trouble in failed if (cause := self.cause(trouble)))
        unexplained = [trouble for trouble in failed if not self.cause(trouble)]
        memory = {}
        for name, samples in self.memory.items():
            values = [value for _, value in samples if value is not None]
            third = max(1, len(values) // 3)
            first, last = sum(values[:third]) / third, sum(values[-third:]) / third
            memory[name] = {
                "first_third_mb": round(first, 1), "last_third_mb": round(last, 1), "max_mb": round(max(values), 1),
                "restarted": any(value is None for _, value in samples),
                "flat": last <= first * (1 + GROWTH_SHARE) + GROWTH_MB}
        good = not wrong and not unexplained and all(one["flat"] and not one["restarted"] for one in memory.values())
        return {
            "good": good, "seed": self.options.seed, "seconds": round(seconds), "load": seen,
            "events": collections.Counter(event["what"] for event in self.events), "wrong": wrong,
            "failed": len(failed), "explained": explained, "unexplained": unexplained, "memory": memory,
            "load_average": {"mean": round(sum(self.busy) / max(1, len(self.busy)), 1), "max": round(max(self.busy, default=0), 1)},
            "cores": os.cpu_count()}


def markdown(result):
    load = result["load"]
    rows = "\n".join(
        f"| {name} | {one['first_third_mb']} | {one['last_third_mb']} | {one['max_mb']} | {'yes' if one['flat'] else 'NO'} |"
        for name, one in result["memory"].items())
    events = ", ".join(f"{count} × {what}" for what, count in sorted(result["events"].items()))
    explained = ", ".join(f"{count} by {what}" for what, count in result["explained"].items()) or "none"
    return f"""# Soak: {'good' if result['good'] else 'NOT GOOD'}

{result['seconds']} s, seed {result['seed']}: {load['requests']} requests ({load['rate']}/s, p99 {load['p99_ms']} ms), and
{load['counts'].get('websocket', 0)} frames and {load['counts'].get('lines', 0)} lines on held connections. The machine has
{result['cores']} cores and had a load average of {result['load_average']['mean']}, {result['load_average']['max']} at most.

- wrong answers: {len(result['wrong'])}
- failed: {result['failed']}; explained: {explained}; unexplained: {len(result['unexplained'])}
- asked again on another connection, as the protocols say: {sum(load['again'].values())}
- what happened: {events}

| resident memory, MB | first third | last third | most | flat |
|---|---|---|---|---|
{rows}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--held", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", nargs="+", choices=list(Soak.WEIGHTS), default=list(Soak.WEIGHTS), help="what may happen")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(".build/soak"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.iterdir():
        old.unlink()
    print(f"soak: seed {options.seed}, {options.seconds:.0f} s, {options.rate:.0f} requests/s", flush=True)
    with tempfile.TemporaryDirectory() as folder, operator_of(CLUSTER, pathlib.Path(folder)) as operator:
        shop = SoakShop(operator)
        shop.create()
        result = Soak(shop, options).run()
    (options.out / "summary.json").write_text(json.dumps(result, indent=1))
    (options.out / "summary.md").write_text(markdown(result))
    print(markdown(result))
    for trouble in (result["wrong"] + result["unexplained"])[:20]:
        print(json.dumps(trouble))
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
