package import KubeAPI

/// What controllers ask about a pod.
extension KubeObject {
    package var podPhase: String { self.status["phase"]?.string ?? "Pending" }
    package var isPodFinished: Bool { self.podPhase == "Succeeded" || self.podPhase == "Failed" }
    /// Neither finished nor on its way out.
    package var isPodActive: Bool { !self.isPodFinished && !self.isBeingDeleted }
    package var isPodReady: Bool { self.condition("Ready") == "True" }
    package var nodeName: String { self.spec["nodeName"]?.string ?? "" }
    package var podIP: String? { self.status["podIP"]?.string.flatMap { $0.isEmpty ? nil : $0 } }

    /// Since when the pod has been ready; nil when it is not.
    package var readySince: KubeTime? {
        guard self.isPodReady else { return nil }
        let condition = self.status["conditions"]?.array?.first { $0["type"]?.string == "Ready" }
        return KubeTime(condition?["lastTransitionTime"]?.string) ?? self.createdAt
    }

    /// Ready for at least `minReadySeconds`.
    package func isPodAvailable(minReadySeconds: Int64, now: KubeTime) -> Bool {
        guard let since = self.readySince else { return false }
        return minReadySeconds == 0 || since + minReadySeconds <= now
    }
}

/// Pod templates.
package enum PodTemplate {
    package static let hashLabel = "pod-template-hash"

    /// A new pod from `owner`'s template, named by the server from `generateName`, or by `name`.
    package static func pod(
        from template: JSONValue, owner: KubeObject, name: String? = nil, labels: [String: String] = [:]
    ) -> KubeObject {
        var metadata: JSONValue = ["namespace": .string(owner.namespace)]
        if let name {
            metadata["name"] = .string(name)
        } else {
            metadata["generateName"] = .string("\(owner.name)-")
        }
        let given = template["metadata"] ?? [:]
        let all = (given["labels"]?.stringMap ?? [:]).merging(labels, uniquingKeysWith: { $1 })
        if !all.isEmpty { metadata["labels"] = JSONValue(all) }
        if let annotations = given["annotations"], annotations.object?.isEmpty == false {
            metadata["annotations"] = annotations
        }
        if let finalizers = given["finalizers"] { metadata["finalizers"] = finalizers }
        metadata["ownerReferences"] = [owner.controllerReferenceToSelf]
        return KubeObject([
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] ?? [:],
        ])
    }

    /// The letters of generated names: no vowels, so no words.
    private static let alphabet = Array("bcdfghjklmnpqrstvwxz2456789".utf8)

    /// A short name for a template: 32-bit FNV-1a over its canonical text, in the letters of generated names. Equal
    /// templates have equal names; `collision` makes another name when two templates collide.
    package static func hash(_ template: JSONValue, collision: Int64 = 0) -> String {
        var hash: UInt32 = 2_166_136_261
        func mix(_ byte: UInt8) { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        for byte in template.encoded { mix(byte) }
        if collision > 0 { for byte in String(collision).utf8 { mix(byte) } }
        let letters = String(hash).utf8.map { Self.alphabet[Int($0) % Self.alphabet.count] }
        return String(decoding: letters, as: UTF8.self)
    }

    /// The template without the label that tells ReplicaSets of one Deployment apart.
    package static func withoutHash(_ template: JSONValue) -> JSONValue {
        guard template.at("metadata", "labels", Self.hashLabel) != nil else { return template }
        var template = template
        template.set(["metadata", "labels", Self.hashLabel], to: nil)
        return template
    }
}

/// A number of pods, or a share of them: `1`, `"25%"`.
package enum PodShare {
    package static func resolve(_ json: JSONValue?, of total: Int, roundsUp: Bool, default fallback: Int) -> Int {
        if let number = json?.int { return max(0, Int(clamping: number)) }
        guard let text = json?.string, text.hasSuffix("%"), let percent = Int(text.dropLast()), percent >= 0,
            percent <= 1_000_000
        else { return fallback }
        let (whole, rest) = (total * percent).quotientAndRemainder(dividingBy: 100)
        return whole + (roundsUp && rest > 0 ? 1 : 0)
    }
}
