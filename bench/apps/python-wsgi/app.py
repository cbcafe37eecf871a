"""A WSGI application with a table of routes."""
import os
from wsgiref.simple_server import WSGIRequestHandler, make_server

from site_routes import ROUTES


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def application(environ, start_response):
    view = ROUTES.get(environ["PATH_INFO"])
    body = view(environ) if view else "no such page\n"
    start_response("200 OK" if view else "404 Not Found", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body.encode())))])
    return [body.encode()]


make_server("0.0.0.0", int(os.environ["PORT"]), application, handler_class=Quiet).serve_forever()
