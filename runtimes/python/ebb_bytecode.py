"""Bytecode of a function's modules: made at the load check and told to ebb, which lays it over the code as __pycache__."""

import sys

PIECE_BYTES = 45000  # base64 of it stays below what ebb reads of a line
BYTES_MAX = 32 * 1024 * 1024


def tell(control, code):
    try:
        import base64
        import zlib

        compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
        packed = b"".join([compressor.compress(part) for part in files(code)]) + compressor.flush()
        for at in range(0, len(packed), PIECE_BYTES):
            control.tell({"cache": base64.b64encode(packed[at : at + PIECE_BYTES]).decode()})
    except Exception:
        pass  # there is none then, and nothing else is wrong


def files(code):
    """For each module of the code's that is loaded: lengths of name (u16) and contents (u32), name, contents."""
    import struct
    from importlib.util import cache_from_source

    total = 0
    root = code.rstrip("/") + "/"
    for path in sorted(sources(root)):
        # Stored code never changes: what is marked so is not compared with its source.
        contents = unchecked(path)
        name = cache_from_source(path)[len(root) :].encode()
        total += 6 + len(name) + len(contents)
        if total > BYTES_MAX:
            raise ValueError("more than ebb takes")
        yield struct.pack(">HI", len(name), len(contents)) + name + contents


def sources(root):
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(root) and path.endswith(".py"):
            found.add(path)
    return found


def unchecked(path):
    import _imp
    import marshal
    import struct
    from importlib.util import MAGIC_NUMBER

    with open(path, "rb") as file:
        source = file.read()
    compiled = compile(source, path, "exec", dont_inherit=True)
    digest = _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source)
    return MAGIC_NUMBER + struct.pack("<I", 1) + digest + marshal.dumps(compiled)
