internal import MeshModel
internal import MeshProcess
internal import MeshTelemetry
internal import MeshTunnel

// Settings that belong together: several variables make one choice.

extension ProxyConfiguration {
    /// The pod that a dedicated proxy serves; nil: a shared one.
    static func onlyPod(_ reader: EnvironmentReader) throws(InvalidSetting) -> EnrolledPod? {
        let info = reader.text("PROXY_WORKLOAD_INFO")
        switch reader.text("PROXY_MODE") ?? "shared" {
        case "shared":
            if let info {
                throw InvalidSetting(
                    "PROXY_WORKLOAD_INFO", info,
                    wanted: "nothing, or PROXY_MODE=dedicated: a shared proxy is told by "
                        + "its node agent whom to serve")
            }
            return nil
        case "dedicated":
            let parts = (info ?? "").split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 3, !parts.contains("") else {
                throw InvalidSetting(
                    "PROXY_WORKLOAD_INFO", info ?? "", wanted: "<namespace>/<name>/<service account> of the pod")
            }
            return EnrolledPod(
                uid: "own:\(parts[0])/\(parts[1])", name: parts[1], namespace: parts[0], serviceAccount: parts[2])
        case let mode: throw InvalidSetting("PROXY_MODE", mode, wanted: "shared or dedicated")
        }
    }

    func onDemand(_ reader: EnvironmentReader) throws(InvalidSetting) -> Bool {
        guard try reader.flag("XDS_ON_DEMAND") ?? false else { return false }
        if self.localMesh != nil {
            throw InvalidSetting(
                "XDS_ON_DEMAND", "true",
                wanted: "no LOCAL_XDS with it: what the control plane does not know is nobody's")
        }
        if self.dns != nil {
            throw InvalidSetting(
                "XDS_ON_DEMAND", "true",
                wanted: "ISTIO_META_DNS_CAPTURE=false with it: names can only be answered by who knows them all")
        }
        return true
    }

    static func workerThreads(_ reader: EnvironmentReader, cores: Int) throws(InvalidSetting) -> Int {
        let limits = [
            try reader.processors("ZTUNNEL_RESOURCE_CPU_LIMIT"), try reader.processors("ZTUNNEL_CPU_LIMIT"),
        ]
        return try WorkerThreads.count(
            setting: reader.text("ZTUNNEL_WORKER_THREADS"), cores: cores,
            limit: limits[0] ?? limits[1], request: try reader.processors("ZTUNNEL_RESOURCE_CPU_REQUEST"))
    }

    func dns(_ reader: EnvironmentReader) throws(InvalidSetting) -> DNSSettings? {
        var dns = DNSSettings()
        dns.mark = self.mark
        dns.isIPv6Enabled = self.isIPv6Enabled
        dns.reusesPort = self.reusesPorts
        dns.network = self.network
        dns.clusterDomain = self.clusterDomain
        dns.preferredNamespace = self.preferredNamespace
        if let text = reader.text("ISTIO_META_DNS_PROXY_ADDR") {
            let wanted = text.hasPrefix("localhost:") ? "127.0.0.1" + text.dropFirst("localhost".count) : text
            guard let listen = IPEndpoint(wanted), listen.port != 0 else {
                throw InvalidSetting(
                    "ISTIO_META_DNS_PROXY_ADDR", text, wanted: "localhost or an address, and a port: localhost:15053")
            }
            dns.port = listen.port
            dns.address = wanted == text ? listen.address : nil
        }
        // Read also when it is off: a setting that is wrong is wrong.
        guard reader.variables["ISTIO_META_DNS_CAPTURE"] ?? "true" == "true" else { return nil }
        return dns
    }
}
