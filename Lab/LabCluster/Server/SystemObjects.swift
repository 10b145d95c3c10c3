internal import KubeAPI
internal import KubeClient

/// Objects that a k3s cluster has and other parts of the lab stand behind.
enum SystemObjects {
    /// The `kube-dns` Service: it has no selector, because its endpoint is the server process on the bridge.
    static func ensure(_ cluster: some KubeCluster, dnsAddress: String) async throws {
        let service = KubeObject(
            .services, namespace: "kube-system", name: "kube-dns",
            labels: [
                "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
            ],
            [
                "spec": [
                    "clusterIP": .string(LabSpec.clusterDNS), "type": "ClusterIP",
                    "ports": [
                        ["name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53],
                        ["name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53],
                    ],
                ]
            ])
        if try await cluster.find(.services, namespace: "kube-system", name: "kube-dns") == nil {
            try await cluster.create(.services, service)
        }
        let slice = KubeObject(
            .endpointSlices, namespace: "kube-system", name: "kube-dns",
            labels: [
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "martlet-lab",
            ],
            [
                "addressType": "IPv4",
                "endpoints": [
                    [
                        "addresses": [.string(dnsAddress)],
                        "conditions": ["ready": true, "serving": true, "terminating": false],
                    ]
                ],
                "ports": [
                    ["name": "dns", "port": 53, "protocol": "UDP"], ["name": "dns-tcp", "port": 53, "protocol": "TCP"],
                ],
            ])
        // The bridge may have another address since the last start.
        if let before = try await cluster.find(.endpointSlices, namespace: "kube-system", name: "kube-dns") {
            var changed = before
            changed.json["endpoints"] = slice.json["endpoints"]
            if changed != before { try await cluster.replace(.endpointSlices, changed) }
        } else {
            try await cluster.create(.endpointSlices, slice)
        }
    }
}
