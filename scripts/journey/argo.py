"""Writes manifests of the shape and size of Argo CD's and Argo Rollouts' install.yaml: argo.py cd|rollouts

Ours, not the originals: the names, the kinds of objects and what refers to what are theirs, so that the tutorial's
commands meet what they expect. The images are the lab's stand-ins (Lab/StandIns/argo.py).
"""

import json
import sys

import schemas

IMAGES = {
    "cd": "quay.io/argoproj/argocd:v2.12.6", "dex": "ghcr.io/dexidp/dex:v2.38.0", "redis": "redis:7.0.15-alpine",
    "rollouts": "quay.io/argoproj/argo-rollouts:v1.7.2"}


# YAML, as the originals have it: a library would take seconds for it.

def scalar(value):
    if isinstance(value, str):
        plain = value and all(c.isalnum() or c in "-_./" for c in value) and value[0].isalpha()
        return value if plain and value.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n") else json.dumps(value)
    return json.dumps(value)


def lines(value, indent):
    pad = "  " * indent
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from entry(f"{pad}{scalar(key)}:", inner, indent)
    else:
        for inner in value:
            if isinstance(inner, (dict, list)) and inner:
                first, *rest = lines(inner, indent + 1)
                yield f"{pad}- {first.lstrip()}"
                yield from rest
            else:
                yield f"{pad}- {scalar(inner)}"


def entry(head, value, indent):
    if isinstance(value, dict) and value:
        yield head
        yield from lines(value, indent + 1)
    elif isinstance(value, list) and value:
        yield head
        yield from lines(value, indent)
    else:
        yield f"{head} {scalar(value)}"


# Objects

def labels(name, component, part):
    return {"app.kubernetes.io/component": component, "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": part}


def thing(group, kind, name, own, **body):
    return {"apiVersion": group, "kind": kind, "metadata": {"labels": own, "name": name}, **body}


def definition(kind, plural, form, status, part, short=(), columns=(), scope="Namespaced", replicas=False, kept=False):
    root = {"apiVersion": "s", "kind": "s", "metadata": "any", "spec!": form}
    if status:
        root["status"] = status
    found = schemas.schema(root)
    found["properties"]["metadata"] = {"type": "object"}
    version = {
        "additionalPrinterColumns": [
            {"jsonPath": path, "name": name, "type": type} for name, path, type in columns],
        "name": "v1alpha1", "schema": {"openAPIV3Schema": found}, "served": True, "storage": True}
    if not columns:
        del version["additionalPrinterColumns"]
    if replicas:
        version["subresources"] = {"scale": {
            "labelSelectorPath": ".status.selector", "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.HPAReplicas"}, "status": {}}
    elif kept:
        version["subresources"] = {"status": {}}
    singular = kind.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"labels": {"app.kubernetes.io/name": f"{plural}.argoproj.io", "app.kubernetes.io/part-of": part},
                     "name": f"{plural}.argoproj.io"},
        "spec": {"group": "argoproj.io", "names": {
            "kind": kind, "listKind": f"{kind}List", "plural": plural, "shortNames": list(short), "singular": singular},
            "scope": scope, "versions": [version]}}


def rule(groups, resources, verbs, **more):
    return {"apiGroups": groups, "resources": resources, "verbs": verbs, **more}


def binding(kind, name, own, role_kind, namespace=None):
    subject = {"kind": "ServiceAccount", "name": name, **({"namespace": namespace} if namespace else {})}
    return thing("rbac.authorization.k8s.io/v1", kind, name, own, roleRef={
        "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": name}, subjects=[subject])


def role(kind, name, own, *rules):
    return thing("rbac.authorization.k8s.io/v1", kind, name, own, rules=list(rules))


def service(name, own, selector, *ports):
    return thing("v1", "Service", name, own, spec={
        "ports": [{"name": title, "port": port, "protocol": "TCP", "targetPort": target} for title, port, target in ports],
        "selector": {"app.kubernetes.io/name": selector}})


def settings(*names):
    """Settings out of the ConfigMap of parameters, none of which has to be there."""
    return [
        {"name": f"ARGOCD_{name.upper().replace('.', '_')}", "valueFrom": {"configMapKeyRef": {
            "key": name, "name": "argocd-cmd-params-cm", "optional": True}}} for name in names]


SECURE = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def get(path, port, **more):
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 10, **more}


def container(name, image, args=None, command=None, ports=(), env=(), mounts=(), pull="Always", **more):
    found = {
        "args": args, "command": command, "env": list(env), "image": image, "imagePullPolicy": pull, "name": name,
        "ports": [{"containerPort": port} for port in ports], "securityContext": SECURE,
        "volumeMounts": [{"mountPath": path, "name": volume} for volume, path in mounts], **more}
    return {key: value for key, value in found.items() if value}


def pods(name, containers, volumes, account=None, first=()):
    spec = {"containers": containers, "nodeSelector": {"kubernetes.io/os": "linux"}, "serviceAccountName": account or name,
            "volumes": volumes}
    if first:
        spec["initContainers"] = list(first)
    apart = {"podAffinityTerm": {"labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
                                 "topologyKey": "kubernetes.io/hostname"}, "weight": 100}
    spec["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}}
    return {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": spec}


def workload(kind, name, own, template, **more):
    return thing("apps/v1", kind, name, own, spec={
        "selector": {"matchLabels": {"app.kubernetes.io/name": name}}, "template": template, **more})


EMPTY = [{"emptyDir": {}, "name": "tmp"}]
TMP = [("tmp", "/tmp")]


def configured(**volumes):
    return [{"configMap": {"name": source}, "name": name.replace("_", "-")} for name, source in volumes.items()]


def argo_cd():
    part = "argocd"

    def own(short, component=None):
        return labels(f"argocd-{short}", component or short, part)

    read = ["get", "list", "watch"]
    apps, secrets = rule(["argoproj.io"], ["applications", "appprojects"], ["create", "get", "list", "watch", "update", "patch",
                         "delete"]), rule([""], ["secrets", "configmaps"], read)
    events = rule([""], ["events"], ["create", "list"])
    anything = rule(["*"], ["*"], ["*"])
    accounts = ["application-controller", "applicationset-controller", "dex-server", "notifications-controller", "redis",
                "repo-server", "server"]
    yield definition("Application", "applications", schemas.APPLICATION, schemas.APPLICATION_STATUS, part, ["app", "apps"], [
        ("Sync Status", ".status.sync.status", "string"), ("Health Status", ".status.health.status", "string")])
    yield definition("ApplicationSet", "applicationsets", schemas.APPLICATION_SET, schemas.APPLICATION_SET_STATUS, part,
                     ["appset", "appsets"], kept=True)
    yield definition("AppProject", "appprojects", schemas.PROJECT, schemas.PROJECT_STATUS, part, ["appproj", "appprojs"])
    for name in accounts:
        yield thing("v1", "ServiceAccount", f"argocd-{name}", own(name))
    rules = {
        "application-controller": [secrets, apps, events],
        "applicationset-controller": [
            apps, rule(["argoproj.io"], ["applicationsets", "applicationsets/finalizers"], ["create", "delete", *read, "patch",
                       "update"]), rule(["argoproj.io"], ["applicationsets/status"], ["get", "patch", "update"]), events, secrets,
            rule(["coordination.k8s.io"], ["leases"], ["create", "delete", *read, "patch", "update"])],
        "dex-server": [secrets],
        "notifications-controller": [
            apps, secrets, rule([""], ["configmaps"], read, resourceNames=["argocd-notifications-cm"]),
            rule([""], ["secrets"], ["get"], resourceNames=["argocd-notifications-secret"])],
        "redis": [rule([""], ["secrets"], ["get"], resourceNames=["argocd-redis"]), rule([""], ["secrets"], ["create"])],
        "server": [rule([""], ["secrets", "configmaps"], ["create", *read, "update", "patch", "delete"]), apps, events]}
    for name, found in rules.items():
        yield role("Role", f"argocd-{name}", own(name), *found)
    yield role("ClusterRole", "argocd-application-controller", own("application-controller"), anything,
               {"nonResourceURLs": ["*"], "verbs": ["*"]})
    yield role("ClusterRole", "argocd-applicationset-controller", own("applicationset-controller"),
               *rules["applicationset-controller"])
    yield role("ClusterRole", "argocd-server", own("server"), rule(["*"], ["*"], ["delete", "get", "patch"]),
               rule([""], ["events"], ["list"]), rule([""], ["pods", "pods/log"], ["get"]), apps,
               rule(["batch"], ["jobs"], ["create"]))
    for name in rules:
        yield binding("RoleBinding", f"argocd-{name}", own(name), "Role")
    for name in ("application-controller", "applicationset-controller", "server"):
        yield binding("ClusterRoleBinding", f"argocd-{name}", own(name), "ClusterRole", "argocd")
    for name in ("cm", "cmd-params-cm", "gpg-keys-cm", "notifications-cm", "rbac-cm"):
        yield thing("v1", "ConfigMap", f"argocd-{name}", own(name, "config"))
    hosts = "".join(f"[ssh.{name}]:443 ssh-ed25519 {'A' * 60}{number:04}\n" for number, name in enumerate(
        ["github.example", "gitlab.example", "bitbucket.example", "azure.example"] * 4))
    yield thing("v1", "ConfigMap", "argocd-ssh-known-hosts-cm", own("ssh-known-hosts-cm", "config"), data={"ssh_known_hosts": hosts})
    yield thing("v1", "ConfigMap", "argocd-tls-certs-cm", own("tls-certs-cm", "config"))
    for name in ("notifications-secret", "secret"):
        yield thing("v1", "Secret", f"argocd-{name}", own(name, "config"), type="Opaque")
    yield service("argocd-applicationset-controller", own("applicationset-controller"), "argocd-applicationset-controller",
                  ("webhook", 7000, "webhook"), ("metrics", 8080, "metrics"))
    yield service("argocd-dex-server", own("dex-server"), "argocd-dex-server", ("http", 5556, 5556), ("grpc", 5557, 5557),
                  ("metrics", 5558, 5558))
    yield service("argocd-metrics", own("metrics", "metrics"), "argocd-application-controller", ("metrics", 8082, 8082))
    yield service("argocd-notifications-controller-metrics", own("notifications-controller-metrics", "metrics"),
                  "argocd-notifications-controller", ("metrics", 9001, 9001))
    yield service("argocd-redis", own("redis"), "argocd-redis", ("tcp-redis", 6379, 6379))
    yield service("argocd-repo-server", own("repo-server"), "argocd-repo-server", ("server", 8081, 8081), ("metrics", 8084, 8084))
    yield service("argocd-server", own("server"), "argocd-server", ("http", 80, 8080), ("https", 443, 8080))
    yield service("argocd-server-metrics", own("server-metrics", "server"), "argocd-server", ("metrics", 8083, 8083))

    image = IMAGES["cd"]
    password = {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"key": "auth", "name": "argocd-redis"}}}
    files = configured(ssh_known_hosts="argocd-ssh-known-hosts-cm", tls_certs="argocd-tls-certs-cm")
    mounted = [("ssh-known-hosts", "/app/config/ssh"), ("tls-certs", "/app/config/tls"), *TMP]
    common = ["log.format", "log.level", "otlp.address", "otlp.insecure", "otlp.headers", "redis.server", "redis.compression",
              "redis.db", "repo.server", "application.namespaces"]
    yield workload("Deployment", "argocd-applicationset-controller", own("applicationset-controller"), pods(
        "argocd-applicationset-controller", [container(
            "argocd-applicationset-controller", image, ["/usr/local/bin/argocd-applicationset-controller"],
            env=settings(*(f"applicationsetcontroller.{name}" for name in (
                *common, "enable.leader.election", "policy", "policy.override", "debug", "dryrun", "enable.scm.providers",
                "enable.new.git.file.globbing", "concurrent.reconciliations.max", "namespaces", "webhook.parallelism"))),
            mounts=mounted, pull="Always") | {"ports": [
                {"containerPort": 7000, "name": "webhook"}, {"containerPort": 8080, "name": "metrics"}]}], files + EMPTY))
    copy = container("copyutil", image, ["/usr/local/bin/argocd", "/shared/argocd-dex"], ["/bin/cp", "-n"],
                     mounts=[("static-files", "/shared"), ("dexconfig", "/tmp")])
    yield workload("Deployment", "argocd-dex-server", own("dex-server"), pods(
        "argocd-dex-server", [container(
            "dex", IMAGES["dex"], ["rundex"], ["/shared/argocd-dex"], (5556, 5557, 5558),
            settings("dexserver.disable.tls", "dexserver.log.format", "dexserver.log.level"),
            [("static-files", "/shared"), ("dexconfig", "/tmp")])],
        [{"emptyDir": {}, "name": name} for name in ("static-files", "dexconfig")], first=[copy]))
    yield workload("Deployment", "argocd-notifications-controller", own("notifications-controller"), pods(
        "argocd-notifications-controller", [container(
            "argocd-notifications-controller", image, ["/usr/local/bin/argocd-notifications"],
            env=settings(*(f"notificationscontroller.{name}" for name in (
                "log.format", "log.level", "selfservice.enabled", "repo.server.plaintext"))), mounts=mounted,
            livenessProbe={"tcpSocket": {"port": 9001}}, workingDir="/")], files + EMPTY), strategy={"type": "Recreate"})
    init = container("secret-init", image, command=["argocd", "admin", "redis-initial-password"], pull="IfNotPresent")
    yield workload("Deployment", "argocd-redis", own("redis"), pods("argocd-redis", [container(
        "redis", IMAGES["redis"], ["--save", "", "--appendonly", "no", "--requirepass $(REDIS_PASSWORD)"], ports=(6379,),
        env=[password])], [], first=[init]))
    tools = container("copyutil", image, [
        "/bin/cp -n /usr/local/bin/argocd /var/run/argocd/argocd && /bin/ln -sf /var/run/argocd/argocd "
        "/var/run/argocd/argocd-cmp-server"], ["sh", "-c"], mounts=[("var-files", "/var/run/argocd")])
    yield workload("Deployment", "argocd-repo-server", own("repo-server"), pods(
        "argocd-repo-server", [container(
            "argocd-repo-server", image, ["/usr/local/bin/argocd-repo-server"], ports=(8081, 8084), env=[password] + settings(*(
                f"reposerver.{name}" for name in (
                    *common, "parallelism.limit", "listen.address", "metrics.listen.address", "disable.tls", "tls.minversion",
                    "tls.maxversion", "tls.ciphers", "repo.cache.expiration", "default.cache.expiration",
                    "max.combined.directory.manifests.size", "plugin.tar.exclusions", "allow.oob.symlinks",
                    "streamed.manifest.max.tar.size", "helm.manifest.max.extracted.size", "git.lsremote.parallelism.limit",
                    "git.request.timeout", "grpc.max.size", "enable.git.submodule"))),
            mounts=[*mounted, ("var-files", "/var/run/argocd"), ("plugins", "/home/argocd/cmp-server/plugins")],
            livenessProbe=get("/healthz?full=true", 8084, initialDelaySeconds=30, timeoutSeconds=5),
            readinessProbe=get("/healthz", 8084, initialDelaySeconds=0))],
        files + EMPTY + [{"emptyDir": {}, "name": name} for name in ("var-files", "plugins")], first=[tools]))
    yield workload("Deployment", "argocd-server", own("server"), pods(
        "argocd-server", [container(
            "argocd-server", image, ["/usr/local/bin/argocd-server"], ports=(8080, 8083), env=[password] + settings(*(
                f"server.{name}" for name in (
                    *common, "insecure", "basehref", "rootpath", "staticassets", "repo.server.plaintext",
                    "repo.server.strict.tls", "repo.server.timeout.seconds", "dex.server", "dex.server.plaintext",
                    "dex.server.strict.tls", "disable.auth", "enable.gzip", "x.frame.options", "content.security.policy",
                    "tls.minversion", "tls.maxversion", "tls.ciphers", "connection.status.cache.expiration",
                    "oidc.cache.expiration", "login.attempts.expiration", "app.state.cache.expiration",
                    "default.cache.expiration", "http.cookie.maxnumber", "listen.address", "metrics.listen.address",
                    "api.content.types", "webhook.parallelism.limit", "enable.proxy.extension"))), mounts=mounted,
            livenessProbe=get("/healthz?full=true", 8080, initialDelaySeconds=3, timeoutSeconds=5),
            readinessProbe=get("/healthz", 8080, initialDelaySeconds=0))], files + EMPTY))
    yield workload("StatefulSet", "argocd-application-controller", own("application-controller"), pods(
        "argocd-application-controller", [container(
            "argocd-application-controller", image, ["/usr/local/bin/argocd-application-controller"], ports=(8082,),
            env=[password, {"name": "ARGOCD_CONTROLLER_REPLICAS", "value": "1"}] + settings(*(
                f"controller.{name}" for name in (
                    *common, "timeout.reconciliation", "timeout.hard.reconciliation", "repo.error.grace.period.seconds",
                    "repo.server.timeout.seconds", "status.processors", "operation.processors", "self.heal.timeout.seconds",
                    "sync.timeout.seconds", "repo.server.plaintext", "repo.server.strict.tls", "resource.health.persist",
                    "app.state.cache.expiration", "default.cache.expiration", "sharding.algorithm", "kubectl.parallelism.limit",
                    "k8sclient.retry.max", "k8sclient.retry.base.backoff", "diff.server.side", "ignore.normalizer.jq.timeout"))),
            mounts=TMP, readinessProbe=get("/healthz", 8082, initialDelaySeconds=0), workingDir="/")], EMPTY),
        replicas=1, serviceName="argocd-application-controller")

    inside = {"application-controller": 8082, "applicationset-controller": 7000, "dex-server": 5556,
              "notifications-controller": 9001, "redis": 6379, "repo-server": 8081, "server": None}
    for name, port in inside.items():
        ingress = {} if port is None else {"from": [{"namespaceSelector": {}}], "ports": [{"port": port, "protocol": "TCP"}]}
        yield {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
               "metadata": {"labels": own(name), "name": f"argocd-{name}-network-policy"}, "spec": {
                   "ingress": [ingress], "podSelector": {"matchLabels": {"app.kubernetes.io/name": f"argocd-{name}"}},
                   "policyTypes": ["Ingress"]}}


def argo_rollouts():
    part, name = "argo-rollouts", "argo-rollouts"
    own = labels(name, "rollouts-controller", part)
    yield definition("AnalysisRun", "analysisruns", schemas.ANALYSIS_RUN, schemas.ANALYSIS_RUN_STATUS, part, ["ar"], [
        ("Status", ".status.phase", "string"), ("Age", ".metadata.creationTimestamp", "date")])
    yield definition("AnalysisTemplate", "analysistemplates", schemas.ANALYSIS_TEMPLATE, None, part, ["at"], [
        ("Age", ".metadata.creationTimestamp", "date")])
    yield definition("ClusterAnalysisTemplate", "clusteranalysistemplates", schemas.ANALYSIS_TEMPLATE, None, part, ["cat"], [
        ("Age", ".metadata.creationTimestamp", "date")], scope="Cluster")
    yield definition("Experiment", "experiments", schemas.EXPERIMENT, schemas.EXPERIMENT_STATUS, part, ["exp"], [
        ("Status", ".status.phase", "string"), ("Age", ".metadata.creationTimestamp", "date")], kept=True)
    yield definition("Rollout", "rollouts", schemas.ROLLOUT, schemas.ROLLOUT_STATUS, part, ["ro"], [
        ("Desired", ".spec.replicas", "integer"), ("Current", ".status.replicas", "integer"),
        ("Up-to-date", ".status.updatedReplicas", "integer"), ("Available", ".status.availableReplicas", "integer"),
        ("Age", ".metadata.creationTimestamp", "date")], replicas=True)
    yield thing("v1", "ServiceAccount", name, own)
    every = ["create", "delete", "get", "list", "patch", "update", "watch"]
    kinds = ["rollouts", "rollouts/scale", "rollouts/status", "rollouts/finalizers", "experiments", "experiments/finalizers",
             "analysistemplates", "clusteranalysistemplates", "analysisruns", "analysisruns/finalizers"]
    yield role("ClusterRole", name, own, rule(["argoproj.io"], kinds, every), rule(["apps"], ["deployments", "replicasets"], every),
               rule([""], ["services", "pods", "pods/eviction", "events", "secrets", "configmaps"], every),
               rule(["coordination.k8s.io"], ["leases"], every), rule(["batch"], ["jobs"], every),
               rule(["networking.k8s.io", "extensions"], ["ingresses"], every),
               rule(["networking.istio.io"], ["virtualservices", "destinationrules"], every))
    for to in ("admin", "edit", "view"):
        found = role("ClusterRole", f"{name}-aggregate-to-{to}", own, rule(
            ["argoproj.io"], kinds, every if to != "view" else ["get", "list", "watch"]))
        found["metadata"]["labels"] = {**own, f"rbac.authorization.k8s.io/aggregate-to-{to}": "true"}
        yield found
    yield binding("ClusterRoleBinding", name, own, "ClusterRole", name)
    yield thing("v1", "ConfigMap", "argo-rollouts-config", own)
    yield thing("v1", "Secret", "argo-rollouts-notification-secret", own, type="Opaque")
    yield service("argo-rollouts-metrics", own, name, ("metrics", 8090, 8090))
    controller = container(
        name, IMAGES["rollouts"], mounts=[("plugin-bin", "/home/argo-rollouts/plugin-bin"), *TMP],
        livenessProbe=get("/healthz", "healthz", initialDelaySeconds=30, periodSeconds=20),
        readinessProbe=get("/metrics", "metrics", initialDelaySeconds=0, periodSeconds=5))
    controller["ports"] = [{"containerPort": 8090, "name": "metrics"}, {"containerPort": 8080, "name": "healthz"}]
    yield workload("Deployment", name, own, pods(name, [controller], EMPTY + [{"emptyDir": {}, "name": "plugin-bin"}]),
                   replicas=1, strategy={"type": "Recreate"})


def documents(which):
    return list({"cd": argo_cd, "rollouts": argo_rollouts}[which]())


def manifest(which):
    return "".join("---\n" + "\n".join(lines(document, 0)) + "\n" for document in documents(which))


if __name__ == "__main__":
    if sys.argv[1:] not in (["cd"], ["rollouts"]):
        sys.exit(__doc__)
    sys.stdout.write(manifest(sys.argv[1]))
