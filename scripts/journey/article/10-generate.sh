istioctl waypoint generate --for service -n bar-2
