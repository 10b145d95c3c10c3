"""CPU and memory of the rig's processes, read from /proc."""

import collections
import fcntl
import json
import os
import resource
import subprocess
import time

# The defaults of lib.sh.
RUN = os.environ.setdefault("RIG_RUN", "/tmp/martlet-bench")
PREFIX = os.environ.setdefault("RIG_PREFIX", "mb-")
LOCK = os.environ.get("RIG_LOCK", f"{RUN}/lock")
TICKS = os.sysconf("SC_CLK_TCK")
ROLES = "ABFS"


def stat(pid):
    """(parent, user seconds, system seconds), or None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[11]) / TICKS, int(fields[12]) / TICKS


def pids(role):
    """The processes recorded for a role (A, B: the proxies, S: the server pod, F: what feeds a proxy), with their children."""
    try:
        with open(f"{RUN}/{role}.pids") as file:
            todo = [int(pid) for pid in file.read().split()]
    except OSError:
        return []
    children = collections.defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(name)):
            children[found[0]].append(int(name))
    alive = []
    while todo:
        pid = todo.pop()
        if stat(pid):
            alive.append(pid)
            todo += children[pid]
    return alive


def cpu(processes):
    found = [used for used in map(stat, processes) if used]
    return sum(used[1] for used in found), sum(used[2] for used in found)


def machine():
    """(busy seconds, stolen seconds) of all cores since boot."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(x) / TICKS for x in file.readline().split()[1:9])
    return user + nice + system + irq + softirq, steal


def sleeps(processes):
    """How often their threads have gone to sleep."""
    count = 0
    for pid in processes:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/status") as file:
                    count += next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches:"))
        except OSError:
            pass
    return count


def wake_up_us():
    """How long a sleeping core of this machine takes to wake up at this hour (tools/wake.c), in µs."""
    done = subprocess.run([f"{RUN}/wake"], capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)["wake_us"]


def memory(processes):
    """Kilobytes. rss counts the executable's shared pages, pss its share of them, anon only private memory."""
    total = {"rss_kb": 0, "anon_kb": 0, "pss_kb": 0, "threads": 0}
    keys = {"VmRSS:": "rss_kb", "RssAnon:": "anon_kb", "Pss:": "pss_kb", "Threads:": "threads"}
    for pid in processes:
        for name in ("status", "smaps_rollup"):
            try:
                with open(f"/proc/{pid}/{name}") as file:
                    for line in file:
                        words = line.split()
                        if words[0] in keys:
                            total[keys[words[0]]] += int(words[1])
            except OSError:
                pass
    return total


class Locked:
    """One measurement at a time on this machine, also beside another rig."""

    def __enter__(self):
        self.file = open(LOCK, "a")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def wait_until_quiet(limit_seconds, level=0.15):
    """Returns when the machine used fewer than `level` cores for a second, or after the limit."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        before = machine()[0]
        time.sleep(1)
        if machine()[0] - before < level:
            return


def measure(command, quiet_seconds, timeout=60):
    """Runs a client; returns its output and what everybody used meanwhile.

    `foreign` is the number of cores used by processes that do not belong to the rig.
    """
    wait_until_quiet(quiet_seconds)
    with Locked():
        time.sleep(0.2)
        wake_us = wake_up_us()
        roles = {role: pids(role) for role in ROLES}

        def snapshot():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            at = {role: cpu(processes) for role, processes in roles.items()}
            slept = sleeps(roles["A"] + roles["B"])
            return at, *machine(), used.ru_utime + used.ru_stime, time.monotonic(), slept

        before = snapshot()
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        after = snapshot()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    account = {}
    for role in ROLES:
        user, system = (after[0][role][i] - before[0][role][i] for i in (0, 1))
        account[role] = {"user": round(user, 3), "sys": round(system, 3), "total": round(user + system, 3)}
    busy, steal, client, wall, slept = (after[i] - before[i] for i in (1, 2, 3, 4, 5))
    own = sum(account[role]["total"] for role in ROLES) + client
    account |= {
        "wall": round(wall, 3),
        "client": round(client, 3),
        "foreign": round((busy - own) / wall, 3),
        "steal": round(steal / wall, 3),
        "wake_us": wake_us,
        "sleeps": slept,
    }
    return done.stdout, account
