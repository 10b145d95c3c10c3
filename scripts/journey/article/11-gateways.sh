kubectl get gateway -A
