"""RequestAuthentication: keys in the object, keys that are fetched, and keys that change."""

import time

import pytest

from lab import eventually
from shop import document, policy
from test_2_policies import ECHO, waypoint, when  # noqa: F401
from tokens import Issuer

KEYS = "http://keys.outside.svc.cluster.local:8000"


@pytest.fixture(scope="module")
def issuers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("issuers")
    return {"inline": Issuer("https://issuer.example/inline", folder), "fetched": Issuer(KEYS, folder, "RS256")}


def publish(shop, issuer):
    """The issuer's server answers with its keys from now on."""
    shop.ok(
        "kubectl", "exec", "-i", "-n", "outside", "deploy/keys", "--", "curl", "-sS", "-f", "-X", "PUT", "--data-binary", "@-",
        "http://127.0.0.1:8000/keys", input=issuer.jwks)


def fetched(shop):
    return int(shop.kubectl("exec", "-n", "outside", "deploy/keys", "--", "curl", "-sS", "http://127.0.0.1:8000/fetched"))


def authentication(issuers):
    group = {"group": "", "kind": "Service", "name": "echo"}
    return document("RequestAuthentication", "tokens", "shop", {"targetRefs": [group], "jwtRules": [
        {"issuer": issuers["inline"].name, "audiences": ["shop"], "jwks": issuers["inline"].jwks,
         "outputClaimToHeaders": [{"header": "x-team", "claim": "team"}], "outputPayloadToHeader": "x-payload"},
        # No address: by the issuer's own OpenID discovery.
        {"issuer": issuers["fetched"].name, "fromHeaders": [{"name": "x-token", "prefix": "Token "}]},
    ]}, group="security.istio.io/v1")


def bearing(token, path="/", **more):
    return {"url": ECHO + path, "headers": {"Authorization": f"Bearer {token}"}, **more}


def fetched_token(token, path="/"):
    return {"url": ECHO + path, "headers": {"X-Token": f"Token {token}"}}


def test_a_token_has_to_be_good_and_need_not_be_there(shop, issuers):
    inline = issuers["inline"]
    publish(shop, issuers["fetched"])
    shop.apply(authentication(issuers))
    good = inline.token(aud="shop", team="blue")
    head, claims, signature = good.split(".")
    stranger = Issuer(inline.name, inline.folder / "..", "ES256")
    unsigned = f"eyJhbGciOiJub25lIn0.{claims}."
    shop.await_codes(
        "tokens to be checked", (200, {"url": ECHO}), (200, bearing(good)), (200, bearing(good, http2=True)),
        (401, bearing(inline.token(aud="shop", exp=int(time.time()) - 120))), (403, bearing(inline.token(aud="elsewhere"))),
        (401, bearing(inline.token(aud="shop", iss="https://nobody.example"))), (401, bearing(unsigned)),
        (401, bearing(f"{head}.{claims}.{signature[:-4]}AAAA")), (401, bearing("nonsense")),
        (401, bearing(stranger.token(aud="shop"))))
    echo = shop.ask(**bearing(good))["echo"]["headers"]
    assert echo["X-Team"] == ["blue"] and "X-Payload" in echo and "Authorization" not in echo, echo
    # Nobody but the waypoint says what a token said.
    echo = shop.ask(ECHO, headers={"X-Team": "forged"})["echo"]["headers"]
    assert "forged" not in echo.get("X-Team", []), echo


def test_keys_that_are_fetched_serve_as_well(shop, issuers):
    issuer = issuers["fetched"]
    shop.await_codes(
        "keys to be fetched", (200, fetched_token(issuer.token())),
        (401, fetched_token(issuer.token(exp=int(time.time()) - 120))), (200, {"url": ECHO}))
    assert fetched(shop) >= 1
    said = eventually("its status", lambda: shop.condition("requestauthentication", "tokens", "shop", "WaypointAccepted"))
    assert said["status"] == "True", said
    # From now on with another key; the mesh looks again within a minute: test_9_rotation.py.
    issuers["old"] = issuer.token()
    issuer.rotate()
    publish(shop, issuer)
    shop.rotated = (issuer, issuers["old"])


def test_what_a_token_claims_decides(shop, issuers):
    inline = issuers["inline"]
    rules = [
        {"from": [{"source": {"requestPrincipals": [f"{inline.name}/*"]}}],
         "when": [{"key": "request.auth.claims[groups]", "values": ["admins"]}], "to": [{"operation": {"paths": ["/admin/*"]}}]},
        {"to": [{"operation": {"notPaths": ["/admin/*"]}}]}]
    applied = policy("claims", "echo", {"action": "ALLOW", "rules": rules})
    shop.apply(applied)
    admin = inline.token(aud="shop", groups=["users", "admins"], sub="root")
    shop.await_codes(
        "claims to decide", (200, bearing(admin, "/admin/x")), (200, {"url": ECHO + "/x"}), (403, {"url": ECHO + "/admin/x"}),
        (403, bearing(inline.token(aud="shop", groups=["users"]), "/admin/x")),
        (403, bearing(inline.token(aud="shop"), "/admin/x")))
    shop.apply(policy("claims", "echo", {"action": "DENY", "rules": [
        {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}, *when("request.auth.claims[nested][name]", "bad")]}))
    shop.await_codes(
        "no token, no entry", (403, {"url": ECHO}), (200, bearing(admin)),
        (403, bearing(inline.token(aud="shop", nested={"name": "bad"}))))
    shop.remove(applied)
    shop.await_codes("entry without a token", (200, {"url": ECHO}))


def test_without_keys_no_token_of_the_issuer_is_good(shop, issuers):
    nowhere = document("RequestAuthentication", "nowhere", "shop", {
        "targetRefs": [{"group": "", "kind": "Service", "name": "echo-v1"}],
        "jwtRules": [{"issuer": "https://away.example", "jwksUri": f"{KEYS}/not-there"}]}, group="security.istio.io/v1")
    shop.apply(nowhere)
    away = Issuer("https://away.example", issuers["inline"].folder)
    url = "http://echo-v1.shop"
    shop.await_codes(
        "the refusal", (401, {"url": url, "headers": {"Authorization": f"Bearer {away.token()}"}}), (200, {"url": url}))
    shop.remove(nowhere)


