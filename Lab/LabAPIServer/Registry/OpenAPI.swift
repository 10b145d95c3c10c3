internal import Crypto
internal import Foundation
internal import KubeAPI

/// OpenAPI documents: just enough that clients trust the server's own validation (`fieldValidation`) and that
/// `kubectl explain` has something to show.
struct OpenAPI {
    let view: Registry.View

    /// An empty v2 document in protobuf: clients then skip their own validation.
    static let emptyV2 = APIResponse(
        status: 200, contentType: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", [])

    /// `/openapi/v3`: one path per group version; the hash changes with the document.
    var index: JSONValue {
        var paths: [String: JSONValue] = [:]
        for group in self.view.groups {
            for version in group.versions {
                let path = Self.path(group.name, version.version)
                guard let document = self.document(path) else { continue }
                let digest = SHA256.hash(data: Data(document.encoded)).prefix(16).map { String($0, radix: 16) }.joined()
                paths[path] = ["serverRelativeURL": .string("/openapi/v3/\(path)?hash=\(digest.uppercased())")]
            }
        }
        return ["paths": .object(paths)]
    }

    private static func path(_ group: String, _ version: String) -> String {
        group.isEmpty ? "api/\(version)" : "apis/\(group)/\(version)"
    }

    /// The document of one group version, by its path in the index.
    func document(_ path: String) -> JSONValue? {
        for group in self.view.groups {
            for version in group.versions where Self.path(group.name, version.version) == path {
                return Self.document(version.kinds, title: path)
            }
        }
        return nil
    }

    private static func document(_ kinds: [ResourceKind], title: String) -> JSONValue {
        var paths: [String: JSONValue] = [:]
        var schemas: [String: JSONValue] = [:]
        for kind in kinds {
            let gvk: JSONValue = [
                "group": .string(kind.group), "version": .string(kind.type.version), "kind": .string(kind.type.kind),
            ]
            let name = self.schemaName(kind)
            schemas[name] = self.schema(kind, gvk, &schemas)
            guard kind.has("patch") else { continue }
            let parameters: JSONValue = ["dryRun", "fieldManager", "fieldValidation", "force"].reduce([]) { list, name in
                .array(
                    (list.array ?? []) + [
                        ["name": .string(name), "in": "query", "schema": ["type": name == "force" ? "boolean" : "string"]]
                    ])
            }
            paths[kind.type.path(namespace: "{namespace}", name: "{name}")] = [
                "patch": ["x-kubernetes-group-version-kind": gvk, "parameters": parameters, "responses": [:]],
                "get": ["x-kubernetes-group-version-kind": gvk, "responses": [:]],
            ]
        }
        schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] = self.objectMeta
        return [
            "openapi": "3.0.0", "info": ["title": .string(title), "version": "v1.37.0"], "paths": .object(paths),
            "components": ["schemas": .object(schemas)],
        ]
    }

    private static func schemaName(_ kind: ResourceKind) -> String {
        let group = kind.group.isEmpty ? "core" : kind.group
        return group.split(separator: ".").reversed().joined(separator: ".") + ".\(kind.type.version).\(kind.type.kind)"
    }

    private static func schema(
        _ kind: ResourceKind, _ gvk: JSONValue, _ schemas: inout [String: JSONValue]
    ) -> JSONValue {
        var schema: JSONValue
        if let custom = kind.custom {
            schema = custom.schema.source
        } else {
            schema = ProtobufSchema.openAPI(kind, into: &schemas) ?? [
                "type": "object",
                "properties": ["spec": ["type": "object"], "status": ["type": "object"]],
            ]
        }
        schema.set(
            ["properties", "apiVersion"],
            to: ["type": "string", "description": "The version of the schema this object is written in."])
        schema.set(["properties", "kind"], to: ["type": "string", "description": "The kind of this object."])
        schema.set(
            ["properties", "metadata"],
            to: [
                "description": "Standard object metadata.",
                "allOf": [["$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]],
            ])
        schema["x-kubernetes-group-version-kind"] = [gvk]
        return schema
    }

    private static let objectMeta: JSONValue = [
        "type": "object", "description": "Metadata that all persisted objects have.",
        "properties": [
            "name": ["type": "string"], "generateName": ["type": "string"], "namespace": ["type": "string"],
            "uid": ["type": "string"], "resourceVersion": ["type": "string"],
            "generation": ["type": "integer", "format": "int64"],
            "creationTimestamp": ["type": "string", "format": "date-time"],
            "deletionTimestamp": ["type": "string", "format": "date-time"],
            "deletionGracePeriodSeconds": ["type": "integer", "format": "int64"],
            "labels": ["type": "object", "additionalProperties": ["type": "string"]],
            "annotations": ["type": "object", "additionalProperties": ["type": "string"]],
            "finalizers": ["type": "array", "items": ["type": "string"]],
            "ownerReferences": ["type": "array", "items": ["type": "object"]],
            "managedFields": ["type": "array", "items": ["type": "object"]],
        ],
    ]
}
