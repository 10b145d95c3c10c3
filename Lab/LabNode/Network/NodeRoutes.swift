import KubeAPI
import KubeClient
import Logging

/// Routes to the pods of the other nodes, from their Node objects.
struct NodeRoutes: Sendable {
    let nodeName: String
    let cluster: any KubeCluster
    let commands: CommandRunner
    let logger: Logger

    /// Pod network to node address, of every other node that says both.
    static func wanted(_ nodes: some Sequence<KubeObject>, except own: String) -> [String: String] {
        var routes: [String: String] = [:]
        for node in nodes where node.name != own {
            let address = (node.status["addresses"]?.array ?? [])
                .first { $0["type"]?.string == "InternalIP" }?["address"]?.string
            guard let address, ServiceRules.isAddress(address), let cidr = node.spec["podCIDR"]?.string,
                cidr.split(separator: "/").count == 2
            else { continue }
            routes[cidr] = address
        }
        return routes
    }

    func run() async {
        var nodes: [String: KubeObject] = [:]
        var present: [String: String] = [:]
        for await event in Informer(self.cluster, .nodes).events() {
            switch event {
            case .snapshot(let all): nodes = Dictionary(all.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
            case .updated(let node): nodes[node.name] = node
            case .deleted(let node): nodes[node.name] = nil
            }
            let wanted = Self.wanted(nodes.values, except: self.nodeName)
            // A node whose heartbeat came has changed, its route has not.
            for (cidr, _) in present where wanted[cidr] == nil {
                await self.ip(["route", "delete", cidr])
                present[cidr] = nil
            }
            for (cidr, address) in wanted where present[cidr] != address {
                if await self.ip(["route", "replace", cidr, "via", address]) { present[cidr] = address }
            }
        }
    }

    @discardableResult
    private func ip(_ arguments: [String]) async -> Bool {
        do {
            try await self.commands.check(["ip"] + arguments)
            return true
        } catch {
            self.logger.warning("route not set", metadata: ["error": "\(error)"])
            return false
        }
    }
}
