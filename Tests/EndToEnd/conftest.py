"""The end-to-end suite: one lab for all tests of a run, driven as an operator drives it, with kubectl and martlet.

Tests of a file run in order and build on each other: they tell one story. Needs root and `make build`.
"""

import pytest

from lab import BIN, CLUSTER, ROOT, Failed, Operator, eventually, operator_of  # noqa: F401 (for the tests)


@pytest.fixture(scope="session")
def operator(tmp_path_factory):
    with operator_of(CLUSTER, tmp_path_factory.mktemp("e2e")) as operator:
        yield operator
