"""Writes that go on while the server stops, is killed, and comes back, and what a watcher must make of it."""

import threading
import time

LIMIT = 60


def until(what, condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.01)


class Writer:
    """Writes one key after the other, by `put`. A write that failed is not tried again, and may have taken effect."""

    def __init__(self, prefix, put):
        self.prefix, self.put = prefix, put
        self.acknowledged, self.more = 0, True
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        number = 0
        while self.more:
            number += 1
            try:
                self.put(f"{self.prefix}{number}".encode(), b"v")
                self.acknowledged += 1
            except Exception:
                time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.more = False
        self.thread.join()

    def seen(self, what, events):
        """Waits until some more writes are acknowledged, and as many events have been seen."""
        target = self.acknowledged + 20
        until(f"writes {what}", lambda: self.acknowledged >= target)
        target = self.acknowledged
        until(f"events {what}", lambda: len(events) >= target)


def run(server, put, prefix, watch, history):
    """`watch(revision, take)` begins a watch at a revision, which calls `take` with the key and the revision of each
    event, and is called again after each start of the server; `history()` gives all such pairs, in order."""
    events, lock, watches = [], threading.Lock(), [0]

    def begin():
        with lock:
            watches[0] += 1
            mine, revision = watches[0], events[-1][1] + 1 if events else 1

        def take(key, revision):
            # What the watch before had still in its buffers comes again.
            with lock:
                if mine == watches[0]:
                    events.append((key, revision))

        watch(revision, take)

    begin()
    with Writer(prefix, put) as writer:
        writer.seen("at first", events)
        for what, end in (("stop", server.stop), ("kill", server.kill)):
            end()
            server.start()
            begin()
            writer.seen(f"after the {what}", events)
    rows = history()
    until("the last event", lambda: len(events) >= len(rows))
    if events != rows:
        raise AssertionError(f"not every event once, in order: {events}, but there are {rows}")
