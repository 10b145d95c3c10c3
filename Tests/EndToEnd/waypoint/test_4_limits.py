"""Local rate limits and retry budgets."""

import collections
import itertools

from lab import eventually
from shop import document, paths, route
from test_2_policies import ECHO, waypoint  # noqa: F401


def limit(requests, interval, kind="Service", target="echo", **more):
    group = {"Service": "", "Gateway": "gateway.networking.k8s.io"}[kind]
    spec = {"targetRefs": [{"group": group, "kind": kind, "name": target}], "requests": requests, "interval": interval, **more}
    return document("RateLimit", "few", "shop", spec, group="policy.martlet.dev/v1alpha1")


def test_so_many_requests_pass_and_no_more(shop):
    applied = limit(1000, "1h", burst=7)
    shop.apply(applied)
    said = eventually("its status", lambda: shop.condition("ratelimit", "few", "shop", "WaypointAccepted"))
    assert said["status"] == "True", said
    # What it takes to see that it arrived counts too: a tenth of a request comes back in a second or less.
    seen = []
    eventually("the limit to be reached", lambda: seen.append(shop.code(ECHO)) or seen[-1] == 429)
    assert set(seen) == {200, 429} and shop.code(ECHO) == 429
    answer = shop.ask(ECHO)
    assert answer["body"] == "local_rate_limited", answer
    # Others are not limited.
    assert shop.code("http://echo-v1.shop") == 200
    # A new limit begins with all of its burst, and what comes at once is counted exactly.
    shop.apply(limit(100, "1h", burst=5))
    eventually("the new limit", lambda: shop.code(ECHO) == 200)
    codes = collections.Counter(answer["code"] for answer in shop.asks(ECHO, count=20))
    assert codes == {200: 4, 429: 16}, codes
    shop.remove(applied)
    shop.await_codes("no limit", (200, {"url": ECHO}))
    assert {answer["code"] for answer in shop.asks(ECHO, count=20)} == {200}


def test_a_limit_of_the_gateway_is_shared_by_its_services(shop):
    applied = limit(100, "1h", kind="Gateway", target="waypoint", burst=3)
    shop.apply(applied)
    eventually("the limit to be reached", lambda: shop.code(ECHO) == 429)
    assert shop.code("http://echo-v1.shop") == 429
    shop.remove(applied)
    shop.await_codes("no limit", (200, {"url": ECHO}), (200, {"url": "http://echo-v1.shop"}))


def attempts(shop, tag):
    """How often the pods of both versions were asked."""
    logs = shop.kubectl("logs", "-n", "shop", "-l", "app=echo", "--tail=1000", "--prefix")
    return logs.count(f"request made to /status/503?{tag}&")


def test_retries_keep_to_their_budget(shop):
    # 400 after half a second is what the echo server has to say of this path: all first attempts are under way together.
    retried = route("retried", "echo", 80, [{
        "matches": paths("/status"), "retry": {"codes": [400], "attempts": 3, "backoff": "10ms"}, "backendRefs": {"echo": 1},
    }, {"matches": paths("/"), "backendRefs": {"echo": 1}}])
    budget = document("DestinationRule", "budget", "shop", {
        "host": "echo.shop.svc.cluster.local", "trafficPolicy": {"retryBudget": {"percent": 0, "minRetryConcurrency": 1}},
    }, group="networking.istio.io/v1")
    shop.apply(retried)

    def asked(tag, count):
        url = f"{ECHO}/status/503?{tag}&delay=500ms"
        codes = [answer.get("code") for answer in shop.asks(url, count=count)]
        assert codes == [400] * count, codes
        return eventually("the pods' logs", lambda: attempts(shop, tag) >= count and attempts(shop, tag))

    tags = itertools.count()
    eventually("retries", lambda: asked(f"one{next(tags)}", 1) == 4)
    shop.apply(budget)
    said = eventually("its status", lambda: shop.condition("destinationrule", "budget", "shop", "WaypointAccepted"))
    assert said["status"] == "True", said
    # Without a budget these would be 64 attempts: with it one retry at a time.
    spent = eventually("the budget to be kept", lambda: (count := asked(f"many{next(tags)}", 16)) < 40 and count)
    print(f"\n16 requests that may be retried 3 times: {spent} attempts")
    assert shop.logged('/status/503?many', " UO") or shop.logged('/status/503?many', "UO,"), shop.log_of(tail=20)
    shop.remove(retried, budget)
