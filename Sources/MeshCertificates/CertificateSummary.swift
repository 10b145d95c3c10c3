internal import MeshTelemetry
internal import SwiftASN1
internal import X509

/// What a dump says about one certificate.
package struct CertificateSummary: Hashable, Sendable {
    /// Decimal.
    package let serialNumber: String
    /// RFC 3339.
    package let validFrom, expirationTime: String
    /// Base64 of the PEM text.
    package let pem: String

    /// Nil for bytes that are no certificate.
    package init?(der: [UInt8]) {
        guard let certificate = try? Certificate(derEncoded: der) else { return nil }
        self.serialNumber = Self.decimal(Array(certificate.serialNumber.bytes))
        self.validFrom = Timestamp.text(seconds: Int64(certificate.notValidBefore.timeIntervalSince1970))
        self.expirationTime = Timestamp.text(seconds: Int64(certificate.notValidAfter.timeIntervalSince1970))
        self.pem = Self.base64(Array(PEMDocument(type: "CERTIFICATE", derBytes: der).pemString.utf8))
    }

    /// Big-endian bytes as a decimal number.
    package static func decimal(_ bytes: [UInt8]) -> String {
        var digits: [UInt8] = [0]  // the least first
        for byte in bytes {
            var carry = Int(byte)
            for index in digits.indices {
                carry += Int(digits[index]) << 8
                digits[index] = UInt8(carry % 10)
                carry /= 10
            }
            while carry > 0 {
                digits.append(UInt8(carry % 10))
                carry /= 10
            }
        }
        return String(decoding: digits.reversed().map { 0x30 + $0 }, as: UTF8.self)
    }

    /// RFC 4648, section 4.
    package static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.enumerated().reduce(0) { $0 | Int($1.element) << (16 - 8 * $1.offset) }
            for index in 0..<4 {
                text.append(index <= group.count ? alphabet[bits >> (18 - 6 * index) & 63] : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
