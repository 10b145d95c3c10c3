"""One lab for all pairs."""

import pathlib
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / folder) for folder in (".", "waypoint")]

from lab import ROOT, operator_of  # noqa: E402
from cells import matrix  # noqa: E402
from world import World  # noqa: E402

CLUSTER = "pairs"


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    with operator_of(CLUSTER, tmp_path_factory.mktemp("pairs")) as operator:
        world = World(operator)
        try:
            world.create()
            yield world
        finally:
            world.end()


@pytest.fixture(scope="session")
def found():
    """What the tests found, by phase and cell; printed when all are done."""
    found = {}
    yield found
    if found:
        file = ROOT / ".build" / "pairs" / "matrix.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(matrix(found))
        print(f"\n{matrix(found)}\nalso in {file}")
