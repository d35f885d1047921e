"""Judges a server through etcd3, etcd's client for Python on grpcio: usage etcd3_check.py SERVER FOLDER PORT [CASE].

PORT and the one after it must be free. The library has no elections, its leases are renewed by whoever holds them, and its
watches end with the connection, of which it tells. Its own messages bear the names of those that protoc makes for check.py,
so this is a program of its own.
"""

import queue
import sys
import threading
import time

import etcd3
import restarts
import runner
from server import Server

SERVER, FOLDER, PORT = sys.argv[1:4]
ONLY = sys.argv[4:]
LIMIT = 60
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
           ("grpc.max_reconnect_backoff_ms", 300)]


def connect():
    host, port = SERVER_PROCESS.address.split(":")
    # The core shares connections between channels with equal arguments.
    own = [("grpc.use_local_subchannel_pool", 1)]
    return etcd3.client(host=host, port=int(port), timeout=LIMIT, grpc_options=OPTIONS + own)


def equal(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r:.300}, want {want!r:.300}")


def case_keys(etcd):
    etcd.put("k/a", b"\x00\xff\n")
    before = etcd.put("k/b", "1").header.revision
    equal("previous", etcd.put("k/b", "2", prev_kv=True).prev_kv.value, b"1")
    value, row = etcd.get("k/b")
    equal("value", (value, row.version, row.create_revision, row.mod_revision), (b"2", 2, before, before + 1))
    equal("nothing", etcd.get("k/none"), (None, None))
    rows = list(etcd.get_prefix("k/", sort_order="descend"))
    equal("prefix", [(row.key, value) for value, row in rows], [(b"k/b", b"2"), (b"k/a", b"\x00\xff\n")])
    large = b"x" * (1 << 20)
    etcd.put("k/large", large)
    equal("large value", etcd.get("k/large")[0] == large, True)
    equal("deleted", etcd.delete_prefix("k/").deleted, 3)
    equal("deleted again", etcd.delete("k/a"), False)


def case_transactions(etcd):
    etcd.put("t", "one")
    txn = etcd.transactions

    def swap():
        return etcd.transaction(compare=[txn.value("t") == "one", txn.version("t") > 0],
                                success=[txn.put("t", "two"), txn.get("t")], failure=[txn.delete("t")])

    succeeded, answers = swap()
    equal("first", (succeeded, answers[1][0][0]), (True, b"two"))
    succeeded, answers = swap()
    equal("second", (succeeded, answers[0].response_delete_range.deleted), (False, 1))
    equal("created", etcd.put_if_not_exists("t/new", "1"), True)
    equal("created again", etcd.put_if_not_exists("t/new", "2"), False)
    equal("replaced", [etcd.replace("t/new", "1", "3"), etcd.replace("t/new", "1", "4")], [True, False])


def case_watch(etcd):
    events, cancel = etcd.watch_prefix("w/", prev_kv=True)
    for i in range(100):
        etcd.put(f"w/{i % 7}", str(i))
    etcd.delete("w/0")
    for i in range(100):
        event = next(events)
        equal("event", (event.key, event.value), (b"w/%d" % (i % 7), b"%d" % i))
    event = next(events)
    equal("deletion", (type(event), event.key, event.prev_value), (etcd3.events.DeleteEvent, b"w/0", b"98"))
    cancel()
    history, cancel = etcd.watch("w/1", start_revision=event.mod_revision - 100)
    equal("history", next(history).value, b"1")
    cancel()


def case_leases(etcd):
    lease = etcd.lease(600)
    etcd.put("l", "v", lease)
    equal("granted", (lease.granted_ttl, 590 < lease.remaining_ttl <= 600, list(lease.keys)), (600, True, [b"l"]))
    equal("renewed", [answer.TTL for answer in lease.refresh()], [600])
    lease.revoke()
    equal("a key of a revoked lease", etcd.get("l"), (None, None))
    equal("a revoked lease", lease.remaining_ttl, -1)
    equal("renewed too late", [answer.TTL for answer in lease.refresh()], [0])


def case_lease_that_runs_out(etcd):
    """A lease that is renewed outlives its time, another ends."""
    kept, left = etcd.lease(6), etcd.lease(2)
    events, cancel = etcd.watch("x/left")
    etcd.put("x/kept", "v", kept)
    etcd.put("x/left", "v", left)
    begun = time.monotonic()
    while time.monotonic() < begun + 8:
        equal("renewed", [answer.TTL for answer in kept.refresh()], [6])
        time.sleep(1)
    equal("ended", [type(next(events)) for _ in range(2)], [etcd3.events.PutEvent, etcd3.events.DeleteEvent])
    equal("kept", etcd.get("x/kept")[0], b"v")
    kept.revoke()
    cancel()


def case_locks(etcd):
    first, second = etcd.lock("lock", ttl=600), connect().lock("lock", ttl=600)
    equal("acquired", (first.acquire(), first.is_acquired()), (True, True))
    equal("taken", (second.acquire(timeout=0), second.is_acquired()), (False, False))
    equal("renewed", [answer.TTL for answer in first.refresh()], [600])
    took = queue.Queue()
    waiting = threading.Thread(target=lambda: took.put(second.acquire(timeout=LIMIT)))
    waiting.start()
    equal("released", first.release(), True)
    equal("the next one", (took.get(timeout=LIMIT), second.is_acquired()), (True, True))
    waiting.join()
    second.lease.revoke()
    with etcd.lock("lock", ttl=600) as third:
        equal("after the end of a lease", third.is_acquired(), True)


def case_watch_across_restarts(etcd):
    other, told = connect(), []

    def watch(revision, take):
        def callback(answer):
            if isinstance(answer, Exception):
                told.append(answer)
                return
            for event in answer.events:
                take(event.key, event.mod_revision)

        def begun():
            try:
                etcd.add_watch_prefix_callback("r/", callback, start_revision=max(revision, first))
            except Exception:
                # Not connected yet.
                return False
            return True

        restarts.until("a watch", begun)

    def history():
        rows = etcd.get_prefix("r/", sort_order="ascend", sort_target="mod")
        return [(row.key, row.mod_revision) for _, row in rows]

    first = etcd.put("r-first", "v").header.revision
    restarts.run(SERVER_PROCESS, other.put, "r/", watch, history)
    equal("told of the end of watches", len(told), 2)


SERVER_PROCESS = Server(SERVER, FOLDER, int(PORT))
runner.main(
    globals(),
    [case_lease_that_runs_out],
    [case_watch_across_restarts],
    ONLY,
    SERVER_PROCESS,
    connect,
)
