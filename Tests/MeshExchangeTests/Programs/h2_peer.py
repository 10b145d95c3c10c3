"""HTTP/2 of the Python package h2, for the tests of the waypoint; it judges strictly what it hears.

    h2_peer.py server PORT-FILE      answers each request with its body twice and a trailer, until it is killed
    h2_peer.py client PORT           asks 200 times over one connection and prints OK, or says what was wrong
"""
import os
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.events


class Body:
    """What waits for a window."""

    def __init__(self):
        self.left = {}

    def queue(self, connection, stream, data, trailers):
        self.left[stream] = [data, trailers]
        self.pump(connection)

    def pump(self, connection):
        for stream in list(self.left):
            data, trailers = self.left[stream]
            while data:
                size = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size, len(data))
                if size <= 0:
                    break
                connection.send_data(stream, data[:size])
                data = data[size:]
            self.left[stream][0] = data
            if not data:
                del self.left[stream]
                if trailers:
                    connection.send_headers(stream, trailers, end_stream=True)
                else:
                    connection.end_stream(stream)


def serve_one(peer):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    peer.sendall(connection.data_to_send())
    bodies, out = {}, Body()
    while data := peer.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                bodies[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                connection.send_headers(stream, [(":status", "200"), ("x-length", str(len(bodies[stream])))])
                out.queue(connection, stream, bodies.pop(stream) * 2, [("x-end", "yes")])
            elif isinstance(event, h2.events.StreamReset):
                bodies.pop(event.stream_id, None)
                out.left.pop(event.stream_id, None)
        out.pump(connection)
        peer.sendall(connection.data_to_send())


def serve(port_file):
    listener = socket.create_server(("127.0.0.1", 0))
    with open(port_file + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(port_file + ".new", port_file)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve_one, args=(peer,), daemon=True).start()


def ask(port):
    peer = socket.create_connection(("127.0.0.1", int(port)), timeout=120)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    bodies, got, trailers, out = {}, {}, {}, Body()
    waiting = list(range(200))
    ended = 0
    while ended < 200:
        while waiting and len(bodies) - ended < 50:
            number = waiting.pop()
            stream = connection.get_next_available_stream_id()
            bodies[stream] = os.urandom(number * number)
            got[stream] = b""
            connection.send_headers(stream, [
                (":method", "POST"), (":scheme", "http"), (":authority", "cart"), (":path", f"/{number}"),
                ("x-number", str(number))])
            out.queue(connection, stream, bodies[stream], None)
        peer.sendall(connection.data_to_send())
        data = peer.recv(65536)
        if not data:
            sys.exit("the connection ended")
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                if dict(event.headers)[":status"] != "200":
                    sys.exit(f"answered {event.headers}")
            elif isinstance(event, h2.events.DataReceived):
                got[event.stream_id] += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                trailers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                ended += 1
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                sys.exit(f"{event}")
        out.pump(connection)
    for stream, body in bodies.items():
        if got[stream] != body * 2 or trailers.get(stream, {}).get("x-end") != "yes":
            sys.exit(f"stream {stream}: {len(got[stream])} octets, {trailers.get(stream)}")
    print("OK")


if sys.argv[1] == "server":
    serve(sys.argv[2])
else:
    ask(sys.argv[2])
