// MeshLinux
