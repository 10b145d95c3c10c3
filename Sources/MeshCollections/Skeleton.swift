// MeshCollections
