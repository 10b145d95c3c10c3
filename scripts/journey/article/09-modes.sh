kubectl get ns -L istio.io/dataplane-mode
