"""Every behaviour that the suite asks of a program, with nothing of ebb's in it."""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def chunks(self):
        while True:
            size = int(self.rfile.readline(), 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
            yield data

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/echo":
            self.answer(200, self.body(), [("content-type", self.headers.get("content-type", "none")), ("x-method", self.command)])
        elif path == "/cookies":
            self.answer(201, b"created", [("set-cookie", "a=1"), ("set-cookie", "b=2")])
        elif path == "/pipe":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for data in self.chunks():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data.upper()))
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/large":
            size = int(query)
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            while size:
                size -= self.wfile.write(bytes(min(size, 65536)))
        elif path == "/env":
            self.answer(200, os.environ.get(query, "unset").encode())
        elif path == "/names":
            self.answer(200, " ".join(sorted(os.environ)).encode())
        elif path == "/print":
            print("out " + query)
            print("err " + query, file=sys.stderr)
            self.answer(200, b"printed")
        elif path == "/wait":
            print("waiting")
            go.wait()
            self.answer(200, b"waited")
        elif path == "/exit":
            os._exit(7)
        else:
            self.answer(404, b"not found")

    do_POST = do_PUT = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)


def stop():
    print("stopping")
    server.shutdown()


def on_term(*_):
    go.set()
    threading.Thread(target=stop).start()


signal.signal(signal.SIGTERM, on_term)
server.serve_forever()
server.server_close()  # waits for the requests that run
print("stopped")
