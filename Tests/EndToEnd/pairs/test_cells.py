"""The suite's own parts: what is expected of a pair, what is read from a capture, what an answer means."""

import struct

import cells
import wire
from cells import Cell, Phase


def packet(source, destination, payload):
    """An entry of a capture of all interfaces."""
    def address(text):
        return bytes(int(part) for part in text.split("."))

    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], 0, 0, 5 << 4, 0x18, 1000, 0, 0) + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + address(source[0]) + address(destination[0])
    frame = struct.pack(">HHIHBB8s", 0x0800, 0, 1, 1, 0, 6, b"") + ip + tcp
    return struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame


def capture(*packets):
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 276) + b"".join(packets)


CLIENT, SERVER = ("10.42.1.2", 40000), "10.42.2.3"
HELLO = b"\x16\x03\x01\x02\x00\x01"


def test_the_first_packet_of_a_connection_says_how_it_goes():
    seen = wire.ways([
        capture(
            packet(CLIENT, (SERVER, 80), b""), packet(CLIENT, (SERVER, 80), b"GET / HTTP/1.1\r\n"),
            packet(("10.42.1.2", 40001), (SERVER, 9090), HELLO),
            # In the middle of a record nothing looks like TLS.
            packet(("10.42.1.2", 40001), (SERVER, 9090), b"\x00\x01")),
        # Older than the capture.
        capture(packet(("10.42.1.2", 40002), (SERVER, 15008), b"\x17\x03\x03\x00\x40"))])
    assert seen == {("10.42.1.2", SERVER): {("plain", 80), ("mtls", 9090), ("hbone", 15008)}}


def test_a_server_that_speaks_first_is_the_server_all_the_same():
    seen = wire.ways([capture(packet((SERVER, 9091), CLIENT, b"there-1\n"))])
    assert seen == {(CLIENT[0], SERVER): {("plain", 9091)}}


def test_plaintext_at_the_tunnels_port_is_seen():
    assert wire.ways([capture(packet(CLIENT, (SERVER, 15008), b"PRI * HTTP/2.0"))]) == {
        (CLIENT[0], SERVER): {("plain", 15008)}}


def test_what_is_expected():
    def of(client, server, phase=Phase(False)):
        return cells.wanted(Cell(client, server, "here", "TCP"), phase)

    assert of("outside", "ambient") == "plain" and of("outside", "ambient", Phase(True)) == "refused"
    assert of("sidecar", "sidecar") == "mtls" and of("sidecar", "service") == "hbone"
    assert of("ambient", "sidecar", Phase(True)) == "hbone" and of("ambient", "outside", Phase(True)) == "plain"
    assert of("ambient", "workload", Phase(False, "sidecar")) == "refused"
    assert of("sidecar", "workload", Phase(False, "sidecar")) == "hbone"
    assert of("sidecar", "envoy", Phase(False, "sidecar")) == "refused" and of("ambient", "envoy") == "hbone"


def test_what_an_answer_means():
    cell = Cell("ambient", "ambient", "there", "gRPC")
    answered = {"code": 200, "grpcStatus": "0", "echo": {"pod": "there-5f"}}
    assert cells.became(cell, answered) == "answered"
    assert cells.became(cell, answered | {"grpcStatus": "7"}) == "refused"
    assert cells.became(cell, {"code": 403}) == "refused"
    assert cells.became(cell, {"error": "ConnectionResetError: reset"}) == "refused"
    assert "answered by here-1" in cells.became(cell, answered | {"echo": {"pod": "here-1"}})
    assert "timed out" in cells.became(cell, {"error": "TimeoutError: timed out"})
