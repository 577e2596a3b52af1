"""Flask in small: an object whose __call__ is WSGI, with an iterable that must be closed."""


class Closing:
    def __init__(self, parts):
        self.parts = iter(parts)

    def __iter__(self):
        return self.parts

    def close(self):
        print("closed")


class Flask:
    def __call__(self, environ, start_response):
        return self.wsgi_app(environ, start_response)

    def wsgi_app(self, environ, start_response):
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = b"flask " + environ["REQUEST_METHOD"].encode() + b" " + environ["PATH_INFO"].encode("latin-1") + b" " + environ["wsgi.input"].read(size)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return Closing([body])


app = Flask()
