kubectl get pods -n argocd
