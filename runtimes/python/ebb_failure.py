"""Errors in their author's words: without this shim's frames, with the author's file and line. Loaded only when one happens."""

import json
import os
import traceback

from ebb_assign import SHIM, LoadError

TEXT_CHARS = 2000
# What loops of servers are called, in the standard library and in what people use.
SERVING = ("serve_forever", "run_forever", "run_simple", "run_app", "mainloop")
SERVES_HINT = (
    "It serves by itself. Define handle(event, context), or a WSGI or ASGI application called app, and start the server only "
    'under if __name__ == "__main__"; or take runtime: custom.'
)


def trimmed(error):
    """The traceback from the first frame that is the author's."""
    frames = error.__traceback__
    while frames is not None and ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def ours(file):
    return file.startswith(SHIM) or file.startswith("<frozen importlib")


def stack_of(error):
    summary = traceback.TracebackException(type(error), error, trimmed(error), compact=True)
    lines = []
    for line in summary.format():
        # Deeper down, between the author's own files, importlib is only noise.
        if not (line.startswith('  File "<frozen importlib') or line.startswith('  File "%s' % SHIM)):
            lines.append(line)
    return "".join(lines).rstrip("\n")


def message_of(error):
    try:
        text = str(error) or type(error).__name__
    except Exception:
        text = type(error).__name__
    return text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + "…"


def inside(file, code):
    relative = os.path.relpath(os.path.abspath(file), os.path.abspath(code))
    return None if relative.startswith("..") else relative


def place_of(error, code):
    if isinstance(error, SyntaxError) and error.filename:
        file = inside(error.filename, code)
        if file is not None:
            return file, error.lineno, error.offset
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        relative = None if ours(file) or file.startswith("<") else inside(file, code)
        if relative is not None and not relative.startswith("package/"):
            found = (relative, line, None)
    return found


def describe(error, code, entry):
    """The value of `failed`."""
    if isinstance(error, LoadError):
        return {"message": str(error), "stack": None, "file": None, "line": None, "column": None, "hint": error.hint}
    hint = None
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        sentence = 'cannot find package "%s"' % package
        hint = "Run pip install --target package %s in the function's folder, then deploy." % package
    elif isinstance(error, SystemExit):
        sentence = "the code ended the process while it was loading"
    else:
        text = error.msg if isinstance(error, SyntaxError) else message_of(error)
        sentence = "%s: %s" % (type(error).__name__, text.split("\n")[0])
    place = place_of(error, code)
    where = " (%s:%s)" % (place[0], place[1]) if place else ""
    file, line, column = place or (entry, None, None)
    return {"message": sentence + where, "stack": stack_of(error), "file": file, "line": line, "column": column, "hint": hint}


def describe_late(frame, code, seconds):
    """The value of `failed` for code that is still loading; `frame`: where it is."""
    frames = [(f, line) for f, line in traceback.walk_stack(frame) if not ours(f.f_code.co_filename)]
    place = (None, None)
    for at, line in frames:
        relative = None if at.f_code.co_filename.startswith("<") else inside(at.f_code.co_filename, code)
        if relative is not None and not relative.startswith("package/"):
            place = (relative, line)
            break
    serves = any(at.f_code.co_name in SERVING for at, _ in frames)
    return {
        "message": "the code was still loading after %g s" % seconds + (" (%s:%s)" % place if place[0] else ""),
        "stack": "".join(traceback.StackSummary.extract(reversed(frames)).format()).rstrip("\n"),
        "file": place[0],
        "line": place[1],
        "column": None,
        "hint": SERVES_HINT if serves else "What stands outside of functions runs at loading, and has to come to an end.",
    }


def problem(status, code, title, detail):
    return json.dumps({"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}).encode()
