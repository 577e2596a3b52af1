"""The Python runtime's shim: listens on fd 3, is told once which code to load, and serves it (see CONTRACT.md).

Started as `python3 -I -S -B`: without site, which halves the start. What it imports here is C or already loaded;
sockets are the bare `_socket`, because `socket` brings enum and selectors with it.
"""

import os
import sys
import time

import _socket
import _thread
import select

BOOT = time.monotonic()
FOLDER = os.path.dirname(os.path.abspath(__file__))
QUIET_SECONDS = 0.005
ASSIGN_TARGET = "/ebb/v1/assign"
ASSIGN_BYTES = 8 * 1024 * 1024


def own(name):
    """A module of this shim; its folder is not on the function's path."""
    sys.path.insert(0, FOLDER)
    try:
        return __import__(name)
    finally:
        sys.path.remove(FOLDER)


def boot_ms():
    """From the process's start to now: /proc knows when that was, to 10 ms; the clock since this file ran is exact."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        with open("/proc/uptime", "rb") as uptime:
            up = float(uptime.read().split()[0])
        return max(0.0, (up - ticks / os.sysconf("SC_CLK_TCK")) * 1000)
    except (OSError, ValueError, IndexError):
        return (time.monotonic() - BOOT) * 1000


class Control:
    """The daemon's connection: one assignment, then lines of JSON for life."""

    def __init__(self, connection, request):
        self.connection = connection
        self.lock = _thread.allocate_lock()
        self.json = __import__("json")
        request.begin(200, [("content-type", "application/x-ndjson")])
        self.request = request

    def tell(self, value):
        line = self.json.dumps(value, separators=(",", ":")).encode() + b"\n"
        with self.lock:
            try:
                self.request.write(line)
            except OSError:
                os._exit(0)  # its daemon is gone

    def done(self, invocation):
        self.tell({"done": invocation})

    def close(self):
        try:
            self.request.end()
        except OSError:
            pass


def warm():
    """What a pooled shim loads while it waits, so that its function's first moment does not."""
    for name in ("json", "re", "base64", "traceback", "threading", "urllib.parse"):
        __import__(name)
    for name in ("ebb_assign", "ebb_output", "ebb_event", "ebb_serve", "ebb_wsgi"):
        own(name)
    # These come as bytecode; the function may not, and the compiler's first work takes a third of a pool hit.
    with open(FOLDER + "/ebb_output.py", "rb") as source:
        compile(source.read(), "", "exec")


def wait_warm(descriptor):
    """Warms up only while nobody asks for anything. What is warm already is imported in no time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(QUIET_SECONDS * 1000):
        warm()


def first_connection(listener):
    wait_warm(listener.fileno())
    while True:
        try:
            descriptor, _ = listener._accept()
        except ConnectionRefusedError:
            continue
        return _socket.socket(fileno=descriptor)


def assignment_of(request):
    """The body; the head may come long before it."""
    connection = request.body.connection
    if not connection.buffer:
        wait_warm(connection.descriptor)
    return request.body.all(ASSIGN_BYTES)


def main():
    import _signal

    # As process 1 of its namespace a signal without a handler would be ignored.
    _signal.signal(_signal.SIGTERM, lambda *_: os._exit(0))
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    # A client that has gone shows as an error of the write, not as a signal.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    port = os.environ.pop("EBB_LISTEN", None)
    listener = _socket.socket(fileno=3) if port is None else own("ebb_tcp").listen(int(port))
    listener.setblocking(True)
    for descriptor in (listener.fileno(), 4):
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            pass
    booted = boot_ms()
    http = own("ebb_http")
    connection = http.Connection(first_connection(listener))
    while True:
        try:
            request = connection.read_request()
        except http.Malformed as error:
            connection.refuse(error)
            os._exit(0)
        if request is None:
            os._exit(0)
        if request.method == "POST" and request.target == ASSIGN_TARGET:
            break
        request.answer(503, [("content-type", "text/plain")], b"no code has been assigned yet\n", None)
    try:
        body = assignment_of(request)
    except http.Gone:
        os._exit(0)
    started = time.monotonic()
    control = Control(connection, request)
    own("ebb_assign").assign(control, control.json.loads(body), listener, own, {"booted": booted, "started": started})


main()
