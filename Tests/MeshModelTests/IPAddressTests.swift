import MeshModel
import Testing

@Suite("An IP address")
struct IPAddressTests {
    @Test(
        "reads RFC 4291 text and writes RFC 5952 text",
        arguments: [
            ("10.0.0.1", "10.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"),
            ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("fd16:9254:7127:1337:ffff:ffff:ffff:ffff", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
            ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
            ("::ffff:10.1.2.3", "10.1.2.3"), ("::ffff:a01:203", "10.1.2.3"),
        ])
    func roundTrip(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(canonical) == address)
        #expect(IPAddress(bytes: address.bytes) == address)
    }

    @Test(
        "refuses everything else",
        arguments: [
            "", " ", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "+1.2.3.4", "1..2.3", "a.b.c.d",
            ":", ":::", ":1", "1:", "1:::2", "::1::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::",
            "12345::", "g::", "::1%eth0", "[::1]", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4",
            "\u{661}.2.3.4", "::\u{ff11}",
        ])
    func refused(text: String) { #expect(IPAddress(text) == nil) }

    @Test("S16: has 4 or 16 bytes and no other number", arguments: [0, 1, 3, 5, 15, 17])
    func byteCount(count: Int) { #expect(IPAddress(bytes: [UInt8](repeating: 1, count: count)) == nil) }

    @Test("an IPv4-mapped address is the IPv4 address")
    func mapped() {
        let mapped = IPAddress(bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1])
        #expect(mapped == IPAddress("10.0.0.1"))
        #expect(mapped?.isV6 == false)
    }

    @Test("an IPv4 address and an IPv6 address of equal bits differ")
    func families() { #expect(IPAddress("0.0.0.1") != IPAddress("::1")) }

    @Test(
        "knows loopback",
        arguments: [
            ("127.0.0.1", true), ("127.255.0.1", true), ("128.0.0.1", false), ("::1", true),
            ("::2", false), ("0.0.0.1", false),
        ])
    func loopback(text: String, isLoopback: Bool) throws {
        #expect(try #require(IPAddress(text)).isLoopback == isLoopback)
    }
}

@Suite("An address with a port")
struct IPEndpointTests {
    @Test("reads what it writes", arguments: ["10.0.0.1:80", "[2001:db8::1]:15008", "0.0.0.0:0", "[::]:65535"])
    func roundTrip(text: String) { #expect(IPEndpoint(text)?.description == text) }

    @Test(
        "refuses a missing or impossible port, and IPv6 without brackets",
        arguments: [
            "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:+1", "10.0.0.1: 80", "10.0.0.1:000080",
            "::1:80", "[::1]", "[::1]80", "[10.0.0.1]:80", "[::1:80", "host:80", ":80", "[]:80",
        ])
    func refused(text: String) { #expect(IPEndpoint(text) == nil) }
}

@Suite("A block of addresses")
struct CIDRTests {
    @Test(
        "contains its range and no more",
        arguments: [
            ("10.0.0.0/8", "10.255.255.255", true), ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.128/25", "10.1.2.255", true), ("10.1.2.128/25", "10.1.2.127", false),
            ("10.1.2.3/32", "10.1.2.3", true), ("10.1.2.3/32", "10.1.2.2", false), ("10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "255.1.1.1", true), ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false), ("2001:db8::/64", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::/65", "2001:db8::8000:0:0:0", false), ("2001:db8::1/128", "2001:db8::1", true),
            ("::/0", "ff::", true),
        ])
    func contains(block: String, address: String, isInside: Bool) throws {
        let block = try #require(CIDR(block))
        #expect(block.contains(try #require(IPAddress(address))) == isInside)
    }

    @Test("S9: an IPv6 block never contains an IPv4 address, and the other way round")
    func families() throws {
        #expect(CIDR("::/0")?.contains(IPAddress(v4: 0x0102_0304)) == false)
        #expect(CIDR("0.0.0.0/0")?.contains(IPAddress(v6High: 0, low: 0x0102_0304)) == false)
    }

    @Test("masks its base")
    func masked() {
        #expect(CIDR("10.1.2.3/8") == CIDR("10.0.0.0/8"))
        #expect(CIDR("10.1.2.3/8")?.description == "10.0.0.0/8")
    }

    @Test(
        "refuses lengths that are none",
        arguments: [
            "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/a", "10.0.0.0/8/8", "/8", "", "::/129", "10.0.0/8",
            // Says 104 of 128 bits, but the base has become IPv4: nobody should have to guess.
            "::ffff:10.0.0.0/104", "::ffff:10.0.0.0/8",
        ])
    func refused(text: String) { #expect(CIDR(text) == nil) }
}
