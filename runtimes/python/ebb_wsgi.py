"""WSGI (PEP 3333): Flask, Django, Bottle, …"""

import sys

from ebb_http import RECEIVE_BYTES

# A body up to this, whose length its head says, goes out with its head in one write.
WHOLE_BYTES = 64 * 1024


class Input:
    """wsgi.input: reads from the connection as it is asked to."""

    def __init__(self, body):
        self.body = body
        self.rest = b""

    def read(self, size=-1):
        if size is None or size < 0:
            parts = [self.rest]
            self.rest = b""
            while not self.body.complete:
                parts.append(self.body.read())
            return b"".join(parts)
        while len(self.rest) < size and not self.body.complete:
            self.rest += self.body.read(min(RECEIVE_BYTES, size - len(self.rest)))
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def readline(self, size=-1):
        limit = size if size is not None and size >= 0 else sys.maxsize
        while b"\n" not in self.rest and len(self.rest) < limit and not self.body.complete:
            self.rest += self.body.read()
        end = self.rest.find(b"\n") + 1 or len(self.rest)
        end = min(end, limit)
        line, self.rest = self.rest[:end], self.rest[end:]
        return line

    def readlines(self, _hint=-1):
        return list(self)

    def __iter__(self):
        return iter(self.readline, b"")


def environ_of(request, concurrent):
    path, _, query = request.target.partition("?")
    if "%" in path:
        from urllib.parse import unquote_to_bytes

        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    host = request.header("host") or "localhost"
    scheme = "https" if request.header("x-forwarded-proto") == "https" else "http"
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name, port = host, "443" if scheme == "https" else "80"
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": (request.header("x-forwarded-for") or "").partition(",")[0].strip(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": Input(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": concurrent,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for key, value in request.headers:
        # With an underscore it would pass for another header.
        if "_" in key:
            continue
        name = key.upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = "HTTP_" + name
        before = environ.get(name)
        environ[name] = value if before is None else before + ("; " if key == "cookie" else ",") + value
    return environ


class Answer:
    """Holds the head until there is a body, and the whole of a short body until the application is done."""

    def __init__(self, request, invocation):
        self.request = request
        self.invocation = invocation
        self.status = None
        self.headers = None
        self.length = None
        self.held = []
        self.held_bytes = 0

    def start(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.request.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise AssertionError("start_response was called twice")
        self.status = int(status.split(" ", 1)[0])
        self.headers = list(headers)
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        self.length = int(length) if length is not None else None
        return self.write

    def write(self, data):
        if self.status is None:
            raise AssertionError("the application gave a body before it called start_response")
        if not data:
            return
        if self.request.head_sent:
            self.request.write(data)
            return
        self.held.append(data)
        self.held_bytes += len(data)
        if self.length is None or self.held_bytes > WHOLE_BYTES:
            self._begin()

    def _begin(self):
        self.request.begin(self.status, self.headers)
        for data in self.held:
            self.request.write(data)
        self.held = []

    def finish(self):
        """The application is done with it all."""
        if self.status is None:
            raise AssertionError("the application did not call start_response")
        if self.request.head_sent:
            self.request.end()
            return
        body = b"".join(self.held)
        if self.length is not None and self.length != len(body) and self.request.method != "HEAD":
            raise AssertionError("the body is %d bytes long, but its content-length says %d" % (len(body), self.length))
        self.request.answer(self.status, self.headers, body, self.invocation.ends_with_answer)


def wsgi_style(application, instance):
    concurrent = instance.concurrency > 1

    def serve(request, invocation):
        environ = environ_of(request, concurrent)
        environ["ebb.context"] = invocation
        answer = Answer(request, invocation)
        parts = application(environ, answer.start)
        try:
            # The one-part list of most frameworks is whole: it needs no chunks.
            if answer.length is None and answer.status is not None and isinstance(parts, (list, tuple)):
                answer.length = sum(len(part) for part in parts) + answer.held_bytes
            for part in parts:
                answer.write(part)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        answer.finish()

    return serve
