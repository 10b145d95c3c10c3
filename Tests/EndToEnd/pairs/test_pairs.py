"""Clients without a mesh, with a sidecar and in the ambient mesh; servers of the same kinds and behind waypoints; five
protocols, the same node and another one, mutual TLS as it comes and required: who reaches whom, as whom, and how the bytes
cross the wire. Who a server takes a client for is seen by policies that let in one identity only."""

import pytest

from cells import CELLS, PHASES, REFUSED, became, wanted
from lab import Failed, eventually
from wire import ways

# So often in a row everything has to be as it has to be before it counts.
ROUNDS = 3


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_every_pair(world, found, tmp_path, phase):
    world.set(phase)
    last, rounds = {}, []

    def settled():
        answers = world.ask_all(CELLS)
        last.clear()
        last.update({
            cell: became(cell, answer) for cell, answer in answers.items()
            if became(cell, answer) != (REFUSED if wanted(cell, phase) == REFUSED else "answered")})
        # A sidecar judges the first request on a connection that is older than a policy by what was in force before: each of
        # its threads has connections of its own.
        rounds.append(not last)
        return all(rounds[-ROUNDS:]) and len(rounds) >= ROUNDS

    try:
        eventually("every pair to be as it has to be", settled, 60)
    except Failed:
        pass
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
