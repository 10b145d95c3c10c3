kubectl get pod -n bar-2
