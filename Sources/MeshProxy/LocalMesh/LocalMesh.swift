package import MeshModel
internal import MeshProcess

/// A part of the mesh that an operator writes by hand, as YAML: workloads, services and policies that are there whatever
/// the control plane says, or without any (`LOCAL_XDS`, `LOCAL_XDS_PATH`). Read once, at start.
///
///     workloads:
///     - uid: cluster//Pod/shop/web-1
///       name: web-1
///       namespace: shop
///       workloadIps: ["10.0.0.1"]
///       protocol: HBONE
///       services: {"shop/web.shop.svc.cluster.local": {80: 8080}}
///     services:
///     - name: web
///       namespace: shop
///       hostname: web.shop.svc.cluster.local
///       vips: ["/10.1.0.1"]
///       ports: {80: 8080}
///     policies:
///     - name: only-admins
///       namespace: shop
///       scope: Namespace
///       action: Allow
///       rules: [[[{namespaces: [{Exact: admin}]}]]]
///
/// A field that nobody knows is an error: it could be a misspelt restriction.
package struct LocalMesh: Decodable, Sendable {
    package var addresses: [MeshAddress]
    package var policies: [AuthorizationPolicy]

    /// More belongs to a control plane.
    package static let entriesMax = 10_000

    private enum Field: String, CodingKey, CaseIterable { case workloads, services, policies }

    package init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        let workloads = try fields.decodeIfPresent([LocalWorkload].self, forKey: .workloads) ?? []
        let services = try fields.decodeIfPresent([LocalService].self, forKey: .services) ?? []
        self.addresses = workloads.map { .workload($0.workload) } + services.map { .service($0.service) }
        self.policies = try fields.decodeIfPresent([LocalPolicy].self, forKey: .policies)?.map(\.policy) ?? []
        guard self.addresses.count + self.policies.count <= Self.entriesMax else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "more than \(Self.entriesMax) entries"))
        }
        let names = self.addresses.map(\.resourceName) + self.policies.map { "policy \($0.key)" }
        var seen: Set<String> = []
        if let twice = names.first(where: { !seen.insert($0).inserted }) {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "\(twice) is there twice"))
        }
    }

    /// - Throws: ``InvalidSetting``, when both variables are set, and for a text that does not fit.
    static func read(
        _ reader: EnvironmentReader, _ readText: (String) throws -> String
    ) throws(InvalidSetting) -> LocalMesh? {
        guard let path = reader.text("LOCAL_XDS_PATH") else {
            return try decodeSetting(reader.text("LOCAL_XDS") ?? "", from: "LOCAL_XDS")
        }
        if reader.text("LOCAL_XDS") != nil {
            throw InvalidSetting("LOCAL_XDS_PATH", path, wanted: "nothing beside LOCAL_XDS: one of them says it all")
        }
        let text: String
        do { text = try readText(path) } catch {
            throw InvalidSetting("LOCAL_XDS_PATH", path, wanted: "a file that can be read: \(error)")
        }
        return try decodeSetting(text, from: "LOCAL_XDS_PATH")
    }
}
