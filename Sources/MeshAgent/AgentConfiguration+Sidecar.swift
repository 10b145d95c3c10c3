internal import KubeAPI
internal import MeshEnvoy
internal import MeshProcess
internal import MeshXDS

extension AgentConfiguration {
    /// The pod's labels, as the downward API writes them.
    private static let labelsPath = "/etc/istio/pod/labels"

    mutating func readSidecar(
        _ reader: EnvironmentReader, _ contents: (String) -> [UInt8]?
    ) throws(InvalidSetting) {
        _ = try Self.required("POD_NAME", "the name of our pod", reader)
        _ = try Self.required("INSTANCE_IP", "the address of our pod", reader)
        if let text = reader.text("ISTIO_KUBE_APP_PROBERS") { self.probes = try AppProbe.all(text) }
        if let text = reader.text("ISTIO_PROMETHEUS_ANNOTATIONS") { self.scrape = try AppScrape(text) }
        // Anything but Istio's one word is off, as for the packet rules: both have to agree.
        self.capturesNames = reader.text("ISTIO_META_DNS_CAPTURE") == "true"
        self.labels =
            contents(Self.labelsPath).map { Self.labels(String(decoding: $0, as: UTF8.self)) }
            ?? (try? JSONValue(parsing: reader.text("ISTIO_METAJSON_LABELS") ?? ""))?.stringMap ?? [:]
    }

    /// Lines of `key="value"`, with backslashes as in Go's quoted texts.
    static func labels(_ text: String) -> [String: String] {
        var labels: [String: String] = [:]
        for line in text.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            var value = line[line.index(after: equals)...]
            guard value.count >= 2, value.first == "\"", value.last == "\"" else { continue }
            value = value.dropFirst().dropLast()
            // Labels have no characters that would be written in another way than behind a backslash.
            let text = String(value)
            labels[String(line[..<equals])] = text.replacing("\\\"", with: "\"").replacing("\\\\", with: "\\")
        }
        return labels
    }

    /// What Envoy is told about itself, beside its bootstrap.
    package var envoyEnvironment: [String: String] {
        guard self.role == .sidecar else { return [:] }
        func text(_ name: String) -> String {
            if case .string(let text)? = self.metadata[name] { text } else { "" }
        }
        let peer = PeerMetadata.Peer(
            cluster: self.clusterID, name: self.podName, namespace: self.podNamespace, owner: text("OWNER"),
            workload: text("WORKLOAD_NAME"), labels: self.labels)
        return [
            EnvoyNames.peerIDVariable: self.nodeID, EnvoyNames.peerMetadataVariable: PeerMetadata.header(peer),
        ]
    }

    /// What the control plane is told about us, besides the id: by Envoy, and by us when we ask ourselves.
    var nodeMetadata: [String: MetadataValue] {
        var metadata = self.metadata
        for (name, value) in [
            ("NAME", self.podName), ("NAMESPACE", self.podNamespace), ("INSTANCE_IPS", self.instanceIP),
            ("NODE_NAME", self.nodeName), ("CLUSTER_ID", self.clusterID), ("SERVICE_ACCOUNT", self.serviceAccount),
        ] { metadata[name] = .string(value) }
        switch self.role {
        case .waypoint(let gateway): metadata["GATEWAY_NAME"] = .string(gateway)
        case .sidecar: metadata["LABELS"] = .object(self.labels.mapValues { .string($0) })
        }
        return metadata
    }

    /// `<role>~<address>~<pod>.<namespace>~<namespace>.svc.<domain>`
    var nodeID: String {
        let address = self.instanceIP.isEmpty ? "1.1.1.1" : self.instanceIP
        let role = if case .sidecar = self.role { "sidecar" } else { "waypoint" }
        return "\(role)~\(address)~\(self.podName).\(self.podNamespace)~\(self.podNamespace).svc.\(self.clusterDomain)"
    }
}
