"""One lab for all tests of the waypoint: a shop behind it, and clients. Tests of a file build on each other."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lab import operator_of  # noqa: E402
from shop import Shop  # noqa: E402

CLUSTER = "waypoint"


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    with operator_of(CLUSTER, tmp_path_factory.mktemp("waypoint")) as operator:
        shop = Shop(operator)
        shop.create()
        try:
            yield shop
        finally:
            shop.end()
