"""The one assignment: environment, code, recognition, and then serving."""

import os
import sys
import time

# Not `signal`: its enums take 0.6 ms of a pool hit, and many a function needs none of it.
import _signal

ENTRY_NAMES = ("main", "app", "handler", "lambda_function")
EVENT_NAMES = ("handle", "handler", "lambda_handler")
APPLICATION_NAMES = ("app", "application")
SHIM = os.path.dirname(os.path.abspath(__file__))


class LoadError(Exception):
    """What the author has to mend, in words for them."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


def assign(control, assignment, listener, own, times):
    code = assignment["code"]
    os.environ.update(assignment["env"])
    if "TZ" in assignment["env"]:
        time.tzset()
    os.chdir(code)
    output = own("ebb_output")
    output = output.Marks(assignment["nonce"]) if assignment["concurrency"] <= 1 else output.Frames()
    entry = None
    load_ms = assignment["limits"].get("loadMs")
    if load_ms:
        tell_when_late(control, load_ms, code, own)
    try:
        entry, handler = resolve_entry(code, assignment["entry"], assignment["handler"])
        module = load(code, entry)
        name, signature, call = recognise(module, entry, handler, assignment["signature"])
    except BaseException as error:  # SystemExit too: code that ends the process while it loads
        control.tell({"failed": own("ebb_failure").describe(error, code, entry)})
        leave(control, 1)
    serve = own("ebb_serve")
    instance = serve.Instance(control, assignment, listener, output, own)
    try:
        instance.use(signature, call)
    except BaseException as error:  # an ASGI application's lifespan
        control.tell({"failed": own("ebb_failure").describe(error, code, entry)})
        leave(control, 1)
    if load_ms:
        stop_waiting()
    phases = {"bootMs": times["booted"], "importMs": (time.monotonic() - times["started"]) * 1000}
    control.tell({"ready": {"entry": entry, "handler": name, "signature": signature, "done": "told", "phases": phases}})
    if assignment["check"]:
        if assignment.get("cache") == "make":
            own("ebb_bytecode").tell(control, code)
        leave(control, 0)
    instance.run()


def tell_when_late(control, load_ms, code, own):
    """Code that does not come to the end of its loading (it serves for ever, say) is told where it is just then."""

    def late(_number, frame):
        control.tell({"failed": own("ebb_failure").describe_late(frame, code, load_ms / 1000)})
        leave(control, 1)

    _signal.signal(_signal.SIGALRM, late)
    _signal.setitimer(_signal.ITIMER_REAL, load_ms / 1000)


def stop_waiting():
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)


def leave(control, status):
    """Without the interpreter's own end: threads of the function's must not keep a bad start alive."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    control.close()
    os._exit(status)


def existing(code, relative):
    """A path inside the code folder, with its extension; None: there is none."""
    path = os.path.normpath(os.path.join(code, relative))
    if not path.startswith(code.rstrip("/") + "/"):
        return None
    for candidate in (path, path + ".py", os.path.join(path, "__init__.py")):
        if os.path.isfile(candidate):
            return os.path.relpath(candidate, code)
    return None


def resolve_entry(code, entry, handler):
    """The entry file, and the handler without the file that it may name: `src/main.handle`, `package.module.handle`."""
    if entry is not None:
        found = existing(code, entry)
        if found is None:
            raise LoadError('there is no file "%s"' % entry)
        if handler is not None:
            stem = found[: -len(".py")]
            for prefix in (stem + ".", stem.replace("/", ".") + ".", os.path.basename(stem) + "."):
                if handler.startswith(prefix):
                    return found, handler[len(prefix) :]
        return found, handler
    if handler is not None and "." in handler:
        file, _, name = handler.rpartition(".")
        for candidate in (file, file.replace(".", "/")):
            found = existing(code, candidate)
            if found is not None:
                return found, name
        if "/" in handler:
            raise LoadError('there is no file "%s.py" (of handler %s)' % (file, handler))
    for name in ENTRY_NAMES:
        if os.path.isfile(os.path.join(code, name + ".py")):
            return name + ".py", handler
    raise LoadError("there is no entry file", "Name one %s." % ", ".join(name + ".py" for name in ENTRY_NAMES))


def load(code, entry):
    # Vendored dependencies lie in package/, as Scaleway has it.
    sys.path[:0] = [code, os.path.join(code, "package")]
    # site is not loaded; these two are what scripts miss of it.
    import builtins

    builtins.exit = builtins.quit = sys.exit
    stem = entry[: -len(".py")]
    if stem.endswith("/__init__"):
        stem = stem[: -len("/__init__")]
    parts = stem.split("/")
    if all(part.isidentifier() for part in parts):
        name = ".".join(parts)
        __import__(name)
        return sys.modules[name]
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("handler_module", os.path.join(code, entry))
    module = module_from_spec(spec)
    sys.modules["handler_module"] = module
    spec.loader.exec_module(module)
    return module


def recognise(module, entry, handler, signature):
    """(name, signature, callable); raises LoadError."""
    if handler is not None:
        call = module
        for part in handler.split("."):
            call = getattr(call, part, None)
        if not callable(call):
            names = [name for name in vars(module) if not name.startswith("_") and callable(getattr(module, name))]
            raise LoadError('there is no function "%s" (%s)' % (handler, entry), "It defines: %s." % ", ".join(names[:12]) if names else None)
        last = handler.rpartition(".")[2]
        if signature is not None:
            return handler, checked(signature), call
        if last in EVENT_NAMES:
            return handler, "event", call
        return handler, application_signature(call, handler, entry), call
    for name in EVENT_NAMES:
        call = getattr(module, name, None)
        if callable(call) and not isinstance(call, type) and signature in (None, "event"):
            return name, "event", call
    for name in APPLICATION_NAMES:
        call = getattr(module, name, None)
        if callable(call):
            return name, checked(signature) if signature else application_signature(call, name, entry), call
    raise LoadError(
        "nothing that handles is defined (%s)" % entry,
        "Define handle(event, context), or a WSGI or ASGI application called app.",
    )


def checked(signature):
    if signature not in ("event", "wsgi", "asgi"):
        raise LoadError("signature: %s does not exist in Python" % signature, "It is event, wsgi or asgi.")
    return signature


def application_signature(call, name, entry):
    """WSGI takes two arguments, ASGI three, or is a coroutine function."""
    from inspect import Parameter, isclass, iscoroutinefunction, signature

    target = call if hasattr(call, "__code__") or isclass(call) else getattr(call, "__call__", call)
    try:
        kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [p for p in signature(call).parameters.values() if p.kind in kinds]
    except (TypeError, ValueError):
        parameters = []
    names = [parameter.name for parameter in parameters]
    if names[:1] in (["event"], ["input"]):
        return "event"
    if names[:3] == ["scope", "receive", "send"] or (iscoroutinefunction(target) and len(names) == 3) or len(names) == 3:
        return "asgi"
    if len(names) == 2 and not iscoroutinefunction(target):
        return "wsgi"
    raise LoadError(
        "cannot tell what %s(%s) is (%s)" % (name, ", ".join(names), entry),
        "Say which with signature: event, wsgi or asgi in ebb.yaml.",
    )
