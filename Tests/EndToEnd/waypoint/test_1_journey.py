"""What a reader of the tutorial types about waypoints, and sees: from the Gateway API's definitions to the first answer."""

import json
import re
import time

import yaml

from lab import ROOT, eventually
from shop import HERE, paths, route

SLEEP = (ROOT / "scripts" / "demo" / "sleep.yaml").read_text()
HELLOWORLD = (HERE / "helloworld.yaml").read_text()
HELLO = "http://helloworld.bar-2:5000/hello"


def sleeper(shop, url):
    return shop.run(
        "kubectl", "exec", "-i", "deploy/sleep", "-n", "foo", "--", "curl", "-sS", "--max-time", "10", url, timeout=60)


def on_this_lab(shop, manifest):
    """The tutorial's cluster has more nodes."""
    return re.sub(r"k3d-k3s-default-agent-\d", f"k3d-{shop.cluster}-agent-1", manifest)


def test_the_definitions_are_there_and_the_namespaces_are_seen_with_their_mode(shop):
    shop.kubectl("get", "crd", "gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io")
    for namespace in ("foo", "bar-2"):
        shop.kubectl("create", "namespace", namespace)
        assert "labeled" in shop.kubectl("label", "namespace", namespace, "istio.io/dataplane-mode=ambient")
    table = shop.kubectl("get", "ns", "-L", "istio.io/dataplane-mode")
    assert table.splitlines()[0].split() == ["NAME", "STATUS", "AGE", "DATAPLANE-MODE"], table
    assert re.search(r"^bar-2 +Active +\S+ +ambient$", table, re.M) and re.search(r"^default +Active +\S+ *$", table, re.M), table
    shop.kubectl("create", "-n", "foo", "-f", "-", input=on_this_lab(shop, SLEEP))


def test_generate_prints_the_gateway(shop):
    assert yaml.safe_load(shop.ok("martlet", "waypoint", "generate", "--for", "service", "-n", "bar-2")) == {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "waypoint", "namespace": "bar-2", "labels": {"istio.io/waypoint-for": "service"}},
        "spec": {
            "gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}}


def test_apply_makes_a_waypoint_that_serves_and_nobody_gets_past_it_before(shop):
    shop.kubectl("create", "-n", "bar-2", "-f", "-", input=on_this_lab(shop, HELLOWORLD))
    shop.kubectl("rollout", "status", "deploy/helloworld", "-n", "bar-2", "--timeout=60s")
    shop.await_codes("helloworld without a waypoint", (200, {"url": HELLO}))
    said = shop.ok("martlet", "waypoint", "apply", "-n", "bar-2", "--enroll-namespace")
    begun = time.monotonic()
    assert "waypoint bar-2/waypoint applied" in said
    assert 'namespace bar-2 labeled with "istio.io/use-waypoint: waypoint"' in said
    # Once the label is known nobody gets there but through the waypoint, which says so in a header.
    answer = eventually("an answer of the waypoint", lambda: [
        answer for answer in shop.asks(HELLO) if "x-envoy-upstream-service-time" in answer.get("headers", {})])
    print(f"\nserving {time.monotonic() - begun:.1f} s after apply")
    assert answer[0]["code"] == 200
    eventually("the Gateway to be programmed", lambda: re.search(
        r"^bar-2 +waypoint +istio-waypoint +10\.43\.\d+\.\d+ +True +\S+$", shop.kubectl("get", "gateway", "-A"), re.M))
    header = shop.kubectl("get", "gateway", "-A").splitlines()[0].split()
    assert header == ["NAMESPACE", "NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]
    pods = shop.kubectl("get", "pod", "-n", "bar-2", "-o", "wide")
    assert re.search(r"^waypoint-\S+ +1/1 +Running +0 +\S+ +10\.42\.\d+\.\d+ +k3d-", pods, re.M), pods
    assert re.search(r"^helloworld-\S+ +1/1 +Running +0 +\S+ +10\.42\.\d+\.\d+ +k3d-\S+-agent-1 ", pods, re.M), pods


def test_list_and_status_tell_of_it(shop):
    table = shop.ok("martlet", "waypoint", "list", "-A")
    assert table.splitlines()[0].split("     ")[0].strip() == "NAMESPACE", table
    assert re.search(r"^bar-2 +waypoint +default +service +True$", table, re.M), table
    status = shop.ok("martlet", "waypoint", "status", "-n", "bar-2")
    assert re.search(r"^waypoint +True +Programmed +Programmed ", status, re.M), status


def test_a_call_goes_over_hbone_into_the_waypoint_and_is_logged_there(shop):
    shop.kubectl("rollout", "status", "deploy/sleep", "-n", "foo", "--timeout=60s")
    eventually("sleep to be captured", lambda: shop.objects("pods", "foo")[0]["metadata"].get("annotations", {}).get(
        "ambient.istio.io/redirection") == "enabled")
    pod = shop.pods_of("waypoint", "bar-2")[0]
    capture = shop.start(
        "martlet", "lab", "exec", pod["spec"]["nodeName"], "--", "timeout", "60", "tcpdump", "--immediate-mode", "-Z", "root",
        "-nn", "-c", "3", "-i", "any", "tcp", "and", "dst", "host", pod["status"]["podIP"], "and", "dst", "port", "15008")
    eventually("tcpdump to listen", lambda: "listening" in capture.stderr.readline())
    done = sleeper(shop, HELLO)
    assert re.fullmatch(r"Hello version: v1, instance: helloworld-\S+\n", done.stdout), done
    packets, trouble = capture.communicate(timeout=90)
    assert packets.count(f"> {pod['status']['podIP']}.15008") == 3, packets + trouble
    line = eventually("the log line", lambda: shop.logged('"GET /hello HTTP/1.1" 200', '"curl/', namespace="bar-2"))[0]
    sleep = shop.objects("pods", "foo")[0]
    hello = shop.objects("pods", "bar-2", "app=helloworld")[0]
    assert '"helloworld.bar-2:5000"' in line and f'"{hello["status"]["podIP"]}:5000"' in line, line
    assert f" {sleep['status']['podIP']}:" in line, line


def test_proxy_config_shows_what_the_waypoint_knows(shop):
    def shown(*what):
        return shop.ok("martlet", "proxy-config", *what, "gateway/waypoint.bar-2")

    pod = shop.objects("pods", "bar-2", "app=helloworld")[0]["status"]["podIP"]
    address = json.loads(shop.kubectl("get", "service", "helloworld", "-n", "bar-2", "-o", "json"))["spec"]["clusterIP"]
    assert re.search(r"^helloworld\.bar-2\.svc\.cluster\.local +5000 +- +\S+ ", shown("clusters"), re.M), shown("clusters")
    assert re.search(
        rf"^{re.escape(pod)}:5000 .*helloworld\.bar-2\.svc\.cluster\.local$", shown("endpoints"),
        re.M), shown("endpoints")
    assert re.search(rf"helloworld\.bar-2\.svc\.cluster\.local:5000 +{re.escape(address)}:5000 ", shown("listeners")), shown("listeners")
    shop.apply(route("hello", "helloworld", 5000, [{"matches": paths("/hello"), "backendRefs": {"helloworld": 1}}], "bar-2"))
    eventually("the route", lambda: re.search(
        r"^bar-2/hello/0 +helloworld\.bar-2\.svc\.cluster\.local:5000 .*PathPrefix /hello +HTTPRoute/bar-2/hello +"
        r"helloworld\.bar-2\.svc\.cluster\.local:5000$", shown("routes"), re.M))
    assert re.search(r"^spiffe://cluster\.local/ns/bar-2/sa/waypoint +.*true", shown("secret"), re.M), shown("secret")
    listeners = json.loads(shown("listeners", "-o", "json"))
    assert any(listener.get("port") == 15008 for listener in listeners), listeners
    # Its pod is as good a name as its Gateway.
    name = shop.pods_of("waypoint", "bar-2")[0]["metadata"]["name"]
    assert shop.ok("martlet", "pc", "c", f"{name}.bar-2") == shown("clusters")


def test_describe_and_proxy_status_show_it(shop):
    text = shop.ok("martlet", "describe", "service", "helloworld.bar-2")
    assert "Waypoint: bar-2/waypoint (label of the namespace): programmed" in text, text
    pod = shop.objects("pods", "bar-2", "app=helloworld")[0]["metadata"]["name"]
    text = shop.ok("martlet", "describe", "pod", f"{pod}.bar-2")
    assert "captured: traffic goes through the node proxy" in text and "Service: helloworld.bar-2" in text, text
    name = shop.pods_of("waypoint", "bar-2")[0]["metadata"]["name"]
    line = next(line for line in shop.ok("martlet", "proxy-status").splitlines() if line.startswith(f"{name}.bar-2"))
    assert "WDS" in line, line
    verbose = shop.ok("martlet", "proxy-status", "-v", "1")
    assert f"{name}.bar-2" in verbose and "SYNCED" in verbose, verbose


def test_delete_says_who_still_asks_for_it_and_unenroll_sets_them_free(shop):
    done = shop.run("martlet", "waypoint", "delete", "waypoint", "-n", "bar-2")
    assert done.returncode == 0 and "bar-2" in done.stdout + done.stderr, done
    shop.await_codes("nobody to get past a waypoint that is gone", (None, {"url": HELLO, "timeout": 5}))
    shop.kubectl("label", "namespace", "bar-2", "istio.io/use-waypoint-")
    shop.await_codes("helloworld without a waypoint", (200, {"url": HELLO}))
    shop.kubectl("delete", "namespace", "bar-2", "foo", "--wait=false")
