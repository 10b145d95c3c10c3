"""Sends requests from inside a pod and prints what came back.

    client http://echo:8080/path -H 'name: value' --method POST --count 100 --parallel 10
    client grpc://echo:7070/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo
    client tcp://echo:9090
    client server-first://echo:9091

One paragraph of `Key=value` lines for each request, as the standard's own client prints them; with `--output=json` one
list with an object per request: `code`, `headers` (of the response, names in lower case), `body`, and for an echo server's
JSON the object `echo`; or `error` when there was no response. Redirects are not followed.
"""

import argparse
import concurrent.futures
import http.client
import json
import random
import socket
import ssl
import sys
import urllib.parse

import grpcecho


def connect(url, options, port):
    connection = socket.create_connection((url.hostname, url.port or port), options.timeout)
    if url.scheme in ("https", "grpcs"):
        context = ssl._create_unverified_context()
        if url.scheme == "grpcs" or options.http2:
            context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection, server_hostname=options.sni or url.hostname)
    return connection


def over_http1(url, options, headers):
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=options.timeout)
    connection.sock = connect(url, options, 443 if url.scheme == "https" else 80)
    try:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        names = {name.lower() for name, _ in headers}
        connection.putrequest(options.method, target, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        body = options.body.encode() if options.body else b""
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        received = {}
        for name, value in response.getheaders():
            received.setdefault(name.lower(), []).append(value)
        return response.status, received, response.read(), {}
    finally:
        connection.close()


def begin_http2():
    import h2.config
    import h2.connection

    h2c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    h2c.initiate_connection()
    return h2c


def exchange(connection, h2c, url, options, headers, body):
    """One request and its response on a connection that carries no other. Also for gRPC: the trailers come last."""
    import h2.events

    named = {name.lower(): value for name, value in headers}
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [
        (":method", options.method), (":scheme", "https" if url.scheme in ("https", "grpcs") else "http"),
        (":authority", named.pop("host", url.netloc)), (":path", target), *named.items()]
    stream = h2c.get_next_available_stream_id()
    h2c.send_headers(stream, fields, end_stream=not body)
    if body:
        h2c.send_data(stream, body, end_stream=True)
    status, received, content, trailers, ended = 0, {}, b"", {}, False
    connection.sendall(h2c.data_to_send())
    while not ended:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the connection ended before the response")
        for event in h2c.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                for name, value in event.headers:
                    if name == ":status":
                        status = int(value)
                    else:
                        received.setdefault(name, []).append(value)
            elif isinstance(event, h2.events.DataReceived):
                content += event.data
                h2c.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = dict(event.headers)
            elif isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                raise ConnectionError(f"the stream was reset with {event.error_code}")
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionError(f"the connection was ended with {event.error_code}")
            elif isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                ended = True
        connection.sendall(h2c.data_to_send())
    return status, received, content, trailers


def over_http2(url, options, headers, body, port):
    with connect(url, options, port) as connection:
        connection.settimeout(options.timeout)
        return exchange(connection, begin_http2(), url, options, headers, body)


def call(url, options, headers):
    """One gRPC call, a path that is missing is the method Echo."""
    if not url.path.strip("/"):
        url = url._replace(path=f"/{grpcecho.SERVICE}/Echo")
    options.method = "POST"
    headers = [("content-type", "application/grpc"), ("te", "trailers"), *headers]
    status, received, content, trailers = over_http2(url, options, headers, grpcecho.framed(b""), 80)
    ended = {name: values[0] for name, values in received.items()} | trailers
    result = {
        "code": status, "headers": received, "grpcStatus": ended.get("grpc-status"),
        "grpcMessage": ended.get("grpc-message", ""), "body": ""}
    if len(content) >= 5 and result["grpcStatus"] == "0":
        result["echo"] = grpcecho.parsed(content[5:])
    return result


def lines(url, options, waits=False):
    """A line there, a line back; to a server that speaks first, not before it has."""
    connection = connect(url, options, 0)
    with connection, connection.makefile("rwb") as file:
        if waits and not file.readline():
            raise EOFError("the connection ended before the server said anything")
        file.write((options.body or "hello").encode() + b"\n")
        file.flush()
        answer = file.readline().decode().strip()
        if not answer:
            raise EOFError("the connection ended before the answer")
    return {"code": 200, "headers": {}, "body": answer, "echo": {"pod": answer.split(" ")[0]}}


def once(url, options):
    headers = [tuple(part.strip() for part in text.split(":", 1)) for text in options.header]
    if options.jitter:
        headers.append(("X-Jitter", str(random.randrange(10000))))
    try:
        if url.scheme in ("tcp", "server-first"):
            return lines(url, options, waits=url.scheme == "server-first")
        if url.scheme in ("grpc", "grpcs"):
            return call(url, options, headers)
        if options.http2:
            body = (options.body or "").encode()
            status, received, content, _ = over_http2(
                url, options, headers, body, 443 if url.scheme == "https" else 80)
        else:
            status, received, content, _ = over_http1(url, options, headers)
    except (OSError, http.client.HTTPException, EOFError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    result = {"code": status, "headers": received, "body": content.decode(errors="replace")}
    try:
        echo = json.loads(content)
        if isinstance(echo, dict) and "pod" in echo:
            result["echo"] = echo
            result["body"] = ""
    except ValueError:
        pass
    return result


def paragraph(number, address, result):
    out = [f"[{number}] Url={address}"]
    if "error" in result:
        return out + [f"[{number} error] {result['error']}"]
    out.append(f"[{number}] StatusCode={result['code']}")
    for name, values in sorted(result["headers"].items()):
        out += [f"[{number}] ResponseHeader={name.title()}:{value}" for value in values]
    echo = result.get("echo")
    if not echo:
        return out + [f"[{number} body] {line}" for line in result["body"].splitlines()]
    for key, name in (("host", "Host"), ("pod", "Hostname"), ("method", "Method"), ("proto", "Proto"), ("path", "URL")):
        if key in echo:
            out.append(f"[{number} body] {name}={echo[key]}")
    for name, values in sorted(echo.get("headers", {}).items()):
        out += [f"[{number} body] RequestHeader={name}:{value}" for value in values]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=10)
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each step of a request")
    parser.add_argument("--http2", action="store_true", help="with prior knowledge")
    parser.add_argument("--jitter", action="store_true", help="a random header, so that no two requests are alike")
    parser.add_argument("--sni")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    url = urllib.parse.urlsplit(options.url)
    if url.scheme not in ("http", "https", "grpc", "grpcs", "tcp", "server-first") or not url.hostname:
        parser.error(f"{options.url} is no URL with http, https, grpc, grpcs, tcp or server-first")
    with concurrent.futures.ThreadPoolExecutor(min(options.parallel, options.count)) as pool:
        results = list(pool.map(lambda _: once(url, options), range(options.count)))
    if options.output == "json":
        print(json.dumps(results))
        return 0
    print("\n\n".join("\n".join(paragraph(at, options.url, result)) for at, result in enumerate(results)))
    return 1 if any("error" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
