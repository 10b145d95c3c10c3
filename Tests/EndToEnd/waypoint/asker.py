"""Runs in a client's pod for as long as the tests do: asks what it reads, one JSON object a line, and answers in JSON.

`{"url": ..., "headers": {...}, "method": ..., "body": ..., "http2": ..., "timeout": ..., "count": ...}`: the answers are what
the echo server's own client makes of them (`echo/client.py`), a list of `count`, all asked at once on connections of their own.
With `"kept": <name>` there is one answer, asked on the connection of this name.
"""

import concurrent.futures
import json
import os
import sys
import types
import urllib.parse

sys.path.insert(0, os.environ.get("ECHO_FOLDER", "/opt/echo"))
import client  # noqa: E402
import kept  # noqa: E402

PARALLEL_MAX = 64


def options_of(question):
    return types.SimpleNamespace(
        header=[f"{name}: {value}" for name, value in question.get("headers", {}).items()],
        method=question.get("method", "GET"), body=question.get("body"), timeout=question.get("timeout", 20.0),
        http2=question.get("http2", False), jitter=False, sni=None)


def answers(pool, connections, question):
    url = urllib.parse.urlsplit(question["url"])
    if "kept" in question:
        return [connections.ask(question["kept"], url, options_of(question))]
    asked = [pool.submit(client.once, url, options_of(question)) for _ in range(question.get("count", 1))]
    return [one.result() for one in asked]


def main():
    with concurrent.futures.ThreadPoolExecutor(PARALLEL_MAX) as pool:
        connections = kept.Connections()
        print("asking", flush=True)
        for line in sys.stdin:
            try:
                print(json.dumps(answers(pool, connections, json.loads(line))), flush=True)
            except Exception as error:  # Whatever it is, the tests have to hear of it and not wait.
                print(json.dumps([{"error": f"{type(error).__name__}: {error}"}]), flush=True)


if __name__ == "__main__":
    main()
