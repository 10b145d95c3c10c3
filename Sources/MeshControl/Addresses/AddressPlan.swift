package import MeshModel

/// Which virtual addresses the hosts of ServiceEntries get, so that a client can name a host that has no address.
///
/// A pure function of all ServiceEntries: addresses that were given stay; an address that an object asks for itself
/// beats one that was given; of two objects with the same given address the older keeps it; an object that may have
/// none loses what it has. New ones are taken from where the last one was, so that a freed address is not another
/// host's at once: clients may still remember it.
package struct AddressPlan: Sendable {
    /// Istio's ranges: 65 534 addresses and more than anybody needs.
    package static let v4Default = CIDR("240.240.0.0/16")!
    package static let v6Default = CIDR("2001:2::/48")!

    private struct Range: Sendable {
        var block: CIDR
        var size: UInt64
        /// Offset of the address to try next; 0 is the network's own.
        var next: UInt64 = 1
    }
    private var ranges: [Range]

    package init(v4: CIDR = AddressPlan.v4Default, v6: CIDR = AddressPlan.v6Default) {
        self.ranges = [v4, v6].map { block in
            let bits = UInt64(block.base.bitWidth - block.prefixLength)
            return Range(block: block, size: 1 << min(bits, 32))
        }
    }

    package struct Outcome: Hashable, Sendable {
        /// What the statuses of these objects should say from now on, by key; the others are as they should be.
        package var changes: [String: [ServiceEntryView.AllocatedAddress]] = [:]
        /// Hosts that lack an address because a range is used up, as `<namespace>/<name> <host>`.
        package var lacking: Set<String> = []
    }

    package mutating func decide(_ entries: [String: ServiceEntryView]) -> Outcome {
        let ordered = entries.values.sorted { ($0.createdAt, $0.key) < ($1.createdAt, $1.key) }
        var used: Set<IPAddress> = []
        for view in ordered {
            for block in view.addresses ?? [] where block.prefixLength == block.base.bitWidth {
                used.insert(block.base)
            }
        }
        // First everybody keeps what is theirs, then who lacks something gets it.
        var kept: [String: [ServiceEntryView.AllocatedAddress]] = [:]
        for view in ordered {
            var families: Set<String> = []
            kept[view.key] = view.allocated.filter { allocated in
                guard view.hosts.contains(allocated.host), view.mayAllocate(allocated.host),
                    self.ranges.contains(where: { $0.block.contains(allocated.address) }),
                    !used.contains(allocated.address),
                    families.insert("\(allocated.address.isV6) \(allocated.host)").inserted
                else { return false }
                used.insert(allocated.address)
                return true
            }
        }
        var outcome = Outcome()
        var exhausted: Set<Int> = []
        for view in ordered {
            var addresses = kept[view.key] ?? []
            var seen: Set<String> = []
            for host in view.hosts where view.mayAllocate(host) && seen.insert(host).inserted {
                for number in self.ranges.indices {
                    let isV6 = self.ranges[number].block.base.isV6
                    if addresses.contains(where: { $0.host == host && $0.address.isV6 == isV6 }) { continue }
                    if !exhausted.contains(number), let address = self.take(number, &used) {
                        addresses.append(.init(host: host, address: address))
                    } else {
                        exhausted.insert(number)
                        outcome.lacking.insert("\(view.key) \(host)")
                    }
                }
            }
            if addresses != view.allocated { outcome.changes[view.key] = addresses }
        }
        return outcome
    }

    private mutating func take(_ number: Int, _ used: inout Set<IPAddress>) -> IPAddress? {
        let range = self.ranges[number]
        var offset = range.next
        // The first address is the network's and, in IPv4, the last its broadcast; neither is given.
        let last = range.size - (range.block.base.isV6 ? 1 : 2)
        guard last >= 1 else { return nil }
        for _ in 0..<last {
            if offset > last { offset = 1 }
            let base = range.block.base
            let address =
                base.isV6
                ? IPAddress(v6High: base.high, low: base.low + offset)
                : IPAddress(v4: UInt32(truncatingIfNeeded: base.low + offset))
            if used.insert(address).inserted {
                self.ranges[number].next = offset + 1
                return address
            }
            offset += 1
        }
        return nil
    }
}
