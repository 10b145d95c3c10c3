kubectl create namespace bar-1
kubectl label namespace bar-1 istio.io/dataplane-mode=ambient
