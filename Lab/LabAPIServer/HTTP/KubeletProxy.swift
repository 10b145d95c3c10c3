internal import Foundation
internal import KubeAPI
internal import NIOHTTP1

/// A request to a kubelet, ready to be sent over a unix socket.
struct KubeletTarget: Sendable {
    let socket: String
    let method: HTTPMethod
    let uri: String
    let headers: HTTPHeaders
}

/// Logs, exec, attach and port-forward: finds the pod's node and passes the request to its kubelet.
struct KubeletProxy: Sendable {
    let api: ClusterAPI
    let nodes: any NodeConnector

    func respond(_ request: APIRequest, _ target: Route.Target) async throws -> APIResponse {
        let pod = try self.api.stored(target.kind, target.key)
        let subresource = target.subresource ?? ""
        if subresource == "log" {
            guard request.method == .GET else { throw StatusError.methodNotAllowed }
        } else {
            guard request.method == .GET || request.method == .POST else { throw StatusError.methodNotAllowed }
            guard request.isUpgrade else {
                throw StatusError.badRequest("Upgrade request required")
            }
            guard request.header("upgrade")?.lowercased() == "websocket" else {
                throw StatusError.badRequest(
                    "unable to upgrade: the lab's nodes speak WebSocket, not \(request.header("upgrade") ?? ""); "
                        + "kubectl 1.31 and later do, unless told otherwise by KUBECTL_REMOTE_COMMAND_WEBSOCKETS or "
                        + "KUBECTL_PORT_FORWARD_WEBSOCKETS")
            }
        }
        let container =
            subresource == "portforward" ? "" : try self.container(request, pod.object, subresource: subresource)
        let node = pod.json.at("spec", "nodeName")?.string ?? ""
        if node.isEmpty {
            throw StatusError.badRequest(
                subresource == "log"
                    ? "container \"\(container)\" in pod \"\(pod.key.name)\" is waiting to start: ContainerCreating"
                    : "pod \(pod.key.name) does not have a host assigned")
        }
        guard let socket = await self.nodes.kubeletSocket(node: node) else {
            throw StatusError.internalError(
                "node \"\(node)\" of pod \"\(pod.key)\" has no kubelet; is the node still part of the lab?")
        }
        let kubelet = KubeletTarget(
            socket: socket, method: request.method,
            uri: self.uri(subresource, pod.key, container: container, query: request.query),
            headers: self.headers(request, node: node))
        if subresource != "log" { return APIResponse(upgrade: kubelet) }
        if let error = self.waiting(pod.object, container, request) { throw error }
        return KubeletClient.get(kubelet)
    }

    /// Also checks that the pod has it.
    private func container(_ request: APIRequest, _ pod: KubeObject, subresource: String) throws(StatusError) -> String
    {
        let regular = (pod.spec["containers"]?.array ?? []).compactMap { $0["name"]?.string }
        let others = ["initContainers", "ephemeralContainers"].flatMap { list in
            (pod.spec[list]?.array ?? []).compactMap { $0["name"]?.string }
        }
        if let name = request.query["container"], !name.isEmpty {
            guard (regular + others).contains(name) else {
                throw .badRequest("container \(name) is not valid for pod \(pod.name)")
            }
            return name
        }
        if let name = pod.annotations["kubectl.kubernetes.io/default-container"], regular.contains(name) { return name }
        guard regular.count == 1 else {
            if subresource != "log", let first = regular.first { return first }
            var text =
                "a container name must be specified for pod \(pod.name), choose one of: [\(regular.joined(separator: " "))]"
            if !others.isEmpty { text += " or one of the init containers: [\(others.joined(separator: " "))]" }
            throw .badRequest(text)
        }
        return regular[0]
    }

    /// Why a container has no log yet.
    private func waiting(_ pod: KubeObject, _ container: String, _ request: APIRequest) -> StatusError? {
        let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"].flatMap {
            pod.status[$0]?.array ?? []
        }
        guard let status = statuses.first(where: { $0["name"]?.string == container }) else {
            return .badRequest(
                "container \"\(container)\" in pod \"\(pod.name)\" is waiting to start: ContainerCreating")
        }
        let hasPrevious = status.at("lastState", "terminated") != nil
        if request.query.flag("previous"), !hasPrevious {
            return .badRequest("previous terminated container \"\(container)\" in pod \"\(pod.name)\" not found")
        }
        if let reason = status.at("state", "waiting", "reason")?.string, !hasPrevious {
            return .badRequest("container \"\(container)\" in pod \"\(pod.name)\" is waiting to start: \(reason)")
        }
        return nil
    }

    private func uri(_ subresource: String, _ key: ObjectKey, container: String, query: APIRequest.Query) -> String {
        let suffix = query.raw.isEmpty ? "" : "?\(query.raw)"
        return switch subresource {
        case "log": "/containerLogs/\(key.namespace)/\(key.name)/\(container)\(suffix)"
        case "portforward": "/portForward/\(key.namespace)/\(key.name)\(suffix)"
        default: "/\(subresource)/\(key.namespace)/\(key.name)/\(container)\(suffix)"
        }
    }

    /// The client's headers without its credentials.
    private func headers(_ request: APIRequest, node: String) -> HTTPHeaders {
        var headers = request.headers
        for name in [
            "authorization", "host", "impersonate-user", "impersonate-group", "accept-encoding", "content-length",
        ] {
            headers.remove(name: name)
        }
        headers.add(name: "Host", value: node)
        if request.isUpgrade, request.method == .POST { headers.add(name: "Content-Length", value: "0") }
        return headers
    }
}
