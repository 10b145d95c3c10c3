internal import Foundation
internal import SwiftProtobuf

/// Who a sidecar is, as it tells the servers of its application in the headers `x-envoy-peer-metadata-id` and
/// `x-envoy-peer-metadata` (Istio's).
package enum PeerMetadata {
    package struct Peer: Hashable, Sendable {
        package var cluster, name, namespace, owner, workload: String
        package var labels: [String: String]

        package init(
            cluster: String, name: String, namespace: String, owner: String, workload: String,
            labels: [String: String]
        ) {
            (self.cluster, self.name, self.namespace) = (cluster, name, namespace)
            (self.owner, self.workload, self.labels) = (owner, workload, labels)
        }
    }

    /// A `google.protobuf.Struct`, in base64.
    package static func header(_ peer: Peer) -> String {
        func text(_ value: String) -> Google_Protobuf_Value { Google_Protobuf_Value(stringValue: value) }
        let labels = peer.labels.filter { Self.isTold($0.key) }.mapValues(text)
        var fields = [
            "CLUSTER_ID": text(peer.cluster), "NAME": text(peer.name), "NAMESPACE": text(peer.namespace),
            "OWNER": text(peer.owner), "WORKLOAD_NAME": text(peer.workload),
        ]
        fields["LABELS"] = Google_Protobuf_Value(structValue: Google_Protobuf_Struct(fields: labels))
        var options = BinaryEncodingOptions()
        options.useDeterministicOrdering = true
        let bytes: Data? = try? Google_Protobuf_Struct(fields: fields).serializedBytes(options: options)
        return bytes?.base64EncodedString() ?? ""
    }

    /// What names the application; other labels are nobody's business and make every request longer.
    private static func isTold(_ label: String) -> Bool {
        ["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/version"].contains(label)
            || label.hasPrefix("service.istio.io/")
    }
}
