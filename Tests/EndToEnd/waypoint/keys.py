"""An issuer of tokens, as far as others see it: its keys at /keys, and its OpenID discovery. PUT /keys changes the keys; in
the pod /fetched tells how often they were fetched since."""

import http.server

ISSUER = "http://keys.outside.svc.cluster.local:8000"
keys = b'{"keys": []}'
fetched = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global fetched
        found = {
            "/keys": keys, "/fetched": str(fetched).encode(),
            "/.well-known/openid-configuration": f'{{"issuer": "{ISSUER}", "jwks_uri": "{ISSUER}/keys"}}'.encode()}
        fetched += self.path == "/keys"
        self.answer(200 if self.path in found else 404, found.get(self.path, b""))

    def do_PUT(self):
        global keys, fetched
        keys, fetched = self.rfile.read(int(self.headers["Content-Length"])), 0
        self.answer(200, b"")

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        # As seldom as the mesh fetches again at most.
        self.send_header("Cache-Control", "max-age=1")
        self.end_headers()
        self.wfile.write(content)


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
