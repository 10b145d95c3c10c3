import CLabNode
import Foundation
import KubeAPI

/// A pod's network namespace and its connection to the node, made by the CNI chain of the moment.
struct PodNetwork: Sendable {
    let paths: NodePaths
    let commands: CommandRunner

    /// What was made; kept until ``remove(_:)``.
    struct Sandbox: Hashable, Sendable {
        /// 64 hexadecimal digits, as container ids are.
        var id: String
        var namespace: String
        var addresses: [String]
        var result: JSONValue
        var chain: CNIChain
        var arguments: String
        var portMappings: [JSONValue]
    }

    /// A plugin that refused, with its own words.
    struct PluginError: Error, Hashable, CustomStringConvertible {
        let description: String
    }

    /// Plugins may wait for others (a mesh's for its node agent), but not for ever.
    static let pluginDeadline = Duration.seconds(120)

    /// - Throws: what the first failing plugin said; then nothing is left.
    func create(_ pod: KubeObject) async throws -> Sandbox {
        let (_, chain) = try CNIChain.primary(in: self.paths.cniConfigurations)
        let namespace = "\(self.paths.networkNamespaces)/cni-\(UUID().uuidString.lowercased())"
        try FileManager.default.createDirectory(
            atPath: self.paths.networkNamespaces, withIntermediateDirectories: true)
        let id = Self.identifier()
        var sandbox = Sandbox(
            id: id, namespace: namespace, addresses: [], result: .null, chain: chain,
            arguments: CNIChain.arguments(pod, sandbox: id), portMappings: CNIChain.portMappings(pod))
        try writeText("", to: namespace)
        do {
            try await self.commands.check(["unshare", "--net=\(namespace)", "ip", "link", "set", "lo", "up"])
            var previous: JSONValue?
            for plugin in chain.plugins { previous = try await self.run("ADD", plugin, sandbox, previous) ?? previous }
            sandbox.result = previous ?? .null
            sandbox.addresses = CNIChain.addresses(sandbox.result)
            if sandbox.addresses.isEmpty {
                throw PluginError(description: "the CNI chain \"\(chain.name)\" gave the pod no address")
            }
            return sandbox
        } catch {
            await self.remove(sandbox)
            throw error
        }
    }

    /// Plugins in reverse order; one that fails does not keep the others from cleaning up.
    func remove(_ sandbox: Sandbox) async {
        for plugin in sandbox.chain.plugins.reversed() {
            _ = try? await self.run("DEL", plugin, sandbox, sandbox.result == .null ? nil : sandbox.result)
        }
        _ = clabnode_unmount(sandbox.namespace)
        unlink(sandbox.namespace)
    }

    private func run(
        _ command: String, _ plugin: JSONValue, _ sandbox: Sandbox, _ previous: JSONValue?
    ) async throws -> JSONValue? {
        let type = plugin["type"]?.string ?? ""
        let candidates: [String] = self.paths.cniPlugins.map { directory in "\(directory)/\(type)" }
        guard let program = candidates.first(where: { FileManager.default.isExecutableFile(atPath: $0) }) else {
            throw PluginError(
                description: "failed to find plugin \"\(type)\" in path [\(self.paths.cniPlugins.joined(separator: " "))]")
        }
        let input = sandbox.chain.input(plugin, previous: previous, portMappings: sandbox.portMappings)
        let result = try await self.commands.run(
            [program],
            environment: [
                "CNI_COMMAND": command, "CNI_CONTAINERID": sandbox.id, "CNI_NETNS": sandbox.namespace,
                "CNI_IFNAME": "eth0", "CNI_ARGS": sandbox.arguments,
                "CNI_PATH": self.paths.cniPlugins.joined(separator: ":"),
            ], input: input.encoded, deadline: Self.pluginDeadline)
        let answer = result.output.isEmpty ? nil : try? JSONValue(parsing: result.output)
        if result.exit.code != 0 {
            var reason = answer?["msg"]?.string ?? result.errorText
            if let details = answer?["details"]?.string, !details.isEmpty { reason += "; \(details)" }
            if reason.isEmpty { reason = "exit code \(result.exit.code)" }
            throw PluginError(
                description: "plugin type=\"\(type)\" name=\"\(sandbox.chain.name)\" failed "
                    + "(\(command == "ADD" ? "add" : "delete")): \(reason)")
        }
        return answer
    }

    static func identifier() -> String {
        (0..<4).map { _ in
            let digits = String(UInt64.random(in: 0...UInt64.max), radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}
