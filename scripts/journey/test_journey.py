"""The journey's own parts, without a lab: the tutorial's blocks are whole, and what is made of them is right."""

import hashlib
import json
import pathlib
import re
import sys

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import argo  # noqa: E402
import journey  # noqa: E402
import rules  # noqa: E402
import steps  # noqa: E402
import transcript  # noqa: E402
import words  # noqa: E402

BLOCKS = sorted((HERE / "article").glob("*.sh"))
# Of all blocks, as the tutorial has them: nobody mends them by accident.
SUM = "023f2fc9aaded8e4bc4126cd0e671a79a6e9b5a3892fee46cb9c6a2c3854e627"


def test_the_blocks_are_as_the_tutorial_has_them():
    everything = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in BLOCKS)
    assert hashlib.sha256(everything).hexdigest() == SUM


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_nothing_of_the_authors_tools_is_left_after_the_replacements(path):
    text = journey.typed(path.read_text())
    assert not re.search(r"istioctl|k3d cluster|docker exec|argoproj/argo", text)


def test_replacements():
    assert journey.typed("docker exec -it node-0 ps -ef | grep x") == "martlet lab exec node-0 -- ps -ef | grep x"
    assert journey.typed("istioctl verify-install") == "martlet verify-install"
    assert journey.typed("k3d cluster create --agents 4") == "martlet lab create --agents 4"
    with pytest.raises(AssertionError):
        journey.typed("kubectl logs x", [("ztunnel-9t97l", "y")])


@pytest.mark.parametrize("name, kinds", [
    ("06-sleep", ["Service", "Deployment"]), ("07-httpbin", ["Service", "Deployment"]), ("10-gateway", ["Gateway"]),
    ("12-helloworld", ["Service", "Deployment"])])
def test_manifests_can_be_read(name, kinds):
    body = journey.article(name).split("\n", 1)[1].removesuffix("EOF\n")
    assert [document["kind"] for document in yaml.safe_load_all(body)] == kinds


def test_every_step_has_words_in_both_languages():
    for said in words.WORDS.values():
        assert list(said["steps"]) == list(steps.STEPS)
        assert set(said) == set(words.ENGLISH)


@pytest.mark.parametrize("which, count, definitions", [("cd", 59, 3), ("rollouts", 15, 5)])
def test_argo_manifests_are_yaml_and_small_enough_for_plain_apply(which, count, definitions):
    documents = argo.documents(which)
    assert list(yaml.load_all(argo.manifest(which), getattr(yaml, "CSafeLoader", yaml.SafeLoader))) == documents
    assert len(documents) == count
    sizes = [len(json.dumps(d, separators=(",", ":"))) for d in documents if d["kind"] == "CustomResourceDefinition"]
    # What kubectl keeps of an applied object in an annotation has this limit.
    assert len(sizes) == definitions and max(sizes) < 262_144
    assert max(sizes) > (200_000 if which == "cd" else 50_000)


def test_argo_objects_refer_to_what_there_is():
    for which in ("cd", "rollouts"):
        documents = argo.documents(which)
        names = {(d["kind"], d["metadata"]["name"]) for d in documents}
        assert len(names) == len(documents)
        labels = [d["spec"]["template"]["metadata"]["labels"] for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
        for d in documents:
            if d["kind"].endswith("Binding"):
                assert (d["roleRef"]["kind"], d["roleRef"]["name"]) in names, d
                assert all(("ServiceAccount", subject["name"]) in names for subject in d["subjects"]), d
            if d["kind"] == "Service":
                assert any(d["spec"]["selector"].items() <= own.items() for own in labels), d
            if d["kind"] in ("Deployment", "StatefulSet"):
                spec = d["spec"]["template"]["spec"]
                assert ("ServiceAccount", spec["serviceAccountName"]) in names
                volumes = {volume["name"] for volume in spec["volumes"]}
                for c in spec["containers"] + spec.get("initContainers", []):
                    assert {mount["name"] for mount in c.get("volumeMounts", [])} <= volumes, d["metadata"]["name"]


RULES = """
~ # iptables -t nat -vnL
Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination
  908 54480 ISTIO_INBOUND  6    --  *      *       0.0.0.0/0            0.0.0.0/0

Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination
   21  1260 ISTIO_OUTPUT  6    --  *      *       0.0.0.0/0            0.0.0.0/0

Chain ISTIO_INBOUND (1 references)
 pkts bytes target     prot opt in     out     source               destination
    0     0 RETURN     6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:15008
    0     0 RETURN     6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:15020
  908 54480 RETURN     6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:15021
    0     0 RETURN     6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:15090
    0     0 ISTIO_IN_REDIRECT  6    --  *      *       0.0.0.0/0            0.0.0.0/0

Chain ISTIO_IN_REDIRECT (3 references)
 pkts bytes target     prot opt in     out     source               destination
    1    60 REDIRECT   6    --  *      *       0.0.0.0/0            0.0.0.0/0            redir ports 15006

Chain ISTIO_OUTPUT (1 references)
 pkts bytes target     prot opt in     out     source               destination
    2   120 RETURN     6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:15020
    0     0 RETURN     0    --  *      lo      127.0.0.6            0.0.0.0/0
    1    60 ISTIO_IN_REDIRECT  6    --  *      lo      0.0.0.0/0           !127.0.0.1            tcp dpt:!15008 owner UID match 1337
    0     0 RETURN     0    --  *      lo      0.0.0.0/0            0.0.0.0/0            ! owner UID match 1337
   15   900 RETURN     0    --  *      *       0.0.0.0/0            0.0.0.0/0            owner UID match 1337
    0     0 ISTIO_IN_REDIRECT  6    --  *      lo      0.0.0.0/0           !127.0.0.1            tcp dpt:!15008 owner GID match 1337
    0     0 RETURN     0    --  *      lo      0.0.0.0/0            0.0.0.0/0            ! owner GID match 1337
    0     0 RETURN     0    --  *      *       0.0.0.0/0            0.0.0.0/0            owner GID match 1337
    0     0 RETURN     0    --  *      *       0.0.0.0/0            127.0.0.1
    3   180 ISTIO_REDIRECT  0    --  *      *       0.0.0.0/0            0.0.0.0/0

Chain ISTIO_REDIRECT (1 references)
 pkts bytes target     prot opt in     out     source               destination
    3   180 REDIRECT   6    --  *      *       0.0.0.0/0            0.0.0.0/0            redir ports 15001
"""


def test_the_tutorials_dump_is_right():
    assert rules.trouble(rules.chains(RULES)) == []
    assert rules.chains(RULES)["ISTIO_REDIRECT"][0].packets == 3


@pytest.mark.parametrize("was, now", [
    ("redir ports 15001", "redir ports 15006"), ("owner UID match 1337\n    0     0 RETURN     0    --  *      lo", "x"),
    ("(3 references)", "(2 references)"), ("tcp dpt:15090", "tcp dpt:80"), ("Chain ISTIO_REDIRECT", "Chain OTHER"),
    ("908 54480 ISTIO_INBOUND", "908 54480 ELSEWHERE")])
def test_a_dump_that_differs_is_seen(was, now):
    assert was in RULES
    assert rules.trouble(rules.chains(RULES.replace(was, now, 1)))


def test_a_page_shows_what_was_typed_and_says_what_is_not_true():
    steps = [
        transcript.Step("J1", [transcript.Typed("ls\n", "\n".join(map(str, range(100))), 2, 1)], ["a claim"], "", 1.25),
        transcript.Step("J2", failure="not so: it is green")]
    facts = dict.fromkeys(("date", "seconds", "cores", "build", "machine", "done", "all"), "?")
    for language, said in words.WORDS.items():
        text = transcript.page(steps, facts, language)
        assert "$ ls\n0\n1\n... (97 lines)\n99\n```" in text
        assert said["failure"] in text and "not so: it is green" in text and said["false"] in text
