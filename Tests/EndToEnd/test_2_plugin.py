"""The CNI plugin is copied to nodes that are not ours, and has to run there."""

import json
import shutil
import subprocess

from lab import BIN


def test_it_needs_no_file_of_its_node_but_proc(tmp_path):
    shutil.copy2(BIN / "martlet-cni", tmp_path)
    (tmp_path / "proc").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t proc proc "$1/proc" && exec chroot "$1" /martlet-cni', "sh", tmp_path],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND": "VERSION"}, input='{"cniVersion": "1.0.0"}', text=True,
        capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]
