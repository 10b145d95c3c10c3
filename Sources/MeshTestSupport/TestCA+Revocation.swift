internal import Crypto
internal import Foundation
internal import SwiftASN1
internal import X509

/// Certificate revocation lists (RFC 5280, 5.1), as an authority of tests signs them.
extension TestCA {
    /// An extension of a list that changes what the list means.
    public enum ListKind: Sendable { case complete, delta, unknownCritical }

    /// - Parameters:
    ///   - revoked: DER certificates; only their serial numbers count.
    ///   - validity: seconds from now, of thisUpdate and nextUpdate.
    /// - Returns: DER.
    public func revocationList(
        of revoked: [[UInt8]], validity: Range<Double> = -60..<86_400, kind: ListKind = .complete
    ) throws -> [UInt8] {
        let serials = try revoked.map { certificate in
            let magnitude = try Certificate(derEncoded: certificate).serialNumber.bytes.drop { $0 == 0 }
            // An INTEGER whose first bit is set would be negative.
            return (magnitude.first ?? 0x80) >= 0x80 ? [0] + magnitude : Array(magnitude)
        }
        var signed = DER.Serializer()
        try signed.appendConstructedNode(identifier: .sequence) { list in
            try list.serialize(1)  // v2
            try Self.algorithm(&list)
            try list.serialize(self.name)
            try list.serialize(Self.time(validity.lowerBound))
            try list.serialize(Self.time(validity.upperBound))
            // Absent when it is empty.
            if !serials.isEmpty {
                try list.appendConstructedNode(identifier: .sequence) { entries in
                    for serial in serials {
                        try entries.appendConstructedNode(identifier: .sequence) { entry in
                            entry.appendPrimitiveNode(identifier: .integer) { $0 += serial }
                            try entry.serialize(Self.time(validity.lowerBound))
                        }
                    }
                }
            }
            let tag = ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific)
            try list.appendConstructedNode(identifier: tag) { outer in
                try outer.appendConstructedNode(identifier: .sequence) { extensions in
                    // cRLNumber 1
                    try Self.add([2, 5, 29, 20], isCritical: false, [2, 1, 1], to: &extensions)
                    switch kind {
                    case .complete: break
                    // deltaCRLIndicator 1
                    case .delta: try Self.add([2, 5, 29, 27], isCritical: true, [2, 1, 1], to: &extensions)
                    case .unknownCritical: try Self.add([1, 3, 6, 1, 4, 9], isCritical: true, [5, 0], to: &extensions)
                    }
                }
            }
        }
        let body = signed.serializedBytes
        let signature = try self.key.signature(for: Data(body)).derRepresentation
        var whole = DER.Serializer()
        try whole.appendConstructedNode(identifier: .sequence) { list in
            list.serializeRawBytes(body)
            try Self.algorithm(&list)
            try list.serialize(ASN1BitString(bytes: ArraySlice(signature)))
        }
        return whole.serializedBytes
    }

    public static func pem(list der: [UInt8]) -> [UInt8] {
        Array((PEMDocument(type: "X509 CRL", derBytes: der).pemString + "\n").utf8)
    }

    public static func pem(certificate der: [UInt8]) -> [UInt8] {
        Array((PEMDocument(type: "CERTIFICATE", derBytes: der).pemString + "\n").utf8)
    }

    private static func add(
        _ kind: ASN1ObjectIdentifier, isCritical: Bool, _ value: [UInt8], to list: inout DER.Serializer
    ) throws {
        try list.appendConstructedNode(identifier: .sequence) { parts in
            try parts.serialize(kind)
            if isCritical { try parts.serialize(true) }
            try parts.serialize(ASN1OctetString(contentBytes: ArraySlice(value)))
        }
    }

    /// ecdsa-with-SHA256
    private static func algorithm(_ list: inout DER.Serializer) throws {
        try list.appendConstructedNode(identifier: .sequence) {
            try $0.serialize([1, 2, 840, 10045, 4, 3, 2] as ASN1ObjectIdentifier)
        }
    }

    private static func time(_ fromNow: Double) throws -> UTCTime {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? calendar.timeZone
        let parts = calendar.dateComponents(
            [.year, .month, .day, .hour, .minute, .second], from: Date().addingTimeInterval(fromNow))
        return try UTCTime(
            year: parts.year ?? 0, month: parts.month ?? 0, day: parts.day ?? 0, hours: parts.hour ?? 0,
            minutes: parts.minute ?? 0, seconds: parts.second ?? 0)
    }
}
