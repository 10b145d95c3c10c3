istioctl waypoint apply -n bar-2 --enroll-namespace
