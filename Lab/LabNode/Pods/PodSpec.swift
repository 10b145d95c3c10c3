package import KubeAPI

/// A container of a pod's specification, with names for what the node asks about it.
package struct ContainerSpec: Hashable, Sendable {
    package enum Role: Hashable, Sendable {
        /// Runs to its end before the next one.
        case initialization
        /// An init container with `restartPolicy: Always`: starts in order, then stays.
        case sidecar
        case main
    }
    package var json: JSONValue
    package var role: Role

    package init(json: JSONValue, role: Role) {
        self.json = json
        self.role = role
    }

    package var name: String { self.json["name"]?.string ?? "" }
    package var image: String { self.json["image"]?.string ?? "" }
    package var securityContext: JSONValue { self.json["securityContext"] ?? [:] }
    package var isPrivileged: Bool { self.securityContext["privileged"]?.bool ?? false }
}

extension KubeObject {
    package var initContainers: [ContainerSpec] {
        (self.spec["initContainers"]?.array ?? []).map {
            ContainerSpec(json: $0, role: $0["restartPolicy"]?.string == "Always" ? .sidecar : .initialization)
        }
    }
    package var mainContainers: [ContainerSpec] {
        (self.spec["containers"]?.array ?? []).map { ContainerSpec(json: $0, role: .main) }
    }
    package var usesHostNetwork: Bool { self.spec["hostNetwork"]?.bool ?? false }
    package var serviceAccountName: String { self.spec["serviceAccountName"]?.string ?? "default" }
    package var restartPolicy: String { self.spec["restartPolicy"]?.string ?? "Always" }
    /// The host name inside the pod: at most 63 characters, as the kernel and DNS have it.
    package var podHostname: String {
        String((self.spec["hostname"]?.string ?? self.name).prefix(63))
    }
    /// What pods of this uid can be found by in the API.
    package var reference: JSONValue {
        [
            "kind": .string(self.kind), "apiVersion": .string(self.apiVersion), "namespace": .string(self.namespace),
            "name": .string(self.name), "uid": .string(self.uid), "resourceVersion": .string(self.resourceVersion),
        ]
    }
}
