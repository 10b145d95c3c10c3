import Foundation
package import KubeAPI

/// A CNI network configuration list, and what each plugin in it is told (CNI specification 0.3.0 to 1.0.0).
package struct CNIChain: Hashable, Sendable {
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package var name: String
    package var version: String
    /// Each with at least a `type`.
    package var plugins: [JSONValue]

    /// - Parameter file: the text of a `.conflist`, or of a `.conf`, which is a list of one.
    package init(parsing file: [UInt8]) throws {
        let json = try JSONValue(parsing: file)
        guard let name = json["name"]?.string, !name.isEmpty else { throw Invalid(description: "it has no name") }
        let plugins = json["plugins"]?.array ?? (json["type"] == nil ? [] : [json])
        if plugins.isEmpty { throw Invalid(description: "it has no plugins") }
        for plugin in plugins {
            // The type is a file name below the plugin directories, never a way out of them.
            guard let type = plugin["type"]?.string, !type.isEmpty, !type.contains("/"), type != ".." else {
                throw Invalid(description: "a plugin has no usable type")
            }
        }
        self.name = name
        self.version = json["cniVersion"]?.string ?? "0.2.0"
        self.plugins = plugins
    }

    /// The first valid configuration in the order of file names, as container runtimes choose it.
    /// - Throws: ``Invalid`` when there is none; with the reason of every file that was passed over.
    package static func primary(in directory: String) throws -> (path: String, chain: CNIChain) {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
            .filter { $0.hasSuffix(".conf") || $0.hasSuffix(".conflist") || $0.hasSuffix(".json") }
        var refused: [String] = []
        for name in names {
            let path = "\(directory)/\(name)"
            do {
                return (path, try CNIChain(parsing: Array(FileManager.default.contents(atPath: path) ?? Data())))
            } catch {
                refused.append("\(name): \(error)")
            }
        }
        throw Invalid(
            description: "no network config found in \(directory): cni plugin not initialized"
                + (refused.isEmpty ? "" : " (\(refused.joined(separator: "; ")))"))
    }

    /// The configuration that a plugin reads from its standard input.
    /// - Parameter previous: the result of the plugin before it at ADD, of the whole chain at DEL.
    package func input(_ plugin: JSONValue, previous: JSONValue?, portMappings: [JSONValue]) -> JSONValue {
        var input = plugin
        input["name"] = .string(self.name)
        input["cniVersion"] = .string(self.version)
        input["prevResult"] = previous
        if plugin.at("capabilities", "portMappings")?.bool == true {
            input["runtimeConfig"] = ["portMappings": .array(portMappings)]
            input["capabilities"] = nil
        }
        return input
    }

    /// What a pod's containers ask to be reachable by on the node, for the portmap plugin.
    package static func portMappings(_ pod: KubeObject) -> [JSONValue] {
        (pod.mainContainers + pod.initContainers.filter { $0.role == .sidecar })
            .flatMap { $0.json["ports"]?.array ?? [] }
            .compactMap { port in
                guard let host = port["hostPort"]?.int, host > 0, let inside = port["containerPort"]?.int else {
                    return nil
                }
                var mapping: JSONValue = [
                    "hostPort": .int(host), "containerPort": .int(inside),
                    "protocol": .string((port["protocol"]?.string ?? "TCP").lowercased()),
                ]
                if let address = port["hostIP"]?.string, !address.isEmpty { mapping["hostIP"] = .string(address) }
                return mapping
            }
    }

    package static func arguments(_ pod: KubeObject, sandbox: String) -> String {
        [
            "IgnoreUnknown=1", "K8S_POD_NAMESPACE=\(pod.namespace)", "K8S_POD_NAME=\(pod.name)",
            "K8S_POD_INFRA_CONTAINER_ID=\(sandbox)", "K8S_POD_UID=\(pod.uid)",
        ].joined(separator: ";")
    }

    /// Addresses of a result, without their prefix lengths.
    package static func addresses(_ result: JSONValue) -> [String] {
        (result["ips"]?.array ?? []).compactMap { $0["address"]?.string }
            .map { String($0.prefix { $0 != "/" }) }
    }

    /// The lab's own network: routed point-to-point links, so that everything between two pods, also on one node,
    /// passes the node's routing and its service rules.
    package static func standard(podCIDR: String, dataDirectory: String) -> JSONValue {
        [
            "cniVersion": "1.0.0", "name": "lab",
            "plugins": [
                [
                    "type": "ptp", "ipMasq": false, "mtu": 1500,
                    "ipam": [
                        "type": "host-local", "dataDir": .string(dataDirectory),
                        "ranges": [[["subnet": .string(podCIDR)]]], "routes": [["dst": "0.0.0.0/0"]],
                    ],
                ],
                ["type": "portmap", "capabilities": ["portMappings": true]],
            ],
        ]
    }
}
