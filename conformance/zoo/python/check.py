"""Judges a server through grpcio, the C core of gRPC: usage check.py SERVER FOLDER PORT STUBS [CASE].

STUBS is the folder with the code that protoc made of crates/api/proto. PORT and the one after it must be free.
"""

import queue
import sys
import threading
import time

import gateway
import grpc
import runner

SERVER, FOLDER, PORT, STUBS = sys.argv[1:5]
ONLY = sys.argv[5:]
sys.path.insert(0, STUBS)

import health_pb2 as health
import health_pb2_grpc as health_grpc
import rpc_pb2 as rpc
import rpc_pb2_grpc as rpc_grpc
import v3lock_pb2 as lock
import v3lock_pb2_grpc as lock_grpc
from server import PingProxy, Server

LIMIT = 60
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
           ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
           ("grpc.max_reconnect_backoff_ms", 300)]
# The core shares connections between channels with equal arguments; each channel here shall have its own.
OWN = [("grpc.use_local_subchannel_pool", 1)]

# How a call ends at its deadline. The server knows it too: when it is first, it resets the stream, and the client calls
# that cancelled or, before the first byte of the answer, unavailable.
LATE = ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE")


class Stubs:
    """A channel of its own with every service on it."""

    def __init__(self, address, options=(), **more):
        self.channel = grpc.insecure_channel(address, OPTIONS + OWN + list(options), **more)
        self.kv = rpc_grpc.KVStub(self.channel)
        self.watch = rpc_grpc.WatchStub(self.channel)
        self.lease = rpc_grpc.LeaseStub(self.channel)
        self.maintenance = rpc_grpc.MaintenanceStub(self.channel)
        self.lock = lock_grpc.LockStub(self.channel)
        self.health = health_grpc.HealthStub(self.channel)


class Duplex:
    """A stream of requests that the case writes when it likes, and the answers."""

    def __init__(self, method, timeout=2 * LIMIT):
        self.requests = queue.Queue()
        self.call = method(iter(self.requests.get, None), timeout=timeout)

    def send(self, message):
        self.requests.put(message)

    def next(self):
        return next(self.call)

    def end(self):
        self.requests.put(None)


def equal(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r:.300}, want {want!r:.300}")


def refused(call, code, text):
    """`call` must fail with exactly this status."""
    try:
        call()
    except grpc.RpcError as error:
        # Some builds of Go's protobuf write a space that does not break.
        details = error.details().replace("\xa0", " ")
        equal("status", (error.code().name, details), (code, text))
        return error
    raise AssertionError(f"no error, want {code} {text}")


def code_of(call, *codes):
    """`call` must fail with one of these codes and a text that the client made up."""
    try:
        call()
    except grpc.RpcError as error:
        if error.code().name not in codes:
            raise
        return
    raise AssertionError(f"no error, want {codes}")


def put(stubs, key, value, **more):
    return stubs.kv.Put(rpc.PutRequest(key=key, value=value), timeout=LIMIT, **more)


def get(stubs, key, **fields):
    return stubs.kv.Range(rpc.RangeRequest(key=key, **fields), timeout=LIMIT)


def watcher(stubs, key, **fields):
    stream = Duplex(stubs.watch.Watch)
    stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, **fields)))
    created = stream.next()
    equal("created", (created.created, created.canceled), (True, False))
    return stream, created.watch_id


def after(key):
    """The end of the range of keys that begin with `key`."""
    return key[:-1] + bytes([key[-1] + 1])


def case_put_get_delete(stubs):
    first = put(stubs, b"a/1", b"\x00\xff value").header.revision
    answer = get(stubs, b"a/1")
    equal("count", (answer.count, answer.more), (1, False))
    equal("value", answer.kvs[0].value, b"\x00\xff value")
    equal("revisions", (answer.kvs[0].create_revision, answer.kvs[0].version), (first, 1))
    gone = stubs.kv.DeleteRange(rpc.DeleteRangeRequest(key=b"a/1", prev_kv=True), timeout=LIMIT)
    equal("deleted", (gone.deleted, gone.prev_kvs[0].value), (1, b"\x00\xff value"))
    equal("revision", gone.header.revision, first + 1)
    equal("gone", get(stubs, b"a/1").count, 0)


def case_large_value(stubs):
    value = bytes(range(256)) * 4096
    put(stubs, b"large", value)
    equal("value", get(stubs, b"large").kvs[0].value, value)
    refused(lambda: put(stubs, b"larger", bytes(1_600_000)), "INVALID_ARGUMENT", "etcdserver: request is too large")
    refused(lambda: put(stubs, b"larger", bytes(2 << 20)), "RESOURCE_EXHAUSTED",
            "grpc: received message larger than max (2097165 vs. 2097152)")
    equal("after the refusal", get(stubs, b"large").kvs[0].value, value)


def case_concurrent_calls(stubs):
    total = 5000
    calls = [stubs.kv.Put.future(rpc.PutRequest(key=b"many/%04d" % i, value=b"v"), timeout=LIMIT) for i in range(total)]
    equal("revisions", len({call.result(LIMIT).header.revision for call in calls}), total)
    equal("count", get(stubs, b"many/", range_end=after(b"many/"), count_only=True).count, total)


def case_txn(stubs):
    put(stubs, b"t", b"one")
    condition = rpc.Compare(key=b"t", target=rpc.Compare.VALUE, result=rpc.Compare.EQUAL, value=b"one")
    request = rpc.TxnRequest(
        compare=[condition],
        success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"t", value=b"two", prev_kv=True)),
                 rpc.RequestOp(request_range=rpc.RangeRequest(key=b"t"))],
        failure=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"t"))])
    answer = stubs.kv.Txn(request, timeout=LIMIT)
    equal("first", answer.succeeded, True)
    equal("previous", answer.responses[0].response_put.prev_kv.value, b"one")
    equal("read", answer.responses[1].response_range.kvs[0].value, b"two")
    answer = stubs.kv.Txn(request, timeout=LIMIT)
    equal("second", (answer.succeeded, answer.responses[0].response_delete_range.deleted), (False, 1))


def case_large_range(stubs):
    total, size = 10000, 700
    calls = []
    for begin in range(0, total, 100):
        puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"r/%05d" % i, value=b"%05d" % i * (size // 5)))
                for i in range(begin, begin + 100)]
        calls.append(stubs.kv.Txn.future(rpc.TxnRequest(success=puts), timeout=LIMIT))
    for call in calls:
        call.result(LIMIT)
    end = after(b"r/")
    answer = get(stubs, b"r/", range_end=end, limit=7)
    equal("limit", (len(answer.kvs), answer.more, answer.count), (7, True, total))
    # Several at once, so that answers share the connection's window.
    request = rpc.RangeRequest(key=b"r/", range_end=end)
    for call in [stubs.kv.Range.future(request, timeout=LIMIT) for _ in range(3)]:
        answer = call.result(LIMIT)
        equal("keys", [kv.key for kv in answer.kvs], [b"r/%05d" % i for i in range(total)])
        if any(kv.value != kv.key[2:] * (size // 5) for kv in answer.kvs):
            raise AssertionError("a value is wrong")


def case_range_stream(stubs):
    for i in range(30):
        put(stubs, b"s/%02d" % i, bytes([i]) * 100_000)
    keys = []
    for part in stubs.kv.RangeStream(rpc.RangeRequest(key=b"s/", range_end=after(b"s/")), timeout=LIMIT):
        keys += [kv.key for kv in part.range_response.kvs]
    equal("keys", keys, [b"s/%02d" % i for i in range(30)])


def case_watch(stubs):
    total, keys = 1000, 100
    stream, _ = watcher(stubs, b"w/", range_end=after(b"w/"), prev_kv=True)
    calls = [stubs.kv.Put.future(rpc.PutRequest(key=b"w/%02d" % (i % keys), value=b"%d" % i), timeout=LIMIT)
             for i in range(total)]
    last = {}
    revision = 0
    events = []
    while len(events) < total:
        events += stream.next().events
    for call in calls:
        call.result(LIMIT)
    for event in events:
        if event.kv.mod_revision <= revision:
            raise AssertionError(f"revision {event.kv.mod_revision} after {revision}")
        revision = event.kv.mod_revision
        equal("value before", event.prev_kv.value, last.get(event.kv.key, b""))
        last[event.kv.key] = event.kv.value
    # A client that has no more to ask is still told of events.
    stream.end()
    time.sleep(0.1)
    put(stubs, b"w/00", b"later")
    equal("event after the end of requests", stream.next().events[0].kv.value, b"later")
    stream.call.cancel()


def case_slow_watcher(stubs):
    """A stream that nobody reads must not hold up the other calls of its connection."""
    stream, _ = watcher(stubs, b"slow/", range_end=after(b"slow/"))
    for i in range(60):
        put(stubs, b"slow/%d" % i, bytes(200_000))
    equal("another call", get(stubs, b"slow/59").count, 1)
    seen = 0
    while seen < 60:
        seen += len(stream.next().events)
    stream.call.cancel()


def case_lease_keep_alive(stubs):
    granted = stubs.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=30), timeout=LIMIT)
    equal("granted", (granted.TTL, granted.error), (30, ""))
    stubs.kv.Put(rpc.PutRequest(key=b"leased", value=b"v", lease=granted.ID), timeout=LIMIT)
    stream = Duplex(stubs.lease.LeaseKeepAlive)
    for _ in range(20):
        stream.send(rpc.LeaseKeepAliveRequest(ID=granted.ID))
        answer = stream.next()
        equal("renewed", (answer.ID, answer.TTL), (granted.ID, 30))
    stream.send(rpc.LeaseKeepAliveRequest(ID=granted.ID + 1))
    equal("unknown lease", stream.next().TTL, 0)
    stream.end()
    equal("end", list(stream.call), [])
    stubs.lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=granted.ID), timeout=LIMIT)
    equal("key of a revoked lease", get(stubs, b"leased").count, 0)


def case_error_status(stubs):
    error = refused(lambda: put(stubs, b"", b"v"), "INVALID_ARGUMENT", "etcdserver: key is not provided")
    equal("metadata", [name for name, _ in error.trailing_metadata() or ()], [])
    refused(lambda: stubs.lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=77), timeout=LIMIT),
            "NOT_FOUND", "etcdserver: requested lease not found")
    refused(lambda: stubs.kv.Put(rpc.PutRequest(key=b"k", lease=77), timeout=LIMIT),
            "NOT_FOUND", "etcdserver: requested lease not found")
    refused(lambda: get(stubs, b"k", revision=1 << 40), "OUT_OF_RANGE",
            "etcdserver: mvcc: required revision is a future revision")


def case_unknown_method(stubs):
    def call(path):
        method = stubs.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return lambda: method(b"", timeout=LIMIT)

    refused(call("/etcdserverpb.KV/Nope"), "UNIMPLEMENTED", "unknown method Nope for service etcdserverpb.KV")
    refused(call("/no.Such/Thing"), "UNIMPLEMENTED", "unknown service no.Such")
    method = stubs.channel.stream_stream("/no.Such/Stream", request_serializer=bytes, response_deserializer=bytes)
    refused(lambda: list(method(iter([b"x"] * 100), timeout=LIMIT)), "UNIMPLEMENTED", "unknown service no.Such")


def case_malformed_message(stubs):
    method = stubs.channel.unary_unary("/etcdserverpb.KV/Range", request_serializer=bytes, response_deserializer=bytes)
    refused(lambda: method(b"\x0a\x7f", timeout=LIMIT), "INTERNAL",
            "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data")
    equal("after it", get(stubs, b"nothing").count, 0)


def case_compacted(stubs):
    revision = put(stubs, b"c", b"1").header.revision
    latest = put(stubs, b"c", b"2").header.revision
    stubs.kv.Compact(rpc.CompactionRequest(revision=latest, physical=True), timeout=LIMIT)
    refused(lambda: get(stubs, b"c", revision=revision), "OUT_OF_RANGE",
            "etcdserver: mvcc: required revision has been compacted")
    stream, _ = watcher(stubs, b"c", start_revision=revision)
    answer = stream.next()
    equal("watch", (answer.canceled, answer.compact_revision), (True, latest))
    stream.call.cancel()


def case_deadline(stubs):
    stream = Duplex(stubs.watch.Watch, timeout=1)
    stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"never")))
    begun = time.monotonic()
    code_of(lambda: (stream.next(), stream.next()), *LATE)
    if time.monotonic() - begun > 10:
        raise AssertionError(f"ended after {time.monotonic() - begun:.2f} s")
    # Calls that end before, at and after their deadline.
    calls = [stubs.kv.Put.future(rpc.PutRequest(key=b"d", value=bytes(1000)), timeout=i / 20_000) for i in range(400)]
    equal("codes", {call.code().name for call in calls} - {"OK", *LATE}, set())
    equal("after them", get(stubs, b"d").count <= 1, True)


def case_deadline_of_a_lock(stubs):
    def lease():
        return stubs.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=LIMIT).ID

    try:
        held = stubs.lock.Lock(lock.LockRequest(name=b"lock", lease=lease()), timeout=LIMIT).key
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise runner.NotYet(error.details()) from None
        raise
    begun = time.monotonic()
    code_of(lambda: stubs.lock.Lock(lock.LockRequest(name=b"lock", lease=lease()), timeout=0.4), *LATE)
    if not 0.35 < time.monotonic() - begun < 10:
        raise AssertionError(f"ended after {time.monotonic() - begun:.2f} s")
    stubs.lock.Unlock(lock.UnlockRequest(key=held), timeout=LIMIT)
    # The waiter that gave up must not be in the way.
    stubs.lock.Lock(lock.LockRequest(name=b"lock", lease=lease()), timeout=LIMIT)


def case_cancel_watch(stubs):
    stream, first = watcher(stubs, b"x/1")
    stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"x/2")))
    second = stream.next().watch_id
    stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=first)))
    answer = stream.next()
    equal("canceled", (answer.watch_id, answer.canceled), (first, True))
    put(stubs, b"x/1", b"unseen")
    put(stubs, b"x/2", b"seen")
    answer = stream.next()
    equal("event", (answer.watch_id, answer.events[0].kv.value), (second, b"seen"))
    stream.call.cancel()
    refused(stream.next, "CANCELLED", "Locally cancelled by application!")
    # Streams that are cancelled at once must leave nothing that stops later ones.
    for _ in range(200):
        watcher(stubs, b"x/3")[0].call.cancel()
    stream, _ = watcher(stubs, b"x/3")
    put(stubs, b"x/3", b"v")
    equal("later stream", stream.next().events[0].kv.key, b"x/3")
    stream.call.cancel()


def case_metadata(stubs):
    metadata = (("hasleader", "true"), ("x-text", "a b, c"), ("x-many", "1"), ("x-many", "2"),
                ("x-bytes-bin", bytes(range(256))), ("x-long", "l" * 6000))
    answer, call = stubs.kv.Put.with_call(rpc.PutRequest(key=b"m", value=b"v"), timeout=LIMIT, metadata=metadata)
    equal("answer", answer.header.revision > 0, True)
    equal("metadata", ([name for name, _ in call.initial_metadata()], list(call.trailing_metadata())), ([], []))
    # Fresh names fill the header table beyond its size and are evicted.
    for i in range(300):
        put(stubs, b"m", b"v", metadata=((f"x-name-{i}", "value" * 20),))


def case_long_metadata(stubs):
    """A header block of several frames."""
    put(stubs, b"m", b"v", metadata=tuple((f"x-long-{i}", "l" * 7000) for i in range(6)))


def case_gzip(stubs):
    zipped = Stubs(SERVER_PROCESS.address, compression=grpc.Compression.Gzip)
    value = b"compressible " * 20_000
    put(zipped, b"z", value)
    equal("value", get(zipped, b"z").kvs[0].value, value)
    put(zipped, b"z", b"small")
    equal("small value", get(zipped, b"z").kvs[0].value, b"small")
    stream, _ = watcher(zipped, b"z")
    put(stubs, b"z", value)
    equal("event", stream.next().events[0].kv.value, value)
    stream.call.cancel()
    zipped.channel.close()


def case_deflate(stubs):
    zipped = Stubs(SERVER_PROCESS.address, compression=grpc.Compression.Deflate)
    refused(lambda: put(zipped, b"z", b"value" * 1000), "UNIMPLEMENTED",
            'grpc: Decompressor is not installed for grpc-encoding "deflate"')
    zipped.channel.close()


def case_health(stubs):
    check = stubs.health.Check(health.HealthCheckRequest(), timeout=LIMIT)
    equal("whole server", check.status, health.HealthCheckResponse.SERVING)
    refused(lambda: stubs.health.Check(health.HealthCheckRequest(service="nope"), timeout=LIMIT),
            "NOT_FOUND", "unknown service")
    stream = stubs.health.Watch(health.HealthCheckRequest(), timeout=LIMIT)
    equal("watch", next(stream).status, health.HealthCheckResponse.SERVING)
    stream.cancel()


def case_keep_alive_pings(stubs):
    proxy = PingProxy(SERVER_PROCESS.port)
    alive = Stubs(proxy.address, [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 10_000),
                                  ("grpc.http2.max_pings_without_data", 0), ("grpc.http2.bdp_probe", 0)])
    stream, _ = watcher(alive, b"ping")
    before = proxy.pings
    deadline = time.monotonic() + LIMIT
    while proxy.answers < before + 3:
        if time.monotonic() > deadline:
            raise AssertionError(f"{proxy.pings - before} pings in {LIMIT} s, {proxy.answers - before} answered")
        time.sleep(0.05)
    put(stubs, b"ping", b"v")
    equal("event", stream.next().events[0].kv.value, b"v")
    equal("goaways", proxy.goaways, 0)
    stream.call.cancel()
    alive.channel.close()
    proxy.close()


def case_abandoned_channels(stubs):
    """Connections that are closed with calls under way."""
    for _ in range(20):
        other = Stubs(SERVER_PROCESS.address)
        watcher(other, b"q")
        other.kv.Put.future(rpc.PutRequest(key=b"q", value=bytes(500_000)), timeout=LIMIT)
        other.channel.close()
    put(stubs, b"q", b"v")


def case_gateway_keys(_):
    gateway.keys(SERVER_PROCESS.address)


def case_gateway_leases(_):
    gateway.leases(SERVER_PROCESS.address)


def case_gateway_lease_that_runs_out(_):
    gateway.lease_that_runs_out(SERVER_PROCESS.address)


def case_gateway_locks(_):
    gateway.locks(SERVER_PROCESS.address)


def case_gateway_watches(_):
    gateway.watches(SERVER_PROCESS.address)


def case_restart(stubs):
    put(stubs, b"kept", b"v")
    stream, _ = watcher(stubs, b"kept")
    SERVER_PROCESS.stop()
    code_of(stream.next, "UNAVAILABLE")
    code_of(lambda: put(stubs, b"kept", b"w"), "UNAVAILABLE")
    SERVER_PROCESS.start()
    answer = stubs.kv.Range(rpc.RangeRequest(key=b"kept"), timeout=LIMIT, wait_for_ready=True)
    equal("value", answer.kvs[0].value, b"v")
    stream, _ = watcher(stubs, b"kept")
    put(stubs, b"kept", b"again")
    equal("event", stream.next().events[0].kv.value, b"again")
    stream.call.cancel()


def case_gateway_watch_across_restarts(stubs):
    """etcd3gw does not tell that a watch has ended: who uses it begins again behind the last event."""
    gateway.restarts_across(SERVER_PROCESS, lambda key, value: put(stubs, key, value))


SERVER_PROCESS = Server(SERVER, FOLDER, int(PORT))
runner.main(
    globals(),
    [case_keep_alive_pings, case_gateway_lease_that_runs_out],
    [case_restart, case_gateway_watch_across_restarts],
    ONLY,
    SERVER_PROCESS,
    lambda: Stubs(SERVER_PROCESS.address),
)
