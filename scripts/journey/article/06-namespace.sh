kubectl create namespace foo
kubectl label namespace foo istio-injection=enabled
