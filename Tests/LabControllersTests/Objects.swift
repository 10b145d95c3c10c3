import KubeAPI
import LabControllers

/// Objects as the API server would hand them out.
enum Make {
    static let now = KubeTime(secondsSince1970: 1_800_000_000)

    static func deployment(
        replicas: Int64 = 3, image: String = "v1",
        strategy: JSONValue = [
            "type": "RollingUpdate", "rollingUpdate": ["maxSurge": "25%", "maxUnavailable": "25%"],
        ],
        status: JSONValue = [:], annotations: [String: String] = [:]
    ) -> KubeObject {
        var object = KubeObject(
            .deployments, namespace: "ns", name: "web", annotations: annotations,
            [
                "spec": [
                    "replicas": .int(replicas), "selector": ["matchLabels": ["app": "web"]],
                    "template": self.template(image),
                    "strategy": strategy, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
                ],
                "status": status,
            ])
        object.set("metadata", "uid", to: "d-uid")
        object.set("metadata", "generation", to: 1)
        object.set("metadata", "creationTimestamp", to: .string(self.now.text))
        return object
    }

    static func template(_ image: String) -> JSONValue {
        [
            "metadata": ["labels": ["app": "web"]],
            "spec": [
                "containers": [
                    ["name": "c", "image": .string(image), "ports": [["name": "http", "containerPort": 8080]]]
                ]
            ],
        ]
    }

    static func replicaSet(
        of deployment: KubeObject, image: String, replicas: Int64, available: Int64? = nil, revision: Int,
        desired: Int64? = nil
    ) -> KubeObject {
        let hash = PodTemplate.hash(self.template(image))
        var template = self.template(image)
        template.set(["metadata", "labels", PodTemplate.hashLabel], to: .string(hash))
        let available = available ?? replicas
        var object = KubeObject(
            .replicaSets, namespace: "ns", name: "web-\(hash)", labels: ["app": "web", PodTemplate.hashLabel: hash],
            annotations: [
                DeploymentPlan.revisionAnnotation: String(revision),
                "deployment.kubernetes.io/desired-replicas": String(desired ?? deployment.spec["replicas"]?.int ?? 1),
                "deployment.kubernetes.io/max-replicas": String((desired ?? deployment.spec["replicas"]?.int ?? 1) + 1),
            ],
            [
                "spec": [
                    "replicas": .int(replicas), "template": template,
                    "selector": ["matchLabels": ["app": "web", "pod-template-hash": .string(hash)]],
                ],
                "status": [
                    "replicas": .int(replicas), "readyReplicas": .int(available), "availableReplicas": .int(available),
                    "observedGeneration": 1,
                ],
            ])
        object.set("metadata", "uid", to: .string("rs-\(image)"))
        object.set("metadata", "generation", to: 1)
        object.set("metadata", "creationTimestamp", to: .string((self.now + Int64(revision)).text))
        object.set("metadata", "ownerReferences", to: [deployment.controllerReferenceToSelf])
        return object
    }

    static func pod(
        _ name: String, labels: [String: String] = ["app": "web"], owner: KubeObject? = nil, node: String = "",
        isReady: Bool = true, phase: String = "Running", ip: String? = nil, spec: [String: JSONValue] = [:],
        isBeingDeleted: Bool = false
    ) -> KubeObject {
        var object = KubeObject(
            .pods, namespace: "ns", name: name, labels: labels,
            [
                "spec": .object(
                    spec.merging(
                        [
                            "nodeName": .string(node),
                            "containers": [["name": "c", "ports": [["name": "http", "containerPort": 8080]]]],
                        ], uniquingKeysWith: { given, _ in given })),
                "status": [
                    "phase": .string(phase),
                    "conditions": [
                        [
                            "type": "Ready", "status": isReady ? "True" : "False",
                            "lastTransitionTime": .string(self.now.text),
                        ]
                    ],
                ],
            ])
        object.set("metadata", "uid", to: .string("uid-\(name)"))
        object.set("metadata", "creationTimestamp", to: .string(self.now.text))
        if let ip { object.set("status", "podIP", to: .string(ip)) }
        if let owner { object.set("metadata", "ownerReferences", to: [owner.controllerReferenceToSelf]) }
        if isBeingDeleted { object.set("metadata", "deletionTimestamp", to: .string(self.now.text)) }
        return object
    }

    static func node(
        _ name: String, labels: [String: String] = [:], taints: [JSONValue] = [], isReady: String? = "True",
        isUnschedulable: Bool = false, ip: String = "172.28.0.2"
    ) -> KubeObject {
        var object = KubeObject(
            .nodes, name: name, labels: labels,
            [
                "spec": taints.isEmpty ? [:] : ["taints": .array(taints)],
                "status": [
                    "addresses": [["type": "InternalIP", "address": .string(ip)]],
                    "conditions": isReady.map { [["type": "Ready", "status": .string($0)]] } ?? [],
                ],
            ])
        if isUnschedulable { object.set("spec", "unschedulable", to: true) }
        object.set("metadata", "uid", to: .string("node-\(name)"))
        object.set("metadata", "creationTimestamp", to: .string(self.now.text))
        return object
    }
}

extension [Write] {
    func created(_ type: ResourceType) -> [KubeObject] {
        self.compactMap { if case .create(type, let object) = $0 { object } else { nil } }
    }
    func replaced(_ type: ResourceType) -> [KubeObject] {
        self.compactMap { if case .replace(type, let object) = $0 { object } else { nil } }
    }
    func deleted(_ type: ResourceType) -> [String] {
        self.compactMap { if case .delete(type, let object, _, _) = $0 { object.name } else { nil } }
    }
    func status(_ type: ResourceType) -> JSONValue? {
        self.compactMap { if case .replaceStatus(type, let object) = $0 { object.status } else { nil } }.last
    }
    var events: [String] { self.compactMap { if case .event(let note) = $0 { note.message } else { nil } } }
}
