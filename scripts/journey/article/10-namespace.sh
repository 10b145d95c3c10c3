kubectl create namespace bar-2
kubectl label namespace bar-2 istio.io/dataplane-mode=ambient
