internal import MeshProcess
internal import MeshTelemetry
package import MeshTunnel
internal import MeshXDS

extension ProxyConfiguration {
    var tunnel: TunnelConfiguration {
        var tunnel = TunnelConfiguration()
        tunnel.isIPv6Enabled = self.isIPv6Enabled
        tunnel.mark = self.mark
        switch self.keepsSource {
        case true?: tunnel.sourceSpoofing = .required
        case false?: tunnel.sourceSpoofing = .off
        case nil: tunnel.sourceSpoofing = .bestEffort
        }
        tunnel.keepalive = self.keepalive?.socketOption
        tunnel.reusesPorts = self.reusesPorts
        tunnel.ports.socks = self.servesSocks ? Self.socksPort : nil
        tunnel.onlyPostQuantum = self.onlyPostQuantum
        tunnel.loops = self.workerThreads
        tunnel.trustDomainAliases = self.trustDomainAliases
        tunnel.streamsPerTunnelMax = self.streamsPerTunnelMax
        tunnel.idleTunnelTimeout = self.idleTunnelTimeout
        tunnel.streamWindowBytes = self.streamWindowBytes
        tunnel.tunnelWindowBytes = self.tunnelWindowBytes
        tunnel.frameBytesMax = self.frameBytesMax
        return tunnel
    }

    func routing(_ log: MeshLog) -> RoutingSettings {
        var routing = RoutingSettings()
        let level = self.logsPolicyAtInfo ? LogLevel.info : .debug
        routing.reportDryRun = { policy in
            guard log.allows(level, scope: "rbac") else { return }
            log.write(
                LogLine(
                    level: level, scope: "rbac",
                    message: "dry-run: \(policy.action == .deny ? "deny" : "allow") policy match",
                    fields: [("policy", .text("\(policy.key)"))]))
        }
        routing.network = self.network
        if self.servesSocks { routing.ownPorts.insert(Self.socksPort) }
        routing.clusterDomain = self.clusterDomain
        routing.preferredNamespace = self.preferredNamespace
        routing.usesBaggage = self.usesBaggage
        routing.localApplicationTunnel = self.localApplicationTunnel
        return routing
    }

    /// Our own pod, when the environment says which it is: its metrics are then scraped through the mesh.
    package var ownPod: EnrolledPod? {
        if self.onlyPod != nil { return nil }
        if self.podName.isEmpty || self.podNamespace.isEmpty || self.serviceAccount.isEmpty { return nil }
        return EnrolledPod(
            uid: "self:\(self.podNamespace)/\(self.podName)", name: self.podName, namespace: self.podNamespace,
            serviceAccount: self.serviceAccount)
    }

    var xdsClient: XDSClientConfiguration {
        var metadata = self.metadata
        metadata["NAME"] = .string(self.podName)
        metadata["NAMESPACE"] = .string(self.podNamespace)
        metadata["INSTANCE_IPS"] = .string(self.instanceIP)
        metadata["NODE_NAME"] = .string(self.nodeName ?? "")
        metadata["CLUSTER_ID"] = .string(self.clusterID)
        return XDSClientConfiguration(
            endpoint: self.xds,
            nodeID: XDSClientConfiguration.nodeID(
                instanceIP: self.instanceIP, podName: self.podName, podNamespace: self.podNamespace),
            metadata: metadata)
    }

    /// For dumps: without tokens, without anything secret.
    func write(_ json: inout JSONText) {
        json.member("network", self.network)
        json.member("localNode", self.nodeName ?? "")
        json.member("clusterId", self.clusterID)
        json.member("xdsAddress", "https://\(self.xds.host):\(self.xds.port)")
        json.member("caAddress", "https://\(self.ca.host):\(self.ca.port)")
        json.member("inpodUds", self.agentSocket)
        json.member("packetMark", self.mark)
        json.member("ipv6Enabled", self.isIPv6Enabled)
        json.member("dnsProxy", self.dns != nil)
        if let dns = self.dns {
            json.member("dnsProxyAddr", "\(dns.address.map { "\($0)" } ?? "localhost"):\(dns.port)")
            json.member("clusterDomain", dns.clusterDomain)
        }
        if let keepsSource = self.keepsSource {
            json.member("requireOriginalSource", keepsSource)
        } else {
            json.null("requireOriginalSource")
        }
        json.member("numWorkerThreads", self.workerThreads)
        json.member("poolMaxStreamsPerConn", self.streamsPerTunnelMax)
        json.member("poolUnusedReleaseTimeoutSeconds", self.idleTunnelTimeout.components.seconds)
        json.member("windowSize", self.streamWindowBytes)
        json.member("connectionWindowSize", self.tunnelWindowBytes)
        json.member("frameSize", self.frameBytesMax)
        json.member("secretTtlSeconds", self.certificateValidity.components.seconds)
        json.member("trustDomainAliases", self.trustDomainAliases.sorted().joined(separator: ","))
        if let revocationFile = self.revocationFile {
            json.member("crlPath", revocationFile)
        } else {
            json.null("crlPath")
        }
        json.member("selfTerminationDeadlineSeconds", self.drainDeadline.components.seconds)
        json.member("enableResponseBaggage", self.usesBaggage)
        json.member("proxyMode", self.onlyPod == nil ? "shared" : "dedicated")
        json.member("xdsOnDemand", self.isOnDemand)
        json.member("localXds", self.localMesh != nil)
        json.member("socks5", self.servesSocks)
        json.member("adminPort", self.adminPort)
        json.member("statsPort", self.statsPort)
        json.member("readinessPort", self.readinessPort)
    }
}
