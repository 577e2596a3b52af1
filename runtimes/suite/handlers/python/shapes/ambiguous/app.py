"""One parameter: neither WSGI nor ASGI."""


def app(something):
    return something
