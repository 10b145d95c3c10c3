"""The echo server, asked over loopback: no lab, no mesh."""

import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))


class Server:
    def __init__(self, *arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-u", HERE / "server.py", *arguments], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "POD_NAME": "echo-v1-abc", "NAMESPACE": "ns", **environment})

    def port(self):
        """Of the next listener, in the order in which they were asked for."""
        return int(re.search(r"port (\d+)", self.process.stdout.readline())[1])

    def end(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def ports():
    server = Server("--port=0", "--tcp=0", "--server-first=0")
    yield {"http": server.port(), "tcp": server.port(), "first": server.port()}
    server.end()


def ask(url, *arguments):
    done = subprocess.run(
        [sys.executable, HERE / "client.py", url, "--output=json", *arguments], capture_output=True, text=True,
        timeout=60)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    return results[0] if len(results) == 1 else results


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_mirror_gives_the_body_back(ports, version):
    answer = ask(
        f"http://127.0.0.1:{ports['http']}/mirror", "--method", "POST", "--body", "some words" * 1000,
        *(["--http2"] if version == "2" else []))
    assert answer["code"] == 200 and answer["body"] == "some words" * 1000


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_request_comes_back(ports, version):
    answer = ask(
        f"http://127.0.0.1:{ports['http']}/a/b?x=1", "-H", "x-mine: v", "-H", "Host: echo", "-H",
        "X-Echo-Set-Header: X-One:1, X-Two:2, X-One:3", *(["--http2"] if version == "2" else []))
    assert answer["code"] == 200
    echo = answer["echo"]
    assert (echo["path"], echo["host"], echo["method"]) == ("/a/b?x=1", "echo", "GET")
    assert echo["proto"] == ("HTTP/1.1" if version == "1" else "HTTP/2.0")
    assert echo["headers"]["X-Mine"] == ["v"] and "Host" not in echo["headers"]
    assert (echo["pod"], echo["namespace"], echo["ingress"], echo["service"]) == ("echo-v1-abc", "ns", "", "")
    assert answer["headers"]["x-one"] == ["1,3"] and answer["headers"]["x-two"] == ["2"]


@pytest.mark.parametrize("path, code", [("/status/204", 204), ("/status/503", 503), ("/status/x", 400), ("/health", 200)])
@pytest.mark.parametrize("more", [[], ["--http2"]])
def test_statuses(ports, path, code, more):
    assert ask(f"http://127.0.0.1:{ports['http']}{path}", *more)["code"] == code


def test_bodies_are_read_and_connections_kept(ports):
    with socket.create_connection(("127.0.0.1", ports["http"])) as connection, connection.makefile("rb") as file:
        connection.sendall(
            b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            b"POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            b"GET /three HTTP/1.0\r\n\r\n")
        everything = file.read().decode()
    assert re.findall(r'"path": "(/\w+)"', everything) == ["/one", "/two", "/three"]


def test_what_is_no_http_is_refused(ports):
    with socket.create_connection(("127.0.0.1", ports["http"])) as connection, connection.makefile("rb") as file:
        connection.sendall(b"hello\r\n\r\n")
        assert file.read().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method, status", [("Echo", "0"), ("EchoTwo", "0"), ("EchoThree", "12")])
def test_grpc(ports, method, status):
    answer = ask(
        f"grpc://127.0.0.1:{ports['http']}/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/{method}", "-H",
        "x-mine: v", "-H", "host: echo:7070")
    assert answer["code"] == 200 and answer["grpcStatus"] == status
    if status == "0":
        echo = answer["echo"]
        assert echo["host"] == "echo:7070" and echo["pod"] == "echo-v1-abc"
        assert echo["method"].endswith("/" + method)
        assert echo["headers"]["x-mine"] == ["v"] and echo["headers"][":authority"] == ["echo:7070"]


def test_many_requests(ports):
    answers = ask(f"http://127.0.0.1:{ports['http']}/", "--count", "50", "--jitter")
    assert len(answers) == 50 and all(answer["code"] == 200 for answer in answers)
    assert all("X-Jitter" in answer["echo"]["headers"] for answer in answers)


def test_lines(ports):
    assert ask(f"tcp://127.0.0.1:{ports['tcp']}", "--body", "hi")["body"] == "echo-v1-abc hi"
    with socket.create_connection(("127.0.0.1", ports["first"])) as connection, connection.makefile("rb") as file:
        assert file.readline() == b"echo-v1-abc\n"
    assert ask(f"server-first://127.0.0.1:{ports['first']}", "--body", "hi")["body"] == "echo-v1-abc hi"


def test_a_websocket_sends_back(ports):
    with socket.create_connection(("127.0.0.1", ports["http"])) as connection, connection.makefile("rb") as file:
        key = base64.b64encode(b"0123456789abcdef").decode()
        connection.sendall((
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        assert file.readline().startswith(b"HTTP/1.1 101 ")
        while file.readline().strip():
            pass
        mask = b"abcd"
        connection.sendall(b"\x81\x85" + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(b"hello")))
        assert file.read(7) == b"\x81\x05hello"
        connection.sendall(b"\x88\x80" + mask)
        assert file.read() == b"\x88\x00"


def test_no_server_is_an_error_and_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "ConnectionRefusedError" in ask(f"http://127.0.0.1:{port}/")["error"]


def test_paragraphs_are_those_of_the_standard(ports):
    done = subprocess.run(
        [HERE / "client", f"http://127.0.0.1:{ports['http']}/", "--count", "2"], capture_output=True, text=True,
        env={**os.environ, "ECHO_PYTHON": sys.executable}, timeout=60)
    paragraphs = done.stdout.split("\n\n")
    assert len(paragraphs) == 2
    for number, text in enumerate(paragraphs):
        assert f"[{number}] StatusCode=200" in text and f"[{number} body] Hostname=echo-v1-abc" in text


def test_tls_and_the_names_of_echo_basic():
    server = Server("--port=0", "--tls=0")
    port = server.port()
    try:
        answer = ask(f"https://127.0.0.1:{port}/", "--sni", "abc.example.com", "--http2")
        assert answer["echo"]["proto"] == "HTTP/2.0"
        assert answer["echo"]["tls"]["serverName"] == "abc.example.com"
        assert answer["echo"]["tls"]["version"] == "TLSv1.3"
        assert ask(f"https://127.0.0.1:{port}/")["echo"]["proto"] == "HTTP/1.1"
    finally:
        server.end()
    server = Server(HTTP_PORT="0", H2C_PORT="0")
    try:
        plain, h2c = server.port(), server.port()
        assert ask(f"http://127.0.0.1:{plain}/")["code"] == 200
        assert ask(f"http://127.0.0.1:{h2c}/")["code"] == 400
        assert ask(f"http://127.0.0.1:{h2c}/", "--http2")["code"] == 200
    finally:
        server.end()
