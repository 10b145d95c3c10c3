"""HTTP/1.0 and 1.1 for the echo server."""

import asyncio

import answers
import websocket

HEAD_MAX = 256 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Request Header Fields Too Large"}


class Bad(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Stream:
    """A reader that can be given back what was read to find out the protocol."""

    def __init__(self, reader, first=b""):
        self.reader, self.held = reader, first

    async def some(self):
        if self.held:
            data, self.held = self.held, b""
            return data
        return await self.reader.read(65536)

    async def until(self, end):
        data = b""
        while end not in data:
            more = await self.some()
            if not more:
                raise asyncio.IncompleteReadError(data, None)
            data += more
            if len(data) > HEAD_MAX:
                raise Bad(431, "too long")
        head, _, self.held = data.partition(end)
        return head

    async def exactly(self, size):
        data = b""
        while len(data) < size:
            more = await self.some()
            if not more:
                raise asyncio.IncompleteReadError(data, size)
            data += more
        self.held = data[size:] + self.held
        return data[:size]


async def serve(stream, writer, tls, h2c_only):
    peer = writer.get_extra_info("peername")
    while True:
        try:
            head = await stream.until(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except Bad as error:
            writer.write(response(error.status, [("Connection", "close")], str(error).encode()))
            await writer.drain()
            return
        try:
            request, headers = parse(head, tls)
        except Bad as error:
            writer.write(response(error.status, [("Connection", "close")], str(error).encode()))
            await writer.drain()
            return
        answers.log(request, peer)
        if "websocket" in headers.get("upgrade", "").lower() and request.path == "/ws":
            await websocket.serve(stream, writer, headers)
            return
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await body(stream, headers)
        await asyncio.sleep(answers.delay_of(request))
        status, fields, content = answers.answer(request)
        if h2c_only:
            status, fields, content = 400, [], b"Expected h2c request"
        words = [word.strip().lower() for word in headers.get("connection", "").split(",")]
        closes = "close" in words or (request.protocol == "HTTP/1.0" and "keep-alive" not in words)
        fields.append(("Connection", "close" if closes else "keep-alive"))
        writer.write(response(status, fields, b"" if request.method == "HEAD" else content, len(content)))
        await writer.drain()
        if closes:
            return


def parse(head, tls):
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise Bad(400, "no request line of HTTP/1")
    pairs = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Bad(400, "no header")
        pairs.append((name, value.strip(" \t")))
    # The last of a name: enough for what decides about the message.
    headers = {name.lower(): value for name, value in pairs}
    request = answers.Request(words[0], words[1], headers.get("host", ""), words[2], pairs, tls)
    return request, headers


async def body(stream, headers):
    if headers.get("transfer-encoding", "").lower() != "chunked":
        size = int(headers.get("content-length", "0"))
        if size > answers.BODY_MAX:
            raise ValueError("a body over the limit")
        return await stream.exactly(size)
    content = b""
    while size := int((await stream.until(b"\r\n")).split(b";")[0], 16):
        if len(content) + size > answers.BODY_MAX:
            raise ValueError("a body over the limit")
        content += (await stream.exactly(size + 2))[:-2]
    while await stream.until(b"\r\n"):
        pass
    return content


def response(status, fields, content, length=None):
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if status != 204 and status != 304:
        lines.append(f"Content-Length: {len(content) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content
