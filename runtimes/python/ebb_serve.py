"""Serves connections: at concurrency 1 on the main thread, above it on as many threads. A watcher sees who goes."""

import atexit
import os
import sys
import time

import _signal
import _socket
import _thread
import select

from ebb_http import BadHeader, Connection, Gone, Malformed

LONGEST_MS = 3_600_000.0
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
# One event, then silence until the request has been served.
NEXT_REQUEST = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
ASSIGN_TARGET = "/ebb/v1/assign"


def hung_up(descriptor):
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def leave_tidily():
    """What the interpreter does for the code at its end, and nothing of what it does for itself: with threads that still run
    in C, tearing it down crashes now and then."""
    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()  # waits for the threads that are not daemons
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(0)


class Invocation:
    """One invocation from its request to its end."""

    def __init__(self, instance, request, worker):
        self.instance = instance
        self.worker = worker
        self.connection = request.connection
        self.id = request.header("ebb-invocation-id") or ""
        try:
            remaining = float(request.header("ebb-deadline-ms") or LONGEST_MS)
        except ValueError:
            remaining = LONGEST_MS
        self.deadline = time.monotonic() + remaining / 1000
        self.gone = False
        self.over = False
        self._event = None
        # What an asynchronous server wants to hear when the client goes.
        self.on_gone = None

    def remaining_ms(self):
        return max(0, int((self.deadline - time.monotonic()) * 1000))

    def cancelled(self):
        if self._event is None:
            from threading import Event

            self._event = Event()
            if self.gone:
                self._event.set()
        return self._event

    def abort(self):
        """The client has gone; called from the watcher's thread."""
        self.gone = True
        if self._event is not None:
            self._event.set()
        if self.on_gone is not None:
            self.on_gone()

    def ends_with_answer(self):
        if self.over:
            return False
        self._close()
        self.connection.done_in_head = self.id
        return True

    def end(self):
        """The handler is done and its answer too; told unless the answer said so."""
        if self.over:
            return
        self._close()
        if self.id:
            self.instance.control.done(self.id)

    def _close(self):
        self.over = True
        # First the mark, then the word: whoever hears "done" has all of its output before that in the pipe.
        self.instance.output.end(self.id)
        self.worker.over()


class Alone:
    """The one worker at concurrency 1; nobody counts it."""

    def over(self):
        pass

    def again(self):
        pass


class Instance:
    def __init__(self, control, assignment, listener, output, own):
        self.control = control
        self.limits = assignment["limits"]
        self.concurrency = max(1, assignment["concurrency"])
        self.listener = listener
        self.output = output
        self.own = own
        self.serve = None
        self.draining = False
        self.active = 0
        self.lock = _thread.allocate_lock()
        self.idle = select.epoll()
        self.watch = select.epoll()
        self.connections = {}
        self._loop = None

    def use(self, signature, call):
        """Makes the recognised callable the one that serves."""
        if signature == "event":
            self.serve = self.own("ebb_event").event_style(call, self)
        elif signature == "wsgi":
            self.serve = self.own("ebb_wsgi").wsgi_style(call, self)
        else:
            self.serve = self.own("ebb_asgi").asgi_style(call, self)

    def loop(self):
        """The one event loop of the instance."""
        if self._loop is None:
            self._loop = self.own("ebb_asgi").Loop(self.concurrency > 1)
        return self._loop

    def run(self):
        """For ever; ends the process when drained."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGTERM, self._drain)
        # The watcher sleeps until a peer hangs up: nothing to do for each request.
        self.watch.register(self.control.connection.descriptor, HANGUP)
        _thread.start_new_thread(self._watch, ())
        self.listener.setblocking(False)
        self.idle.register(self.listener.fileno(), select.EPOLLIN)
        self.idle.register(reader, select.EPOLLIN)
        crew = self.own("ebb_threads").Crew(self._serve_connection, self.concurrency) if self.concurrency > 1 else None
        alone = Alone()
        while not (self.draining and self.active == 0):
            events = self.idle.poll(crew and crew.patience())
            if crew is not None and not events:
                crew.relieve()
            for descriptor, event in events:
                if descriptor == self.listener.fileno():
                    self._accept()
                elif descriptor == reader:
                    os.read(reader, 64)
                elif crew is None:
                    self._serve_connection(self.connections[descriptor], alone)
                elif not (event & HANGUP and self._left(self.connections[descriptor])):
                    crew.hand(self.connections[descriptor])
        self._leave()

    def _accept(self):
        try:
            descriptor, _ = self.listener._accept()
        except OSError:
            return
        connection = Connection(_socket.socket(fileno=descriptor))
        connection.sock.setblocking(True)
        self.connections[descriptor] = connection
        self.watch.register(descriptor, HANGUP | select.EPOLLET)
        self.idle.register(descriptor, NEXT_REQUEST)

    def _drain(self, *_):
        self.draining = True
        try:
            self.idle.unregister(self.listener.fileno())
        except (OSError, ValueError):
            pass

    def _leave(self):
        _signal.set_wakeup_fd(-1)
        if self._loop is not None:
            self._loop.close()
        self.control.close()
        leave_tidily()

    def _watch(self):
        while True:
            for descriptor, _ in self.watch.poll():
                if descriptor == self.control.connection.descriptor:
                    os._exit(0)
                connection = self.connections.get(descriptor)
                # The number may be another connection's by now: only what is true at this moment counts.
                if connection is None or not hung_up(descriptor):
                    continue
                invocation = connection.invocation
                if invocation is not None:
                    invocation.abort()
                connection.hung_up = True

    def _left(self, connection):
        """True: the peer has closed it between two requests, and so it is closed; no thread need be woken for that."""
        try:
            if connection.sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT):
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._forget(connection)
        connection.close()
        return True

    def _forget(self, connection):
        del self.connections[connection.descriptor]
        # ebb may have closed it before it read the head that says done: said again, it is heard.
        if connection.done_in_head:
            self.control.done(connection.done_in_head)

    def _serve_connection(self, connection, worker):
        """The requests that are there; then the connection waits for the next."""
        while True:
            try:
                request = connection.read_request()
                if request is not None:
                    worker.again()
                    self._serve_request(connection, request, worker)
            except Malformed as error:
                connection.refuse(error)
                request = None
            except Gone:
                request = None
            if request is not None and request.released:
                return
            if request is None or connection.closing or not request.body.complete:
                break
            if not connection.buffer:
                self.idle.modify(connection.descriptor, NEXT_REQUEST)
                return
        self._forget(connection)
        if request is not None and not request.body.complete:
            connection.linger()
        else:
            connection.close()

    def _serve_request(self, connection, request, worker):
        if request.target == ASSIGN_TARGET and request.header("ebb-invocation-id") is None:
            request.answer(410, [], b"", None)
            return
        invocation = Invocation(self, request, worker)
        with self.lock:
            self.active += 1
        connection.invocation = invocation
        if connection.hung_up:
            invocation.abort()
        self.output.begin(invocation.id)
        try:
            self.serve(request, invocation)
        except (Gone, Malformed):
            connection.closing = True
            raise
        except Exception as error:
            self._failed(request, invocation, error)
        except SystemExit as error:
            self.output.end(invocation.id)
            os._exit(error.code if isinstance(error.code, int) else 1)
        finally:
            if not request.released:
                connection.invocation = None
            invocation.end()
            with self.lock:
                self.active -= 1
            if self.draining and self.concurrency > 1:
                os.kill(os.getpid(), _signal.SIGTERM)  # wakes the main thread

    def release(self, request):
        """The answer is complete, the invocation goes on: the connection waits for its next request already."""
        connection = request.connection
        if request.released or connection.closing or connection.buffer or not request.body.complete:
            return
        request.released = True
        connection.invocation = None
        connection.sock.setblocking(True)
        self.idle.modify(connection.descriptor, NEXT_REQUEST)

    def _failed(self, request, invocation, error):
        failure = self.own("ebb_failure")
        plain = type(error).__name__ == "BadAnswer" or isinstance(error, BadHeader)
        text = "Error: %s" % error if plain else failure.stack_of(error)
        self.output.error(invocation.id or None, text + "\n")
        if request.head_sent:
            request.cut()
            return
        body = failure.problem(500, "function_error", "Function error", failure.message_of(error))
        headers = [("content-type", "application/problem+json"), ("ebb-error", "function")]
        request.answer(500, headers, body, invocation.ends_with_answer)

    def too_large(self, request, invocation, limit):
        failure = self.own("ebb_failure")
        detail = "the body is larger than %d bytes; a WSGI or ASGI application can stream it" % limit
        body = failure.problem(413, "payload_too_large", "The body is too large", detail)
        request.answer(413, [("content-type", "application/problem+json")], body, invocation.ends_with_answer)
