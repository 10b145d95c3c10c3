/// The command line of `martlet-feed`.
struct FeedOptions {
    var directory = ""
    var port = 15012
    /// A generated mesh of so many.
    var workloads = 0
    var services = 0
    /// Instead: a file with a JSON array of Kubernetes objects.
    var objects: String?
    /// PEM files of the signer; nil: a new one is made.
    var authority: (certificate: String, key: String)?

    struct UsageError: Error, CustomStringConvertible {
        let reason: String
        init(_ reason: String) { self.reason = reason }
        var description: String {
            """
            \(self.reason)
            usage: martlet-feed --directory DIR [--port N] [--ca-cert FILE --ca-key FILE]
                                [--workloads N] [--services N] | --objects FILE
            """
        }
    }

    init(_ arguments: some Sequence<String>) throws(UsageError) {
        var rest = Array(arguments)[...]
        var certificate: String?
        var key: String?
        while let name = rest.popFirst() {
            guard let value = rest.popFirst() else { throw UsageError("\(name) needs a value") }
            func number(_ range: ClosedRange<Int>) throws(UsageError) -> Int {
                guard let number = Int(value), range.contains(number) else {
                    throw UsageError("\(name) \(value): wanted \(range.lowerBound) to \(range.upperBound)")
                }
                return number
            }
            switch name {
            case "--directory": self.directory = value
            case "--port": self.port = try number(1...65_535)
            case "--workloads": self.workloads = try number(0...1_000_000)
            case "--services": self.services = try number(0...1_000_000)
            case "--objects": self.objects = value
            case "--ca-cert": certificate = value
            case "--ca-key": key = value
            default: throw UsageError("unknown option \(name)")
            }
        }
        if self.directory.isEmpty { throw UsageError("--directory is missing") }
        if self.objects != nil, self.workloads + self.services > 0 {
            throw UsageError("--objects and a generated mesh exclude each other")
        }
        switch (certificate, key) {
        case (let certificate?, let key?): self.authority = (certificate, key)
        case (nil, nil): break
        default: throw UsageError("--ca-cert and --ca-key go together")
        }
    }
}
