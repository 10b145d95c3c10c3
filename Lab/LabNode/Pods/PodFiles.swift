import Foundation
package import KubeAPI

/// The small files that every container of a pod gets: who am I, who are the others, whom to ask.
package enum PodFiles {
    package static func hosts(_ pod: KubeObject, addresses: [String], clusterDomain: String) -> String {
        var lines = [
            "# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters",
        ]
        for address in addresses {
            var names = [pod.podHostname]
            if let subdomain = pod.spec["subdomain"]?.string, !subdomain.isEmpty {
                names.insert("\(pod.podHostname).\(subdomain).\(pod.namespace).svc.\(clusterDomain)", at: 0)
            }
            lines.append("\(address)\t\(names.joined(separator: "\t"))")
        }
        if let aliases = pod.spec["hostAliases"]?.array, !aliases.isEmpty {
            lines += ["", "# Entries added by HostAliases."]
            for alias in aliases {
                let names = alias["hostnames"]?.array?.compactMap(\.string) ?? []
                lines.append("\(alias["ip"]?.string ?? "")\t\(names.joined(separator: "\t"))")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// - Parameter node: the text of the node's own resolv.conf.
    package static func resolvConf(_ pod: KubeObject, clusterDNS: String, clusterDomain: String, node: String) -> String {
        var servers: [String] = []
        var searches: [String] = []
        var options: [String] = []
        switch pod.spec["dnsPolicy"]?.string ?? "ClusterFirst" {
        case "None": break
        case "ClusterFirst" where pod.usesHostNetwork, "Default":
            for line in node.split(separator: "\n") {
                let words = line.split(separator: " ").map(String.init)
                switch words.first {
                case "nameserver": servers += words.dropFirst()
                case "search": searches = Array(words.dropFirst())
                case "options": options += words.dropFirst()
                default: break
                }
            }
        default:
            servers = [clusterDNS]
            searches = ["\(pod.namespace).svc.\(clusterDomain)", "svc.\(clusterDomain)", clusterDomain]
            options = ["ndots:5"]
        }
        let extra = pod.spec["dnsConfig"] ?? [:]
        servers += extra["nameservers"]?.array?.compactMap(\.string) ?? []
        searches += extra["searches"]?.array?.compactMap(\.string) ?? []
        for option in extra["options"]?.array ?? [] {
            guard let name = option["name"]?.string else { continue }
            options.removeAll { $0 == name || $0.hasPrefix("\(name):") }
            options.append(option["value"]?.string.map { "\(name):\($0)" } ?? name)
        }
        var lines: [String] = []
        if !searches.isEmpty { lines.append("search \(searches.joined(separator: " "))") }
        lines += servers.map { "nameserver \($0)" }
        if !options.isEmpty { lines.append("options \(options.joined(separator: " "))") }
        return lines.joined(separator: "\n") + "\n"
    }
}
