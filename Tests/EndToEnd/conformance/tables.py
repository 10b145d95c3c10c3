"""The tests as data: read from `tests/*.yaml`, checked, and never half understood."""

import pathlib

import yaml

FOLDER = pathlib.Path(__file__).parent / "tests"
VERSION = "v1.6.0"
# The nine extended features of a mesh in Gateway API 1.6.
MESH_FEATURES = [
    "MeshClusterIPMatching", "MeshConsumerRoute", "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule", "MeshHTTPRouteQueryParamMatching", "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort", "MeshHTTPRouteRewritePath", "MeshHTTPRouteSchemeRedirect"]
PROFILES = {"MESH-HTTP": ["Mesh", "HTTPRoute"], "MESH-GRPC": ["Mesh", "GRPCRoute"]}

MEMBERS = {
    "test": {"name", "description", "features", "provisional", "manifests", "requests", "distribution"},
    "request": {"from", "url", "headers", "expect"},
    "expect": {"status", "grpc", "backend", "request", "headers", "absent", "redirect", "mirrored"},
    "request seen": {"path", "headers", "absent"},
    "redirect": {"scheme", "host", "port", "path"},
    "distribution": {"url", "shares", "from"},
}


class Wrong(Exception):
    pass


def only(kind, value, where):
    unknown = set(value) - MEMBERS[kind]
    if unknown:
        raise Wrong(f"{where}: a {kind} has no {', '.join(sorted(unknown))}")


def checked(table, where):
    only("test", table, where)
    for member in ("name", "description", "features"):
        if not table.get(member):
            raise Wrong(f"{where}: no {member}")
    if ("requests" in table) == ("distribution" in table):
        raise Wrong(f"{where}: requests or a distribution, one of them")
    for request in table.get("requests", []):
        only("request", request, where)
        expect = request.get("expect", {})
        only("expect", expect, where)
        only("request seen", expect.get("request", {}), where)
        only("redirect", expect.get("redirect", {}), where)
    only("distribution", table.get("distribution", {}), where)
    return table


def all_tests():
    """In the order of their names."""
    tables = [checked(yaml.safe_load(path.read_text()), path.name) for path in FOLDER.glob("*.yaml")]
    return sorted(tables, key=lambda table: table["name"])


def profiles_of(table):
    """As the standard assigns them: a profile whose core and extended features include all that a test needs. Features of
    HTTPRoute or GRPCRoute that no mesh profile lists leave a test in the profile of its route, as an extended one."""
    features = set(table["features"])
    return [
        name for name, core in PROFILES.items()
        if not features & ({"HTTPRoute", "GRPCRoute"} - set(core))]


def is_core(table, profile):
    return set(table["features"]) <= set(PROFILES[profile])
