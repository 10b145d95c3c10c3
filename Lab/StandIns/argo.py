#!/usr/bin/env python3
"""Stands in for Argo CD, Argo Rollouts, dex and redis where the lab has no registry to pull them from.

What it does is told by the name that it is started under, as with the originals. It listens where they listen, answers
their probes, keeps the manifests' promises to each other (the password that the init container of redis leaves in a
Secret), and does nothing else: no application is deployed by it.
"""

import base64
import http.server
import json
import os
import pathlib
import secrets
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
# name: ports with HTTP, and ports that are only open
ROLES = {
    "argocd-server": ([8083], []),
    "argocd-repo-server": ([8084], [8081]),
    "argocd-application-controller": ([8082], []),
    "argocd-applicationset-controller": ([7000, 8080, 8081], []),
    "argocd-notifications": ([9001], []),
    "argocd-dex": ([5556, 5558], [5557]),
    "rollouts-controller": ([8080, 8090], []),
    "redis-server": ([], []),
}


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    program = "?"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/healthz") or path == "/metrics":
            self.reply(200, "text/plain", "ok\n" if path != "/metrics" else f'standin_info{{program="{self.program}"}} 1\n')
        elif self.program == "argocd-server" and self.server.context and not isinstance(self.connection, ssl.SSLSocket):
            self.reply(307, "text/plain", "", {"Location": f"https://{self.headers.get('Host', 'localhost')}{self.path}"})
        elif path == "/api/version":
            self.reply(200, "application/json", json.dumps({"Version": "stand-in"}) + "\n")
        elif path == "/":
            self.reply(200, "text/html; charset=utf-8", f"<title>{self.program}</title>This is the lab's stand-in.\n")
        else:
            self.reply(404, "text/plain", "the lab's stand-in has /, /healthz, /metrics and /api/version\n")

    def reply(self, code, kind, text, more=None):
        body = text.encode()
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """HTTP; with a context also HTTPS on the same port, told by the first byte, as argocd-server has it."""

    daemon_threads = True
    context = None

    def finish_request(self, request, address):
        request.settimeout(30)
        try:
            # 22: a TLS handshake record.
            if self.context and request.recv(1, socket.MSG_PEEK) == b"\x16":
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, address)
        except OSError:
            pass

    def handle_error(self, *_):
        pass


def own_certificate():
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key", f"{folder}/certificate"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365",
             "-subj", "/O=Argo CD/CN=argocd-server", "-addext", "subjectAltName=DNS:localhost,DNS:argocd-server",
             "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


class Redis(socketserver.StreamRequestHandler):
    """Asks for the password and answers PING."""

    password = ""

    def handle(self):
        known = not self.password
        while head := self.rfile.readline(64):
            if head[:1] == b"*":
                words = []
                for _ in range(min(int(head[1:]), 16)):
                    size = int(self.rfile.readline(64)[1:])
                    words.append(self.rfile.read(min(size, 4096) + 2)[:-2].decode())
            else:
                words = head.decode().split()
            command = words[0].upper() if words else ""
            if command == "AUTH":
                known = words[-1] == self.password
                self.wfile.write(b"+OK\r\n" if known else b"-WRONGPASS invalid password\r\n")
            elif not known:
                self.wfile.write(b"-NOAUTH Authentication required.\r\n")
            else:
                self.wfile.write(b"+PONG\r\n" if command == "PING" else b"-ERR the lab's stand-in answers PING only\r\n")


class OpenServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def redis_initial_password():
    """Leaves a password in the Secret argocd-redis, unless there is one."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    namespace = (ACCOUNT / "namespace").read_text()
    data = {"auth": base64.b64encode(secrets.token_urlsafe(12).encode()).decode()}
    request = urllib.request.Request(
        f"https://{host}:{port}/api/v1/namespaces/{namespace}/secrets", method="POST",
        data=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "argocd-redis"}, "data": data}).encode(),
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=30, context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")))
        print("Secret argocd-redis made")
    except urllib.error.HTTPError as error:
        if error.code != 409:
            sys.exit(f"cannot make the Secret argocd-redis: {error} {error.read().decode()}")
        print("Secret argocd-redis is there already")


def serve(program):
    http_ports, open_ports = ROLES[program]
    Answer.program = program
    servers = [Server(("", port), Answer) for port in http_ports]
    servers += [OpenServer(("", port), socketserver.BaseRequestHandler) for port in open_ports]
    if program == "argocd-server":
        server = Server(("", 8080), Answer)
        server.context = own_certificate()
        servers.append(server)
    if program == "redis-server":
        words = " ".join(sys.argv[1:]).split()
        if "--requirepass" in words:
            Redis.password = words[words.index("--requirepass") + 1]
        servers.append(OpenServer(("", 6379), Redis))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{program}: the lab's stand-in, listening on {', '.join(str(s.server_address[1]) for s in servers)}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def main():
    program = pathlib.Path(sys.argv[0]).name
    if program == "argocd" and sys.argv[1:3] == ["admin", "redis-initial-password"]:
        redis_initial_password()
    elif program in ROLES:
        # Blocked before the threads are made, so that it is ours to wait for.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        serve(program)
    else:
        sys.exit(f"{program}: the lab's stand-in is started as one of {', '.join(ROLES)}, or as: argocd admin "
                 "redis-initial-password")


if __name__ == "__main__":
    main()
