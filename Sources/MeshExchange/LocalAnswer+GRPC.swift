internal import MeshHTTP
internal import MeshRoutes

extension LocalAnswer {
    /// For a call of gRPC: 200 and the status in the head alone, which is complete with that (gRPC over HTTP/2,
    /// "Trailers-Only"); the mapping of statuses is the protocol's own.
    func forGRPC() -> LocalAnswer {
        var answer = self
        answer.response = ResponseHead(status: 200)
        answer.response.fields.append("content-type", "application/grpc")
        answer.response.fields.append("grpc-status", String(Self.grpcStatus(self.response.status)))
        if !self.body.isEmpty { answer.response.fields.append("grpc-message", Self.escaped(self.body)) }
        answer.body = ""
        return answer
    }

    private static func grpcStatus(_ status: Int) -> Int {
        switch status {
        case 400: 13
        case 401: 16
        case 403: 7
        case 404: 12
        case 429, 502, 503, 504: 14
        default: 2
        }
    }

    /// Percent-encoding of everything but visible ASCII and space.
    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for octet in text.utf8 {
            if octet >= 0x20, octet <= 0x7E, octet != 0x25 {
                escaped.unicodeScalars.append(Unicode.Scalar(octet))
            } else {
                let digits = String(octet, radix: 16, uppercase: true)
                escaped += digits.count == 1 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return escaped
    }
}
