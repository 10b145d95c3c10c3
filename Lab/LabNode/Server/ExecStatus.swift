package import KubeAPI

/// What a client of exec gets at the end, on the error channel.
package enum ExecStatus {
    package static let success: JSONValue = ["metadata": [:], "status": "Success"]

    /// - Parameters:
    ///   - code: as a shell says it, so never negative: clients refuse negative ones.
    ///   - reason: runc's own error, when the program could not be started.
    package static func ended(code: Int32, reason: String?) -> JSONValue {
        if let reason, code != 0 {
            return self.failure("error executing command in container: \(reason)")
        }
        if code == 0 { return self.success }
        return [
            "metadata": [:], "status": "Failure", "reason": "NonZeroExitCode",
            "message": .string("command terminated with non-zero exit code: exit status \(code)"),
            "details": ["causes": [["reason": "ExitCode", "message": .string("\(code)")]]],
        ]
    }

    package static func failure(_ message: String) -> JSONValue {
        [
            "metadata": [:], "status": "Failure", "reason": "InternalError", "code": 500, "message": .string(message),
        ]
    }
}
