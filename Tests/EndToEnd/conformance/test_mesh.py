"""Every table, in the lab. What each is about is in its description."""

import pytest

import expectations
import tables

BATCH, BATCHES_MAX = 500, 10


@pytest.mark.parametrize("table", tables.all_tests(), ids=lambda table: table["name"])
def test(cluster, table):
    manifests = table.get("manifests", [])
    try:
        if manifests:
            cluster.apply(manifests)
        for request in table.get("requests", []):
            cluster.await_right(request)
        if "distribution" in table:
            spread(cluster, table["distribution"])
    finally:
        if manifests:
            cluster.remove(manifests)


def spread(cluster, wanted):
    origin = wanted.get("from", "v1")
    cluster.await_right({"from": origin, "url": wanted["url"]})
    wrong = None
    for _ in range(BATCHES_MAX):
        answers = cluster.call(origin, wanted["url"], None, "--count", str(BATCH), "--jitter")
        failed = [answer for answer in answers if "echo" not in answer]
        assert not failed, f"{len(failed)} of {BATCH} failed: {failed[0]}"
        wrong = expectations.shares_difference(wanted["shares"], [answer["echo"]["pod"] for answer in answers])
        if not wrong:
            return
    pytest.fail(wrong)
