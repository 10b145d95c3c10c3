"""HTTP/2 with prior knowledge or over TLS, and gRPC, for the echo server."""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.exceptions

import answers
import grpcecho


class Connection:
    def __init__(self, stream, writer, tls):
        self.stream, self.writer, self.tls = stream, writer, tls
        self.peer = writer.get_extra_info("peername")
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests, self.bodies, self.tasks = {}, {}, {}
        self.window = asyncio.Event()

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def serve(self):
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := await self.stream.some():
                for event in self.h2.receive_data(data):
                    self.received(event)
                self.flush()
                await self.writer.drain()
        except h2.exceptions.ProtocolError:
            self.flush()
        finally:
            for task in self.tasks.values():
                task.cancel()

    def received(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.requests[event.stream_id] = event.headers
            self.bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            number = event.stream_id
            headers, body = self.requests.pop(number), self.bodies.pop(number)
            self.tasks[number] = asyncio.create_task(self.answer(number, headers, body))
        elif isinstance(event, h2.events.StreamReset):
            self.requests.pop(event.stream_id, None)
            self.bodies.pop(event.stream_id, None)
            if task := self.tasks.pop(event.stream_id, None):
                task.cancel()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.window.set()

    async def answer(self, number, headers, body):
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        fields = [(name, value) for name, value in headers if not name.startswith(":")]
        host = pseudo.get(":authority") or dict(fields).get("host", "")
        request = answers.Request(
            pseudo.get(":method", ""), pseudo.get(":path", ""), host, "HTTP/2.0", fields, self.tls)
        request.body = body
        answers.log(request, self.peer)
        try:
            await asyncio.sleep(answers.delay_of(request))
            if (request.values("content-type") or [""])[0].startswith("application/grpc"):
                await self.call(number, request, host, body)
            else:
                status, out, content = answers.answer(request)
                out.append(("content-length", str(len(content))))
                await self.send(number, status, out, b"" if request.method == "HEAD" else content)
        except (h2.exceptions.ProtocolError, ConnectionError):
            pass
        finally:
            self.tasks.pop(number, None)

    async def call(self, number, request, host, body):
        service, _, method = request.path.strip("/").partition("/")
        kind = [("content-type", "application/grpc")]
        if service != grpcecho.SERVICE or method not in ("Echo", "EchoTwo"):
            refusal = [("grpc-status", str(grpcecho.UNIMPLEMENTED)), ("grpc-message", f"no method {request.path}")]
            await self.send(number, 200, kind + refusal, b"")
            return
        if len(body) < 5 or int.from_bytes(body[1:5], "big") != len(body) - 5:
            refusal = [("grpc-status", str(grpcecho.INVALID_ARGUMENT)), ("grpc-message", "one message is wanted")]
            await self.send(number, 200, kind + refusal, b"")
            return
        message = grpcecho.response(
            request.path, [(":authority", host), *request.headers], host, answers.place())
        await self.send(
            number, 200, kind + answers.asked_for(request), grpcecho.framed(message), [("grpc-status", "0")])

    async def send(self, number, status, fields, content, trailers=None):
        headers = [(":status", str(status))] + [(name.lower(), value) for name, value in fields]
        self.h2.send_headers(number, headers, end_stream=not content and not trailers)
        while content:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room <= 0:
                self.flush()
                self.window.clear()
                await self.window.wait()
                continue
            part, content = content[:room], content[room:]
            self.h2.send_data(number, part, end_stream=not content and not trailers)
        if trailers:
            self.h2.send_headers(number, trailers, end_stream=True)
        self.flush()
        await self.writer.drain()
