"""The echo server of the Gateway API's conformance tests; README.md says what it answers and how it is set up."""

import argparse
import asyncio
import os
import signal
import ssl
import subprocess
import sys
import tempfile

import answers
import http1

PREFACE = b"PRI * HTTP/2.0"


async def http(reader, writer, h2c_only=False):
    """Any version of HTTP: a client that speaks HTTP/2 says so first."""
    tls = tls_facts(writer)
    try:
        first = await reader.read(65536)
        while first and len(first) < len(PREFACE) and PREFACE.startswith(first):
            more = await reader.read(65536)
            if not more:
                break
            first += more
        if not first:
            return
        stream = http1.Stream(reader, first)
        if first.startswith(PREFACE):
            import http2  # Only here, so that a machine without the package can still serve HTTP/1.

            await http2.Connection(stream, writer, tls).serve()
        else:
            await http1.serve(stream, writer, tls, h2c_only)
    except (ConnectionError, asyncio.IncompleteReadError, ValueError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def h2c(reader, writer):
    await http(reader, writer, h2c_only=True)


async def tcp(reader, writer, greets=False):
    """Every line comes back after the pod's name."""
    try:
        if greets:
            writer.write(answers.pod().encode() + b"\n")
        while line := await reader.readline():
            writer.write(answers.pod().encode() + b" " + line)
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, ValueError):
        pass
    finally:
        writer.close()


async def server_first(reader, writer):
    await tcp(reader, writer, greets=True)


def tls_facts(writer):
    secure = writer.get_extra_info("ssl_object")
    if secure is None:
        return None
    certificate = secure.getpeercert(binary_form=True)
    return {
        "version": secure.version(), "serverName": getattr(secure, "asked_name", None) or "",
        "negotiatedProtocol": secure.selected_alpn_protocol() or "", "cipherSuite": secure.cipher()[0],
        **({"peerCertificates": [ssl.DER_cert_to_PEM_cert(certificate)]} if certificate else {})}


def context(certificate, key, clients=None):
    """TLS with a certificate from files, or with one that is made now."""
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.set_alpn_protocols(["h2", "http/1.1"])

    def remember(connection, name, _):
        connection.asked_name = name

    secure.sni_callback = remember
    if clients:
        secure.verify_mode = ssl.CERT_OPTIONAL
        secure.load_verify_locations(clients)
    if certificate and os.path.exists(certificate):
        secure.load_cert_chain(certificate, key)
        return secure
    with tempfile.TemporaryDirectory() as folder:
        own = [f"{folder}/crt", f"{folder}/key"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "365", "-subj", "/CN=echo", "-addext", "subjectAltName=DNS:echo,DNS:*.example.com", "-out", own[0],
             "-keyout", own[1]], check=True, capture_output=True)
        secure.load_cert_chain(*own)
    return secure


def listeners(arguments, environment):
    """Pairs of port, handler and TLS context."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "grpc", "tls", "tcp", "server-first"):
        parser.add_argument(f"--{name}", type=int, action="append", default=[])
    parser.add_argument("--crt")
    parser.add_argument("--key")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        print(f"ignored: {' '.join(unknown)}", file=sys.stderr)
    wanted = [(port, http, port in options.tls) for port in options.port + options.grpc]
    wanted += [(port, tcp, port in options.tls) for port in options.tcp]
    wanted += [(port, server_first, False) for port in options.server_first]
    if wanted:
        secure = context(options.crt, options.key) if options.tls else None
        return [(port, handler, secure if uses_tls else None) for port, handler, uses_tls in wanted]

    def number(name, default):
        return int(environment.get(name) or default)

    certificate, key = environment.get("TLS_SERVER_CERT"), environment.get("TLS_SERVER_PRIVKEY")
    found = [(number("HTTP_PORT", 3000), http, None)]
    if not environment.get("GRPC_ECHO_SERVER"):
        found.append((number("H2C_PORT", 3001), h2c, None))
    if certificate and key:
        secure = context(certificate, key, environment.get("TLS_CLIENT_CACERTS"))
        found.append((number("HTTPS_PORT", 8443), http, secure))
    return found


async def listen(port, handler, secure):
    """On IPv4 and, where the machine has it, IPv6; port 0 takes one for the test that asked."""
    host = None if port else "127.0.0.1"
    server = await asyncio.start_server(handler, host, port, ssl=secure, backlog=1024)
    print(f"listening on port {server.sockets[0].getsockname()[1]} ({handler.__name__})", flush=True)
    return server


async def main():
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    servers = [await listen(*listener) for listener in listeners(sys.argv[1:], os.environ)]
    await ended.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
