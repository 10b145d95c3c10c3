internal import KubeAPI

/// A port of this machine that leads into the cluster, in k3d's spelling: `[HOST:][PORT:]TARGET[/tcp][@FILTER]`.
///
/// `9080:80@loadbalancer` leads to port 80 of the nodes: to the Service of type LoadBalancer that has this port.
public struct PortMapping: Hashable, Sendable, CustomStringConvertible {
    /// Address to listen on. k3d takes all addresses when none is given; the lab takes 127.0.0.1, and opens the machine
    /// only when told to with `0.0.0.0:`.
    public var host: String
    public var port: Int
    public var target: Int
    public var filter: NodeFilter

    static let hostDefault = "127.0.0.1"

    public init(_ text: String) throws(LabError) {
        func refuse(_ why: String) -> LabError {
            LabError("--port \(text): \(why); wanted [HOST:]PORT:TARGET[@FILTER], e.g. 9080:80@loadbalancer")
        }
        let (mapping, filter) = try NodeFilter.split(text)
        self.filter = filter ?? NodeFilter([.loadBalancer])
        let words = mapping.split(separator: "/", omittingEmptySubsequences: false)
        if words.count == 2, words[1].lowercased() != "tcp" {
            throw refuse("only TCP ports can be mapped, not \(words[1])")
        }
        guard words.count <= 2 else { throw refuse("one / at most") }
        let fields = words[0].split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(fields.count) else { throw refuse("too many colons") }
        func number(_ text: String) throws(LabError) -> Int {
            guard let number = Int(text), (1...65_535).contains(number) else { throw refuse("\"\(text)\" is no port") }
            return number
        }
        self.target = try number(fields[fields.count - 1])
        self.port = fields.count >= 2 ? try number(fields[fields.count - 2]) : self.target
        self.host = fields.count == 3 ? fields[0] : Self.hostDefault
        guard IPv4Network.address(self.host) != nil else { throw refuse("\"\(self.host)\" is no IPv4 address") }
    }

    public var description: String { "\(self.host):\(self.port)" }

    var json: JSONValue {
        [
            "host": .string(self.host), "port": .int(Int64(self.port)), "target": .int(Int64(self.target)),
            "filter": .string(self.filterText),
        ]
    }

    init(_ json: JSONValue) throws(LabError) {
        try self.init(
            "\(json["host"]?.string ?? ""):\(json["port"]?.int ?? 0):\(json["target"]?.int ?? 0)@\(json["filter"]?.string ?? "")"
        )
    }

    private var filterText: String {
        self.filter.parts.map { part in
            switch part {
            case .all: "all"
            case .loadBalancer: "loadbalancer"
            case .nodes(let role, nil): "\(role.rawValue):*"
            case .nodes(let role, let indexes?):
                "\(role.rawValue):\(indexes.map { String($0) }.joined(separator: ","))"
            }
        }.joined(separator: ";")
    }
}
