package import KubeAPI
import KubeClient

/// Whether an object is up, and if not, why: the reason that a person needs to go on.
package enum Readiness: Hashable, Sendable {
    case ready
    case waiting(String)

    /// Decides by the object alone; kinds that are never waited for are ready at once.
    package static func of(_ object: KubeObject) -> Readiness {
        let status = object.status
        func number(_ key: String) -> Int64 { status[key]?.int ?? 0 }
        let isObserved = number("observedGeneration") >= object.generation
        switch object.kind {
        case "CustomResourceDefinition":
            return object.condition("Established") == "True" ? .ready : .waiting("not established")
        case "Namespace":
            return status["phase"]?.string == "Active" ? .ready : .waiting("not active")
        case "Deployment":
            let wanted = object.spec["replicas"]?.int ?? 1
            guard isObserved else { return .waiting("not seen by its controller") }
            guard number("updatedReplicas") >= wanted, number("readyReplicas") >= wanted else {
                return .waiting("\(number("readyReplicas"))/\(wanted) ready")
            }
            return .ready
        case "DaemonSet":
            guard isObserved else { return .waiting("not seen by its controller") }
            let desired = number("desiredNumberScheduled")
            guard desired > 0 else { return .waiting("no node is eligible") }
            guard number("updatedNumberScheduled") == desired, number("numberReady") >= desired else {
                return .waiting("\(number("numberReady"))/\(desired) ready")
            }
            return .ready
        default: return .ready
        }
    }

    /// What keeps a pod from being ready: a container's waiting reason, its last end, or the scheduler's message.
    package static func trouble(of pod: KubeObject) -> String? {
        if pod.condition("Ready") == "True" { return nil }
        for list in ["initContainerStatuses", "containerStatuses"] {
            for container in pod.status[list]?.array ?? [] {
                let name = container["name"]?.string ?? "?"
                if let waiting = container.at("state", "waiting") {
                    let reason = waiting["reason"]?.string ?? "waiting"
                    let message = waiting["message"]?.string.map { ": \($0)" } ?? ""
                    return "container \(name): \(reason)\(message)"
                }
                if let ended = container.at("state", "terminated"), list == "containerStatuses" {
                    return "container \(name) ended with code \(ended["exitCode"]?.int ?? -1)"
                }
                if container["ready"]?.bool == false, container.at("state", "running") != nil {
                    return "container \(name) runs but its readiness probe fails"
                }
            }
        }
        let unscheduled = pod.status["conditions"]?.array?.first {
            $0["type"]?.string == "PodScheduled" && $0["status"]?.string == "False"
        }
        return unscheduled?["message"]?.string ?? "phase \(pod.status["phase"]?.string ?? "unknown")"
    }
}
