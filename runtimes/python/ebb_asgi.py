"""ASGI 3 with lifespan (FastAPI, Starlette, Django), and the event loop for handlers that are coroutines."""

import asyncio

from ebb_http import RECEIVE_BYTES, Gone, Starved

LIFESPAN_SECONDS = 25.0
CLOSE_SECONDS = 5.0


class Loop:
    """One for the instance, since what an application opens in it (pools, locks) belongs to it."""

    def __init__(self, threaded):
        self.loop = asyncio.new_event_loop()
        self.threaded = threaded
        if threaded:
            import threading

            threading.Thread(target=self.loop.run_forever, daemon=True).start()
        else:
            asyncio.set_event_loop(self.loop)

    def run(self, coroutine):
        """Waits for it on the calling thread, in that thread's context."""
        if not self.threaded:
            return self.loop.run_until_complete(coroutine)
        import contextvars
        from concurrent.futures import Future

        context = contextvars.copy_context()
        result = Future()

        def start():
            task = self.loop.create_task(coroutine, context=context)
            task.add_done_callback(finished)

        def finished(task):
            if task.cancelled():
                result.set_exception(asyncio.CancelledError())
            elif task.exception() is not None:
                result.set_exception(task.exception())
            else:
                result.set_result(task.result())

        self.loop.call_soon_threadsafe(start)
        return result.result()

    def close(self):
        try:
            for close in getattr(self, "closing", ()):
                self.run(asyncio.wait_for(close(), CLOSE_SECONDS))
        except Exception:
            pass


class Lifespan:
    """Startup before the first request, shutdown at the drain; an application without it is served all the same."""

    def __init__(self, application):
        self.application = application
        self.state = {}
        self.inbox = asyncio.Queue()
        self.outbox = asyncio.Queue()
        self.task = None

    async def startup(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.task = asyncio.ensure_future(self.application(scope, self.inbox.get, self.outbox.put))
        await self.inbox.put({"type": "lifespan.startup"})
        said = asyncio.ensure_future(self.outbox.get())
        await asyncio.wait((said, self.task), return_when=asyncio.FIRST_COMPLETED, timeout=LIFESPAN_SECONDS)
        if not said.done():
            said.cancel()
            # An exception here means: no lifespan. Silence for so long means a start that hangs.
            if not self.task.done():
                raise TimeoutError("the application's lifespan startup takes longer than %d s" % LIFESPAN_SECONDS)
            self.task.exception() if not self.task.cancelled() else None
            self.task = None
            return
        message = said.result()
        if message["type"] == "lifespan.startup.failed":
            error = self.task.exception() if self.task.done() and not self.task.cancelled() else None
            raise error or RuntimeError(message.get("message") or "the application's lifespan startup failed")

    async def shutdown(self):
        if self.task is None or self.task.done():
            return
        await self.inbox.put({"type": "lifespan.shutdown"})
        await self.outbox.get()


def scope_of(request, state):
    path, _, query = request.target.partition("?")
    raw = path.encode("latin-1")
    if "%" in path:
        from urllib.parse import unquote_to_bytes

        path = unquote_to_bytes(raw).decode("utf-8", "replace")
    host, colon, port = (request.header("host") or "localhost").rpartition(":")
    server = (host, int(port)) if colon and port.isdigit() else (request.header("host") or "localhost", 80)
    client = (request.header("x-forwarded-for") or "").partition(",")[0].strip()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https" if request.header("x-forwarded-proto") == "https" else "http",
        "path": path,
        "raw_path": raw,
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": (client, 0) if client else None,
        "server": server,
        "state": dict(state),
    }


class Call:
    """One request as the application sees it; runs in the loop, with the connection not blocking."""

    def __init__(self, request, invocation, instance):
        self.request = request
        self.invocation = invocation
        self.instance = instance
        self.loop = asyncio.get_running_loop()
        self.gone = asyncio.Event()
        self.start = None
        self.held = None
        self.body_told = False
        invocation.on_gone = lambda: self.loop.call_soon_threadsafe(self.gone.set)
        if invocation.gone:
            self.gone.set()

    async def fill(self):
        """More bytes into the connection's buffer; raises Gone."""
        connection = self.request.connection
        try:
            data = await self.loop.sock_recv(connection.sock, RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            raise Gone
        connection.buffer += data

    async def receive(self):
        body = self.request.body
        while not self.body_told:
            if body.complete:
                self.body_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if body.expects:
                body.expects = False
                await self.send_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
            try:
                data = body.read_buffered()
            except Starved:
                try:
                    await self.fill()
                except Gone:
                    self.gone.set()
                    break
                continue
            self.body_told = body.complete
            return {"type": "http.request", "body": data, "more_body": not body.complete}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send_bytes(self, data):
        if self.gone.is_set():
            raise OSError("the client has gone")
        if data:
            try:
                await self.loop.sock_sendall(self.request.connection.sock, data)
            except OSError:
                self.gone.set()
                raise

    async def send(self, message):
        request = self.request
        kind = message["type"]
        if kind == "http.response.start" and self.start is None:
            headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in message.get("headers", ())]
            self.start = (message["status"], headers)
            return
        if kind != "http.response.body" or self.start is None or request.complete or self.held is not None:
            raise RuntimeError("unexpected ASGI message %s" % kind)
        data = bytes(message.get("body", b""))
        more = message.get("more_body", False)
        if not request.head_sent and not more:
            # Whole. It waits a turn: the application may be about to return, and then the head says that all is done.
            self.held = data
            self.loop.call_soon(lambda: self.loop.create_task(self.flush(False)) if self.held is not None else None)
            return
        head = b"" if request.head_sent else request.render_begin(*self.start)
        last = b""
        framed = request.frame(data)
        if not more:
            last = request.last() or b""
        await self.send_bytes(head + framed + last)
        if not more:
            self.release()

    def release(self):
        """The answer is out while the application goes on: its connection may carry the next request."""
        if self.instance.concurrency > 1:
            self.instance.release(self.request)

    async def flush(self, over):
        data = self.held
        if data is None:
            return
        self.held = None
        status, headers = self.start
        rendered = self.request.render(status, headers, data, self.invocation.ends_with_answer if over else None)
        self.request.complete = True
        await self.send_bytes(rendered)
        if not over:
            self.release()


def asgi_style(application, instance):
    loop = instance.loop()
    lifespan = Lifespan(application)
    loop.run(lifespan.startup())
    loop.closing = (lifespan.shutdown,)

    async def call(request, invocation):
        one = Call(request, invocation, instance)
        try:
            await application(scope_of(request, lifespan.state), one.receive, one.send)
            await one.flush(True)
        except OSError:
            if not one.gone.is_set():
                raise
        if one.gone.is_set():
            request.connection.closing = True
        elif not request.complete:
            raise RuntimeError("the application returned without a complete answer")

    def serve(request, invocation):
        sock = request.connection.sock
        sock.setblocking(False)
        try:
            loop.run(call(request, invocation))
        finally:
            invocation.on_gone = None
            if not request.released:
                sock.setblocking(True)

    return serve
