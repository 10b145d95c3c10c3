internal import Foundation
internal import KubeAPI
internal import Logging

/// Admission by webhooks: the cluster's own configurations say who is asked about which write.
///
/// Asked about objects and their subresources `status`, `approval`, `ephemeralcontainers` and `finalize`; not about
/// evictions, bindings, tokens and reviews. A write through `/scale` is shown as the update of its object.
extension ClusterAPI {
    /// A webhook that is about the write at hand.
    private struct Match: Sendable {
        var webhook: Webhook
        /// The version it wants to see.
        var kind: ResourceKind
    }

    /// The webhooks about a write, in order of their configurations' names.
    private func matches(_ storage: String, _ attributes: AdmissionAttributes) -> [Match] {
        // A configuration that could not be repaired because of itself would be fatal.
        guard attributes.kind.group != "admissionregistration.k8s.io" else { return [] }
        let configurations = self.store.snapshot(storage).objects
        if configurations.isEmpty { return [] }
        let equivalents = self.registry.view.kinds.filter { $0.storage == attributes.kind.storage }
        let labels = self.namespaceLabels(attributes)
        return configurations.flatMap { configuration in
            (configuration.json["webhooks"]?.array ?? []).compactMap { json -> Match? in
                guard let webhook = try? Webhook(json),
                    let kind = webhook.matchedKind(attributes, equivalents: equivalents, namespaceLabels: labels)
                else { return nil }
                return Match(webhook: webhook, kind: kind)
            }
        }
    }

    /// What `namespaceSelector` looks at; nil for cluster-scoped objects other than namespaces, which always match.
    private func namespaceLabels(_ attributes: AdmissionAttributes) -> [String: String]? {
        if attributes.kind.storage == "namespaces" {
            return (attributes.object ?? attributes.old)?.at("metadata", "labels")?.stringMap ?? [:]
        }
        guard attributes.kind.type.isNamespaced else { return nil }
        return self.store.get("namespaces", ObjectKey(name: attributes.key.namespace))?.labels ?? [:]
    }

    /// Lets the mutating webhooks change an object, one after the other.
    ///
    /// - Returns: nil when nothing was changed.
    /// - Throws: ``StatusError``: the refusal, or the failure of a webhook that must not fail.
    func mutated(_ attributes: AdmissionAttributes, _ warnings: inout [String]) async throws -> JSONValue? {
        let matches = self.matches(WebhookRules.mutating, attributes)
        if matches.isEmpty { return nil }
        var object = attributes.object
        /// Number of changes that were made when each webhook had been called.
        var changesSeen: [Int] = []
        var changes = 0
        for match in matches {
            if try await self.mutate(&object, match, attributes, &warnings) { changes += 1 }
            changesSeen.append(changes)
        }
        // Once more, because somebody after it changed what it had seen; what happens from now on counts no more.
        let made = changes
        for (match, seen) in zip(matches, changesSeen) where match.webhook.isReinvoked && made > seen {
            if try await self.mutate(&object, match, attributes, &warnings) { changes += 1 }
        }
        return changes > 0 ? object : nil
    }

    private func mutate(
        _ object: inout JSONValue?, _ match: Match, _ attributes: AdmissionAttributes, _ warnings: inout [String]
    ) async throws -> Bool {
        guard let response = try await self.ask(match, attributes, object, allowsPatch: object != nil, &warnings),
            let patch = response.patch, let before = object
        else { return false }
        let name = match.webhook.name
        var after: JSONValue
        do {
            let shown = Self.converted(before, from: attributes.kind, to: match.kind)
            after = try JSONPatch(patch).apply(to: shown)
        } catch {
            throw StatusError.internalError("webhook \"\(name)\": its patch does not fit the object: \(error.message)")
        }
        guard after["kind"] == before["kind"], after["apiVersion"]?.string == match.kind.type.apiVersion else {
            throw StatusError.internalError("webhook \"\(name)\" tried to change the object's kind")
        }
        after = Self.converted(after, from: match.kind, to: attributes.kind)
        guard after.at("metadata", "name") == before.at("metadata", "name"),
            after.at("metadata", "namespace") == before.at("metadata", "namespace")
        else { throw StatusError.internalError("webhook \"\(name)\" tried to change the object's name or namespace") }
        object = after
        return after != before
    }

    /// Asks the validating webhooks, all at once.
    func approve(_ attributes: AdmissionAttributes, _ warnings: inout [String]) async throws {
        let matches = self.matches(WebhookRules.validating, attributes)
        if matches.isEmpty { return }
        let answers = await withTaskGroup(of: (Int, Result<[String], any Error>).self) { group in
            for (index, match) in matches.enumerated() {
                group.addTask {
                    var warnings: [String] = []
                    do {
                        _ = try await self.ask(match, attributes, attributes.object, allowsPatch: false, &warnings)
                        return (index, .success(warnings))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var answers: [(Int, Result<[String], any Error>)] = []
            for await answer in group { answers.append(answer) }
            return answers.sorted { $0.0 < $1.0 }
        }
        for (_, answer) in answers { warnings += try answer.get() }
    }

    /// - Returns: nil when a webhook that may fail did.
    private func ask(
        _ match: Match, _ attributes: AdmissionAttributes, _ object: JSONValue?, allowsPatch: Bool,
        _ warnings: inout [String]
    ) async throws -> AdmissionReview.Response? {
        let webhook = match.webhook
        if attributes.options.isDryRun, !webhook.allowsDryRun {
            throw StatusError.badRequest("admission webhook \"\(webhook.name)\" does not support dry run")
        }
        let uid = UUID().uuidString.lowercased()
        func shown(_ json: JSONValue?) -> JSONValue? {
            json.map { Self.converted($0, from: attributes.kind, to: match.kind) }
        }
        let request = AdmissionReview.request(
            attributes, as: match.kind, uid: uid, object: shown(object), old: shown(attributes.old))
        let response: AdmissionReview.Response
        do {
            let answer = try await self.call(webhook, request.encoded)
            response = try AdmissionReview.response(answer, uid: uid, allowsPatch: allowsPatch)
        } catch {
            let subject: Logger.Metadata = [
                "webhook": "\(webhook.name)", "error": "\(error)", "kind": "\(attributes.kind.qualified)",
                "object": "\(attributes.key)",
            ]
            if webhook.ignoresFailure {
                self.log.warning("a webhook failed and was ignored, as its failurePolicy says", metadata: subject)
                return nil
            }
            self.log.error("a webhook failed and a write with it", metadata: subject)
            throw StatusError.internalError("failed calling webhook \"\(webhook.name)\": \(error)")
        }
        warnings += response.warnings
        if !response.isAllowed {
            let denial = AdmissionReview.denial(by: webhook.name, response.status)
            self.log.notice(
                "a webhook refused a write",
                metadata: [
                    "webhook": "\(webhook.name)", "kind": "\(attributes.kind.qualified)",
                    "object": "\(attributes.key)", "message": "\(denial.message)",
                ])
            throw denial
        }
        return response
    }

    private static func converted(_ json: JSONValue, from: ResourceKind, to: ResourceKind) -> JSONValue {
        from.type == to.type ? json : Conversion.fromStorage(Conversion.toStorage(json, from), to)
    }

    // MARK: Where a webhook is

    private func call(_ webhook: Webhook, _ body: [UInt8]) async throws -> [UInt8] {
        let seconds = webhook.timeout.components.seconds
        let url: String
        switch webhook.target {
        case .service(let namespace, let name, let port, let path):
            url = "https://\(name).\(namespace).svc:\(port)\(path)?timeout=\(seconds)s"
        case .url(let text): url = text + (text.contains("?") ? "&" : "?") + "timeout=\(seconds)s"
        }
        do {
            let destination = try self.destination(webhook, url)
            return try await self.webhooks.post(body, to: destination, timeout: webhook.timeout)
        } catch {
            throw WebhookClient.Failure(description: "failed to call webhook: Post \"\(url)\": \(error)")
        }
    }

    private func destination(_ webhook: Webhook, _ url: String) throws(WebhookClient.Failure)
        -> WebhookClient.Destination
    {
        guard let parts = URLComponents(string: url), let host = parts.host else {
            throw WebhookClient.Failure(description: "no URL")
        }
        let path =
            (parts.percentEncodedPath.isEmpty ? "/" : parts.percentEncodedPath) + "?"
            + (parts.percentEncodedQuery ?? "")
        var destination = WebhookClient.Destination(
            host: host, port: parts.port ?? 443, node: nil, name: host, path: path, authority: webhook.authority)
        guard case .service(let namespace, let name, let port, _) = webhook.target else { return destination }
        guard let service = self.store.get("services", ObjectKey(namespace: namespace, name: name)) else {
            throw WebhookClient.Failure(description: "service \"\(name)\" not found")
        }
        if service.json.at("spec", "type")?.string == "ExternalName" {
            destination.host = service.json.at("spec", "externalName")?.string ?? ""
            return destination
        }
        let ports = service.json.at("spec", "ports")?.array ?? []
        guard let servicePort = ports.first(where: { $0["port"]?.int == Int64(port) }) else {
            throw WebhookClient.Failure(description: "no service port \(port) found for service \"\(name)\"")
        }
        guard let endpoint = self.endpoint(namespace, name, portName: servicePort["name"]?.string ?? "") else {
            throw WebhookClient.Failure(description: "no endpoints available for service \"\(name)\"")
        }
        destination.host = endpoint.host
        destination.port = endpoint.port
        destination.node = endpoint.node
        return destination
    }

    /// A ready endpoint of a service, chosen at random.
    private func endpoint(
        _ namespace: String, _ service: String, portName: String
    ) -> (host: String, port: Int, node: String?)? {
        let slices = self.store.snapshot("endpointslices.discovery.k8s.io", namespace: namespace).objects.filter {
            $0.labels["kubernetes.io/service-name"] == service
        }
        let endpoints = slices.flatMap { slice -> [(host: String, port: Int, node: String?)] in
            let port = slice.json["ports"]?.array?.first { ($0["name"]?.string ?? "") == portName }?["port"]?.int
            guard let port else { return [] }
            return (slice.json["endpoints"]?.array ?? []).compactMap { endpoint in
                guard endpoint.at("conditions", "ready")?.bool ?? true,
                    let address = endpoint["addresses"]?[0]?.string
                else { return nil }
                return (address, Int(clamping: port), endpoint["nodeName"]?.string)
            }
        }
        return endpoints.randomElement()
    }
}
