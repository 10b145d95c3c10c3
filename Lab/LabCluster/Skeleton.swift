// LabCluster
