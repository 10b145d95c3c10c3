import Foundation
package import KubeAPI

/// The environment variables of one container, from its specification and what that refers to.
package struct ContainerEnvironment {
    /// ConfigMaps and Secrets by `kind/name`, of the pod's namespace; a missing one is absent.
    package var objects: [String: KubeObject]
    package var downward: DownwardAPI
    package var services: [KubeObject]
    package var image: HostImage

    package init(objects: [String: KubeObject], downward: DownwardAPI, services: [KubeObject], image: HostImage) {
        self.objects = objects
        self.downward = downward
        self.services = services
        self.image = image
    }

    package struct Unresolved: Error, Hashable, CustomStringConvertible {
        package let description: String
        package init(description: String) { self.description = description }
    }

    /// The ConfigMaps and Secrets that a container's variables name, as keys of ``objects``.
    package static func references(_ container: ContainerSpec) -> [(kind: String, name: String)] {
        let sources = (container.json["envFrom"]?.array ?? []).flatMap { source in
            [("ConfigMap", source["configMapRef"]?["name"]), ("Secret", source["secretRef"]?["name"])]
        }
        let values = (container.json["env"]?.array ?? []).flatMap { variable in
            [
                ("ConfigMap", variable.at("valueFrom", "configMapKeyRef", "name")),
                ("Secret", variable.at("valueFrom", "secretKeyRef", "name")),
            ]
        }
        return (sources + values).compactMap { kind, name in name?.string.map { (kind, $0) } }
    }

    /// Later sources win: image, services, `envFrom` in order, `env` in order. A value may refer to what came before.
    package func variables(_ container: ContainerSpec) throws -> [String: String] {
        var result = ["PATH": ContainerBundle.standardPath, "HOSTNAME": self.downward.pod.podHostname]
        if self.downward.pod.usesHostNetwork { result["HOSTNAME"] = self.downward.nodeName }
        if container.json["tty"]?.bool == true { result["TERM"] = "xterm" }
        result.merge(self.image.environment) { $1 }
        result.merge(
            ServiceVariables.variables(
                for: self.downward.pod.namespace, services: self.services,
                links: self.downward.pod.spec["enableServiceLinks"]?.bool ?? true)
        ) { $1 }
        for source in container.json["envFrom"]?.array ?? [] { try self.add(source, to: &result) }
        for variable in container.json["env"]?.array ?? [] {
            guard let name = variable["name"]?.string else { continue }
            if let value = try self.value(variable, container, result) { result[name] = value }
        }
        return result
    }

    private func add(_ source: JSONValue, to result: inout [String: String]) throws {
        let prefix = source["prefix"]?.string ?? ""
        for (kind, member) in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")] {
            guard let reference = source[member], let name = reference["name"]?.string else { continue }
            guard let object = self.objects["\(kind)/\(name)"] else {
                if reference["optional"]?.bool == true { continue }
                throw Unresolved(description: "\(kind.lowercased()) \"\(name)\" not found")
            }
            for (key, value) in ObjectData.texts(object) { result[prefix + key] = value }
        }
    }

    private func value(
        _ variable: JSONValue, _ container: ContainerSpec, _ known: [String: String]
    ) throws -> String? {
        guard let from = variable["valueFrom"], from != .null else {
            return VariableExpansion.expand(variable["value"]?.string ?? "", known)
        }
        if let path = from.at("fieldRef", "fieldPath")?.string { return try self.downward.field(path) }
        if let reference = from["resourceFieldRef"] { return try self.downward.resource(reference, in: container) }
        for (kind, member) in [("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")] {
            guard let reference = from[member], let name = reference["name"]?.string,
                let key = reference["key"]?.string
            else { continue }
            let isOptional = reference["optional"]?.bool ?? false
            guard let object = self.objects["\(kind)/\(name)"] else {
                if isOptional { return nil }
                throw Unresolved(description: "\(kind.lowercased()) \"\(name)\" not found")
            }
            guard let value = ObjectData.texts(object)[key] else {
                if isOptional { return nil }
                throw Unresolved(
                    description: "couldn't find key \(key) in \(kind) \(object.namespace)/\(name)")
            }
            return value
        }
        throw Unresolved(description: "the variable \(variable["name"]?.string ?? "") has no known source")
    }
}

/// The contents of a ConfigMap or Secret.
package enum ObjectData {
    package static func bytes(_ object: KubeObject) -> [String: [UInt8]] {
        var all: [String: [UInt8]] = [:]
        if object.kind != "Secret" {
            for (key, value) in object.json["data"]?.stringMap ?? [:] { all[key] = Array(value.utf8) }
        }
        for (key, value) in object.json[object.kind == "Secret" ? "data" : "binaryData"]?.stringMap ?? [:] {
            all[key] = Data(base64Encoded: value).map(Array.init) ?? []
        }
        return all
    }
    package static func texts(_ object: KubeObject) -> [String: String] {
        self.bytes(object).mapValues { String(decoding: $0, as: UTF8.self) }
    }
}

/// `WEB_SERVICE_HOST`, `WEB_SERVICE_PORT`, `WEB_PORT_80_TCP` ... (docker links), and always `KUBERNETES_*`.
package enum ServiceVariables {
    package static func variables(for namespace: String, services: [KubeObject], links: Bool) -> [String: String] {
        var result: [String: String] = [:]
        let wanted = services.filter {
            ($0.namespace == "default" && $0.name == "kubernetes") || (links && $0.namespace == namespace)
        }
        // The namespace's own service named kubernetes wins over the cluster's.
        for service in wanted.sorted(by: { ($0.namespace == namespace ? 1 : 0) < ($1.namespace == namespace ? 1 : 0) })
        {
            guard let address = service.spec["clusterIP"]?.string, !address.isEmpty, address != "None",
                let ports = service.spec["ports"]?.array, let first = ports.first?["port"]?.int
            else { continue }
            let prefix = service.name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
            result["\(prefix)_SERVICE_HOST"] = address
            result["\(prefix)_SERVICE_PORT"] = "\(first)"
            let proto0 = (ports[0]["protocol"]?.string ?? "TCP").lowercased()
            result["\(prefix)_PORT"] = "\(proto0)://\(address):\(first)"
            for port in ports {
                guard let number = port["port"]?.int else { continue }
                if let name = port["name"]?.string, !name.isEmpty {
                    let suffix = name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
                    result["\(prefix)_SERVICE_PORT_\(suffix)"] = "\(number)"
                }
                let upper = port["protocol"]?.string ?? "TCP"
                let stem = "\(prefix)_PORT_\(number)_\(upper)"
                result[stem] = "\(upper.lowercased())://\(address):\(number)"
                result["\(stem)_PROTO"] = upper.lowercased()
                result["\(stem)_PORT"] = "\(number)"
                result["\(stem)_ADDR"] = address
            }
        }
        return result
    }
}
