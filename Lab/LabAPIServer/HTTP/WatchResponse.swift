internal import KubeAPI

/// A watch as a stream of JSON lines.
struct WatchResponse {
    let api: ClusterAPI
    let kind: ResourceKind
    let selection: ClusterAPI.Selection
    let request: APIRequest

    /// Without a wish of the client a watch ends after 30 to 60 minutes.
    private static let defaultSeconds: ClosedRange<Int64> = 1800...3600

    func response() throws(StatusError) -> APIResponse {
        let query = self.request.query
        var start = WatchSession.Start()
        start.wantsBookmarks = query.flag("allowWatchBookmarks")
        let seconds =
            query.int("timeoutSeconds") ?? Self.seconds(query["timeout"]) ?? Int64.random(in: Self.defaultSeconds)
        start.timeout = .seconds(max(1, seconds))
        let version = query["resourceVersion"] ?? ""
        let match = query["resourceVersionMatch"] ?? ""
        if let text = query["sendInitialEvents"], !text.isEmpty {
            guard match == "NotOlderThan" else {
                throw .invalidOptions(
                    "ListOptions",
                    [
                        .forbidden(
                            "resourceVersionMatch",
                            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
                    ])
            }
            if query.flag("sendInitialEvents") {
                start.marksInitialEnd = start.wantsBookmarks
                if let wanted = UInt64(version), wanted > self.api.store.revision {
                    throw .tooLargeVersion(wanted, self.api.store.revision)
                }
            } else {
                start.wantsInitial = false
                start.from = version == "0" ? nil : UInt64(version)
            }
        } else {
            if !match.isEmpty {
                throw .invalidOptions(
                    "ListOptions",
                    [
                        .forbidden(
                            "resourceVersionMatch",
                            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
                    ])
            }
            if !version.isEmpty, version != "0" {
                guard let number = UInt64(version) else {
                    throw .badRequest("invalid resource version \"\(version)\": it is a decimal number")
                }
                start.from = number
            }
        }
        let form = try Representation.chosen(accept: self.request.header("accept"), allowsTransforms: true)
        let session = try WatchSession(self.api.store, self.kind, self.selection, start)
        let encoder = Encoder(
            kind: self.kind, form: form,
            table: TableRenderer(kind: self.kind, includeObject: query["includeObject"]))
        return APIResponse(stream: "application/json") { sink in
            // Clients wait for the head even when nothing has happened yet.
            try await sink.begin()
            var isFirst = true
            for await item in session.items {
                try await sink.write(encoder.line(item, isFirst: isFirst))
                isFirst = false
            }
        }
    }

    /// `32s`, `5m40s`: the client's own timeout, as Go writes durations.
    private static func seconds(_ text: String?) -> Int64? {
        guard let text else { return nil }
        var total: Int64 = 0
        var number = ""
        for character in text {
            switch character {
            case "0"..."9", ".": number.append(character)
            case "h": total += (Int64(number) ?? 0) * 3600; number = ""
            case "m": total += (Int64(number) ?? 0) * 60; number = ""
            case "s": total += Int64(Double(number) ?? 0); number = ""
            default: return nil
            }
        }
        return total > 0 ? total : nil
    }

    private struct Encoder: Sendable {
        let kind: ResourceKind
        let form: Representation
        let table: TableRenderer

        func line(_ item: WatchSession.Item, isFirst: Bool) -> [UInt8] {
            switch item {
            case .added(let object): self.line("ADDED", object, isFirst)
            case .modified(let object): self.line("MODIFIED", object, isFirst)
            case .deleted(let object): self.line("DELETED", object, isFirst)
            case .bookmark(let revision, let endsInitial): self.bookmark(revision, endsInitial)
            }
        }

        private func line(_ type: String, _ object: StoredObject, _ isFirst: Bool) -> [UInt8] {
            var bytes = Array("{\"type\":\"\(type)\",\"object\":".utf8)
            switch self.form {
            case .json, .yaml:
                let isStored = self.kind.type.apiVersion == self.kind.storageVersion
                bytes += isStored ? object.encoded : Conversion.fromStorage(object.json, self.kind).encoded
            case .partial: ResourceHandler.partial(object.json).write(to: &bytes)
            case .table:
                let metadata: JSONValue = ["resourceVersion": .string(String(object.revision))]
                self.table.table([object.json], metadata: metadata, withColumns: isFirst).write(to: &bytes)
            }
            bytes += "}\n".utf8
            return bytes
        }

        private func bookmark(_ revision: UInt64, _ endsInitial: Bool) -> [UInt8] {
            var metadata: JSONValue = ["resourceVersion": .string(String(revision))]
            if endsInitial { metadata["annotations"] = ["k8s.io/initial-events-end": "true"] }
            let object: JSONValue
            switch self.form {
            case .table: object = self.table.table([], metadata: metadata, withColumns: false)
            case .partial:
                object = ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata]
            case .json, .yaml:
                object = [
                    "kind": .string(self.kind.type.kind), "apiVersion": .string(self.kind.type.apiVersion),
                    "metadata": metadata,
                ]
            }
            let event: JSONValue = ["type": "BOOKMARK", "object": object]
            return event.encoded + [0x0a]
        }
    }
}
