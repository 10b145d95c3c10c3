import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("Virtual addresses for hosts of ServiceEntries")
struct AddressPlanTests {
    /// Applies decisions until there are none, and answers the addresses by `entry/host`.
    static func settle(_ plan: inout AddressPlan, _ entries: inout [String: KubeObject]) -> [String: [String]] {
        for _ in 0..<5 {
            let changes = plan.decide(entries.mapValues { ServiceEntryView($0) }).changes
            if changes.isEmpty { break }
            for (key, addresses) in changes {
                entries[key]?.json.set(
                    ["status", "addresses"],
                    to: .array(
                        addresses.map {
                            ["host": .string($0.host), "value": .string($0.address.description)]
                        }))
            }
        }
        var result: [String: [String]] = [:]
        for (key, object) in entries {
            for allocated in ServiceEntryView(object).allocated {
                result["\(key)/\(allocated.host)", default: []].append(allocated.address.description)
            }
        }
        return result
    }

    static func byKey(_ objects: KubeObject...) -> [String: KubeObject] {
        Dictionary(uniqueKeysWithValues: objects.map { ($0.key, $0) })
    }

    @Test("every eligible host gets one of each family, and keeps it")
    func eligible() {
        var plan = AddressPlan()
        var entries = Self.byKey(
            Make.entry("a", hosts: ["a.example", "b.example", "*.example"], resolution: "DNS"),
            Make.entry("none", hosts: ["n.example"], resolution: "NONE"),
            Make.entry("own", hosts: ["o.example"], addresses: ["10.0.0.1"]),
            Make.entry(
                "out", hosts: ["x.example"], labels: ["networking.istio.io/enable-autoallocate-ip": "false"]),
            Make.entry("dynamic", hosts: ["*.dyn.example"], resolution: "DYNAMIC_DNS"))
        let given = Self.settle(&plan, &entries)
        #expect(Set(given.keys) == ["ns1/a/a.example", "ns1/a/b.example", "ns1/dynamic/*.dyn.example"])
        #expect(given["ns1/a/a.example"] == ["240.240.0.1", "2001:2::1"])
        #expect(given["ns1/a/b.example"] == ["240.240.0.2", "2001:2::2"])
        // Another replica, or this one after a restart, decides the same.
        var other = AddressPlan()
        #expect(Self.settle(&other, &entries) == given)
    }

    @Test("an address that somebody asks for is taken from who was given it; the older of two keeps it")
    func conflicts() {
        var plan = AddressPlan()
        var entries = Self.byKey(
            Make.entry(
                "young", hosts: ["y.example"], allocated: [("y.example", "240.240.0.1")],
                createdAt: "2026-02-01T00:00:00Z"),
            Make.entry("old", hosts: ["o.example"], allocated: [("o.example", "240.240.0.1")]),
            Make.entry("asks", hosts: ["z.example"], addresses: ["240.240.0.2"]))
        var given = Self.settle(&plan, &entries)
        #expect(given["ns1/old/o.example"]?.first == "240.240.0.1")
        #expect(given["ns1/young/y.example"]?.contains("240.240.0.3") == true)
        entries["ns1/asks"] = Make.entry("asks", hosts: ["z.example"], addresses: ["240.240.0.1"])
        given = Self.settle(&plan, &entries)
        #expect(given["ns1/old/o.example"]?.contains("240.240.0.1") == false)
    }

    @Test("who may have none loses it, and a freed address is not another's at once")
    func freed() {
        var plan = AddressPlan()
        var entries = Self.byKey(Make.entry("a", hosts: ["a.example"]))
        #expect(Self.settle(&plan, &entries)["ns1/a/a.example"]?.first == "240.240.0.1")
        entries["ns1/a"]?.json.set(["spec", "resolution"], to: "NONE")
        #expect(Self.settle(&plan, &entries).isEmpty)
        entries["ns1/b"] = Make.entry("b", hosts: ["b.example"])
        #expect(Self.settle(&plan, &entries)["ns1/b/b.example"]?.first == "240.240.0.2")
    }

    @Test("a range that is used up is said, and wraps round to what is free again")
    func exhausted() {
        // 14 addresses between the network's own and the broadcast.
        var plan = AddressPlan(v4: CIDR("240.0.0.0/28")!, v6: CIDR("2001:2::/124")!)
        var entries: [String: KubeObject] = [:]
        for number in 10..<26 {
            entries["ns1/e\(number)"] = Make.entry("e\(number)", hosts: ["h\(number)"])
        }
        #expect(
            plan.decide(entries.mapValues { ServiceEntryView($0) }).lacking
                == ["ns1/e24 h24", "ns1/e25 h25"])
        let given = Self.settle(&plan, &entries)
        #expect(given["ns1/e23/h23"]?.count == 2 && given["ns1/e24/h24"]?.count == 1 && given["ns1/e25/h25"] == nil)
        entries["ns1/e10"] = nil
        #expect(Self.settle(&plan, &entries)["ns1/e24/h24"]?.count == 2)
    }
}
