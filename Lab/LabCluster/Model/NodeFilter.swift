/// Which nodes an option is for, in k3d's spelling: `server:0`, `agent:*`, `agent:0,2`, `all`, `loadbalancer`; several
/// are separated by `;`.
public struct NodeFilter: Hashable, Sendable {
    public enum Role: String, Hashable, Sendable { case server, agent }
    public enum Part: Hashable, Sendable {
        case all, loadBalancer
        /// Nil for every node of the role.
        case nodes(Role, [Int]?)
    }
    public var parts: [Part]

    public init(_ parts: [Part]) { self.parts = parts }

    public init(_ text: some StringProtocol) throws(LabError) {
        self.parts = []
        for word in text.split(separator: ";", omittingEmptySubsequences: false) {
            self.parts.append(try Self.part(String(word)))
        }
    }

    private static func part(_ word: String) throws(LabError) -> Part {
        let fields = word.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        switch fields[0] {
        case "all" where fields.count == 1: return .all
        case "loadbalancer" where fields.count == 1: return .loadBalancer
        case "server", "servers", "agent", "agents":
            let role: Role = fields[0].hasPrefix("server") ? .server : .agent
            if fields.count == 1 || fields == [fields[0], "*"] { return .nodes(role, nil) }
            if fields.count == 2 {
                let numbers = fields[1].split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
                if !numbers.isEmpty, numbers.allSatisfy({ $0 ?? -1 >= 0 }) {
                    return .nodes(role, numbers.compactMap { $0 })
                }
            }
        default: break
        }
        throw LabError(
            "\"\(word)\" is no node filter; wanted loadbalancer, all, server:0, agent:0, agent:* or agent:0,1")
    }

    /// Splits `VALUE@FILTER` at the last `@`.
    public static func split(_ text: String) throws(LabError) -> (value: String, filter: NodeFilter?) {
        guard let at = text.lastIndex(of: "@") else { return (text, nil) }
        return (String(text[..<at]), try NodeFilter(text[text.index(after: at)...]))
    }

    /// Whether a node is meant; a load balancer is no node.
    public func matches(_ role: Role, _ index: Int) -> Bool {
        self.parts.contains { part in
            switch part {
            case .all: true
            case .loadBalancer: false
            case .nodes(let wanted, let indexes): wanted == role && (indexes?.contains(index) ?? true)
            }
        }
    }
}
