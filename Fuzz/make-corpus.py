#!/usr/bin/env python3
"""Writes Fuzz/Corpus: small inputs by hand, one file each, named after what they are."""
import base64
import pathlib

root = pathlib.Path(__file__).parent / "Corpus"


def put(target, name, data):
    folder = root / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def tag(number, kind):
    return varint(number << 3 | kind)


def field(number, data):
    data = data.encode() if isinstance(data, str) else data
    return tag(number, 2) + varint(len(data)) + data


def number(field_number, value):
    return tag(field_number, 0) + bytes([value])


preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
settings = frame(4, 0, 0)
connect = b"\x40\x07:method\x07CONNECT\x41\x0b10.0.0.1:80"
for cut, name in ((255, "whole"), (0, "octets"), (6, "sevens")):
    server = preface + settings + frame(1, 4, 1, connect) + frame(0, 0, 1, b"hello") + frame(0, 1, 1)
    put("http2-frames", f"server-{name}", bytes([cut]) + server)
client = settings + frame(4, 1, 0) + frame(1, 4, 1, b"\x88") + frame(0, 9, 1, b"\x03data\0\0\0")
put("http2-frames", "client", b"\x05" + client + frame(7, 0, 0, b"\0\0\0\1\0\0\0\0bye"))
put("http2-frames", "control", b"\x03" + settings + frame(6, 0, 0, b"12345678") + frame(8, 0, 1, b"\0\0\0\1")
    + frame(3, 0, 1, b"\0\0\0\x08") + frame(2, 0, 1, b"\0\0\0\0\1") + frame(4, 0, 0, b"\0\4\0\0\1\0"))
put("http2-frames", "continuation", b"\x09" + preface + settings + frame(1, 0, 1, connect[:5]) + frame(9, 4, 1, connect[5:]))
put("http2-frames", "padded-priority", b"\x02" + preface + settings
    + frame(1, 0x2c, 1, b"\x02" + b"\0\0\0\0\x10" + connect + b"\0\0"))
put("http2-frames", "unknown", b"\x01" + settings + frame(0xfa, 0xff, 3, b"grease"))

put("hpack", "connect-twice", bytes([len(connect)]) + connect + b"\xbf\xbe")
put("hpack", "static", b"\x03" + b"\x82\x86\x84" + b"\x88")
put("hpack", "huffman", b"\x00" + bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
put("hpack", "resize", b"\x04" + b"\x20\x3f\xe1\x1f" + b"\x40\x01a\x01b\xbe")
put("hpack", "never", b"\x00" + b"\x10\x08password\x06secret")
put("connect", "plain", connect)
put("connect", "baggage", connect + b"\x00\x07baggage\x0eservice.name=a")
put("connect", "ipv6", b"\x00\x07:method\x07CONNECT\x01\x08[::1]:80")
put("connect", "answer", b"\x88")
put("connect", "get", b"\x82\x86\x84\x41\x03a:1")
put("settings", "usual", bytes.fromhex("000300000064000400400000000500100000000600004000"))
put("settings", "window", bytes.fromhex("00047fffffff000400000000000100000000"))

for name, text in (("v4", "10.0.0.1:80"), ("v6", "[2001:db8::1]:443"), ("host", "web.shop.svc.cluster.local:8080"),
                   ("mapped", "[::ffff:1.2.3.4]:1"), ("no-port", "10.0.0.1"), ("port-range", "1.2.3.4:65536")):
    put("authority", name, text)
put("baggage", "deployment", "k8s.cluster.name=Kubernetes,k8s.namespace.name=foo,k8s.deployment.name=web,"
    "service.name=web,service.version=v1,cloud.region=r,cloud.availability_zone=z")
put("baggage", "spaces", " k8s.pod.name=a, service.name=b")
put("baggage", "empty", "k8s.pod.name=,=,a=b=c")
put("forwarded", "usual", "for=\"10.0.0.1:4711\";host=web.shop.svc.cluster.local")
put("forwarded", "quoted", "for=\"[::1]:1\"; HOST = \"a\" , for=b")
put("identity", "usual", "spiffe://cluster.local/ns/default/sa/web")
put("identity", "empty", "spiffe://td/ns//sa/")

pod = field(1, "uid") + field(2, field(1, "name") + field(2, "ns") + field(3, "sa"))
put("zds", "add", field(1, pod))
put("zds", "delete", field(2, field(2, "uid")))
put("zds", "snapshot", field(3, b""))
put("zds", "keep", field(5, field(1, "uid")))
put("zds", "hello", b"\x08\x01")
put("zds", "ack", field(1, field(1, "error")))
workload = (field(20, "uid") + field(1, "name") + field(2, "ns") + field(3, b"\x0a\0\0\1") + number(5, 1)
            + field(16, "ns/policy") + field(22, field(1, "ns/web") + field(2, field(1, number(1, 80) + number(2, 90)))))
put("xds-address", "workload", field(1, workload))
service = field(1, "web") + field(2, "shop") + field(3, "web.shop.svc.cluster.local") + field(4, field(2, b"\x0a\0\0\2"))
put("xds-address", "service", field(2, service + field(5, number(1, 80) + number(2, 90))))
rule = field(1, field(2, field(1, field(1, "ns")) + field(5, field(1, b"\x0a\0\0\0") + number(2, 8)) + number(9, 80)))
put("xds-authorization", "deny", field(1, "p") + field(2, "ns") + number(3, 1) + number(4, 1) + field(5, rule))
put("xds-authorization", "allow", field(1, "p") + field(2, "ns") + field(5, rule) + field(5, b""))
key = field(1, "shop") + field(2, "web.shop.svc")
where = field(1, field(1, key) + number(2, 80))
header = field(1, field(1, "x-a") + field(2, "1"))
http = (field(1, "named") + field(2, field(2, "/a") + field(5, "GET") + field(6, field(1, "x") + field(2, field(2, "a+"))))
        + field(3, field(1, header)) + field(4, field(1, where) + number(2, 1)) + number(5, 100))
route = field(1, field(1, "shop") + field(2, "r")) + number(3, 80) + field(4, "team") + field(5, http)
stream = field(1, field(1, "shop") + field(2, "s")) + field(4, "a.example") + number(5, 1) + field(6, field(1, where))
allowed = (field(1, field(1, field(1, "td/ns/a/sa/b")) + field(11, field(1, b"\x0a\0\0\0") + number(2, 8)))
           + field(2, field(3, b"\x50") + field(7, field(2, "/a/{*}")))
           + field(3, number(1, 1) + field(2, "x") + field(3, field(1, field(1, "v")))))
gate = (field(1, field(1, key) + field(2, field(1, "issuer") + field(3, "{}")))
        + field(2, field(1, key) + number(2, 1) + field(3, allowed))
        + field(3, field(1, key) + number(2, 5) + number(3, 100) + number(4, 5)))
put("xds-rules", "all", field(1, key) + field(2, route) + field(3, stream) + field(4, gate)
    + field(5, number(1, 1) + number(5, 20) + number(6, 3)))
put("xds-rules", "plain", field(1, key) + field(5, field(2, "x-user")))


def name(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def dns(flags, question, answers=b"", counts=(1, 0, 0, 0)):
    return b"\x12\x34" + flags + b"".join(count.to_bytes(2, "big") for count in counts) + question + answers


asked = name("web.shop.svc.cluster.local") + b"\0\1\0\1"
record = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1"
edns = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"
put("dns", "query", dns(b"\1\0", asked))
put("dns", "query-edns", dns(b"\1\0", name("web") + b"\0\x1c\0\1", edns, (1, 0, 0, 1)))
put("dns", "answer", dns(b"\x81\x80", asked, record * 3, (1, 3, 0, 0)))
put("dns", "alias", dns(b"\x85\x80", asked, b"\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1a\xc0\x10" + record, (1, 2, 0, 0)))
put("dns", "truncated", dns(b"\x83\x80", asked))
put("dns", "loop", dns(b"\1\0", b"\xc0\x0c\0\1\0\1"))
put("dns", "status", dns(b"\x11\0", asked))
put("dns", "header", b"\x12\x34\1\0")

greeting = b"\x05\x01\x00"
put("socks5", "v4", b"\x03" + greeting + b"\x05\x01\x00\x01\x0a\0\0\1\0\x50GET /")
put("socks5", "v6", b"\x01" + greeting + b"\x05\x01\x00\x04" + b"\0" * 15 + b"\1\x1f\x90")
put("socks5", "host", b"\xff" + greeting + b"\x05\x01\x00\x03\x08web.shop\0\x50")
put("socks5", "literal", b"\x07" + greeting + b"\x05\x01\x00\x03\x03::1\0\x50")
put("socks5", "methods", b"\x02" + b"\x05\x03\x02\x01\x00" + b"\x05\x03\x00\x01\x0a\0\0\1\0\x35")
put("socks5", "password", b"\x00" + b"\x05\x01\x02")
put("socks5", "version-4", b"\x00" + b"\x04\x01\0\x50\x0a\0\0\1")

ends = b"\x0a\0\0\1" + b"\0" * 12 + b"\x0a\0\0\2" + b"\0" * 12 + b"\x9c\x40\0\x50"
put("proxy-protocol", "v4", b"\x00" + ends + b"web.shop.svc.cluster.local")
put("proxy-protocol", "v6", b"\x03" + ends + b"a")
put("proxy-protocol", "mixed", b"\x01" + ends)
put("proxy-protocol", "identity", b"\x04" + ends + b"spiffe://cluster.local/ns/default/sa/web")
put("proxy-protocol", "long", b"\x08" + ends + b"a" * 2100)

host = b"Host: a\r\n"
put("http1", "get", b"\x03" + b"GET /a?b HTTP/1.1\r\n" + host + b"X: y\r\n\r\n" + b"GET / HTTP/1.0\r\n\r\n")
put("http1", "length", b"\x01" + b"\r\nPOST / HTTP/1.1\r\n" + host + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
put("http1", "chunked", b"\x05" + b"PUT / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\n")
put("http1", "both", b"\x02" + b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
put("http1", "upgrade", b"\x00" + b"GET / HTTP/1.1\r\n" + host + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
put("http1", "response", b"\x81" + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + b"HTTP/1.1 204 No\r\n\r\n")
put("http1", "switch", b"\x84" + b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0\1raw")
put("http1", "until-close", b"\xc2" + b"HTTP/1.0 404 No\r\n\r\nrest")

put("routes", "few", bytes(range(0, 120, 7)))
put("routes", "many", bytes((7 * i * i + 3) % 251 for i in range(200)))
put("routes", "rpc", b"\x02\x0b\x01\x01\x03\x00\x05\x01\x00\x02\x01\x0b" + bytes((11 * i) % 253 for i in range(150)))
put("routes", "zero", b"\0" * 64)

for name, pattern, texts in (
    ("path", "/v[0-9]+/(users|items)/[^/]+", ["/v1/users/x", "/v/users"]), ("nested", "(a*)*(a|aa)+b", ["aaab", "a"]),
    ("counted", "a{2,5}[[:digit:]]{3}", ["aa123", "a1"]), ("flags", "(?i)ab(?-i:c).$", ["ABcx", "abC"]),
    ("ends", "^$|^a$|(b^|$c)", ["", "a"]), ("quoted", "\\Qa.b\\E\\x41\\d+", ["a.bA1"]), ("back", "(a)\\1", ["aa"]),
):
    put("regex", name, "\0".join([pattern, *texts]))

put("paths", "dots", "a/./b/../%2e%2E/c?x/../y")
put("paths", "slashes", "/a//b%2f..%5c\\c")
put("paths", "broken", "%/%6/%zz/%00")
put("paths", "fragment", "a?b#c")

put("jwt", "signed", b'\x04{"alg":"HS256","kid":"k"}\0{"iss":"me","sub":"you","exp":4000000000,"a":{"b":"c"}}')
put("jwt", "expired", b'\x05{"alg":"HS256"}\0{"iss":"me","exp":1}')
put("jwt", "split-field", b'\x06{"alg":"HS256"}\0{"iss":"me","a":{"b":"x\\r\\ny: z"}}')
put("jwt", "confused", b'\x04{"alg":"ES256","kid":"e"}\0{"iss":"me"}')
put("jwt", "none", "\0eyJhbGciOiJub25lIn0.eyJpc3MiOiJtZSJ9.")
put("jwt", "rest", "\2a.b.c.d")

def records(flags, cut, *script):
    """Who reads and where the network cuts, then (type, content): type 0 goes out as it is."""
    return bytes([flags, cut]) + b"".join(bytes([kind, len(content)]) + content for kind, content in script)


update, asked = b"\x18\0\0\1\0", b"\x18\0\0\1\1"
ticket = b"\x04\0\0\x08" + b"\0\0\0\1\0\0\0\0"
for name, data in (
        ("data", records(0, 255, (23, b"hello"), (23, b"world\0\0"))),
        ("octets", records(1, 0, (23, b"one"), (23, b"octet"), (23, b"at a time"))),
        ("own-key-updates", records(2, 30, *((23, bytes([n])) for n in range(9)))),
        ("key-update", records(1, 6, (22, update), (23, b"with the old key"))),
        ("key-update-asked", records(0, 6, (23, b"a"), (22, asked))),
        ("key-update-cut", records(1, 9, (22, update[:2]), (22, update[2:]))),
        ("key-update-more", records(0, 255, (22, update + update))),
        ("ticket", records(0, 12, (22, ticket), (23, b"after"))),
        ("ticket-cut", records(0, 3, (22, ticket[:5]), (22, ticket[5:]), (23, b"after"))),
        ("ticket-interrupted", records(0, 3, (22, ticket[:5]), (23, b"too early"))),
        ("ticket-for-server", records(1, 3, (22, ticket))),
        ("closed", records(0, 255, (23, b"last"), (21, b"\1\0"), (23, b"too late"))),
        ("alert", records(0, 255, (21, b"\2\x28"))),
        ("alert-short", records(1, 255, (21, b"\2"))),
        ("user-canceled", records(1, 255, (21, b"\1\x5a"), (21, b"\1\0"))),
        ("empty", records(0, 1, *([(23, b"")] * 33))),
        ("padding", records(0, 1, (0, b"\x17\3\3\0\x11" + bytes(17)))),
        ("not-sealed", records(1, 4, (23, b"good"), (0, b"\x17\3\3\0\x20" + bytes(32)))),
        ("long", records(1, 255, (0, b"\x17\3\3\x41\1"))),
        ("plain-handshake", records(1, 255, (0, b"\x16\3\3\0\1\0"))),
        ("other-type", records(0, 255, (99, b"what")))):
    put("tls-records", name, data)


def der(tag, *parts):
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else bytes([0x82]) + len(body).to_bytes(2, "big")
    return bytes([tag]) + length + body


def oid(*octets):
    return der(6, bytes(octets))


def extension(identifier, value, is_critical=False):
    return der(0x30, identifier, *([der(1, b"\xff")] if is_critical else []), der(4, value))


ecdsa = der(0x30, oid(0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2))
issuer = der(0x30, der(0x31, der(0x30, oid(0x55, 4, 10), der(0x0C, b"cluster.local"))))
then, later = der(0x17, b"260101000000Z"), der(0x17, b"360101000000Z")


def revocations(serials=(), extensions=(), due=later):
    """A list whose signature is nobody's: that is looked at only beside a chain."""
    entries = [der(0x30, der(2, serial), then) for serial in serials]
    signed = der(0x30, der(2, b"\1"), ecdsa, issuer, then, due, *([der(0x30, *entries)] if entries else []),
                 *([der(0xA0, der(0x30, *extensions))] if extensions else []))
    return der(0x30, signed, ecdsa, der(3, b"\0" + der(0x30, der(2, b"\1"), der(2, b"\2"))))


def pem(name, data):
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {name}-----\n{text}-----END {name}-----\n".encode()


one = revocations([b"\1", b"\x00\xfe\xdc"])
scope = oid(0x55, 0x1D, 0x1C)
for name, data in (
        ("der", one), ("pem", pem("X509 CRL", one)), ("none", revocations()),
        ("two", b"# lists\n" + pem("X509 CRL", one) + pem("CERTIFICATE", b"0") + pem("X509 CRL", revocations())),
        ("number", revocations([b"\5"], [extension(oid(0x55, 0x1D, 0x14), der(2, b"\7"))])),
        ("delta", revocations([], [extension(oid(0x55, 0x1D, 0x1B), der(2, b"\1"), True)])),
        ("scope", revocations([b"\1"], [extension(scope, der(0x30), True)])),
        ("indirect", revocations([b"\1"], [extension(scope, der(0x30, der(0x84, b"\xff")), True)])),
        ("critical", revocations([b"\1"], [extension(oid(0x2A, 3, 4), b"\5\0", True)])),
        ("outdated", revocations([b"\1"], due=then)), ("cut", one[:-20]), ("behind", one + b"\0"),
        ("blank", b" \n\t"), ("pem-cut", pem("X509 CRL", one)[:-40])):
    put("revocations", name, data)
