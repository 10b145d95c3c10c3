"""A WebSocket (RFC 6455) that sends back what it gets."""

import base64
import hashlib

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE, PING, PONG = 8, 9, 10


def accept(key):
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(opcode, payload, final=True):
    head = bytes([opcode | (128 if final else 0)])
    if len(payload) < 126:
        head += bytes([len(payload)])
    elif len(payload) < 65536:
        head += bytes([126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([127]) + len(payload).to_bytes(8, "big")
    return head + payload


async def serve(stream, writer, headers):
    writer.write((
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept(headers.get('sec-websocket-key', ''))}\r\n\r\n").encode())
    while True:
        first, second = await stream.exactly(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(await stream.exactly(2 if size == 126 else 8), "big")
        mask = await stream.exactly(4) if second & 128 else bytes(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await stream.exactly(size)))
        opcode = first & 15
        writer.write(frame(PONG if opcode == PING else opcode, payload, bool(first & 128)))
        await writer.drain()
        if opcode == CLOSE:
            return
