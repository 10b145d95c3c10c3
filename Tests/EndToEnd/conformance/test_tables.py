"""The tables, the comparison and the report themselves: no lab, no mesh."""

import pytest
import yaml

import expectations
import report
import tables


def test_all_tests_of_the_mesh_are_there():
    found = tables.all_tests()
    names = [table["name"] for table in found]
    assert len(names) == len(set(names)) == 24  # 23 of Gateway API 1.6, and the mirror of calls that came with them
    features = {feature for table in found for feature in table["features"]}
    assert set(tables.MESH_FEATURES) <= features
    assert len(tables.MESH_FEATURES) == 9


def test_a_table_that_is_not_understood_is_an_error():
    with pytest.raises(tables.Wrong, match="no expct"):
        tables.checked(
            {"name": "x", "description": "y", "features": ["Mesh"], "requests": [{"url": "u", "expct": {}}]}, "x.yaml")
    with pytest.raises(tables.Wrong, match="one of them"):
        tables.checked({"name": "x", "description": "y", "features": ["Mesh"]}, "x.yaml")


def answer(code=200, headers=None, pod="echo-v1-a", **echo):
    return {"code": code, "headers": headers or {}, "echo": {"pod": pod, **echo}}


def request(url="http://echo/a", **expect):
    return {"url": url, "expect": expect}


@pytest.mark.parametrize("wanted, got, wrong", [
    (request(), answer(), None),
    (request(), {"error": "refused"}, "refused"),
    (request(status=404), answer(), "status 200, wanted 404"),
    (request(backend="echo-v2"), answer(), "answered by echo-v1-a"),
    (request(headers={"X-A": "b"}), answer(headers={"x-a": ["b"]}), None),
    (request(headers={"X-A": "b"}), answer(), "header X-A"),
    (request(absent=["X-A"]), answer(headers={"x-a": ["b"]}), "has a header X-A"),
    (request(request={"path": "/b"}), answer(path="/a"), "the path '/a'"),
    (request(request={"headers": {"x-a": "1,2"}}), answer(headers={}, path="/"), "x-a: None"),
    (request(request={"headers": {"x-a": "1,2"}}), {"code": 200, "headers": {}, "echo": {
        "pod": "p", "headers": {"X-A": ["1", "2"]}}}, None),
    (request(request={"absent": ["X-A"]}), {"code": 200, "headers": {}, "echo": {
        "pod": "p", "headers": {"X-A": ["1"]}}}, "saw X-A"),
    (request("grpc://echo:7070"), answer() | {"grpcStatus": "0"}, None),
    (request("grpc://echo:7070"), answer() | {"grpcStatus": "12", "grpcMessage": "m"}, "gRPC status 12"),
])
def test_answers_are_compared(wanted, got, wrong):
    found = expectations.difference(wanted, got)
    assert found is None if wrong is None else wrong in found


@pytest.mark.parametrize("wanted, location, wrong", [
    ({"host": "example.org"}, "http://example.org/a", None),
    ({"host": "example.org"}, "http://example.org:80/a", None),
    ({"port": 8083}, "http://echo:8083/a", None),
    ({"port": 8083}, "http://echo/a", "port 80"),
    ({"scheme": "https"}, "https://echo/a", None),
    ({"scheme": "https"}, "https://echo:80/a", "port 80"),
    ({"path": "/b"}, "/b", None),
    ({"path": "/b"}, "http://echo/a", "path '/a'"),
    ({}, None, "no Location"),
])
def test_redirects_are_compared(wanted, location, wrong):
    found = expectations.redirect_difference("http://echo/a", wanted, location)
    assert found is None if wrong is None else wrong in found


def test_shares():
    shares = {"echo-v1": 0.7, "echo-v2": 0.3}
    assert expectations.shares_difference(shares, ["echo-v1-a"] * 70 + ["echo-v2-b"] * 30) is None
    assert "wanted 70%" in expectations.shares_difference(shares, ["echo-v1-a"] * 60 + ["echo-v2-b"] * 40)
    assert "somebody else" in expectations.shares_difference(shares, ["other"])


def test_the_report_says_what_happened():
    found = tables.all_tests()
    good = report.document(found, {table["name"]: True for table in found}, "0.1.0")
    assert [profile["core"]["result"] for profile in good["profiles"]] == ["success", "success"]
    assert all(len(profile["extended"]["supportedFeatures"]) == 9 for profile in good["profiles"])
    assert yaml.safe_load(report.text(good))["kind"] == "ConformanceReport"
    outcomes = {table["name"]: table["name"] != "MeshHTTPRouteRewritePath" for table in found}
    del outcomes["MeshBasic"]
    bad = report.document(found, outcomes, "0.1.0")["profiles"][0]
    assert bad["name"] == "MESH-HTTP" and bad["extended"]["failedTests"] == ["MeshHTTPRouteRewritePath"]
    assert bad["extended"]["unsupportedFeatures"] == ["MeshHTTPRouteRewritePath"]
    assert bad["core"]["result"] == "partial" and bad["core"]["skippedTests"] == ["MeshBasic"]
