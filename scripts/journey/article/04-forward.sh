kubectl port-forward svc/argocd-server -n argocd 9999:443
