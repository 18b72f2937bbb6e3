"""A web application that answers every page, for servers of Python."""


def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"OK\n"]


application = app
