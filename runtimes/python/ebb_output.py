"""What the function prints, and which invocation it belongs to: marks at concurrency 1, frames on fd 4 above it."""

import io
import json
import os
import sys
import time

FRAMES = 4
FRAME_BYTES = 16 * 1024
# A character takes at most 12 bytes in ASCII JSON (a surrogate pair), and the members around the text take some 120.
FRAME_CHARS = (FRAME_BYTES - 256) // 12
PLAIN_CHARS = (FRAME_BYTES - 256) // 2


def write_all(descriptor, data):
    """All of it before it returns. A full pipe holds the function back; a reader that is gone loses the text."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


class Marks:
    """Concurrency 1: marks in the raw output, so that children and native code are attributed too."""

    def __init__(self, nonce):
        self.begins = "\x1e%s + " % nonce
        self.ends = "\x1e%s - " % nonce
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")

    def begin(self, invocation):
        mark = (self.begins + invocation + "\n").encode()
        write_all(1, mark)
        write_all(2, mark)

    def end(self, invocation):
        flush()
        mark = (self.ends + invocation + "\n").encode()
        write_all(1, mark)
        write_all(2, mark)

    def error(self, _invocation, text):
        flush()
        write_all(2, text.encode("utf-8", "backslashreplace"))


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


class Frames:
    """Above 1: sys.stdout and sys.stderr write frames that carry the invocation of the context they are written in."""

    def __init__(self):
        from contextvars import ContextVar

        self.current = ContextVar("ebb_invocation", default=None)
        sys.stdout = FrameStream(self, "out", 1)
        sys.stderr = FrameStream(self, "err", 2)

    def begin(self, invocation):
        self.current.set(invocation)

    def end(self, _invocation):
        flush()

    def error(self, invocation, text):
        self.write(invocation, "err", text, "error")

    def write(self, invocation, stream, text, level=None):
        head = '{"i":%s,"s":"%s","t":%d,%s"m":' % (
            json.dumps(invocation),
            stream,
            time.time() * 1000,
            '"l":"%s",' % level if level else "",
        )
        plain = text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()
        step = PLAIN_CHARS if plain else FRAME_CHARS
        for at in range(0, len(text), step):
            write_all(FRAMES, (head + json.dumps(text[at : at + step]) + "}\n").encode())


class FrameStream(io.TextIOBase):
    """Line-buffered for each context: print() writes its text and its newline apart."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, frames, name, descriptor):
        self.frames = frames
        self.stream = name
        self.descriptor = descriptor
        self.pending = {}
        self.buffer = FrameBuffer(self)

    def fileno(self):
        return self.descriptor

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" % type(text).__name__)
        invocation = self.frames.current.get()
        before = self.pending.pop(invocation, "")
        whole = before + text
        if len(whole) < PLAIN_CHARS and not whole.endswith("\n"):
            self.pending[invocation] = whole
        elif whole:
            self.frames.write(invocation, self.stream, whole)
        return len(text)

    def flush(self):
        invocation = self.frames.current.get()
        rest = self.pending.pop(invocation, "")
        if rest:
            self.frames.write(invocation, self.stream, rest)


class FrameBuffer(io.RawIOBase):
    """sys.stdout.buffer, for those who write bytes."""

    def __init__(self, stream):
        self.stream = stream

    def writable(self):
        return True

    def write(self, data):
        self.stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def flush(self):
        self.stream.flush()
