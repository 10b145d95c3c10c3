internal import KubeAPI

/// Objects as rows, for `kubectl get`.
struct TableRenderer: Sendable {
    struct Column: Sendable {
        var name: String
        var type = "string"
        var format = ""
        var description = ""
        /// Above 0: only in wide output.
        var priority: Int64 = 0

        var json: JSONValue {
            [
                "name": .string(self.name), "type": .string(self.type), "format": .string(self.format),
                "description": .string(self.description), "priority": .int(self.priority),
            ]
        }
    }

    let kind: ResourceKind
    /// `Metadata` (default), `Object` or `None`: what each row carries of its object.
    let includeObject: String?

    /// - Parameter objects: In their stored form.
    func table(_ objects: [JSONValue], metadata: JSONValue, withColumns: Bool = true) -> JSONValue {
        let layout = TableLayout.of(self.kind)
        return [
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": withColumns ? .array(layout.columns.map(\.json)) : .array([]),
            "rows": .array(
                objects.map { object in
                    var row: JSONValue = ["cells": .array(layout.cells(KubeObject(object)))]
                    switch self.includeObject {
                    case "None": break
                    case "Object": row["object"] = Conversion.fromStorage(object, self.kind)
                    default: row["object"] = ResourceHandler.partial(object)
                    }
                    return row
                }),
        ]
    }
}

/// Columns of one kind and how an object fills them.
struct TableLayout {
    let columns: [TableRenderer.Column]
    let cells: (KubeObject) -> [JSONValue]

    private static let nameColumn = TableRenderer.Column(
        name: "Name", format: "name", description: "Name of the object")

    /// Columns as text: `Restarts:integer`, and in parentheses for wide output.
    private init(_ spec: String, _ cells: @escaping (KubeObject) -> [JSONValue]) {
        var columns: [TableRenderer.Column] = []
        for word in spec.split(separator: ",") {
            var text = word.drop { $0 == " " }
            var column = TableRenderer.Column(name: "")
            if text.hasPrefix("(") {
                column.priority = 1
                text = text.dropFirst().dropLast()
            }
            let parts = text.split(separator: ":")
            column.name = String(parts[0])
            if parts.count > 1 { column.type = String(parts[1]) }
            columns.append(column.name == "Name" && column.priority == 0 && columns.isEmpty ? Self.nameColumn : column)
        }
        self.columns = columns
        self.cells = cells
    }

    private init(columns: [TableRenderer.Column], cells: @escaping (KubeObject) -> [JSONValue]) {
        self.columns = columns
        self.cells = cells
    }

    static func of(_ kind: ResourceKind) -> TableLayout {
        if let custom = kind.custom { return self.custom(custom) }
        if let layout = self.core(kind) ?? self.workloads(kind) ?? self.others(kind) { return layout }
        return TableLayout("Name, Created At:date") {
            [.string($0.name), $0.metadata["creationTimestamp"] ?? "<unknown>"]
        }
    }

    private static func custom(_ custom: CustomVersion) -> TableLayout {
        let columns = custom.columns
        return TableLayout(
            columns: [self.nameColumn]
                + columns.map {
                    TableRenderer.Column(
                        name: $0.name, type: $0.type, format: $0.format, description: $0.description,
                        priority: $0.priority)
                }
        ) { object in
            [.string(object.name)] + columns.map { self.cell($0, object.json) }
        }
    }

    private static func cell(_ column: CustomVersion.Column, _ object: JSONValue) -> JSONValue {
        guard let value = column.path.first(in: object), value != .null else { return .null }
        switch column.type {
        case "date": return .string(Timestamp.age(since: value.string))
        case "integer": return value.int.map { .int($0) } ?? .null
        case "number": return value.double.map { .double($0) } ?? .null
        case "boolean": return value.bool.map { .bool($0) } ?? .null
        default: return .string(value.string ?? value.description)
        }
    }

    // MARK: Core kinds

    private static func core(_ kind: ResourceKind) -> TableLayout? {
        switch kind.storage {
        case "pods":
            return TableLayout(
                "Name, Ready, Status, Restarts, Age, (IP), (Node), (Nominated Node), (Readiness Gates)", PodRow.cells)
        case "services":
            return TableLayout("Name, Type, Cluster-IP, External-IP, Port(s), Age, (Selector)", ServiceRow.cells)
        case "namespaces":
            return TableLayout("Name, Status, Age") { [$0.cellName, $0.text("status", "phase"), $0.age] }
        case "nodes":
            return TableLayout(
                "Name, Status, Roles, Age, Version, (Internal-IP), (External-IP), (OS-Image), (Kernel-Version), (Container-Runtime)",
                NodeRow.cells)
        case "events":
            if kind.group.isEmpty {
                return TableLayout(
                    "Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count:integer), (Name)",
                    EventRow.cells)
            }
            return TableLayout(
                "Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count:integer), (Name)",
                EventRow.cells)
        case "secrets":
            return TableLayout("Name, Type, Data, Age") {
                [$0.cellName, $0.text("type"), .int(Int64($0.json["data"]?.object?.count ?? 0)), $0.age]
            }
        case "configmaps":
            return TableLayout("Name, Data, Age") {
                let count = ($0.json["data"]?.object?.count ?? 0) + ($0.json["binaryData"]?.object?.count ?? 0)
                return [$0.cellName, .int(Int64(count)), $0.age]
            }
        case "serviceaccounts":
            return TableLayout("Name, Secrets, Age") {
                [$0.cellName, .int(Int64($0.json["secrets"]?.array?.count ?? 0)), $0.age]
            }
        case "endpoints": return TableLayout("Name, Endpoints, Age", ServiceRow.endpoints)
        case "persistentvolumeclaims":
            return TableLayout("Name, Status, Volume, Capacity, Access Modes, StorageClass, Age") { object in
                [
                    object.cellName, object.text("status", "phase"), object.text("spec", "volumeName", missing: ""),
                    object.text("status", "capacity", "storage", missing: ""),
                    .string((object.status["accessModes"]?.array ?? []).compactMap(\.string).joined(separator: ",")),
                    object.text("spec", "storageClassName", missing: ""), object.age,
                ]
            }
        default: return nil
        }
    }

    // MARK: Workloads

    private static func workloads(_ kind: ResourceKind) -> TableLayout? {
        func number(_ object: KubeObject, _ path: String...) -> Int64 { object.json.at(path)?.int ?? 0 }
        switch kind.storage {
        case "deployments.apps":
            return TableLayout("Name, Ready, Up-to-date, Available, Age, (Containers), (Images), (Selector)") {
                [
                    $0.cellName, .string("\(number($0, "status", "readyReplicas"))/\(number($0, "spec", "replicas"))"),
                    .int(number($0, "status", "updatedReplicas")), .int(number($0, "status", "availableReplicas")),
                    $0.age,
                    $0.containers("name"), $0.containers("image"), $0.selector,
                ]
            }
        case "replicasets.apps", "replicationcontrollers":
            return TableLayout("Name, Desired, Current, Ready, Age, (Containers), (Images), (Selector)") {
                [
                    $0.cellName, .int(number($0, "spec", "replicas")), .int(number($0, "status", "replicas")),
                    .int(number($0, "status", "readyReplicas")), $0.age, $0.containers("name"), $0.containers("image"),
                    $0.selector,
                ]
            }
        case "daemonsets.apps":
            return TableLayout(
                "Name, Desired, Current, Ready, Up-to-date, Available, Node Selector, Age, (Containers), (Images), (Selector)"
            ) {
                let nodes = $0.spec.at("template", "spec", "nodeSelector")?.stringMap ?? [:]
                return [
                    $0.cellName, .int(number($0, "status", "desiredNumberScheduled")),
                    .int(number($0, "status", "currentNumberScheduled")), .int(number($0, "status", "numberReady")),
                    .int(number($0, "status", "updatedNumberScheduled")), .int(number($0, "status", "numberAvailable")),
                    .string(nodes.isEmpty ? "<none>" : LabelSelector(matchLabels: nodes).query), $0.age,
                    $0.containers("name"), $0.containers("image"), $0.selector,
                ]
            }
        case "statefulsets.apps":
            return TableLayout("Name, Ready, Age, (Containers), (Images)") {
                [
                    $0.cellName, .string("\(number($0, "status", "readyReplicas"))/\(number($0, "spec", "replicas"))"),
                    $0.age, $0.containers("name"), $0.containers("image"),
                ]
            }
        case "jobs.batch":
            return TableLayout(
                "Name, Status, Completions, Duration, Age, (Containers), (Images), (Selector)", JobRow.cells)
        case "cronjobs.batch":
            return TableLayout(
                "Name, Schedule, Timezone, Suspend, Active, Last Schedule, Age, (Containers), (Images), (Selector)",
                JobRow.cron)
        case "controllerrevisions.apps":
            return TableLayout("Name, Controller, Revision, Age") {
                let owner = $0.controllerReference
                let text = owner.map { "\(($0["kind"]?.string ?? "").lowercased())/\($0["name"]?.string ?? "")" }
                return [$0.cellName, .string(text ?? "<none>"), .int(number($0, "revision")), $0.age]
            }
        case "horizontalpodautoscalers.autoscaling":
            return TableLayout("Name, Reference, Targets, MinPods, MaxPods, Replicas, Age") {
                let reference = $0.spec["scaleTargetRef"] ?? [:]
                let metrics = ($0.spec["metrics"]?.array ?? []).map { metric -> String in
                    let name = metric.at("resource", "name")?.string ?? metric["type"]?.string ?? ""
                    let target = metric.at("resource", "target", "averageUtilization")?.int
                    return "\(name): <unknown>" + (target.map { "/\($0)%" } ?? "")
                }
                return [
                    $0.cellName, .string("\(reference["kind"]?.string ?? "")/\(reference["name"]?.string ?? "")"),
                    .string(metrics.isEmpty ? "<none>" : metrics.joined(separator: ", ")),
                    .string("\(number($0, "spec", "minReplicas"))"), .int(number($0, "spec", "maxReplicas")),
                    .int(number($0, "status", "currentReplicas")), $0.age,
                ]
            }
        default: return nil
        }
    }

    // MARK: The rest

    private static func others(_ kind: ResourceKind) -> TableLayout? {
        switch kind.qualified {
        case "endpointslices.discovery.k8s.io":
            return TableLayout("Name, AddressType, Ports, Endpoints, Age", ServiceRow.endpointSlice)
        case "roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io",
            "customresourcedefinitions.apiextensions.k8s.io":
            return TableLayout("Name, Created At") {
                [$0.cellName, $0.metadata["creationTimestamp"] ?? "<unknown>"]
            }
        case "rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io":
            return TableLayout("Name, Role, Age, (Users), (Groups), (ServiceAccounts)") { object in
                func subjects(_ kind: String) -> JSONValue {
                    .string(
                        (object.json["subjects"]?.array ?? []).filter { $0["kind"]?.string == kind }.map {
                            let namespace = $0["namespace"]?.string
                            return (namespace.map { "\($0)/" } ?? "") + ($0["name"]?.string ?? "")
                        }.joined(separator: ", "))
                }
                let role = object.json["roleRef"] ?? [:]
                return [
                    object.cellName, .string("\(role["kind"]?.string ?? "")/\(role["name"]?.string ?? "")"), object.age,
                    subjects("User"), subjects("Group"), subjects("ServiceAccount"),
                ]
            }
        case "leases.coordination.k8s.io":
            return TableLayout("Name, Holder, Age") {
                [$0.cellName, $0.text("spec", "holderIdentity", missing: ""), $0.age]
            }
        case "poddisruptionbudgets.policy":
            return TableLayout("Name, Min Available, Max Unavailable, Allowed Disruptions, Age") {
                func bound(_ value: JSONValue?) -> JSONValue {
                    .string(value.map { $0.string ?? $0.description } ?? "N/A")
                }
                return [
                    $0.cellName, bound($0.spec["minAvailable"]), bound($0.spec["maxUnavailable"]),
                    .int($0.status["disruptionsAllowed"]?.int ?? 0), $0.age,
                ]
            }
        case "ingresses.networking.k8s.io":
            return TableLayout("Name, Class, Hosts, Address, Ports, Age", ServiceRow.ingress)
        case "networkpolicies.networking.k8s.io":
            return TableLayout("Name, Pod-Selector, Age") {
                let selector = $0.spec["podSelector"].flatMap { try? LabelSelector($0) }?.query ?? ""
                return [$0.cellName, .string(selector.isEmpty ? "<none>" : selector), $0.age]
            }
        case "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "validatingwebhookconfigurations.admissionregistration.k8s.io":
            return TableLayout("Name, Webhooks, Age") {
                [$0.cellName, .int(Int64($0.json["webhooks"]?.array?.count ?? 0)), $0.age]
            }
        case "priorityclasses.scheduling.k8s.io":
            return TableLayout("Name, Value, Global-Default, Age") {
                [$0.cellName, $0.json["value"] ?? 0, .bool($0.json["globalDefault"]?.bool ?? false), $0.age]
            }
        case "storageclasses.storage.k8s.io":
            return TableLayout("Name, Provisioner, ReclaimPolicy, VolumeBindingMode, Age") {
                [
                    $0.cellName, $0.text("provisioner"), $0.text("reclaimPolicy"), $0.text("volumeBindingMode"), $0.age,
                ]
            }
        case "apiservices.apiregistration.k8s.io":
            return TableLayout("Name, Service, Available, Age") { object in
                let service = object.spec["service"]
                let text = service.map { "\($0["namespace"]?.string ?? "")/\($0["name"]?.string ?? "")" } ?? "Local"
                return [
                    object.cellName, .string(text), .string(object.condition("Available") ?? "Unknown"), object.age,
                ]
            }
        default: return nil
        }
    }
}

extension KubeObject {
    var cellName: JSONValue { .string(self.name) }
    var age: JSONValue { .string(Timestamp.age(since: self.metadata["creationTimestamp"]?.string)) }

    func text(_ path: String..., missing: String = "<none>") -> JSONValue {
        let value = self.json.at(path)?.string ?? ""
        return .string(value.isEmpty ? missing : value)
    }

    /// One member of all containers of the pod template, comma-joined.
    func containers(_ member: String) -> JSONValue {
        let containers = self.spec.at("template", "spec", "containers")?.array ?? []
        return .string(containers.compactMap { $0[member]?.string }.joined(separator: ","))
    }

    var selector: JSONValue {
        guard let json = self.spec["selector"] else { return "<none>" }
        if let parsed = try? LabelSelector(json), !parsed.requirements.isEmpty { return .string(parsed.query) }
        let plain = json.stringMap
        return .string(plain.isEmpty ? "<none>" : LabelSelector(matchLabels: plain).query)
    }
}
