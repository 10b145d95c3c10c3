import KubeAPI
import MeshRoutes

/// One filter of a route's rule or backend.
enum FilterReader {
    typealias Unreadable = RouteReader.Unreadable

    /// Nil: a type that we do not have for this kind of route.
    static func filter(_ type: String, _ json: JSONValue, _ kind: RouteKind) throws(Unreadable) -> HTTPFilter? {
        switch type {
        case "RequestHeaderModifier": return .requestHeaders(Self.headers(json["requestHeaderModifier"]))
        case "ResponseHeaderModifier": return .responseHeaders(Self.headers(json["responseHeaderModifier"]))
        case "RequestRedirect" where kind == .http: return .redirect(try Self.redirect(json["requestRedirect"]))
        case "URLRewrite" where kind == .http:
            let rewrite = json["urlRewrite"]
            return .rewrite(
                URLRewrite(hostname: Self.text(rewrite?["hostname"]), path: try Self.path(rewrite?["path"])))
        case "CORS" where kind == .http: return .cors(try Self.cors(json["cors"]))
        default: return nil
        }
    }

    private static func text(_ json: JSONValue?) -> String? { json?.string.flatMap { $0.isEmpty ? nil : $0 } }

    private static func texts(_ json: JSONValue?) -> [String] { (json?.array ?? []).compactMap(\.string) }

    /// Names are told apart without regard to case; of several with one name the first counts.
    private static func headers(_ json: JSONValue?) -> HeaderChange {
        func fields(_ name: String) -> [HeaderChange.Field] {
            var fields: [HeaderChange.Field] = []
            for entry in json?[name]?.array ?? [] {
                let name = (entry["name"]?.string ?? "").lowercased()
                if name.isEmpty || fields.contains(where: { $0.name == name }) { continue }
                fields.append(.init(name: name, value: entry["value"]?.string ?? ""))
            }
            return fields
        }
        var change = HeaderChange()
        change.set = fields("set")
        change.add = fields("add")
        change.remove = Self.texts(json?["remove"]).map { $0.lowercased() }
        return change
    }

    private static func path(_ json: JSONValue?) throws(Unreadable) -> PathChange? {
        guard let json, json.object != nil else { return nil }
        switch json["type"]?.string {
        case "ReplaceFullPath": return .full(json["replaceFullPath"]?.string ?? "/")
        case "ReplacePrefixMatch": return .prefix(json["replacePrefixMatch"]?.string ?? "/")
        case let other: throw Unreadable("change of the path of type \(other ?? "none")")
        }
    }

    private static func redirect(_ json: JSONValue?) throws(Unreadable) -> RequestRedirect {
        let status = json?["statusCode"]?.int ?? 302
        guard [301, 302, 303, 307, 308].contains(status) else { throw Unreadable("redirect with status \(status)") }
        var redirect = RequestRedirect(status: Int(status))
        redirect.scheme = Self.text(json?["scheme"])
        redirect.hostname = Self.text(json?["hostname"])
        redirect.path = try Self.path(json?["path"])
        if let port = json?["port"], !port.isNull {
            guard let number = port.int.flatMap({ UInt16(exactly: $0) }), number > 0 else {
                throw Unreadable("redirect to port \(port)")
            }
            redirect.port = number
        }
        return redirect
    }

    static func mirror(_ json: JSONValue, _ destination: RouteDestination) throws(Unreadable) -> RequestMirror {
        var mirror = RequestMirror(destination: destination)
        if let percent = json["percent"]?.int {
            guard (0...100).contains(percent) else { throw Unreadable("mirror of \(percent) %") }
            mirror.numerator = UInt32(percent)
        } else if let fraction = json["fraction"], fraction.object != nil {
            let numerator = fraction["numerator"]?.int ?? 0
            let denominator = fraction["denominator"]?.int ?? 100
            guard numerator >= 0, denominator > 0, numerator <= denominator, denominator <= UInt32.max else {
                throw Unreadable("mirror of \(numerator)/\(denominator)")
            }
            mirror.numerator = UInt32(numerator)
            mirror.denominator = UInt32(denominator)
        }
        return mirror
    }

    private static func cors(_ json: JSONValue?) throws(Unreadable) -> CORSPolicy {
        var policy = CORSPolicy()
        policy.allowOrigins = Self.texts(json?["allowOrigins"])
        policy.allowMethods = Self.texts(json?["allowMethods"])
        policy.allowHeaders = Self.texts(json?["allowHeaders"])
        policy.exposeHeaders = Self.texts(json?["exposeHeaders"])
        policy.allowCredentials = json?["allowCredentials"]?.bool ?? false
        if let age = json?["maxAge"]?.int {
            guard let seconds = UInt32(exactly: age) else { throw Unreadable("maxAge \(age)") }
            policy.maxAgeSeconds = seconds
        }
        return policy
    }
}
