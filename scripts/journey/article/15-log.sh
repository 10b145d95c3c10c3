kubectl logs ztunnel-9t97l -n istio-system
