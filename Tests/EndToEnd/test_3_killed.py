"""A demo that is killed at any point, its cluster with it, is removed by demo-clean without a trace."""

import os
import pathlib
import signal
import subprocess

import pytest

from conftest import BIN, ROOT, eventually

NAME = "k3s-default"
KUBECONFIG = f"KUBECONFIG={ROOT}/.demo/kubeconfig"


def processes():
    """What belongs to the demo: its cluster, everything in the pods, and whoever was told its kubeconfig; by pid."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            groups = (entry / "cgroup").read_text()
            variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # It ended while we looked.
        if f"/martlet/lab/{NAME}/" in command or f"/martlet-lab/{NAME}/" in groups or KUBECONFIG in variables:
            found[int(entry.name)] = command
    return found


def files():
    places = [f"/var/lib/martlet/lab/{NAME}", f"/run/martlet/lab/{NAME}", f"/run/martlet/lab/{NAME}.lock", ROOT / ".demo"]
    left = [str(place) for place in places if os.path.exists(place)]
    left += [str(group) for group in pathlib.Path("/sys/fs/cgroup").glob(f"**/martlet-lab/{NAME}")]
    left += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if f"lab/{NAME}" in line]
    return left


def network(operator):
    names = [line.split(":")[1].split("@")[0].strip() for line in operator.ok("ip", "-o", "link").splitlines()]
    return sorted(names), operator.ok("ip", "-4", "route"), operator.ok("ip", "netns", "list")


# Where only the demo is killed, the creation it had begun goes on, and the clean-up has to wait for it.
@pytest.mark.parametrize("moment, everything", [("Creating cluster", True), ("API server on", False), ("=== 3.", True)])
def test_a_killed_demo_leaves_nothing_behind_its_clean_up(operator, tmp_path, moment, everything):
    environment = operator.environment | {"MARTLET_BIN": str(BIN)}
    subprocess.run([ROOT / "scripts" / "demo-clean.sh"], env=environment, check=True, timeout=120)
    before = network(operator)
    output = tmp_path / "demo.log"
    with output.open("w") as log:
        demo = subprocess.Popen([ROOT / "scripts" / "demo.sh"], env=environment, stdout=log, stderr=log)
    try:
        eventually(f"the demo to say {moment!r}", lambda: moment in output.read_text(), 120)
    finally:
        demo.kill()
        demo.wait()
    for pid in processes() if everything else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    done = subprocess.run([ROOT / "scripts" / "demo-clean.sh"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files() == []
    eventually("all processes to be gone", lambda: not processes())
    # The kernel takes network namespaces apart in its own time.
    eventually("the network to be as before", lambda: network(operator) == before)
