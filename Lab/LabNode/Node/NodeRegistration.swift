import Foundation
import KubeAPI
import KubeClient
import Logging

/// Keeps the Node object and its lease: this node exists, this is what it is, and it is alive.
struct NodeRegistration: Sendable {
    /// As the kubelet: a lease of 40 s renewed every 10 s.
    static let leaseSeconds: Int64 = 40
    static let leaseRenewal = Duration.seconds(10)
    static let statusRenewal = Duration.seconds(60)
    static let podsMax: Int64 = 250
    static let leaseNamespace = "kube-node-lease"

    let configuration: NodeConfiguration
    let machine: Machine
    let cluster: any KubeCluster
    let logger: Logger

    var labels: [String: String] {
        [
            "kubernetes.io/hostname": self.configuration.nodeName, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": self.machine.architecture, "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": self.machine.architecture,
        ].merging(self.configuration.labels) { $1 }
    }

    func status(previous: JSONValue, now: Date) -> JSONValue {
        let time = JSONValue.string(Timestamp.seconds(now))
        let conditions = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ].map { type, status, reason, message -> JSONValue in
            let before = previous["conditions"]?.array?.first { $0["type"]?.string == type }
            let since = before?["status"]?.string == status ? before?["lastTransitionTime"] : nil
            return [
                "type": .string(type), "status": .string(status), "reason": .string(reason),
                "message": .string(message), "lastHeartbeatTime": time, "lastTransitionTime": since ?? time,
            ]
        }
        let resources: JSONValue = [
            "cpu": .string("\(self.machine.cpus)"), "memory": .string("\(self.machine.memoryBytes / 1024)Ki"),
            "pods": .string("\(Self.podsMax)"), "ephemeral-storage": "100Gi",
        ]
        return [
            "addresses": [
                ["type": "InternalIP", "address": .string(self.configuration.nodeIP)],
                ["type": "Hostname", "address": .string(self.configuration.nodeName)],
            ],
            "capacity": resources, "allocatable": resources, "conditions": .array(conditions),
            "daemonEndpoints": ["kubeletEndpoint": ["Port": 10250]],
            "nodeInfo": [
                "kubeletVersion": .string(self.configuration.kubernetesVersion),
                "kubeProxyVersion": .string(self.configuration.kubernetesVersion),
                "osImage": .string(self.machine.osImage), "kernelVersion": .string(self.machine.kernel),
                "containerRuntimeVersion": "lab://1", "architecture": .string(self.machine.architecture),
                "operatingSystem": "linux", "machineID": .string(self.machine.machineID),
                "systemUUID": .string(self.machine.machineID), "bootID": .string(self.machine.bootID),
            ],
        ]
    }

    /// Tries until the API takes it, or the task is cancelled.
    func register() async throws {
        var wait = Duration.milliseconds(200)
        while true {
            do {
                try await self.registerOnce()
                return
            } catch {
                self.logger.warning("the API server does not take the node yet", metadata: ["error": "\(error)"])
            }
            try await Task.sleep(for: wait)
            wait = min(wait * 2, .seconds(3))
        }
    }

    private func registerOnce() async throws {
        let name = self.configuration.nodeName
        if try await self.cluster.find(.nodes, name: name) == nil {
            var spec: JSONValue = [
                "podCIDR": .string(self.configuration.podCIDR), "podCIDRs": [.string(self.configuration.podCIDR)],
                "providerID": .string("lab://\(name)"),
            ]
            if !self.configuration.taints.isEmpty { spec["taints"] = .array(self.configuration.taints) }
            let node = KubeObject(.nodes, name: name, labels: self.labels, ["spec": spec])
            do { try await self.cluster.create(.nodes, node) } catch let error as StatusError
            where error.isAlreadyExists {}
        } else {
            _ = try await self.cluster.patch(
                .nodes, namespace: nil, name: name, subresource: nil,
                .merge([
                    "metadata": ["labels": JSONValue(self.labels)],
                    "spec": [
                        "podCIDR": .string(self.configuration.podCIDR),
                        "podCIDRs": [.string(self.configuration.podCIDR)],
                    ],
                ]))
        }
        try await self.sendStatus()
        try await self.renewLease()
    }

    private func sendStatus() async throws {
        let name = self.configuration.nodeName
        let node = try await self.cluster.get(.nodes, namespace: nil, name: name)
        _ = try await self.cluster.patch(
            .nodes, namespace: nil, name: name, subresource: "status",
            .merge(["status": self.status(previous: node.status, now: Date())]))
    }

    private func renewLease() async throws {
        let name = self.configuration.nodeName
        let spec: JSONValue = [
            "holderIdentity": .string(name), "leaseDurationSeconds": .int(Self.leaseSeconds),
            "renewTime": .string(Timestamp.microseconds(Date())),
        ]
        do {
            _ = try await self.cluster.patch(
                .leases, namespace: Self.leaseNamespace, name: name, subresource: nil, .merge(["spec": spec]))
        } catch let error as StatusError where error.isNotFound {
            try await self.cluster.create(
                .leases, KubeObject(.leases, namespace: Self.leaseNamespace, name: name, ["spec": spec]))
        }
    }

    /// Heartbeats until cancelled. A Node that somebody deleted is registered again.
    func keep() async {
        var statusDue = ContinuousClock.now + Self.statusRenewal
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.leaseRenewal)
            do {
                try await self.renewLease()
                if try await self.cluster.find(.nodes, name: self.configuration.nodeName) == nil {
                    try await self.registerOnce()
                } else if ContinuousClock.now >= statusDue {
                    try await self.sendStatus()
                    statusDue = .now + Self.statusRenewal
                }
            } catch {
                self.logger.warning("heartbeat not taken", metadata: ["error": "\(error)"])
            }
        }
    }
}
