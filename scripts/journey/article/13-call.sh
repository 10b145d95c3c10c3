kubectl exec -it deploy/sleep -n foo sleep -- curl http://httpbin.bar-1:8000/get
