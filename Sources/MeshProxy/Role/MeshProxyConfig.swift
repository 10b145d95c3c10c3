internal import MeshProcess
internal import Yams

/// What an operator sets for all proxies of a mesh at once: `defaultConfig` of the mesh's configuration file, and the
/// variable `PROXY_CONFIG` over it. The environment's own variables come before both.
///
/// Of Istio's `ProxyConfig` these fields mean something to a node proxy; the others are for other proxies and passed
/// over.
struct MeshProxyConfig: Decodable, Equatable {
    /// Stands in for `XDS_ADDRESS`.
    var discoveryAddress: String?
    var proxyAdminPort: Int?
    var statsPort: Int?
    /// Stands in for `ZTUNNEL_WORKER_THREADS`: 0 is all cores.
    var concurrency: Int?
    /// Each stands in for the variable `ISTIO_META_<key>`; a key may carry that prefix itself.
    var proxyMetadata: [String: String]?

    static let meshFile = "./etc/istio/config/mesh"
    static let variable = "PROXY_CONFIG"

    private struct Mesh: Decodable { var defaultConfig: MeshProxyConfig? }

    static func read(
        _ environment: [String: String], _ fileExists: (String) -> Bool, _ readText: (String) throws -> String
    ) throws(InvalidSetting) -> MeshProxyConfig {
        var config = MeshProxyConfig()
        if fileExists(Self.meshFile) {
            let text: String
            do { text = try readText(Self.meshFile) } catch {
                throw InvalidSetting(Self.meshFile, "", wanted: "a file that can be read: \(error)")
            }
            let mesh: Mesh? = try decodeSetting(text, from: Self.meshFile)
            config.merge(mesh?.defaultConfig)
        }
        config.merge(try decodeSetting(environment[Self.variable] ?? "", from: Self.variable))
        return config
    }

    private mutating func merge(_ other: MeshProxyConfig?) {
        guard let other else { return }
        self.discoveryAddress = other.discoveryAddress ?? self.discoveryAddress
        self.proxyAdminPort = other.proxyAdminPort ?? self.proxyAdminPort
        self.statsPort = other.statsPort ?? self.statsPort
        self.concurrency = other.concurrency ?? self.concurrency
        self.proxyMetadata = (self.proxyMetadata ?? [:]).merging(other.proxyMetadata ?? [:]) { $1 }
    }

    /// The environment, and where it says nothing, what stands here.
    func beneath(_ environment: [String: String]) -> [String: String] {
        var variables: [String: String] = [:]
        for (key, value) in self.proxyMetadata ?? [:] {
            let isVariable = key.hasPrefix("ISTIO_META_") || key.hasPrefix("ISTIO_METAJSON_")
            variables[isVariable ? key : "ISTIO_META_\(key)"] = value
        }
        variables["XDS_ADDRESS"] = self.discoveryAddress
        variables["ZTUNNEL_WORKER_THREADS"] = self.concurrency.map(String.init)
        return variables.merging(environment) { $1 }
    }

    enum CodingKeys: CodingKey { case discoveryAddress, proxyAdminPort, statsPort, concurrency, proxyMetadata }

    init() {}

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.discoveryAddress = try fields.decodeIfPresent(String.self, forKey: .discoveryAddress)
        self.proxyAdminPort = try fields.number(.proxyAdminPort, in: 1...65_535)
        self.statsPort = try fields.number(.statsPort, in: 1...65_535)
        self.concurrency = try fields.number(.concurrency, in: 0...4096)
        self.proxyMetadata = try fields.decodeIfPresent([String: String].self, forKey: .proxyMetadata)
    }
}

extension KeyedDecodingContainer {
    func number(_ key: Key, in range: ClosedRange<Int>) throws -> Int? {
        guard let number = try self.decodeIfPresent(Int.self, forKey: key) else { return nil }
        guard range.contains(number) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self,
                debugDescription: "\(number) is not from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }
}
