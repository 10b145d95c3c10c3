kubectl get pod -n foo -o wide
kubectl get pod -n bar-1 -o wide
kubectl get pod -n bar-2 -o wide
