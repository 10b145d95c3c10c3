// MeshZDS
