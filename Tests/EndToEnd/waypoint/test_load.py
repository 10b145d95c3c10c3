"""The load itself, beside an echo server in a network namespace of its own: it has to notice what is wrong. No lab, no mesh."""

import json
import os
import pathlib
import subprocess
import sys

ECHO = pathlib.Path(__file__).resolve().parents[1] / "echo"
# Without a waypoint there are no routes, no policy, and one pod, which says that it is of v1.
SCRIPT = """
ip link set lo up
"$PYTHON" -u "$ECHO_FOLDER/server.py" --port=80 --grpc=7070 --tcp=9090 > server.log 2>&1 & server=$!
until [ $(ss -Hltn | wc -l) -ge 3 ]; do sleep 0.1; done
"$PYTHON" -u "$LOAD" localhost --seconds 3 --rate 40 --held 2 --life 2
kill $server
wait
"""


def test_what_is_wrong_is_told_and_what_is_right_is_counted(tmp_path):
    environment = {
        **os.environ, "PYTHON": sys.executable, "ECHO_FOLDER": str(ECHO), "POD_NAME": "localhost-v1-a",
        "LOAD": str(ECHO.parent / "waypoint" / "load.py")}
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said and said[-1]["event"] == "summary", done
    summary, wrong = said[-1], [one for one in said if one["event"] == "wrong"]
    assert {one["kind"].split()[-1] for one in wrong} == {"v2", "forbidden"}, wrong
    assert any("was answered by localhost-v1-a" in one["error"] for one in wrong), wrong
    assert summary["failed"] == 0 and summary["wrong"] == len(wrong), said
    kinds = {"http1", "http1-short", "http2", "http2-to-1", "grpc", "websocket", "lines"}
    assert all(summary["counts"].get(kind) for kind in kinds), summary
