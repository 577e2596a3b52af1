"""A WSGI function that streams."""


def application(environ, start_response):
    start_response("201 Created", [("X-Path", environ["PATH_INFO"])])
    yield b"one "
    yield b"two"
