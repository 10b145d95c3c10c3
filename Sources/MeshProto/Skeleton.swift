// MeshProto
