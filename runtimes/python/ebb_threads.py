"""Threads for the requests of an instance above concurrency 1: started as calls come together, not ahead."""

from queue import Empty, SimpleQueue

import _thread

# How long a thread whose invocation is over may take to come for its next request before another is started in its place:
# it may be sending to somebody who reads slowly.
LATE_SECONDS = 0.02


class Worker:
    """What one thread says of itself."""

    def __init__(self, crew):
        self.crew = crew
        self.counted = False

    def over(self):
        """Free, or about to be. Said before ebb is told: its next request may be here before this thread is."""
        if not self.counted:
            self.counted = True
            self.crew.count(1)

    def again(self):
        """Not free after all: a request lay right behind the last."""
        if self.counted:
            self.counted = False
            self.crew.count(-1)


class Crew:
    """`serve(connection, worker)` and `count` run on the threads, all else on the main one."""

    def __init__(self, serve, most):
        self.serve = serve
        self.most = most
        self.started = 0
        # Threads that are free or about to be, less the connections that wait for one. Of no matter once all are there.
        self.free = 0
        # Those that have come to the queue, and need only be woken.
        self.waiting = 0
        self.lock = _thread.allocate_lock()
        self.ready = SimpleQueue()

    def count(self, change):
        with self.lock:
            self.free += change
            return self.free

    def hand(self, connection):
        """One thread more only where none is free."""
        if self.started < self.most and self.count(-1) < 0 and self._start(connection):
            return
        self.ready.put(connection)

    def patience(self):
        """How long the main thread may sleep before it calls `relieve`; None: for ever."""
        return None if self.started == self.most or self.ready.empty() else LATE_SECONDS

    def relieve(self):
        """Whoever was to take what waits has not come: another thread does."""
        if self.waiting > 0:
            return
        try:
            connection = self.ready.get_nowait()
        except Empty:
            return
        if not self._start(connection):
            self.ready.put(connection)

    def _start(self, connection):
        try:
            _thread.start_new_thread(self._work, (connection,))
        except RuntimeError:  # no more threads to be had: those that are there take turns
            if self.started == 0:
                raise
            return False
        self.started += 1
        self.count(1)
        return True

    def _work(self, connection):
        worker = Worker(self)
        while True:
            self.serve(connection, worker)
            worker.over()
            with self.lock:
                self.waiting += 1
            connection = self.ready.get()
            with self.lock:
                self.waiting -= 1
            worker.counted = False
