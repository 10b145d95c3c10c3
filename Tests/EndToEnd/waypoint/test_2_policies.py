"""AuthorizationPolicies of the waypoint: each is applied to the shop, seen in what requests get, and removed again."""

import pytest

from lab import eventually
from shop import policy

ECHO = "http://echo.shop"
GRPC = "grpc://echo.shop:7070"


@pytest.fixture(scope="module", autouse=True)
def waypoint(shop):
    """The shop's; everything passes it from here on."""
    shop.ok("martlet", "waypoint", "apply", "-n", "shop", "--enroll-namespace", "--wait", timeout=180)
    eventually("requests to pass the waypoint", lambda: all(
        answer.get("code") == 200 and "x-envoy-upstream-service-time" in answer["headers"]
        for who in ("alice", "mallory") for answer in shop.asks(ECHO + "/", who, count=3)))


def to(**operation):
    return [{"to": [{"operation": operation}]}]


def by(**source):
    return [{"from": [{"source": source}]}]


def when(key, *values, **more):
    return [{"when": [{"key": key, **({"values": list(values)} if values else {}), **more}]}]


# A policy; what it lets through, and what it refuses. A question is a path and what else is said about it.
CASES = {
    "methods": (
        "DENY", to(methods=["POST", "DELETE"]), [("/", {}), ("/", {"method": "PUT"})],
        [("/", {"method": "POST"}), ("/", {"method": "DELETE"}), ("/", {"method": "POST", "http2": True})]),
    "all methods but one": ("DENY", to(notMethods=["GET"]), [("/", {})], [("/", {"method": "HEAD"})]),
    "paths": (
        "ALLOW", to(paths=["/open/*", "*.txt", "/exact"]), [("/open/a/b", {}), ("/a.txt?x=1", {}), ("/exact", {})],
        [("/", {}), ("/exact/", {}), ("/open", {}), ("/opened/a", {})]),
    "path templates": (
        "ALLOW", to(paths=["/shops/{*}/items/{*}", "/files/{**}"]),
        [("/shops/a/items/1", {}), ("/files/a/b/c", {}), ("/shops/a/items/1?q=/x", {})],
        [("/shops/a/items", {}), ("/shops/a/b/items/1", {}), ("/shops/a/items/1/more", {})]),
    "tricks with paths": (
        # Repeated slashes stay, as Istio's default is.
        "DENY", to(paths=["/admin*"]), [("/", {}), ("/a/admin", {}), ("//admin", {})],
        [("/admin", {}), ("/./admin", {}), ("/x/../admin", {}), ("/%61dmin", {}), ("/admin?x", {})]),
    "hosts": (
        "DENY", to(hosts=["echo.shop", "*.evil.example"]), [("/", {"headers": {"Host": "echo.shop.svc"}})],
        [("/", {}), ("/", {"headers": {"Host": "ECHO.shop"}}), ("/", {"headers": {"Host": "a.evil.example"}})]),
    "a header": (
        "DENY", when("request.headers[x-secret]", "*"), [("/", {}), ("/", {"headers": {"X-Other": "a"}})],
        [("/", {"headers": {"X-Secret": "a"}}), ("/", {"headers": {"x-secret": "b"}, "http2": True})]),
    "a header's value": (
        "ALLOW", when("request.headers[x-team]", "blue", "green-*"),
        [("/", {"headers": {"X-Team": "blue"}}), ("/", {"headers": {"X-Team": "green-1"}})],
        [("/", {}), ("/", {"headers": {"X-Team": "red"}}), ("/", {"headers": {"X-Team": "blue,red"}})]),
    "who asks": (
        "ALLOW", by(principals=["cluster.local/ns/clients/sa/alice"]), [("/", {})], [("/", {"who": "mallory"})]),
    "who does not": (
        "DENY", by(notServiceAccounts=["clients/alice"]), [("/", {})], [("/", {"who": "mallory"})]),
    "namespaces": ("DENY", by(namespaces=["clients"]), [], [("/", {}), ("/", {"who": "mallory"})]),
    "two things at once": (
        "ALLOW", [
            {"from": [{"source": {"serviceAccounts": ["clients/alice"]}}], "to": [{"operation": {"methods": ["GET"]}}]},
            {"from": [{"source": {"serviceAccounts": ["clients/mallory"]}}], "to": [{"operation": {"paths": ["/hers"]}}]}],
        [("/", {}), ("/hers", {"who": "mallory", "method": "POST"})],
        [("/", {"method": "POST"}), ("/", {"who": "mallory"})]),
    "calls of gRPC": (
        "DENY", to(paths=["/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoTwo"]),
        [("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo", {"grpc": 0})],
        [("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoTwo", {"grpc": 7})]),
    "nothing": ("ALLOW", [], [], [("/", {})]),
}


def asked(shop, path, detail):
    """The status; of a call of gRPC 200 or 403 by its own."""
    detail = dict(detail)
    grpc = detail.pop("grpc", None)
    answer = shop.ask((ECHO if grpc is None else GRPC) + path, **detail)
    if grpc is None:
        return answer.get("code", answer.get("error"))
    return {"0": 200, "7": 403}.get(answer.get("grpcStatus"), answer)


@pytest.mark.parametrize("name", CASES)
def test_a_policy_does_what_it_says(shop, name):
    action, rules, allowed, refused = CASES[name]
    wanted = [(200, *question) for question in allowed] + [(403, *question) for question in refused]
    applied = policy("case", "echo", {"action": action, "rules": rules})

    def wrong(wanted):
        found = [(want, path, detail, asked(shop, path, detail)) for want, path, detail in wanted]
        return [entry for entry in found if entry[0] != entry[3]]

    # Without it all pass, so that the case cannot pass by not having arrived.
    eventually("everything to pass", lambda: not wrong([(200, *entry[1:]) for entry in wanted]) or None)
    shop.apply(applied)
    try:
        eventually(f"{action} by {name}; wrong now: {wrong(wanted)}", lambda: not wrong(wanted))
        said = eventually("its status", lambda: shop.condition("authorizationpolicy", "case", "shop", "WaypointAccepted"))
        assert said["status"] == "True" and said["reason"] == "Accepted" and "bound to shop/waypoint" in said["message"], said
    finally:
        shop.remove(applied)


def test_a_refusal_says_what_refused(shop):
    applied = policy("no-posts", "echo", {"action": "DENY", "rules": to(methods=["POST"])})
    shop.apply(applied)
    shop.await_codes("the refusal", (403, {"url": ECHO + "/refused", "method": "POST"}))
    answer = shop.ask(ECHO + "/refused", method="POST")
    assert answer["body"] == "RBAC: access denied", answer
    assert eventually("the log line", lambda: shop.logged('"POST /refused HTTP/1.1" 403', "shop", "no-posts"))
    shop.remove(applied)
    shop.await_codes("posts to pass again", (200, {"url": ECHO + "/refused", "method": "POST"}))


def test_audit_and_trial_change_nothing_and_are_seen_in_the_log(shop):
    audit = policy("watch", "echo", {"action": "AUDIT", "rules": to(paths=["/watched/*"])})
    trial = policy("trial", "echo", {"action": "DENY", "rules": to(paths=["/watched/*"])})
    trial["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    shop.apply(audit, trial)

    def noted(word):
        assert shop.code(ECHO + "/watched/a") == 200
        return shop.logged('"GET /watched/a HTTP/1.1" 200', word)

    assert eventually("the audit's note", lambda: noted("watch"))
    assert eventually("the trial's note", lambda: noted("trial"))
    shop.remove(audit, trial)


def test_a_policy_of_the_gateway_holds_for_all_its_services_and_beside_the_services_own(shop):
    gateway = policy("no-deletes", "waypoint", {"action": "DENY", "rules": to(methods=["DELETE"])}, kind="Gateway")
    own = policy("no-posts", "echo", {"action": "DENY", "rules": to(methods=["POST"])})
    shop.apply(gateway, own)
    shop.await_codes(
        "both", (403, {"url": ECHO, "method": "DELETE"}), (403, {"url": "http://echo-v1.shop", "method": "DELETE"}),
        (403, {"url": ECHO, "method": "POST"}), (200, {"url": "http://echo-v1.shop", "method": "POST"}), (200, {"url": ECHO}))
    text = shop.ok("martlet", "describe", "service", "echo.shop")
    assert "AuthorizationPolicy: shop/no-deletes (DENY, attached to its waypoint; enforced by the waypoint)" in text, text
    assert "AuthorizationPolicy: shop/no-posts (DENY, attached to it; enforced by the waypoint)" in text, text
    shop.remove(gateway, own)
    shop.await_codes(
        "everything to pass again", (200, {"url": ECHO, "method": "DELETE"}), (200, {"url": ECHO, "method": "POST"}))
