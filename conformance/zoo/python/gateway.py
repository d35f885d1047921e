"""Cases on etcd3gw, which speaks the JSON gateway through requests and urllib3."""

import queue
import time

import etcd3gw
import restarts


def connect(address):
    host, port = address.split(":")
    return etcd3gw.Etcd3Client(host=host, port=int(port), timeout=20)


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def keys(address):
    client = connect(address)
    client.put("gw/a", "1")
    client.put("gw/b", b"\xff\x00")
    expect("value", client.get("gw/a"), [b"1"])
    expect("bytes", client.get("gw/b"), [b"\xff\x00"])
    expect("nothing", client.get("gw/c"), [])
    found = client.get_prefix("gw/", sort_order="descend", sort_target="key")
    expect("prefix", [(value, row["key"]) for value, row in found], [(b"\xff\x00", b"gw/b"), (b"1", b"gw/a")])
    expect("created", client.create("gw/a", "2"), False)
    expect("created", client.create("gw/c", "2"), True)
    expect("replaced", client.replace("gw/a", "0", "3"), False)
    expect("replaced", client.replace("gw/a", "1", "3"), True)
    expect("value", client.get("gw/a"), [b"3"])
    expect("deleted", client.delete("gw/a"), True)
    expect("deleted", client.delete("gw/a"), False)
    client.delete_prefix("gw/")
    expect("all gone", client.get_prefix("gw/"), [])
    large = b"x" * 1_000_000
    client.put("gw/large", large)
    expect("large value", client.get("gw/large") == [large], True)
    expect("members", len(client.members()), 1)
    expect("version", client.status()["version"], "3.7.3")


def leases(address):
    client = connect(address)
    lease = client.lease(ttl=100)
    client.put("gwl/a", "1", lease)
    client.put("gwl/b", "1", lease)
    expect("keys", sorted(lease.keys()), [b"gwl/a", b"gwl/b"])
    expect("time to live", 90 < lease.ttl() <= 100, True)
    expect("renewed", lease.refresh(), 100)
    lease.revoke()
    expect("its keys", client.get_prefix("gwl/"), [])


def locks(address):
    client, other = connect(address), connect(address)
    lock = client.lock(id="gw", ttl=60)
    expect("acquired", lock.acquire(), True)
    expect("held", lock.is_acquired(), True)
    expect("taken", other.lock(id="gw", ttl=60).acquire(), False)
    expect("renewed", lock.refresh(), 60)
    expect("released", lock.release(), True)
    with other.lock(id="gw", ttl=60) as mine:
        expect("held", mine.is_acquired(), True)


def watches(address):
    client = connect(address)
    # What was before may be compacted.
    first = int(client.status()["header"]["revision"]) + 1
    events, cancel = client.watch_prefix("gww/")
    for i in range(100):
        client.put(f"gww/{i % 7}", str(i))
    client.delete("gww/0")
    for i in range(100):
        event = next(events)
        expect("event", (event["kv"]["key"], event["kv"]["value"]), (b"gww/%d" % (i % 7), b"%d" % i))
    expect("deletion", next(events)["type"], "DELETE")
    cancel()
    seen = queue.Queue()
    watcher = etcd3gw.watch.Watcher(client, "gww/1", seen.put, start_revision=first)
    expect("history", seen.get(timeout=20)["kv"]["value"], b"1")
    watcher.stop()


def lease_that_runs_out(address):
    """A lease that is renewed outlives its time, another ends. It mostly waits."""
    client = connect(address)
    kept, left = client.lease(ttl=6), client.lease(ttl=2)
    client.put("gwx/kept", "v", kept)
    client.put("gwx/left", "v", left)
    begun = time.monotonic()
    while time.monotonic() < begun + 8:
        expect("renewed", kept.refresh(), 6)
        time.sleep(1)
    restarts.until("the end of a lease", lambda: client.get("gwx/left") == [])
    expect("its time", left.ttl(), -1)
    expect("kept", client.get("gwx/kept"), [b"v"])
    kept.revoke()


def restarts_across(server, put):
    client = connect(server.address)
    first = int(client.status()["header"]["revision"]) + 1
    watchers = []

    def watch(revision, take):
        def event(each):
            take(each["kv"]["key"], int(each["kv"]["mod_revision"]))

        for watcher in watchers:
            watcher.stop()
        watchers[:] = [etcd3gw.watch.Watcher(
            client, "gwr/", event, range_end="gwr0", start_revision=max(revision, first))]

    def history():
        rows = client.get_prefix("gwr/", sort_order="ascend", sort_target="mod")
        return [(row["key"], int(row["mod_revision"])) for _, row in rows]

    restarts.run(server, put, "gwr/", watch, history)
    watchers[0].stop()
