"""Messages of the service GrpcEcho, as protobuf has them on the wire."""

SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"
OK, INVALID_ARGUMENT, UNIMPLEMENTED = 0, 3, 12


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content if content else b""


def fields(message):
    """The length-delimited fields of a message, as pairs of number and bytes."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(message):
        key = number()
        if key & 7 == 0:
            number()
        elif key & 7 == 2:
            size = number()
            yield key >> 3, message[at:at + size]
            at += size
        else:
            raise ValueError(f"a field of wire type {key & 7}")


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def response(method, headers, authority, place):
    """EchoResponse: what was asked, as Assertions."""
    context = b"".join(
        field(number, place[name]) for number, name in enumerate(("namespace", "ingress", "service", "pod"), 1))
    assertions = field(1, method)
    assertions += b"".join(field(2, field(1, name) + field(2, value)) for name, value in headers)
    assertions += field(3, authority) + field(4, context)
    return field(1, assertions)


def parsed(message):
    """EchoResponse as a dictionary, in the words of the JSON answer."""
    assertions = dict(fields(message)).get(1, b"")
    headers = {}
    out = {"headers": headers, "namespace": "", "ingress": "", "service": "", "pod": ""}
    for number, content in fields(assertions):
        if number == 2:
            pair = dict(fields(content))
            headers.setdefault(pair.get(1, b"").decode(), []).append(pair.get(2, b"").decode())
        elif number in (1, 3):
            out["method" if number == 1 else "host"] = content.decode()
        elif number == 4:
            for part, text in fields(content):
                out[("namespace", "ingress", "service", "pod")[part - 1]] = text.decode()
    return out
