"""The tutorial, step by step: what is typed, and what must be seen."""

import base64
import json
import re

import yaml

import rules

IDENTITY = "spiffe://cluster.local/ns/foo/sa/default"
NODES = ["k3d-k3s-default-server-0"] + [f"k3d-k3s-default-agent-{number}" for number in range(4)]
CONF_DIRECTORY = "/var/lib/rancher/k3s/agent/etc/cni/net.d"


def rows(table):
    """The rows of a table by their first word."""
    return {line.split()[0]: line.split() for line in table.strip().splitlines()[1:] if line.strip()}


def row(table, beginning):
    return next((row for name, row in rows(table).items() if name.startswith(beginning)), [])


def create(j):
    said = j.type("01-create", head=40)
    j.check("each node is reported while it comes up", all(f"{node} Ready" in said for node in NODES), said)
    nodes = rows(j.show("kubectl get nodes"))
    j.check("five nodes are Ready", sorted(nodes) == sorted(NODES) and all(row[1] == "Ready" for row in nodes.values()), nodes)
    info = re.sub(r"\x1b\[[0-9;]*m", "", j.type("01-info"))
    j.check("kubectl's configuration leads to it", "is running at https://127.0.0.1:6550" in info, info)
    listed = j.ask("martlet lab cluster list")
    j.check("`martlet lab cluster list` is understood too", "k3s-default" in listed, listed)


def install(j):
    _, j.unready = j.try_out("martlet verify-install --skip-traffic")
    said = j.type("02-install", head=30, on_terminal=True, typed="y\n", timeout=180)
    j.check("it asks (y/N)", "(y/N)" in said, said)
    j.check("core, control plane, CNI and node proxy are reported", all(
        f"✔ {component} installed" in said for component in ("Istio core", "Istiod", "CNI", "Ztunnel")), said)
    j.check("it says that it is complete", "nstallation complete" in said, said)
    files = j.show(f"martlet lab exec k3d-k3s-default-agent-1 -- ls /bin/istio-cni {CONF_DIRECTORY}")
    chain = j.ask(f"martlet lab exec k3d-k3s-default-agent-1 -- sh -c 'cat {CONF_DIRECTORY}/*.conflist'")
    j.check("the CNI directories that were given are the ones that are used", "istio-cni" in files and '"istio-cni"' in chain, files)


def verify(j):
    said = j.type("03-verify", head=4, tail=10, timeout=180)
    j.check("each object is checked", all(f"✔ {what} checked successfully" in said for what in (
        "Deployment: istio-system/istiod", "DaemonSet: istio-system/ztunnel", "DaemonSet: istio-system/istio-cni-node")), said)
    counts = re.search(r"Checked (\d+) custom resource definitions, (\d+) deployments, (\d+) daemon sets", said)
    j.check("definitions, deployments and daemon sets are counted",
            counts and int(counts[1]) > 0 and counts[2] == "1" and counts[3] == "2", said)
    j.check("the last line says that it is verified", said.strip().endswith("installed and verified successfully"), said)
    j.check("before the installation its status was not 0", j.unready != 0, j.unready)


def argo_cd(j):
    said = j.type("04-apply", head=8, tail=4, timeout=180)
    j.check("all 59 objects are accepted", said.count(" created") == 60 and "rror" not in said, said)
    definitions = j.ask("kubectl get crd -o name").split()
    j.check("three definitions are there", all(
        f"customresourcedefinition.apiextensions.k8s.io/{name}.argoproj.io" in definitions
        for name in ("applications", "applicationsets", "appprojects")), definitions)
    said = j.type("04-patch")
    j.check("the Secret is patched", "secret/argocd-secret patched" in said, said)
    text = j.show("kubectl -n argocd get secret argocd-secret -o yaml")
    secret = yaml.safe_load(text)
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    j.check("stringData became base64 in data", data.get("admin.password", "").startswith("$2a$12$") and "stringData" not in secret
            and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+", data.get("admin.passwordMtime", "")), text)
    j.rolled_out(
        *(f"deploy/argocd-{name}" for name in (
            "server", "repo-server", "redis", "dex-server", "notifications-controller", "applicationset-controller")),
        "statefulset/argocd-application-controller", namespace="argocd")
    pods = rows(j.type("04-pods"))
    j.check("seven pods run", len(pods) == 7 and all(row[1:3] == ["1/1", "Running"] for row in pods.values()), pods)
    command = j.command("04-forward")
    with j.beside(command, "Forwarding from 127.0.0.1:9999") as said:
        j.note(command, "\n".join(line for line in said().splitlines() if line.startswith("Forwarding")))
        answer = j.show("curl -skv --max-time 20 https://localhost:9999/api/version 2>&1 | "
                        "grep -E 'SSL connection|subject:|issuer:|^< HTTP|Version'")
    j.check("the forwarded port carries HTTPS", "SSL connection using TLS" in answer and "CN=argocd-server" in answer
            and '"Version"' in answer, answer)


def argo_rollouts(j):
    said = j.type("05-apply", head=20, timeout=180)
    kinds = [line.split("/")[0] for line in said.splitlines() if line.endswith("created")]
    j.check("all 15 objects are accepted", len(kinds) == 16 and kinds.count("customresourcedefinition.apiextensions.k8s.io") == 5
            and "rror" not in said, said)
    j.rolled_out("deploy/argo-rollouts", namespace="argo-rollouts")
    pods = j.show("kubectl get pods -n argo-rollouts")
    j.check("the controller runs", row(pods, "argo-rollouts-")[1:3] == ["1/1", "Running"], pods)


def sleep(j):
    said = j.type("06-namespace")
    j.check("the namespace is labelled", "namespace/foo created" in said and "namespace/foo labeled" in said, said)
    said = j.type("06-sleep", tail=3)
    j.check("service and deployment are made", "service/sleep created" in said and "deployment.apps/sleep created" in said, said)
    j.rolled_out("deploy/sleep", namespace="foo", seconds=60)
    table = j.show("kubectl get pod -n foo")
    pod = json.loads(j.ask("kubectl get pod -n foo -l app=sleep -o json"))["items"][0]
    first, beside = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
    proxies = [c for c in first + beside if c["name"] == "istio-proxy"]
    j.show("kubectl get pod -n foo -o 'custom-columns=INIT:.spec.initContainers[*].name,CONTAINERS:.spec.containers[*].name,"
           "USER:.spec.containers[*].securityContext.runAsUser'")
    j.check("the pod is 2/2", row(table, "sleep-")[1:3] == ["2/2", "Running"], table)
    j.check("a container istio-proxy was added, which runs as 1337",
            len(proxies) == 1 and proxies[0].get("securityContext", {}).get("runAsUser") == 1337, proxies)
    steps = [c for c in first if "istio-iptables" in " ".join(c.get("command", []) + c.get("args", []))]
    states = {s["name"]: s["state"] for s in pod["status"].get("initContainerStatuses", [])}
    j.check("an init step wrote its rules and ended well",
            len(steps) == 1 and states[steps[0]["name"]].get("terminated", {}).get("exitCode") == 0, (steps, states))


def httpbin(j):
    j.type("07-namespace")
    said = j.type("07-httpbin", tail=2)
    j.check("service and deployment are made", said.count(" created") == 2, said)
    j.rolled_out("deploy/httpbin", namespace="bar-1")
    mode = "{.items[0].metadata.annotations.ambient\\.istio\\.io/redirection}"
    j.eventually("httpbin to be captured", lambda: j.pod("app=httpbin", "bar-1", mode) == "enabled", 30)
    table = j.show("kubectl get pod -n bar-1")
    j.show(f"kubectl get pod -n bar-1 -o jsonpath='{mode}'")
    j.check("the pod is 1/1, captured, and was not started again", row(table, "httpbin-")[1:4] == ["1/1", "Running", "0"], table)


def definitions(j):
    j.type("08-definitions")
    found = j.show("kubectl get crd | grep gateway.networking.k8s.io")
    j.check("the Gateway API's definitions are there", all(f"{name}.gateway.networking.k8s.io" in found for name in (
        "gatewayclasses", "gateways", "grpcroutes", "httproutes")), found)


def modes(j):
    table = j.type("09-modes", head=16)
    j.check("a column DATAPLANE-MODE is shown", table.splitlines()[0].split() == ["NAME", "STATUS", "AGE", "DATAPLANE-MODE"], table)
    modes = {name: row[3:] for name, row in rows(table).items()}
    j.check("only bar-1 is ambient", [name for name, mode in modes.items() if mode == ["ambient"]] == ["bar-1"], table)


def generate(j):
    j.type("10-namespace")
    text = j.type("10-generate", head=20)
    j.check("the Gateway is as the tutorial has it", yaml.safe_load(text) == {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"labels": {"istio.io/waypoint-for": "service"}, "name": "waypoint", "namespace": "bar-2"},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}}, text)
    others = {kind: yaml.safe_load(j.ask(f"martlet waypoint generate --for {kind} -n bar-2")) for kind in ("workload", "all", "none")}
    j.check("--for takes workload, all and none, too", all(
        other["metadata"]["labels"] == {"istio.io/waypoint-for": kind} for kind, other in others.items()), others)
    said = j.type("10-gateway", tail=1)
    j.check("the tutorial's own Gateway is accepted", "gateway.gateway.networking.k8s.io/waypoint created" in said, said)


def waypoint(j):
    said = j.type("11-apply")
    j.check("it is applied and the namespace is labelled", "waypoint bar-2/waypoint applied" in said
            and 'namespace bar-2 labeled with "istio.io/use-waypoint: waypoint"' in said, said)
    label = j.ask("kubectl get ns bar-2 -o jsonpath='{.metadata.labels.istio\\.io/use-waypoint}'")
    j.check("the label is there", label == "waypoint", label)
    j.ask("kubectl wait gateway/waypoint -n bar-2 --for=condition=Programmed --timeout=60s")
    table = j.type("11-gateways")
    j.check("CLASS, ADDRESS and PROGRAMMED are shown", table.splitlines()[0].split() == [
        "NAMESPACE", "NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"] and re.search(
            r"^bar-2 +waypoint +istio-waypoint +10\.43\.\d+\.\d+ +True +\S+$", table, re.M), table)
    pods = j.type("11-pods")
    j.check("a waypoint's pod runs", row(pods, "waypoint-")[1:3] == ["1/1", "Running"], pods)


def helloworld(j):
    said = j.type("12-helloworld", tail=2)
    j.check("service and deployment are made", said.count(" created") == 2, said)
    j.rolled_out("deploy/helloworld", namespace="bar-2")
    table = j.type("12-pods", head=20)
    for name, node in (("sleep", 0), ("httpbin", 1), ("helloworld", 3)):
        found = next((line for line in table.splitlines() if line.startswith(f"{name}-")), "")
        j.check(f"{name} runs on agent-{node} with an address of 10.42", re.search(
            rf" Running .* 10\.42\.\d+\.\d+ +k3d-k3s-default-agent-{node} ", found), table)


def call(j):
    address, name = (j.pod("app=sleep", "foo", "{.items[0]." + path + "}") for path in ("status.podIP", "metadata.name"))
    text = j.type("13-call", head=30)
    answer = json.loads(text[text.index("{"):text.rindex("}") + 1])
    headers = answer["headers"]
    j.check("the origin is the sleep pod", answer["origin"] == address, text)
    j.check("the sidecar counts its attempts", headers.get("X-Envoy-Attempt-Count") == "1", text)
    j.check("the sidecar says whose it is", headers.get("X-Envoy-Peer-Metadata-Id") ==
            f"sidecar~{address}~{name}.foo~foo.svc.cluster.local" and "X-Envoy-Peer-Metadata" in headers, text)


def redirection(j):
    said = j.type("14-processes", status=None)
    envoys = [line.split() for line in said.splitlines() if re.search(r"/envoy\b", line) and "grep" not in line]
    j.check("an Envoy runs on agent-0 as 1337", len(envoys) >= 1 and envoys[0][0] in ("1337", "istio-proxy"), said)
    process = envoys[0][1]
    # The shell cannot become the terminal's foreground from a node's process namespace, and says so at its end.
    said = j.type("14-enter", [("24459", process)], head=60, status=None, until="# exit", on_terminal=True,
                  typed=j.command("14-rules") + "exit\n")
    chains = rules.chains(said)
    j.check("ISTIO_INBOUND, ISTIO_IN_REDIRECT, ISTIO_OUTPUT and ISTIO_REDIRECT are as the tutorial has them",
            not (trouble := rules.trouble(chains)), "\n".join(trouble) + "\n" + said)
    packets = {name: sum(rule.packets for rule in chain) for name, chain in chains.items()}
    j.check("their counters moved", packets["ISTIO_OUTPUT"] > 0 and packets["ISTIO_REDIRECT"] > 0, packets)


def log(j):
    proxy = j.ask("kubectl get pods -n istio-system -l app=ztunnel --field-selector spec.nodeName=k3d-k3s-default-agent-1 "
                  "-o jsonpath='{.items[0].metadata.name}'")
    name = j.pod("app=sleep", "foo")
    command = j.command("15-log", [("ztunnel-9t97l", proxy)])
    wanted = [f'src.workload="{name}"', 'src.namespace="foo"', f'src.identity="{IDENTITY}"', "src.addr=", "connection complete"]
    everything = ""

    def lines():
        nonlocal everything
        everything = j.ask(command)
        return [line for line in everything.splitlines() if "access" in line and all(word in line for word in wanted)]

    try:
        found = j.eventually("the line", lines, 15)
    except AssertionError:
        near = [line for line in everything.splitlines() if "dst.namespace=\"bar-1\"" in line or "httpbin" in line]
        j.note(command, "\n".join(near[-3:]))
        j.check("a line tells of the call and who made it", False, "\n".join(near[-3:]))
    j.note(command, "...\n" + found[-1])
    j.check("a line tells of the call and who made it", True)


def hello(j):
    pod = json.loads(j.ask("kubectl get pods -n bar-2 -l gateway.networking.k8s.io/gateway-name=waypoint -o json"))["items"][0]
    address, node = pod["status"]["podIP"], pod["spec"]["nodeName"]
    watch = (f"martlet lab exec {node} -- timeout 60 tcpdump --immediate-mode -l -Z root -nn -i any tcp and dst host {address} "
             "and dst port 15008")
    with j.beside(watch, "listening on") as captured:
        answer = j.show("kubectl exec -it deploy/sleep -n foo -- curl http://helloworld.bar-2:5000/hello")
        j.check("helloworld answers", re.search(r"^Hello version: v1, instance: helloworld-\S+$", answer, re.M), answer)
        dump = j.show("martlet proxy-config endpoint deploy/sleep.foo --cluster "
                      "'outbound|5000||helloworld.bar-2.svc.cluster.local' -o json", head=40)
        j.check("the sidecar's endpoints lead through connect_originate to the waypoint's 15008",
                "connect_originate" in dump and f"{address}:15008" in dump, dump)
        source = j.pod("app=sleep", "foo", "{.items[0].status.podIP}")

        def packets():
            return [line for line in captured().splitlines() if f"{address}.15008:" in line]

        arrived = j.eventually("HBONE at the waypoint", packets, 20)
    j.note(watch, "\n".join(arrived), head=3, tail=0)
    j.check("the tunnel into the waypoint begins in the sleep pod", any(f"{source}." in line for line in arrived), arrived)
    lines = j.eventually("the waypoint's log", lambda: [
        line for line in j.ask("kubectl logs -n bar-2 deploy/waypoint --tail=200").splitlines() if "GET /hello " in line], 20)
    j.note("kubectl logs -n bar-2 deploy/waypoint", "...\n" + lines[-1])
    j.check("the waypoint's log has the request", '"GET /hello HTTP/1.1" 200' in lines[-1], lines[-1])


STEPS = {
    "J1": create, "J2": install, "J3": verify, "J4": argo_cd, "J5": argo_rollouts, "J6": sleep, "J7": httpbin,
    "J8": definitions, "J9": modes, "J10": generate, "J11": waypoint, "J12": helloworld, "J13": call, "J14": redirection,
    "J15": log, "J16": hello}
