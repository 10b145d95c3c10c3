"""What crossed the wire, from what tcpdump wrote on the nodes."""

import struct

from cells import HBONE_PORT, PORTS

# LINKTYPE_LINUX_SLL2: what tcpdump writes for the interface `any`.
SLL2, SLL2_BYTES = 276, 20
IPV4, TCP = 0x0800, 6


def packets(data):
    """Source and destination as pairs of address and port, and what of the payload was captured."""
    magic, link = struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, 20)[0]
    if magic != 0xA1B2C3D4 or link != SLL2:
        raise ValueError(f"not a capture of all interfaces: magic {magic:x}, link type {link}")
    at = 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        if len(frame) < SLL2_BYTES + 40 or struct.unpack_from(">H", frame)[0] != IPV4:
            continue
        ip = frame[SLL2_BYTES:]
        if ip[9] != TCP:
            continue
        tcp = ip[(ip[0] & 15) * 4:]
        if len(tcp) < 20:
            continue
        ports = struct.unpack_from(">HH", tcp)
        ends = [(".".join(map(str, ip[first:first + 4])), port) for first, port in zip((12, 16), ports)]
        # The length of the packet, since short frames are padded.
        yield ends[0], ends[1], tcp[(tcp[12] >> 4) * 4:struct.unpack_from(">H", ip, 2)[0] - (ip[0] & 15) * 4]


def is_tls(payload):
    """A record's header: of any kind, as most connections are older than the capture."""
    return len(payload) >= 3 and 0x14 <= payload[0] <= 0x17 and payload[1] == 3 and payload[2] <= 4


def ways(captures):
    """For each pair of addresses what was seen between them: `hbone`, `mtls`, `plain`, by what the first packet of each
    connection says."""
    seen, known = {}, set()
    for data in captures:
        for source, destination, payload in packets(data):
            ends = frozenset((source, destination))
            if not payload or ends in known:
                continue
            known.add(ends)
            server = source if source[1] in PORTS | {HBONE_PORT} else destination
            client = destination if server is source else source
            way = ("hbone" if server[1] == HBONE_PORT else "mtls") if is_tls(payload) else "plain"
            seen.setdefault((client[0], server[0]), set()).add((way, server[1]))
    return seen
