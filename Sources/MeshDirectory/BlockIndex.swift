internal import Collections
internal import MeshModel

/// Which services own the address blocks around an address.
///
/// A table of masked addresses, asked once for each prefix length that exists in the network: 32 questions at the
/// very most for IPv4, two or three in practice, however many blocks there are. Cheap to copy and to change after.
struct BlockIndex: Sendable {
    private struct Family: Hashable, Sendable {
        var network: String
        var isV6: Bool
    }

    private var owners: TreeDictionary<NetworkBlock, [NamespacedName]> = [:]
    /// Prefix lengths in use, longest first, with the number of blocks that have them.
    private var lengths: TreeDictionary<Family, [(length: Int, count: Int)]> = [:]

    var isEmpty: Bool { self.owners.isEmpty }

    mutating func insert(_ block: NetworkBlock, _ service: NamespacedName) {
        if self.owners[block] == nil {
            let family = Family(network: block.network, isV6: block.cidr.base.isV6)
            var lengths = self.lengths[family] ?? []
            let at = lengths.firstIndex { $0.length <= block.cidr.prefixLength } ?? lengths.endIndex
            if at < lengths.endIndex, lengths[at].length == block.cidr.prefixLength {
                lengths[at].count += 1
            } else {
                lengths.insert((block.cidr.prefixLength, 1), at: at)
            }
            self.lengths[family] = lengths
        }
        self.owners[block, default: []].append(service)
    }

    mutating func remove(_ block: NetworkBlock, _ service: NamespacedName) {
        guard var owners = self.owners[block], let at = owners.firstIndex(of: service) else { return }
        owners.remove(at: at)
        guard owners.isEmpty else {
            self.owners[block] = owners
            return
        }
        self.owners[block] = nil
        let family = Family(network: block.network, isV6: block.cidr.base.isV6)
        guard var lengths = self.lengths[family],
            let at = lengths.firstIndex(where: { $0.length == block.cidr.prefixLength })
        else { return }
        lengths[at].count -= 1
        if lengths[at].count == 0 { lengths.remove(at: at) }
        self.lengths[family] = lengths.isEmpty ? nil : lengths
    }

    /// The owners of the blocks around `address`, the longest prefix first, until `visit` says that it has enough.
    func visit(_ address: NetworkAddress, _ visit: (_ owners: [NamespacedName]) -> Bool) {
        guard let lengths = self.lengths[Family(network: address.network, isV6: address.address.isV6)] else { return }
        for (length, _) in lengths {
            guard let cidr = CIDR(base: address.address, prefixLength: length),
                let owners = self.owners[NetworkBlock(network: address.network, cidr: cidr)]
            else { continue }
            if visit(owners) { return }
        }
    }
}
