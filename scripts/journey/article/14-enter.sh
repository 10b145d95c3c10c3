docker exec -it k3d-k3s-default-agent-0 nsenter --net --target 24459
