// The L7 engine: connections, requests and upstream pools of a waypoint.
