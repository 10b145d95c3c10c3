package import GRPCCore

extension CallerAuthenticator {
    /// Authenticates one call by its metadata.
    package func authenticate(_ metadata: Metadata) async throws -> AuthenticatedCaller {
        guard let header = metadata[stringValues: "authorization"].first(where: { _ in true }) else {
            throw AuthenticationFailure("the call carries no authorization header")
        }
        let scheme = "bearer "
        guard header.lowercased().hasPrefix(scheme) else {
            throw AuthenticationFailure("the authorization header is no bearer token")
        }
        let token = String(header.dropFirst(scheme.count))
        let clusterID = metadata[stringValues: "clusterid"].first(where: { _ in true }) ?? ""
        return try await self.authenticate(bearer: token, clusterID: clusterID)
    }
}
