"""Connections that are kept between questions. Nobody opens one again: what is asked on one that has ended is an error."""

import http.client

import client


class Kept:
    """One connection, over which one question follows the other."""

    def __init__(self, url, options):
        self.over_http2 = options.http2
        if self.over_http2:
            self.socket, self.state = client.connect(url, options, 80), client.begin_http2()
            self.socket.settimeout(options.timeout)
        else:
            self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=options.timeout)
            self.connection.connect()
            self.connection.auto_open = 0

    def ask(self, url, options):
        try:
            if self.over_http2:
                body = (options.body or "").encode()
                return {"code": client.exchange(self.socket, self.state, url, options, [], body)[0]}
            self.connection.request(options.method, url.path or "/", options.body)
            answer = self.connection.getresponse()
            answer.read()
            return {"code": answer.status}
        except (OSError, http.client.HTTPException) as error:
            return {"error": f"{type(error).__name__}: {error}"}


class Connections:
    """By the names that the tests give them."""

    def __init__(self):
        self.open = {}

    def ask(self, name, url, options):
        """Opens the connection with the first question."""
        if name not in self.open:
            self.open[name] = Kept(url, options)
        return self.open[name].ask(url, options)
