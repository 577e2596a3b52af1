"""HTTP/1.1 on the server's side for one known peer, ebb: blocking sockets, bounded heads, nothing lenient."""

HEAD_BYTES = 64 * 1024
HEADER_COUNT = 256
RECEIVE_BYTES = 64 * 1024
CHUNK_LINE_BYTES = 1024
TRAILER_BYTES = 16 * 1024
LINGER_BYTES = 16 * 1024 * 1024
LINGER_SECONDS = 2.0
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
HOP_BY_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "trailer"))
CONTROLS = bytes(range(32)).replace(b"\t", b"") + b"\x7f"


class Malformed(Exception):
    """Not a request; `status` says how."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


class Gone(Exception):
    """The client has closed its connection."""


class Starved(Exception):
    """The buffer holds too little, and reading more would block."""


class TooLarge(Exception):
    """The body is larger than its reader allows."""


class BadHeader(Exception):
    """A header of the answer that cannot be sent; its author is told."""


class Connection:
    """One connection; requests one after the other."""

    def __init__(self, sock):
        self.sock = sock
        self.descriptor = sock.fileno()
        self.buffer = b""
        # The invocation that is being served, for whoever watches the peer.
        self.invocation = None
        self.closing = False
        # The watcher saw the peer go while nothing was being served.
        self.hung_up = False
        # The last invocation whose head said that it is done.
        self.done_in_head = None

    def receive(self):
        """More bytes into the buffer; False at the peer's end."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except OSError:
            return False
        if not data:
            return False
        self.buffer = self.buffer + data if self.buffer else data
        return True

    def read_request(self):
        """The next request; None when the peer has closed between two."""
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(self.buffer) > HEAD_BYTES:
                raise Malformed(431, "the request's head is too large")
            if not self.receive():
                return None
        if end > HEAD_BYTES:
            raise Malformed(431, "the request's head is too large")
        head = self.buffer[:end]
        self.buffer = self.buffer[end + 4 :]
        return parse(self, head)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            self.closing = True
            raise Gone from error

    def refuse(self, malformed):
        """Says what is wrong, once, and closes."""
        detail = str(malformed).replace('"', "'")
        body = (
            '{"type":"about:blank","title":"Bad request","status":%d,"code":"bad_request","detail":"%s"}' % (malformed.status, detail)
        ).encode()
        head = "HTTP/1.1 %d \r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        try:
            self.send((head % (malformed.status, len(body))).encode() + body)
        except Gone:
            pass
        self.linger()

    def linger(self):
        """The peer may still be sending what nobody wants; a close at once could cost it the answer."""
        dropped = 0
        try:
            self.sock.shutdown(1)
            self.sock.settimeout(LINGER_SECONDS)
            while dropped < LINGER_BYTES:
                data = self.sock.recv(RECEIVE_BYTES)
                if not data:
                    break
                dropped += len(data)
        except OSError:
            pass
        self.close()

    def close(self):
        self.closing = True
        try:
            self.sock.close()
        except OSError:
            pass


def parse(connection, head):
    lines = head.split(b"\r\n")
    # A CR or LF alone would be a line to somebody else.
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise Malformed(400, "a header line is malformed")
    if len(lines) - 1 > HEADER_COUNT:
        raise Malformed(431, "too many headers")
    start = lines[0].split(b" ")
    if len(start) != 3 or start[2] != b"HTTP/1.1" or not start[0] or start[0].translate(None, TOKEN) or not start[1]:
        raise Malformed(400, "the request line is malformed")
    headers = []
    length = None
    coded = False
    for i in range(1, len(lines)):
        name, colon, value = lines[i].partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise Malformed(400, "a header line is malformed")
        key = name.lower().decode("latin-1")
        text = value.strip(b" \t").decode("latin-1")
        headers.append((key, text))
        if key == "content-length":
            if length is not None or not text.isascii() or not text.isdigit() or len(text) > 15:
                raise Malformed(400, "content-length is malformed or repeated")
            length = int(text)
        elif key == "transfer-encoding":
            if coded or text.lower() != "chunked":
                raise Malformed(400, "transfer-encoding is unknown or repeated")
            coded = True
    if coded and length is not None:
        raise Malformed(400, "content-length and transfer-encoding together")
    body = Body(connection, None if coded else (length or 0))
    return Request(connection, start[0].decode(), start[1].decode("latin-1"), headers, body)


class Body:
    """A request's body, read as it is asked for; what is not read stays in the socket."""

    def __init__(self, connection, length):
        self.connection = connection
        # None: chunked.
        self.length = length
        self.remaining = length or 0
        self.complete = length == 0
        self.expects = False
        self._chunk_left = 0
        self._between = False
        self._buffered_only = False

    def _fill(self):
        if self._buffered_only:
            raise Starved
        if self.expects:
            self.expects = False
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.connection.receive():
            raise Gone

    def read(self, limit=RECEIVE_BYTES):
        """Some bytes, at most `limit`; b"" at the end."""
        if self.complete or limit <= 0:
            return b""
        if self.length is None and self._chunk_left == 0 and not self._next_chunk():
            return b""
        connection = self.connection
        if not connection.buffer:
            self._fill()
        left = self._chunk_left if self.length is None else self.remaining
        data = connection.buffer[: min(left, limit)]
        connection.buffer = connection.buffer[len(data) :]
        if self.length is None:
            self._chunk_left -= len(data)
        else:
            self.remaining -= len(data)
            self.complete = self.remaining == 0
        return data

    def read_buffered(self):
        """What has arrived already, for a reader that must not block; raises Starved where that is nothing."""
        connection = self.connection
        before = (connection.buffer, self._chunk_left, self._between)
        self._buffered_only = True
        try:
            return self.read()
        except Starved:
            connection.buffer, self._chunk_left, self._between = before
            raise
        finally:
            self._buffered_only = False

    def _line(self):
        connection = self.connection
        while b"\n" not in connection.buffer:
            if len(connection.buffer) > CHUNK_LINE_BYTES:
                break
            self._fill()
        line, newline, rest = connection.buffer.partition(b"\n")
        if not newline or len(line) > CHUNK_LINE_BYTES or not line.endswith(b"\r"):
            raise Malformed(400, "the request's chunked body is malformed")
        connection.buffer = rest
        return line[:-1]

    def _next_chunk(self):
        if self._between and self._line() != b"":
            raise Malformed(400, "the request's chunked body is malformed")
        size = self._line().partition(b";")[0].strip(b" \t")
        if not size or len(size) > 12 or size.translate(None, b"0123456789abcdefABCDEF"):
            raise Malformed(400, "the request's chunked body is malformed")
        self._chunk_left = int(size, 16)
        self._between = True
        if self._chunk_left > 0:
            return True
        total = 0
        while True:
            line = self._line()
            total += len(line)
            if not line:
                break
            if total > TRAILER_BYTES:
                raise Malformed(400, "the request's trailer is too large")
        self.complete = True
        return False

    def all(self, limit):
        """The whole body; raises TooLarge."""
        if self.length is not None and self.length > limit:
            raise TooLarge
        parts = []
        total = 0
        while not self.complete:
            part = self.read()
            total += len(part)
            if total > limit:
                raise TooLarge
            parts.append(part)
        return b"".join(parts)


def render_head(status, headers, keep_length):
    """The head without its length and end; hop-by-hop fields are left out."""
    head = ["HTTP/1.1 200 OK\r\n" if status == 200 else "HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        key = name.lower()
        try:
            raw_name = name.encode("ascii")
            raw_value = value.encode("latin-1")
        except UnicodeEncodeError:
            raise BadHeader("the value of the answer's header %s is not allowed" % name) from None
        if not raw_name or raw_name.translate(None, TOKEN):
            raise BadHeader("the answer's header name %r is not allowed" % name)
        if len(raw_value.translate(None, CONTROLS)) != len(raw_value):
            raise BadHeader("the value of the answer's header %s is not allowed" % name)
        if key in HOP_BY_HOP or (key == "content-length" and not keep_length):
            continue
        head.append("%s: %s\r\n" % (name, value))
    return "".join(head)


class Request:
    """One request and its answer."""

    def __init__(self, connection, method, target, headers, body):
        self.connection = connection
        self.method = method
        self.target = target
        # Pairs, names in lower case.
        self.headers = headers
        self.body = body
        body.expects = not body.complete and (self.header("expect") or "").lower() == "100-continue"
        self.head_sent = False
        self.complete = False
        self.chunked = False
        self.bodyless = False
        self.promised = None
        # Its connection has been given back before its invocation was over.
        self.released = False

    def header(self, name):
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def answer(self, status, headers, body, done):
        """A complete answer in one write. `done()` is asked once nothing can fail: is the invocation over with it?"""
        data = self.render(status, headers, body, done)
        self.connection.send(data)
        self._completed()

    def render(self, status, headers, body, done):
        none = status in (204, 304)
        bodyless = none or self.method == "HEAD"
        keep_length = bodyless and not none and not body
        head = render_head(status, headers, keep_length)
        if not none and not keep_length:
            head += "content-length: %d\r\n" % len(body)
        if done is not None and done():
            head += "ebb-done: 1\r\n"
        self.head_sent = True
        data = (head + self._last_field()).encode("latin-1")
        return data if bodyless else data + body

    def _last_field(self):
        if self.body.complete and not self.connection.closing:
            return "\r\n"
        self.connection.closing = True
        return "connection: close\r\n\r\n"

    def render_begin(self, status, headers):
        """The head of an answer whose body follows."""
        none = status in (204, 304)
        self.bodyless = none or self.method == "HEAD"
        head = render_head(status, headers, not none)
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        if length is not None and not (length.isascii() and length.isdigit()):
            raise BadHeader("the answer's content-length is not a number")
        if length is not None and not none:
            self.promised = None if self.bodyless else int(length)
        elif not self.bodyless:
            self.chunked = True
            head += "transfer-encoding: chunked\r\n"
        self.head_sent = True
        # What is left of the request's body at the end of the answer decides then whether the connection stays.
        return (head + ("connection: close\r\n\r\n" if self.connection.closing else "\r\n")).encode("latin-1")

    def begin(self, status, headers):
        self.connection.send(self.render_begin(status, headers))

    def frame(self, data):
        """A piece of the body as it goes over the wire."""
        if not data or self.bodyless:
            return b""
        if self.chunked:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self.promised is not None:
            if len(data) > self.promised:
                raise BadHeader("the answer's body is longer than its content-length")
            self.promised -= len(data)
        return data

    def write(self, data):
        framed = self.frame(data)
        if framed:
            self.connection.send(framed)

    def last(self):
        """What ends the body on the wire; None: it fell short of its content-length, and must be cut."""
        self.complete = True
        if self.promised:
            self.connection.close()
            return None
        return b"0\r\n\r\n" if self.chunked else b""

    def end(self):
        last = self.last()
        if last:
            self.connection.send(last)
        if last is not None:
            self._completed()

    def _completed(self):
        self.complete = True

    def cut(self):
        """An answer that went wrong half-way: the peer must see that it is not complete."""
        self.complete = True
        self.connection.close()
