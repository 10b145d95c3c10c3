"""Schemas of Kubernetes' and Argo's kinds in a short notation, for definitions of the originals' shape and size.

    "s" "i" "b" "n" "q" "t" "any"   string, integer, boolean, number, integer or string, time, anything
    "[s]" "{s}"                     array and map of it
    [x]  {name: x}                  array of x, object; a name that ends in "!" is required
"""

SCALARS = {
    "s": {"type": "string"}, "b": {"type": "boolean"}, "n": {"type": "number"},
    "i": {"type": "integer", "format": "int32"}, "l": {"type": "integer", "format": "int64"},
    "t": {"type": "string", "format": "date-time"},
    "q": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def schema(form):
    if isinstance(form, str):
        if form[0] == "[":
            return {"type": "array", "items": schema(form[1:-1])}
        if form[0] == "{":
            return {"type": "object", "additionalProperties": schema(form[1:-1])}
        return dict(SCALARS[form])
    if isinstance(form, list):
        return {"type": "array", "items": schema(form[0])}
    found = {"type": "object", "properties": {name.rstrip("!"): schema(inner) for name, inner in form.items()}}
    if required := [name[:-1] for name in form if name.endswith("!")]:
        found["required"] = required
    return found


def fields(text):
    """`name:s, command:[s]` as a form."""
    return {name: kind for name, kind in (pair.strip().split(":") for pair in text.split(","))}


# Parts of pods

SELECTOR = {"matchLabels": "{s}", "matchExpressions": [fields("key!:s, operator!:s, values:[s]")]}
NAMED = fields("name:s, optional:b")
ITEMS = [fields("key!:s, mode:i, path!:s")]
FIELD = fields("apiVersion:s, fieldPath!:s")
RESOURCE = fields("containerName:s, divisor:q, resource!:s")
HTTP_GET = {"host": "s", "httpHeaders": [fields("name!:s, value!:s")], "path": "s", "port!": "q", "scheme": "s"}
ACTION = {"exec": fields("command:[s]"), "httpGet": HTTP_GET, "tcpSocket": fields("host:s, port!:q")}
PROBE = {
    **ACTION, "grpc": fields("port!:i, service:s"),
    **fields("failureThreshold:i, initialDelaySeconds:i, periodSeconds:i, successThreshold:i, "
             "terminationGracePeriodSeconds:l, timeoutSeconds:i")}
SELINUX = fields("level:s, role:s, type:s, user:s")
WINDOWS = fields("gmsaCredentialSpec:s, gmsaCredentialSpecName:s, hostProcess:b, runAsUserName:s")
SECCOMP = fields("localhostProfile:s, type!:s")
CONTAINER = {
    "name!": "s", **fields("args:[s], command:[s], image:s, imagePullPolicy:s, stdin:b, stdinOnce:b, "
                           "terminationMessagePath:s, terminationMessagePolicy:s, tty:b, workingDir:s, restartPolicy:s"),
    "env": [{"name!": "s", "value": "s", "valueFrom": {
        "configMapKeyRef": {"key!": "s", **NAMED}, "secretKeyRef": {"key!": "s", **NAMED}, "fieldRef": FIELD,
        "resourceFieldRef": RESOURCE}}],
    "envFrom": [{"configMapRef": NAMED, "prefix": "s", "secretRef": NAMED}],
    "lifecycle": {"postStart": {**ACTION, "sleep": fields("seconds!:l")}, "preStop": {**ACTION, "sleep": fields("seconds!:l")}},
    "livenessProbe": PROBE, "readinessProbe": PROBE, "startupProbe": PROBE,
    "ports": [fields("containerPort!:i, hostIP:s, hostPort:i, name:s, protocol:s")],
    "resizePolicy": [fields("resourceName!:s, restartPolicy!:s")],
    "resources": {"claims": [fields("name!:s")], "limits": "{q}", "requests": "{q}"},
    "securityContext": {
        **fields("allowPrivilegeEscalation:b, privileged:b, procMount:s, readOnlyRootFilesystem:b, runAsGroup:l, "
                 "runAsNonRoot:b, runAsUser:l"),
        "capabilities": fields("add:[s], drop:[s]"), "seLinuxOptions": SELINUX, "seccompProfile": SECCOMP,
        "appArmorProfile": SECCOMP, "windowsOptions": WINDOWS},
    "volumeDevices": [fields("devicePath!:s, name!:s")],
    "volumeMounts": [fields("mountPath!:s, mountPropagation:s, name!:s, readOnly:b, recursiveReadOnly:s, subPath:s, "
                            "subPathExpr:s")]}
CLAIM = {
    "accessModes": "[s]", "dataSource": fields("apiGroup:s, kind!:s, name!:s"),
    "dataSourceRef": fields("apiGroup:s, kind!:s, name!:s, namespace:s"),
    "resources": fields("limits:{q}, requests:{q}"), "selector": SELECTOR,
    **fields("storageClassName:s, volumeAttributesClassName:s, volumeMode:s, volumeName:s")}
SECRET = fields("name:s")
VOLUME = {
    "name!": "s", "awsElasticBlockStore": fields("fsType:s, partition:i, readOnly:b, volumeID!:s"),
    "azureDisk": fields("cachingMode:s, diskName!:s, diskURI!:s, fsType:s, kind:s, readOnly:b"),
    "azureFile": fields("readOnly:b, secretName!:s, shareName!:s"),
    "cephfs": {**fields("monitors!:[s], path:s, readOnly:b, secretFile:s, user:s"), "secretRef": SECRET},
    "cinder": {**fields("fsType:s, readOnly:b, volumeID!:s"), "secretRef": SECRET},
    "configMap": {"defaultMode": "i", "items": ITEMS, **NAMED},
    "csi": {**fields("driver!:s, fsType:s, readOnly:b, volumeAttributes:{s}"), "nodePublishSecretRef": SECRET},
    "downwardAPI": {"defaultMode": "i", "items": [{"fieldRef": FIELD, "mode": "i", "path!": "s", "resourceFieldRef": RESOURCE}]},
    "emptyDir": fields("medium:s, sizeLimit:q"),
    "ephemeral": {"volumeClaimTemplate": {"metadata": "any", "spec!": CLAIM}},
    "fc": fields("fsType:s, lun:i, readOnly:b, targetWWNs:[s], wwids:[s]"),
    "flexVolume": {**fields("driver!:s, fsType:s, options:{s}, readOnly:b"), "secretRef": SECRET},
    "flocker": fields("datasetName:s, datasetUUID:s"),
    "gcePersistentDisk": fields("fsType:s, partition:i, pdName!:s, readOnly:b"),
    "gitRepo": fields("directory:s, repository!:s, revision:s"),
    "glusterfs": fields("endpoints!:s, path!:s, readOnly:b"), "hostPath": fields("path!:s, type:s"),
    "iscsi": {**fields("chapAuthDiscovery:b, chapAuthSession:b, fsType:s, initiatorName:s, iqn!:s, iscsiInterface:s, lun!:i, "
                       "portals:[s], readOnly:b, targetPortal!:s"), "secretRef": SECRET},
    "nfs": fields("path!:s, readOnly:b, server!:s"), "persistentVolumeClaim": fields("claimName!:s, readOnly:b"),
    "photonPersistentDisk": fields("fsType:s, pdID!:s"), "portworxVolume": fields("fsType:s, readOnly:b, volumeID!:s"),
    "projected": {"defaultMode": "i", "sources": [{
        "clusterTrustBundle": {"labelSelector": SELECTOR, **fields("name:s, optional:b, path!:s, signerName:s")},
        "configMap": {"items": ITEMS, **NAMED}, "secret": {"items": ITEMS, **NAMED},
        "downwardAPI": {"items": [{"fieldRef": FIELD, "mode": "i", "path!": "s", "resourceFieldRef": RESOURCE}]},
        "serviceAccountToken": fields("audience:s, expirationSeconds:l, path!:s")}]},
    "quobyte": fields("group:s, readOnly:b, registry!:s, tenant:s, user:s, volume!:s"),
    "rbd": {**fields("fsType:s, image!:s, keyring:s, monitors!:[s], pool:s, readOnly:b, user:s"), "secretRef": SECRET},
    "scaleIO": {**fields("fsType:s, gateway!:s, protectionDomain:s, readOnly:b, sslEnabled:b, storageMode:s, storagePool:s, "
                         "system!:s, volumeName:s"), "secretRef!": SECRET},
    "secret": {"defaultMode": "i", "items": ITEMS, "optional": "b", "secretName": "s"},
    "storageos": {**fields("fsType:s, readOnly:b, volumeName:s, volumeNamespace:s"), "secretRef": SECRET},
    "vsphereVolume": fields("fsType:s, storagePolicyID:s, storagePolicyName:s, volumePath!:s")}
NODE_TERM = {"matchExpressions": [fields("key!:s, operator!:s, values:[s]")],
             "matchFields": [fields("key!:s, operator!:s, values:[s]")]}
POD_TERM = {"labelSelector": SELECTOR, "namespaceSelector": SELECTOR,
            **fields("matchLabelKeys:[s], mismatchLabelKeys:[s], namespaces:[s], topologyKey!:s")}
POD_AFFINITY = {
    "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm!": POD_TERM, "weight!": "i"}],
    "requiredDuringSchedulingIgnoredDuringExecution": [POD_TERM]}
POD = {
    **fields("activeDeadlineSeconds:l, automountServiceAccountToken:b, dnsPolicy:s, enableServiceLinks:b, hostIPC:b, "
             "hostNetwork:b, hostPID:b, hostUsers:b, hostname:s, nodeName:s, nodeSelector:{s}, overhead:{q}, "
             "preemptionPolicy:s, priority:i, priorityClassName:s, restartPolicy:s, runtimeClassName:s, schedulerName:s, "
             "serviceAccount:s, serviceAccountName:s, setHostnameAsFQDN:b, shareProcessNamespace:b, subdomain:s, "
             "terminationGracePeriodSeconds:l"),
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"preference!": NODE_TERM, "weight!": "i"}],
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms!": [NODE_TERM]}},
        "podAffinity": POD_AFFINITY, "podAntiAffinity": POD_AFFINITY},
    "containers!": [CONTAINER], "initContainers": [CONTAINER],
    "ephemeralContainers": [{**CONTAINER, "targetContainerName": "s"}],
    "dnsConfig": {"nameservers": "[s]", "options": [fields("name:s, value:s")], "searches": "[s]"},
    "hostAliases": [fields("hostnames:[s], ip!:s")], "imagePullSecrets": [SECRET], "os": fields("name!:s"),
    "readinessGates": [fields("conditionType!:s")],
    "resourceClaims": [fields("name!:s, resourceClaimName:s, resourceClaimTemplateName:s")],
    "schedulingGates": [fields("name!:s")],
    "securityContext": {
        **fields("fsGroup:l, fsGroupChangePolicy:s, runAsGroup:l, runAsNonRoot:b, runAsUser:l, supplementalGroups:[l]"),
        "seLinuxOptions": SELINUX, "seccompProfile": SECCOMP, "appArmorProfile": SECCOMP, "windowsOptions": WINDOWS,
        "sysctls": [fields("name!:s, value!:s")]},
    "tolerations": [fields("effect:s, key:s, operator:s, tolerationSeconds:l, value:s")],
    "topologySpreadConstraints": [{
        "labelSelector": SELECTOR, **fields("matchLabelKeys:[s], maxSkew!:i, minDomains:i, nodeAffinityPolicy:s, "
                                            "nodeTaintsPolicy:s, topologyKey!:s, whenUnsatisfiable!:s")}],
    "volumes": [VOLUME]}
META = fields("annotations:{s}, labels:{s}, name:s, namespace:s, finalizers:[s]")
TEMPLATE = {"metadata": META, "spec": POD}
CONDITION = fields("lastTransitionTime:t, lastUpdateTime:t, message!:s, reason!:s, status!:s, type!:s")

# Argo CD

NAME_VALUE = [fields("name!:s, value!:s")]
SOURCE = {
    **fields("chart:s, path:s, ref:s, repoURL!:s, targetRevision:s"),
    "directory": {**fields("exclude:s, include:s, recurse:b"), "jsonnet": {
        "extVars": [fields("code:b, name!:s, value!:s")], "libs": "[s]", "tlas": [fields("code:b, name!:s, value!:s")]}},
    "helm": {
        **fields("apiVersions:[s], ignoreMissingValueFiles:b, kubeVersion:s, namespace:s, passCredentials:b, releaseName:s, "
                 "skipCrds:b, skipTests:b, valueFiles:[s], values:s, valuesObject:any, version:s"),
        "fileParameters": [fields("name:s, path:s")], "parameters": [fields("forceString:b, name:s, value:s")]},
    "kustomize": {
        **fields("apiVersions:[s], commonAnnotations:{s}, commonAnnotationsEnvsubst:b, commonLabels:{s}, components:[s], "
                 "forceCommonAnnotations:b, forceCommonLabels:b, images:[s], kubeVersion:s, labelWithoutSelector:b, "
                 "namePrefix:s, nameSuffix:s, namespace:s, version:s"),
        "patches": [{"options": "{b}", "patch": "s", "path": "s", "target": fields(
            "annotationSelector:s, group:s, kind:s, labelSelector:s, name:s, namespace:s, version:s")}],
        "replicas": [fields("count!:q, name!:s")]},
    "plugin": {"env": NAME_VALUE, "name": "s", "parameters": [fields("array:[s], map:{s}, name:s, string:s")]}}
RETRY = {"backoff": fields("duration:s, factor:l, maxDuration:s"), "limit": "l"}
SYNC = {
    "automated": fields("allowEmpty:b, prune:b, selfHeal:b"), "managedNamespaceMetadata": fields("annotations:{s}, labels:{s}"),
    "retry": RETRY, "syncOptions": "[s]"}
DESTINATION = fields("name:s, namespace:s, server:s")
APPLICATION = {
    "destination!": DESTINATION, "project!": "s", "source": SOURCE, "sources": [SOURCE], "syncPolicy": SYNC,
    "ignoreDifferences": [fields("group:s, jqPathExpressions:[s], jsonPointers:[s], kind!:s, managedFieldsManagers:[s], "
                                 "name:s, namespace:s")],
    "info": NAME_VALUE, "revisionHistoryLimit": "l"}
RESOURCES = [fields("group:s, hookPhase:s, hookType:s, kind!:s, message:s, name!:s, namespace!:s, status:s, syncPhase:s, "
                    "version!:s")]
OPERATION = {
    "info": NAME_VALUE, "initiatedBy": fields("automated:b, username:s"), "retry": RETRY,
    "sync": {
        **fields("autoHealAttemptsCount:l, dryRun:b, manifests:[s], prune:b, revision:s, revisions:[s], syncOptions:[s]"),
        "resources": [fields("group:s, kind!:s, name!:s, namespace:s")], "source": SOURCE, "sources": [SOURCE],
        "syncStrategy": {"apply": fields("force:b"), "hook": fields("force:b")}}}
COMPARED = {"destination!": DESTINATION, "ignoreDifferences": APPLICATION["ignoreDifferences"], "source": SOURCE,
            "sources": [SOURCE]}
APPLICATION_STATUS = {
    **fields("controllerNamespace:s, observedAt:t, reconciledAt:t, resourceHealthSource:s, sourceType:s, sourceTypes:[s]"),
    "conditions": [fields("lastTransitionTime:t, message!:s, type!:s")], "health": fields("message:s, status:s"),
    "history": [{**fields("deployStartedAt:t, deployedAt!:t, id!:l, revision:s, revisions:[s]"), "source": SOURCE,
                 "sources": [SOURCE], "initiatedBy": fields("automated:b, username:s")}],
    "operationState": {
        "finishedAt": "t", "message": "s", "operation!": OPERATION, "phase!": "s", "retryCount": "l", "startedAt!": "t",
        "syncResult": {"resources": RESOURCES, "revision!": "s", "revisions": "[s]", "source": SOURCE, "sources": [SOURCE],
                       "managedNamespaceMetadata": fields("annotations:{s}, labels:{s}")}},
    "resources": [{**fields("group:s, hook:b, kind:s, name:s, namespace:s, requiresPruning:b, status:s, syncWave:l, version:s"),
                   "health": fields("message:s, status:s")}],
    "summary": fields("externalURLs:[s], images:[s]"),
    "sync": {"comparedTo": COMPARED, "revision": "s", "revisions": "[s]", "status!": "s"}}
SET_TEMPLATE = {"metadata!": META, "spec!": APPLICATION}
KEY = fields("key!:s, secretName!:s")
CONFIG_KEY = fields("configMapName!:s, key!:s")
FILTERS = [fields("branchMatch:s, labelMatch:s, pathsDoNotExist:[s], pathsExist:[s], repositoryMatch:s, targetBranchMatch:s")]
GITHUB = {**fields("api:s, appSecretName:s"), "tokenRef": KEY}
GENERATORS = {
    "clusters": {"flatList": "b", "selector": SELECTOR, "values": "{s}"},
    "clusterDecisionResource": {"configMapRef!": "s", "labelSelector": SELECTOR, "name": "s", "requeueAfterSeconds": "l",
                                "values": "{s}"},
    "git": {"directories": [fields("exclude:b, path!:s")], "files": [fields("path!:s")], **fields(
        "pathParamPrefix:s, repoURL!:s, requeueAfterSeconds:l, revision!:s, values:{s}")},
    "list": {"elements": ["any"], "elementsYaml": "s"},
    "plugin": {"configMapRef!": fields("name!:s"), "input": {"parameters": "{any}"}, "requeueAfterSeconds": "l", "values": "{s}"},
    "pullRequest": {
        "azuredevops": {**fields("api:s, labels:[s], organization!:s, project!:s, repo!:s"), "tokenRef": KEY},
        "bitbucket": {**fields("api:s, owner!:s, repo!:s"), "basicAuth": {"passwordRef!": KEY, "username!": "s"},
                      "bearerToken": {"tokenRef!": KEY}},
        "bitbucketServer": {**fields("api!:s, project!:s, repo!:s, insecure:b"), "basicAuth": {
            "passwordRef!": KEY, "username!": "s"}, "bearerToken": {"tokenRef!": KEY}, "caRef": CONFIG_KEY},
        "filters": FILTERS, "gitea": {**fields("api!:s, insecure:b, owner!:s, repo!:s"), "tokenRef": KEY},
        "github": {**GITHUB, **fields("labels:[s], owner!:s, repo!:s")},
        "gitlab": {**fields("api:s, insecure:b, labels:[s], project!:s, pullRequestState:s"), "tokenRef": KEY, "caRef": CONFIG_KEY},
        "requeueAfterSeconds": "l"},
    "scmProvider": {
        "awsCodeCommit": {**fields("allBranches:b, region:s, role:s"), "tagFilters": [fields("key!:s, value:s")]},
        "azureDevOps": {**fields("allBranches:b, api:s, organization!:s, teamProject!:s"), "accessTokenRef!": KEY},
        "bitbucket": {**fields("allBranches:b, owner!:s, user!:s"), "appPasswordRef!": KEY},
        "bitbucketServer": {**fields("allBranches:b, api!:s, insecure:b, project!:s"), "basicAuth": {
            "passwordRef!": KEY, "username!": "s"}, "bearerToken": {"tokenRef!": KEY}, "caRef": CONFIG_KEY},
        "cloneProtocol": "s", "filters": FILTERS,
        "gitea": {**fields("allBranches:b, api!:s, insecure:b, owner!:s"), "tokenRef": KEY},
        "github": {**GITHUB, **fields("allBranches:b, organization!:s")},
        "gitlab": {**fields("allBranches:b, api:s, group!:s, includeSharedProjects:b, includeSubgroups:b, insecure:b, topic:s"),
                   "tokenRef": KEY, "caRef": CONFIG_KEY},
        "requeueAfterSeconds": "l", "values": "{s}"}}


def generators(depth):
    """Matrix and merge hold generators in their turn, each of which may have a template of its own."""
    found = {name: {**form, "template": SET_TEMPLATE} for name, form in GENERATORS.items()}
    if depth > 1:
        found["matrix"] = {"generators!": [generators(depth - 1)], "template": SET_TEMPLATE}
        found["merge"] = {"generators!": [generators(depth - 1)], "mergeKeys!": "[s]", "template": SET_TEMPLATE}
    else:
        found["matrix"] = found["merge"] = "any"
    return {**found, "selector": SELECTOR}


APPLICATION_SET = {
    **fields("applyNestedSelectors:b, goTemplate:b, goTemplateOptions:[s], templatePatch:s"), "generators!": [generators(2)],
    "ignoreApplicationDifferences": [fields("jqPathExpressions:[s], jsonPointers:[s], name:s")],
    "preservedFields": fields("annotations:[s], labels:[s]"),
    "strategy": {"rollingSync": {"steps": [{"matchExpressions": [fields("key:s, operator:s, values:[s]")], "maxUpdate": "q"}]},
                 "type": "s"},
    "syncPolicy": fields("applicationsSync:s, preserveResourcesOnDeletion:b"), "template!": SET_TEMPLATE}
APPLICATION_SET_STATUS = {
    "applicationStatus": [fields("application!:s, lastTransitionTime:t, message!:s, status!:s, step!:s, targetRevisions:[s]")],
    "conditions": [CONDITION]}
GROUP_KIND = [fields("group!:s, kind!:s")]
PROJECT = {
    **fields("description:s, permitOnlyProjectScopedClusters:b, sourceNamespaces:[s], sourceRepos:[s]"),
    "clusterResourceBlacklist": GROUP_KIND, "clusterResourceWhitelist": GROUP_KIND, "namespaceResourceBlacklist": GROUP_KIND,
    "namespaceResourceWhitelist": GROUP_KIND, "destinations": [DESTINATION],
    "orphanedResources": {"ignore": [fields("group:s, kind:s, name:s")], "warn": "b"},
    "roles": [{**fields("description:s, groups:[s], name!:s, policies:[s]"), "jwtTokens": [fields("exp:l, iat!:l, id:s")]}],
    "signatureKeys": [fields("keyID!:s")],
    "syncWindows": [fields("applications:[s], clusters:[s], duration:s, kind:s, manualSync:b, namespaces:[s], schedule:s, "
                           "timeZone:s")]}
PROJECT_STATUS = {"jwtTokensByRole": "{any}"}

# Argo Rollouts

VALUE_FROM = {"fieldRef": fields("fieldPath!:s"), "secretKeyRef": fields("key!:s, name!:s")}
ARGS = [{"name!": "s", "value": "s", "valueFrom": VALUE_FROM}]
OAUTH = fields("clientId:s, clientSecret:s, scopes:[s], tokenUrl:s")
SIGV4 = fields("profile:s, region:s, roleArn:s")
JOB = {
    **fields("activeDeadlineSeconds:l, backoffLimit:i, backoffLimitPerIndex:i, completionMode:s, completions:i, manualSelector:b, "
             "maxFailedIndexes:i, parallelism:i, podReplacementPolicy:s, suspend:b, ttlSecondsAfterFinished:i"),
    "podFailurePolicy": {"rules!": [{"action!": "s", "onExitCodes": fields("containerName:s, operator!:s, values!:[i]"),
                                     "onPodConditions": [fields("status!:s, type!:s")]}]},
    "selector": SELECTOR, "template!": TEMPLATE}
METRIC = {
    "name!": "s", **fields("consecutiveErrorLimit:q, count:q, failureCondition:s, failureLimit:q, inconclusiveLimit:q, "
                           "initialDelay:s, interval:s, successCondition:s"),
    "provider!": {
        "cloudWatch": {"interval": "s", "metricDataQueries!": [{
            **fields("expression:s, id!:s, label:s, period:q, returnData:b"), "metricStat": {
                "metric": {"dimensions": [fields("name:s, value:s")], "metricName": "s", "namespace": "s"},
                "period": "q", "stat": "s", "unit": "s"}}]},
        "datadog": {**fields("aggregator:s, apiVersion:s, formula:s, interval:s, queries:{s}, query:s"),
                    "secretRef": fields("name:s, namespaced:b")},
        "graphite": fields("address:s, query:s"), "influxdb": fields("profile:s, query:s"),
        "job": {"metadata": "any", "spec!": JOB},
        "kayenta": {
            **fields("address!:s, application!:s, canaryConfigName!:s, configurationAccountName!:s, metricsAccountName!:s, "
                     "storageAccountName!:s"),
            "scopes!": [{"name!": "s", **{f"{name}!": fields("end!:s, region!:s, scope!:s, start!:s, step!:l")
                                          for name in ("controlScope", "experimentScope")}}],
            "threshold!": fields("marginal!:l, pass!:l")},
        "newRelic": fields("profile:s, query!:s"), "plugin": "any",
        "prometheus": {"address": "s", "authentication": {"oauth2": OAUTH, "sigv4": SIGV4}, "headers": [fields("key!:s, value!:s")],
                       "insecure": "b", "query": "s", "timeout": "l"},
        "skywalking": fields("address:s, interval:s, query:s"), "wavefront": fields("address:s, query:s"),
        "web": {"authentication": {"oauth2": OAUTH, "sigv4": SIGV4}, **fields(
            "body:s, insecure:b, jsonBody:any, jsonPath:s, method:s, timeoutSeconds:l, url!:s"),
            "headers": [fields("key!:s, value!:s")]}}}
ANALYSIS_TEMPLATE = {
    "args": ARGS, "dryRun": [fields("metricName!:s")], "measurementRetention": [fields("limit!:i, metricName!:s")],
    "metrics": [METRIC], "templates": [fields("clusterScope:b, templateName:s")]}
ANALYSIS_RUN = {**{name: form for name, form in ANALYSIS_TEMPLATE.items() if name != "templates"}, "terminate": "b"}
COUNTS = fields("count:i, error:i, failed:i, inconclusive:i, successful:i")
ANALYSIS_RUN_STATUS = {
    **fields("completedAt:t, message:s, phase!:s, startedAt:t"), "dryRunSummary": COUNTS, "runSummary": COUNTS,
    "metricResults": [{
        "name!": "s", "phase!": "s", **COUNTS, **fields("consecutiveError:i, consecutiveSuccess:i, dryRun:b, message:s, metadata:{s}"),
        "measurements": [fields("finishedAt:t, message:s, metadata:{s}, phase!:s, resumeAt:t, startedAt:t, value:s")]}]}
EXPERIMENT = {
    "analyses": [{"args": ARGS, **fields("clusterScope:b, name!:s, requiredForCompletion:b, templateName!:s")}],
    "analysisRunMetadata": fields("annotations:{s}, labels:{s}"), "dryRun": [fields("metricName!:s")],
    **fields("duration:s, progressDeadlineSeconds:i, scaleDownDelaySeconds:i, terminate:b"),
    "measurementRetention": [fields("limit!:i, metricName!:s")],
    "templates!": [{**fields("minReadySeconds:i, name!:s, replicas:i"), "selector!": SELECTOR, "service": fields("name:s"),
                    "template!": TEMPLATE}]}
EXPERIMENT_STATUS = {
    "analysisRuns": [fields("analysisRun!:s, message:s, name!:s, phase!:s")], **fields("availableAt:t, message:s, phase:s"),
    "conditions": [CONDITION], "templateStatuses": [fields(
        "availableReplicas!:i, collisionCount:i, lastTransitionTime:t, message:s, name!:s, podTemplateHash:s, readyReplicas!:i, "
        "replicas!:i, serviceName:s, status:s, updatedReplicas!:i")]}
TEMPLATES = {"args": ARGS, "analysisRunMetadata": fields("annotations:{s}, labels:{s}"), "dryRun": [fields("metricName!:s")],
             "measurementRetention": [fields("limit!:i, metricName!:s")],
             "templates": [fields("clusterScope:b, templateName:s")]}
ANTI_AFFINITY = {"preferredDuringSchedulingIgnoredDuringExecution": fields("weight!:i"),
                 "requiredDuringSchedulingIgnoredDuringExecution": "any"}
MATCHES = [{"headerName": "s", "headerValue": fields("exact:s, prefix:s, regex:s")}]
ROUTES = {"routes": "[s]", "name": "s", "tcpRoutes": [fields("port:l")],
          "tlsRoutes": [fields("port:l, sniHosts:[s]")]}
TRAFFIC = {
    "alb": {**fields("annotationPrefix:s, ingress:s, ingresses:[s], rootService:s, servicePort!:i"),
            "stickinessConfig": fields("durationSeconds!:l, enabled!:b")},
    "ambassador": fields("mappings!:[s]"), "apisix": {"route": {"name!": "s", "rules": "[s]"}},
    "appMesh": {"virtualNodeGroup": {"canaryVirtualNodeRef!": fields("name!:s"), "stableVirtualNodeRef!": fields("name!:s")},
                "virtualService": fields("name!:s, routes:[s]")},
    "istio": {"destinationRule": fields("canarySubsetName!:s, name!:s, stableSubsetName!:s"), "virtualService": ROUTES,
              "virtualServices": [ROUTES]},
    "managedRoutes": [fields("name!:s")], "maxTrafficWeight": "i",
    "nginx": fields("additionalIngressAnnotations:{s}, annotationPrefix:s, stableIngress:s, stableIngresses:[s]"),
    "plugins": "any", "smi": fields("rootService:s, trafficSplitName:s"), "traefik": fields("weightedTraefikServiceName!:s")}
STEP = {
    "analysis": TEMPLATES, "experiment": {
        "analyses": [{"args": ARGS, **fields("clusterScope:b, name!:s, requiredForCompletion:b, templateName!:s")}],
        "duration": "s", "templates!": [{**fields("name!:s, replicas:i, specRef!:s, weight:i"), "metadata": fields(
            "annotations:{s}, labels:{s}"), "selector": SELECTOR, "service": fields("name:s")}]},
    "pause": fields("duration:q"), "setCanaryScale": fields("matchTrafficWeight:b, replicas:i, weight:i"),
    "setHeaderRoute": {"match": MATCHES, "name": "s"},
    "setMirrorRoute": {"name!": "s", "percentage": "i", "match": [{
        "headers": "{any}", "method": fields("exact:s, prefix:s, regex:s"), "path": fields("exact:s, prefix:s, regex:s")}]},
    "setWeight": "i"}
EPHEMERAL = fields("annotations:{s}, labels:{s}")
ROLLOUT = {
    **fields("minReadySeconds:i, paused:b, progressDeadlineAbort:b, progressDeadlineSeconds:i, replicas:i, restartAt:t, "
             "revisionHistoryLimit:i, rollbackWindow:any"),
    "analysis": fields("successfulRunHistoryLimit:i, unsuccessfulRunHistoryLimit:i"), "selector": SELECTOR,
    "strategy!": {
        "blueGreen": {
            **fields("abortScaleDownDelaySeconds:i, activeService!:s, autoPromotionEnabled:b, autoPromotionSeconds:i, "
                     "maxUnavailable:q, previewReplicaCount:i, previewService:s, scaleDownDelayRevisionLimit:i, "
                     "scaleDownDelaySeconds:i"),
            "activeMetadata": EPHEMERAL, "previewMetadata": EPHEMERAL, "antiAffinity": ANTI_AFFINITY,
            "postPromotionAnalysis": TEMPLATES, "prePromotionAnalysis": TEMPLATES},
        "canary": {
            **fields("abortScaleDownDelaySeconds:i, canaryService:s, dynamicStableScale:b, maxSurge:q, maxUnavailable:q, "
                     "scaleDownDelayRevisionLimit:i, scaleDownDelaySeconds:i, stableService:s"),
            "analysis": {**TEMPLATES, "startingStep": "i"}, "antiAffinity": ANTI_AFFINITY, "canaryMetadata": EPHEMERAL,
            "stableMetadata": EPHEMERAL, "minPodsPerReplicaSet": "i", "pingPong": fields("pingService!:s, pongService!:s"),
            "steps": [STEP], "trafficRouting": TRAFFIC}},
    "template": TEMPLATE, "workloadRef": fields("apiVersion:s, kind:s, name:s, scaleDown:s")}
RUN_STATUS = fields("message:s, name!:s, status!:s")
ROLLOUT_STATUS = {
    **fields("HPAReplicas:i, abort:b, abortedAt:t, availableReplicas:i, collisionCount:i, controllerPause:b, currentPodHash:s, "
             "currentStepHash:s, currentStepIndex:i, message:s, observedGeneration:s, phase:s, promoteFull:b, readyReplicas:i, "
             "replicas:i, restartedAt:t, selector:s, stableRS:s, updatedReplicas:i, workloadObservedGeneration:s"),
    "alb": {"canaryTargetGroup": fields("arn!:s, fullName!:s, name!:s"), "ingress": "s",
            "loadBalancer": fields("arn!:s, fullName!:s, name!:s"), "stableTargetGroup": fields("arn!:s, fullName!:s, name!:s")},
    "blueGreen": {**fields("activeSelector:s, previewSelector:s, scaleUpPreviewCheckPoint:b"),
                  "postPromotionAnalysisRunStatus": RUN_STATUS, "prePromotionAnalysisRunStatus": RUN_STATUS},
    "canary": {"currentBackgroundAnalysisRunStatus": RUN_STATUS, "currentExperiment": "s",
               "currentStepAnalysisRunStatus": RUN_STATUS, "stablePingPong": "s", "weights": {
                   "additional": [fields("podTemplateHash:s, serviceName:s, weight!:i")], "verified": "b",
                   **{name: fields("podTemplateHash:s, serviceName:s, weight!:i") for name in ("canary!", "stable!")}}},
    "conditions": [CONDITION], "pauseConditions": [fields("reason!:s, startTime!:t")]}
