"""The way in where no descriptor can be passed to the shim (CONTRACT.md, 1): it listens on a port of its own link, and serves only
connections that begin with the credential which came by its stdin."""

import os

import _socket

FRAMES = 4
FRAMES_PATH = "/ebb/frames"
SHOW_SECONDS = 5
CREDENTIAL_BYTES = 256


def read_line():
    """Byte by byte: what comes behind it is nobody's yet."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) >= CREDENTIAL_BYTES:
            raise RuntimeError("no credential came by stdin")
        line += byte
    return line


class Listener(_socket.socket):
    """Whose connections have shown the credential; ConnectionRefusedError for one that has not."""

    credential = b""

    def _accept(self):
        descriptor, address = super()._accept()
        connection = _socket.socket(fileno=descriptor)
        if not self._shows(connection):
            connection.close()
            raise ConnectionRefusedError
        connection.setblocking(True)
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return connection.detach(), address

    def _shows(self, connection):
        # ebb writes it with the connection; nobody else can connect.
        connection.settimeout(SHOW_SECONDS)
        shown = b""
        try:
            while len(shown) < len(self.credential):
                piece = connection.recv(len(self.credential) - len(shown))
                if not piece:
                    return False
                shown += piece
        except OSError:
            return False
        return shown == self.credential


def listen(port):
    listener = Listener(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.credential = read_line()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        descriptor = os.open(FRAMES_PATH, os.O_WRONLY)
        if descriptor != FRAMES:
            os.dup2(descriptor, FRAMES, False)
            os.close(descriptor)
    except OSError:
        pass  # concurrency 1 has no use for them
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(511)
    return listener
