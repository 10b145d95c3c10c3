docker exec -it k3d-k3s-default-agent-0 ps -ef | grep istio
