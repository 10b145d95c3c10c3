"""A changed policy is in force for the next request, also on connections that a sidecar's Envoy has had for long."""

import json

import pytest

from cells import CLIENTS, Phase

OPEN, CLOSED, STRICT = Phase(False), Phase(False, "nobody"), Phase(True)
# Both keep one connection; what the names of protocols stand for is `cells.PROTOCOLS`.
PORTS = {"HTTP/1.1": 80, "HTTP/2": 8080}


class Kept:
    """A connection of each client for each protocol and server with a sidecar, on its own node and on the other one."""

    def __init__(self, world, name):
        self.world = world
        self.questions = {}
        for client in CLIENTS:
            for place in ("here", "there"):
                for protocol, port in PORTS.items():
                    self.questions[client, place, protocol] = {
                        "url": f"http://{place}.to-sidecar:{port}/", "http2": protocol == "HTTP/2", "timeout": 10.0,
                        "kept": f"{name} {place} {protocol}"}

    def ask(self):
        """The answers, one request over each connection."""
        return {
            " ".join(key): self.world.askers[key[0]].ask(question)[0] for key, question in self.questions.items()}


@pytest.fixture(autouse=True)
def unguarded(world):
    assert not world.settle(OPEN)
    yield
    world.set(OPEN)


def test_the_next_request_on_a_kept_connection_is_judged_by_the_policy_that_is_in_force(world):
    kept = Kept(world, "judged")
    for phase, code in [(OPEN, 200), (CLOSED, 403), (OPEN, 200), (CLOSED, 403), (OPEN, 200)]:
        world.follow(phase)
        # The very first one already, and the connection goes on.
        for _ in range(2):
            answers = kept.ask()
            wrong = {key: answer for key, answer in answers.items() if answer.get("code") != code}
            assert not wrong, f"{phase}: wanted {code} everywhere\n{json.dumps(wrong, indent=1)}"


def test_no_request_passes_in_plaintext_once_mutual_tls_is_asked_for(world):
    kept = Kept(world, "strict")
    assert {answer.get("code") for answer in kept.ask().values()} == {200}
    world.follow(STRICT)
    answers = kept.ask()
    # The connection may be at its end, but the request is not answered.
    wrong = {
        key: answer for key, answer in answers.items() if (answer.get("code") == 200) == key.startswith("outside")}
    assert not wrong, json.dumps(wrong, indent=1)
