"""Clients without a mesh, with a sidecar and in the ambient mesh; servers of the same kinds and behind waypoints; five
protocols, the same node and another one, mutual TLS as it comes and required: who reaches whom, as whom, and how the bytes
cross the wire. Who a server takes a client for is seen by policies that let in one identity only."""

import pytest

from cells import CELLS, PHASES, became, wanted
from wire import ways


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_every_pair(world, found, tmp_path, phase):
    world.settle(phase)
    files = {node: tmp_path / f"{node}.pcap" for node in ("agent-0", "agent-1")}
    with world.captured(files):
        answers = world.ask_all(CELLS)
    seen = ways([file.read_bytes() for file in files.values()])
    wrong = []
    for cell in CELLS:
        outcome = became(cell, answers[cell])
        found.setdefault(phase, {})[cell] = outcome = world.way(cell, seen) if outcome == "answered" else outcome
        if outcome != wanted(cell, phase):
            wrong.append(f"{' '.join(cell)}: {outcome}, wanted {wanted(cell, phase)}: {str(answers[cell])[:200]}")
    assert not wrong, f"{len(wrong)} of {len(CELLS)}:\n" + "\n".join(wrong)
