internal import Foundation
internal import KubeAPI

/// Cells of pods.
enum PodRow {
    static func cells(_ pod: KubeObject) -> [JSONValue] {
        let containers = pod.spec["containers"]?.array ?? []
        let statuses = pod.status["containerStatuses"]?.array ?? []
        let initContainers = pod.spec["initContainers"]?.array ?? []
        let initStatuses = pod.status["initContainerStatuses"]?.array ?? []
        let sidecars = Set(
            initContainers.filter { $0["restartPolicy"]?.string == "Always" }.compactMap { $0["name"]?.string })
        let sidecarStatuses = initStatuses.filter { sidecars.contains($0["name"]?.string ?? "") }
        let ready =
            statuses.filter { $0["ready"]?.bool == true }.count
            + sidecarStatuses.filter { $0["started"]?.bool == true && $0["ready"]?.bool == true }.count
        let restarting = statuses + sidecarStatuses
        let restarts = restarting.reduce(0) { $0 + ($1["restartCount"]?.int ?? 0) }
        let last = restarting.compactMap { $0.at("lastState", "terminated", "finishedAt")?.string }.max()
        let since = restarts > 0 ? last.map { " (\(Timestamp.age(since: $0)) ago)" } ?? "" : ""
        let gates = pod.spec["readinessGates"]?.array ?? []
        let open = gates.filter { pod.condition($0["conditionType"]?.string ?? "") == "True" }.count
        return [
            pod.cellName, .string("\(ready)/\(containers.count + sidecars.count)"), .string(self.status(pod)),
            .string("\(restarts)\(since)"), pod.age, pod.text("status", "podIP"), pod.text("spec", "nodeName"),
            pod.text("status", "nominatedNodeName"),
            .string(gates.isEmpty ? "<none>" : "\(open)/\(gates.count)"),
        ]
    }

    /// The STATUS column: what most explains where the pod is.
    static func status(_ pod: KubeObject) -> String {
        let phase = pod.status["phase"]?.string ?? "Unknown"
        var reason = pod.status["reason"]?.string ?? phase
        if let initial = self.initialising(pod) {
            reason = initial
        } else {
            var hasRunning = false
            for status in (pod.status["containerStatuses"]?.array ?? []).reversed() {
                if let waiting = status.at("state", "waiting", "reason")?.string, !waiting.isEmpty {
                    reason = waiting
                } else if let terminated = status.at("state", "terminated") {
                    reason = self.ending(terminated)
                } else if status["ready"]?.bool == true, status.at("state", "running") != nil {
                    hasRunning = true
                }
            }
            if reason == "Completed", hasRunning {
                reason = pod.condition("Ready") == "True" ? "Running" : "NotReady"
            }
        }
        if pod.isBeingDeleted, !["Succeeded", "Failed"].contains(phase) {
            return pod.status["reason"]?.string == "NodeLost" ? "Unknown" : "Terminating"
        }
        return reason
    }

    private static func ending(_ terminated: JSONValue) -> String {
        if let reason = terminated["reason"]?.string, !reason.isEmpty { return reason }
        if let signal = terminated["signal"]?.int, signal != 0 { return "Signal:\(signal)" }
        return "ExitCode:\(terminated["exitCode"]?.int ?? 0)"
    }

    /// `Init:…` while init containers are at work.
    private static func initialising(_ pod: KubeObject) -> String? {
        let specs = pod.spec["initContainers"]?.array ?? []
        let statuses = pod.status["initContainerStatuses"]?.array ?? []
        for (index, spec) in specs.enumerated() {
            guard let status = statuses.first(where: { $0["name"] == spec["name"] }) else { continue }
            if let terminated = status.at("state", "terminated") {
                if terminated["exitCode"]?.int == 0 { continue }
                return "Init:\(self.ending(terminated))"
            }
            if spec["restartPolicy"]?.string == "Always", status["started"]?.bool == true { continue }
            if let waiting = status.at("state", "waiting", "reason")?.string, !waiting.isEmpty,
                waiting != "PodInitializing"
            {
                return "Init:\(waiting)"
            }
            return "Init:\(index)/\(specs.count)"
        }
        return nil
    }
}

enum NodeRow {
    static func cells(_ node: KubeObject) -> [JSONValue] {
        var status: String
        switch node.condition("Ready") {
        case "True": status = "Ready"
        case nil: status = "Unknown"
        default: status = "NotReady"
        }
        if node.spec["unschedulable"]?.bool == true { status += ",SchedulingDisabled" }
        let prefix = "node-role.kubernetes.io/"
        let roles = node.labels.keys.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }.sorted()
        func address(_ type: String) -> JSONValue {
            (node.status["addresses"]?.array ?? []).first { $0["type"]?.string == type }?["address"] ?? "<none>"
        }
        func info(_ name: String) -> JSONValue { node.text("status", "nodeInfo", name, missing: "<unknown>") }
        return [
            node.cellName, .string(status), .string(roles.isEmpty ? "<none>" : roles.joined(separator: ",")), node.age,
            info("kubeletVersion"), address("InternalIP"), address("ExternalIP"), info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    }
}

enum EventRow {
    static func cells(_ event: KubeObject) -> [JSONValue] {
        let object = event.json["involvedObject"] ?? [:]
        let series = event.json["series"]
        let first = event.json["firstTimestamp"]?.string ?? event.json["eventTime"]?.string
        let last = series?["lastObservedTime"]?.string ?? event.json["lastTimestamp"]?.string ?? first
        var source = event.json.at("source", "component")?.string ?? event.json["reportingComponent"]?.string ?? ""
        if let host = event.json.at("source", "host")?.string, !host.isEmpty { source += ", \(host)" }
        return [
            .string(Timestamp.age(since: last)), event.text("type"), event.text("reason"),
            .string("\((object["kind"]?.string ?? "").lowercased())/\(object["name"]?.string ?? "")"),
            .string(object["fieldPath"]?.string ?? ""), .string(source),
            .string((event.json["message"]?.string ?? "").trimmingCharacters(in: .whitespacesAndNewlines)),
            .string(Timestamp.age(since: first)), .int(series?["count"]?.int ?? event.json["count"]?.int ?? 1),
            event.cellName,
        ]
    }
}

enum JobRow {
    static func cells(_ job: KubeObject) -> [JSONValue] {
        let completions = job.spec["completions"]?.int
        let succeeded = job.status["succeeded"]?.int ?? 0
        let wanted = completions.map(String.init) ?? "1 of \(job.spec["parallelism"]?.int ?? 1)"
        var duration = ""
        if let start = job.status["startTime"]?.string.flatMap(Timestamp.seconds) {
            let end = job.status["completionTime"]?.string.flatMap(Timestamp.seconds)
            duration = Timestamp.age((end ?? Int64(Date().timeIntervalSince1970)) - start)
        }
        let status: String
        if job.condition("Complete") == "True" {
            status = "Complete"
        } else if job.condition("Failed") == "True" {
            status = "Failed"
        } else if job.isBeingDeleted {
            status = "Terminating"
        } else if job.condition("Suspended") == "True" {
            status = "Suspended"
        } else {
            status = "Running"
        }
        return [
            job.cellName, .string(status), .string("\(succeeded)/\(wanted)"), .string(duration), job.age,
            job.containers("name"), job.containers("image"), job.selector,
        ]
    }

    static func cron(_ job: KubeObject) -> [JSONValue] {
        let containers = job.spec.at("jobTemplate", "spec", "template", "spec", "containers")?.array ?? []
        func joined(_ member: String) -> JSONValue {
            .string(containers.compactMap { $0[member]?.string }.joined(separator: ","))
        }
        let last = job.status["lastScheduleTime"]?.string
        return [
            job.cellName, job.text("spec", "schedule"), job.text("spec", "timeZone"),
            .string(job.spec["suspend"]?.bool == true ? "True" : "False"),
            .int(Int64(job.status["active"]?.array?.count ?? 0)),
            .string(last.map { Timestamp.age(since: $0) } ?? "<none>"), job.age, joined("name"), joined("image"),
            "<none>",
        ]
    }
}

/// Cells of services and what describes their endpoints.
enum ServiceRow {
    private static let shownMax = 3

    static func cells(_ service: KubeObject) -> [JSONValue] {
        let selector = service.spec["selector"]?.stringMap ?? [:]
        let ports = (service.spec["ports"]?.array ?? []).map { port in
            let node = port["nodePort"]?.int.map { $0 == 0 ? "" : ":\($0)" } ?? ""
            return "\(port["port"]?.int ?? 0)\(node)/\(port["protocol"]?.string ?? "TCP")"
        }
        return [
            service.cellName, service.text("spec", "type"), service.text("spec", "clusterIP"),
            .string(self.external(service)), .string(ports.isEmpty ? "<none>" : ports.joined(separator: ",")),
            service.age,
            .string(selector.isEmpty ? "<none>" : LabelSelector(matchLabels: selector).query),
        ]
    }

    private static func external(_ service: KubeObject) -> String {
        let given = service.spec["externalIPs"]?.array?.compactMap(\.string) ?? []
        switch service.spec["type"]?.string {
        case "ExternalName": return service.spec["externalName"]?.string ?? "<none>"
        case "LoadBalancer":
            let ingress = (service.status.at("loadBalancer", "ingress")?.array ?? [])
                .compactMap { $0["ip"]?.string ?? $0["hostname"]?.string }
            let all = ingress + given
            return all.isEmpty ? "<pending>" : all.joined(separator: ",")
        default: return given.isEmpty ? "<none>" : given.joined(separator: ",")
        }
    }

    private static func shortened(_ items: [String]) -> JSONValue {
        if items.isEmpty { return "<none>" }
        let more = items.count > self.shownMax ? " + \(items.count - self.shownMax) more..." : ""
        return .string(items.prefix(self.shownMax).joined(separator: ",") + more)
    }

    static func endpoints(_ endpoints: KubeObject) -> [JSONValue] {
        let all = (endpoints.json["subsets"]?.array ?? []).flatMap { subset -> [String] in
            let addresses = (subset["addresses"]?.array ?? []).compactMap { $0["ip"]?.string }
            let ports = (subset["ports"]?.array ?? []).compactMap { $0["port"]?.int }
            if ports.isEmpty { return addresses }
            return ports.flatMap { port in addresses.map { "\($0):\(port)" } }
        }
        return [endpoints.cellName, self.shortened(all), endpoints.age]
    }

    static func endpointSlice(_ slice: KubeObject) -> [JSONValue] {
        let ports = (slice.json["ports"]?.array ?? []).map { $0["port"]?.int.map(String.init) ?? "*" }
        let addresses = (slice.json["endpoints"]?.array ?? []).flatMap {
            $0["addresses"]?.array?.compactMap(\.string) ?? []
        }
        return [
            slice.cellName, slice.text("addressType"), ports.isEmpty ? "<unset>" : self.shortened(ports),
            addresses.isEmpty ? "<unset>" : self.shortened(addresses), slice.age,
        ]
    }

    static func ingress(_ ingress: KubeObject) -> [JSONValue] {
        let hosts = (ingress.spec["rules"]?.array ?? []).map { $0["host"]?.string ?? "*" }
        let addresses = (ingress.status.at("loadBalancer", "ingress")?.array ?? [])
            .compactMap { $0["ip"]?.string ?? $0["hostname"]?.string }
        let hasTLS = ingress.spec["tls"]?.array?.isEmpty == false
        return [
            ingress.cellName, ingress.text("spec", "ingressClassName"),
            .string(hosts.isEmpty ? "*" : hosts.joined(separator: ",")), .string(addresses.joined(separator: ",")),
            .string(hasTLS ? "80, 443" : "80"), ingress.age,
        ]
    }
}
