internal import KubeAPI

/// What an update may not change.
enum UpdateRules {
    static func validate(from old: JSONValue, to new: JSONValue, _ kind: ResourceKind) -> [FieldError] {
        var errors: [FieldError] = []
        func immutable(_ path: String..., message: String = "field is immutable") {
            if old.at(path) != new.at(path) {
                errors.append(.invalid(path.joined(separator: "."), new.at(path) ?? .null, message))
            }
        }
        switch (kind.group, kind.type.plural) {
        case ("apps", "deployments"), ("apps", "replicasets"), ("apps", "daemonsets"): immutable("spec", "selector")
        case ("apps", "statefulsets"): errors += self.statefulSet(old, new)
        case ("batch", "jobs"):
            immutable("spec", "selector")
            if old.at("spec", "suspend")?.bool != true { immutable("spec", "template") }
            immutable("spec", "completions")
        case ("", "services"): errors += self.service(old, new)
        case ("", "secrets"):
            immutable("type")
            errors += self.frozen(old, new, ["data"], "secret")
        case ("", "configmaps"): errors += self.frozen(old, new, ["data", "binaryData"], "configmap")
        case ("", "pods"): errors += self.pod(old, new)
        case ("rbac.authorization.k8s.io", "rolebindings"), ("rbac.authorization.k8s.io", "clusterrolebindings"):
            immutable("roleRef", message: "cannot change roleRef")
        case ("apiextensions.k8s.io", "customresourcedefinitions"):
            immutable("spec", "group")
            immutable("spec", "scope")
            immutable("spec", "names", "plural")
        case ("discovery.k8s.io", "endpointslices"): immutable("addressType")
        case ("scheduling.k8s.io", "priorityclasses"): immutable("value")
        default: break
        }
        errors += self.finalizers(old, new)
        return errors
    }

    private static func finalizers(_ old: JSONValue, _ new: JSONValue) -> [FieldError] {
        guard old.at("metadata", "deletionTimestamp")?.string != nil else { return [] }
        let before = old.at("metadata", "finalizers")?.array ?? []
        let added = (new.at("metadata", "finalizers")?.array ?? []).filter { !before.contains($0) }
        if added.isEmpty { return [] }
        return [
            .forbidden(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                    + JSONValue.array(added).description)
        ]
    }

    private static func frozen(_ old: JSONValue, _ new: JSONValue, _ members: [String], _ what: String) -> [FieldError]
    {
        guard old["immutable"]?.bool == true else { return [] }
        var errors: [FieldError] = []
        if new["immutable"]?.bool != true {
            errors.append(.forbidden("immutable", "field is immutable when `immutable` is set"))
        }
        for member in members where old[member] != new[member] {
            errors.append(.forbidden(member, "field is immutable when `immutable` is set"))
        }
        return errors
    }

    private static func service(_ old: JSONValue, _ new: JSONValue) -> [FieldError] {
        let (before, after) = (old.at("spec", "clusterIP"), new.at("spec", "clusterIP"))
        guard let before, before != "", before != after, new.at("spec", "type")?.string != "ExternalName",
            old.at("spec", "type")?.string != "ExternalName"
        else { return [] }
        return [
            .invalid(
                "spec.clusterIPs[0]", new.at("spec", "clusterIPs") ?? .null, "may not change once set")
        ]
    }

    private static func statefulSet(_ old: JSONValue, _ new: JSONValue) -> [FieldError] {
        let free = [
            "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
        ]
        var (before, after) = (old["spec"]?.object ?? [:], new["spec"]?.object ?? [:])
        for name in free {
            before[name] = nil
            after[name] = nil
        }
        if before == after { return [] }
        return [
            .forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
            )
        ]
    }

    /// Images, deadlines and added tolerations may change; the rest of a pod is what was scheduled.
    private static func pod(_ old: JSONValue, _ new: JSONValue) -> [FieldError] {
        func masked(_ object: JSONValue) -> JSONValue {
            var spec = object["spec"] ?? [:]
            for name in [
                "activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "nodeName", "schedulingGates",
                "ephemeralContainers",
            ] {
                spec[name] = nil
            }
            for list in ["containers", "initContainers"] {
                spec[list] = spec[list]?.array.map { containers in
                    .array(
                        containers.map { container in
                            var container = container
                            container["image"] = nil
                            return container
                        })
                }
            }
            return spec
        }
        var errors: [FieldError] = []
        let kept = (old.at("spec", "tolerations")?.array ?? []).allSatisfy {
            new.at("spec", "tolerations")?.array?.contains($0) == true
        }
        let node = old.at("spec", "nodeName")?.string ?? ""
        if masked(old) != masked(new) || !kept || (!node.isEmpty && new.at("spec", "nodeName")?.string != node) {
            errors.append(
                .forbidden(
                    "spec",
                    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
                ))
        }
        return errors
    }
}
