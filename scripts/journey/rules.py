"""The chains that a sidecar's init step writes, as `iptables -t nat -vnL` lists them.

The rules and their order are the tutorial's dump and the reference's (REDIRECT mode, without DNS): versions of iptables differ
in how they name protocols.
"""

import dataclasses
import re

PROTOCOLS = {"0": "all", "6": "tcp"}
ANY = "0.0.0.0/0"
INBOUND_PORTS = {"15020", "15021", "15090"}
OUTPUT = [
    "RETURN all * lo 127.0.0.6 0.0.0.0/0",
    "ISTIO_IN_REDIRECT tcp * lo 0.0.0.0/0 !127.0.0.1 tcp dpt:!15008 owner UID match 1337",
    "RETURN all * lo 0.0.0.0/0 0.0.0.0/0 ! owner UID match 1337",
    "RETURN all * * 0.0.0.0/0 0.0.0.0/0 owner UID match 1337",
    "ISTIO_IN_REDIRECT tcp * lo 0.0.0.0/0 !127.0.0.1 tcp dpt:!15008 owner GID match 1337",
    "RETURN all * lo 0.0.0.0/0 0.0.0.0/0 ! owner GID match 1337",
    "RETURN all * * 0.0.0.0/0 0.0.0.0/0 owner GID match 1337",
    "RETURN all * * 0.0.0.0/0 127.0.0.1",
    "ISTIO_REDIRECT all * * 0.0.0.0/0 0.0.0.0/0",
]
# The tutorial's, whose rules the CNI plugin wrote, has one before them.
AHEAD = "RETURN tcp * * 0.0.0.0/0 0.0.0.0/0 tcp dpt:15020"
REFERENCES = {"ISTIO_INBOUND": 1, "ISTIO_IN_REDIRECT": 3, "ISTIO_OUTPUT": 1, "ISTIO_REDIRECT": 1}


@dataclasses.dataclass
class Rule:
    packets: int
    # target, protocol, in, out, source, destination, more
    text: str


class Chain(list):
    references = 0


def number(text):
    """`12K` and the like, as iptables writes what is long."""
    scale = {"K": 10**3, "M": 10**6, "G": 10**9}
    return int(text[:-1]) * scale[text[-1]] if text[-1] in scale else int(text)


def chains(listing):
    found, chain = {}, None
    for line in listing.splitlines():
        if head := re.match(r"Chain (\S+) \((?:policy .*|(\d+) references)\)", line.strip()):
            chain = found[head[1]] = Chain()
            chain.references = int(head[2] or 0)
        elif chain is not None and re.match(r"\s*\d+[KMG]?\s+\d+[KMG]?\s+\S", line):
            packets, _, target, protocol, _, *rest = line.split()
            chain.append(Rule(number(packets), " ".join([target, PROTOCOLS.get(protocol, protocol), *rest])))
    return found


def trouble(found):
    """What is not as it has to be, one line each."""
    said = []

    def same(name, wanted):
        texts = [rule.text for rule in found[name]]
        for index in range(max(len(texts), len(wanted))):
            here, there = (texts + [None] * 99)[index], (wanted + [None] * 99)[index]
            if here != there:
                said.append(f"{name} {index + 1}: {here}, wanted {there}")

    for name, count in REFERENCES.items():
        if name not in found:
            said.append(f"there is no chain {name}")
        elif found[name].references != count:
            said.append(f"{name} has {found[name].references} references, wanted {count}")
    if said:
        return said
    for name, target in (("PREROUTING", "ISTIO_INBOUND"), ("OUTPUT", "ISTIO_OUTPUT")):
        if not any(rule.text.startswith(f"{target} ") for rule in found.get(name, [])):
            said.append(f"{name} does not lead to {target}")
    inbound = [rule.text for rule in found["ISTIO_INBOUND"]]
    returns = [f"RETURN tcp * * {ANY} {ANY} tcp dpt:{port}" for port in ("15008", *sorted(INBOUND_PORTS))]
    if inbound[:1] != returns[:1] or sorted(inbound[1:-1]) != returns[1:] or inbound[-1:] != [
            f"ISTIO_IN_REDIRECT tcp * * {ANY} {ANY}"]:
        said.append(f"ISTIO_INBOUND: {inbound}")
    same("ISTIO_IN_REDIRECT", [f"REDIRECT tcp * * {ANY} {ANY} redir ports 15006"])
    same("ISTIO_REDIRECT", [f"REDIRECT tcp * * {ANY} {ANY} redir ports 15001"])
    same("ISTIO_OUTPUT", [AHEAD] * (found["ISTIO_OUTPUT"][:1] != [] and found["ISTIO_OUTPUT"][0].text == AHEAD) + OUTPUT)
    return said
