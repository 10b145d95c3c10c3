"""An issuer's new key, published in test_3_tokens.py a while ago, is known by now: this waits for the rest of a minute at most."""

from test_3_tokens import ECHO, fetched, fetched_token  # noqa: F401


def test_a_rotated_key_is_fetched_and_the_old_one_forgotten(shop):
    issuer, old = shop.rotated
    shop.await_codes(
        "the new key", (200, fetched_token(issuer.token())), (401, fetched_token(old)), (200, {"url": ECHO}), seconds=90)
    assert 1 <= fetched(shop) <= 10, "fetched again, and not all the time"
