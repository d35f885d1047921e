import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch.Watcher;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.Observers;
import io.etcd.jetcd.watch.WatchEvent;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/** Cases on jetcd, etcd's client for Java, which takes up watches and keep-alives again by itself. */
final class Jetcd {
    private final Server server;
    private final Writer writer;

    /** Writes a key on a connection that is not jetcd's. */
    interface Writer {
        void put(String key, String value) throws Exception;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    Jetcd(Server server, Writer writer) {
        this.server = server;
        this.writer = writer;
    }

    private static ByteSequence sequence(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    private static <T> T get(CompletableFuture<T> future) throws Exception {
        return future.get(Check.LIMIT, TimeUnit.SECONDS);
    }

    private static <T> T next(BlockingQueue<T> queue) throws Exception {
        return Objects.requireNonNull(queue.poll(Check.LIMIT, TimeUnit.SECONDS), "nothing in time");
    }

    private static void until(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Check.LIMIT);
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not in time: " + what);
            }
            Thread.sleep(10);
        }
    }

    private Client connect() {
        return Client.builder().endpoints("http://127.0.0.1:" + server.port).build();
    }

    private static long revision(KV kv) throws Exception {
        return get(kv.get(sequence("none"))).getHeader().getRevision();
    }

    private static GetOption prefix() {
        return GetOption.builder().isPrefix(true).withSortField(GetOption.SortTarget.MOD).build();
    }

    void keys() throws Exception {
        try (Client client = connect()) {
            KV kv = client.getKVClient();
            ByteSequence binary = ByteSequence.from(new byte[] {0, -1, 10});
            get(kv.put(sequence("jk/a"), binary));
            get(kv.put(sequence("jk/b"), sequence("2")));
            GetResponse all = get(kv.get(sequence("jk/"), prefix()));
            Check.equal("count", all.getCount(), 2L);
            Check.equal("bytes", all.getKvs().get(0).getValue(), binary);
            Check.equal("nothing", get(kv.get(sequence("jk/none"))).getCount(), 0L);
            ByteSequence large = sequence("x".repeat(1 << 20));
            get(kv.put(sequence("jk/large"), large));
            Check.equal("large value", get(kv.get(sequence("jk/large"))).getKvs().get(0).getValue().equals(large), true);
            DeleteOption delete = DeleteOption.builder().isPrefix(true).withPrevKV(true).build();
            Check.equal("deleted", get(kv.delete(sequence("jk/"), delete)).getPrevKvs().size(), 3);
        }
    }

    void transactions() throws Exception {
        try (Client client = connect()) {
            KV kv = client.getKVClient();
            get(kv.put(sequence("jt"), sequence("one")));
            for (boolean succeeded : new boolean[] {true, false}) {
                var txn = get(kv.txn()
                    .If(new Cmp(sequence("jt"), Cmp.Op.EQUAL, CmpTarget.value(sequence("one"))),
                        new Cmp(sequence("jt"), Cmp.Op.GREATER, CmpTarget.version(0)))
                    .Then(Op.put(sequence("jt"), sequence("two"), PutOption.DEFAULT),
                        Op.get(sequence("jt"), GetOption.DEFAULT))
                    .Else(Op.delete(sequence("jt"), DeleteOption.DEFAULT))
                    .commit());
                Check.equal("succeeded", txn.isSucceeded(), succeeded);
                if (succeeded) {
                    Check.equal("read", txn.getGetResponses().get(0).getKvs().get(0).getValue(), sequence("two"));
                } else {
                    Check.equal("deleted", txn.getDeleteResponses().get(0).getDeleted(), 1L);
                }
            }
        }
    }

    /** Events with the rows before them, and the end of the keys of a lease. */
    void watch() throws Exception {
        try (Client client = connect()) {
            KV kv = client.getKVClient();
            BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
            WatchOption option = WatchOption.builder().isPrefix(true).withPrevKV(true)
                .withRevision(revision(kv) + 1).build();
            try (Watcher watcher = client.getWatchClient().watch(sequence("j/"), option,
                    answer -> events.addAll(answer.getEvents()))) {
                long lease = get(client.getLeaseClient().grant(600)).getID();
                PutOption leased = PutOption.builder().withLeaseId(lease).build();
                for (int i = 0; i < 100; i++) {
                    get(kv.put(sequence("j/k"), sequence("v" + i), leased));
                }
                for (int i = 0; i < 100; i++) {
                    WatchEvent event = next(events);
                    Check.equal("event", event.getKeyValue().getValue(), sequence("v" + i));
                    Check.equal("lease", event.getKeyValue().getLease(), lease);
                }
                get(client.getLeaseClient().revoke(lease));
                WatchEvent event = next(events);
                Check.equal("revoked", event.getEventType(), WatchEvent.EventType.DELETE);
                Check.equal("value before", event.getPrevKV().getValue(), sequence("v99"));
            }
        }
    }

    void leases() throws Exception {
        try (Client client = connect()) {
            Lease leases = client.getLeaseClient();
            long id = get(leases.grant(600)).getID();
            PutOption leased = PutOption.builder().withLeaseId(id).build();
            get(client.getKVClient().put(sequence("jl"), sequence("v"), leased));
            Check.equal("renewed", get(leases.keepAliveOnce(id)).getTTL(), 600L);
            var left = get(leases.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
            Check.equal("keys", left.getKeys(), List.of(sequence("jl")));
            Check.equal("granted", left.getGrantedTTL(), 600L);
            get(leases.revoke(id));
            Check.equal("a key of a revoked lease", get(client.getKVClient().get(sequence("jl"))).getCount(), 0L);
            Check.equal("a revoked lease", get(leases.timeToLive(id, LeaseOption.DEFAULT)).getTTL(), -1L);
            try {
                get(client.getKVClient().put(sequence("jl"), sequence("v"), leased));
                throw new AssertionError("a put with a revoked lease");
            } catch (java.util.concurrent.ExecutionException error) {
                String text = error.getCause().getMessage();
                Check.equal("refused: " + text, text.contains("requested lease not found"), true);
            }
        }
    }

    /** A lease that is renewed outlives its time, another ends. It mostly waits. */
    void leaseThatRunsOut() throws Exception {
        try (Client client = connect()) {
            KV kv = client.getKVClient();
            long kept = get(client.getLeaseClient().grant(10)).getID();
            BlockingQueue<LeaseKeepAliveResponse> renewals = new LinkedBlockingQueue<>();
            try (var keeper = client.getLeaseClient().keepAlive(kept, Observers.observer(renewals::add))) {
                get(kv.put(sequence("jx/kept"), sequence("v"), PutOption.builder().withLeaseId(kept).build()));
                long left = get(client.getLeaseClient().grant(2)).getID();
                long from = get(kv.put(sequence("jx/left"), sequence("v"), PutOption.builder().withLeaseId(left).build()))
                    .getHeader().getRevision();
                BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
                WatchOption option = WatchOption.builder().withRevision(from + 1).build();
                try (Watcher watcher = client.getWatchClient().watch(sequence("jx/left"), option,
                        answer -> events.addAll(answer.getEvents()))) {
                    Check.equal("ended", next(events).getEventType(), WatchEvent.EventType.DELETE);
                }
                for (int i = 0; i < 4; i++) {
                    Check.equal("renewed", next(renewals).getTTL(), 10L);
                }
                Check.equal("kept", get(kv.get(sequence("jx/kept"))).getCount(), 1L);
            }
            get(client.getLeaseClient().revoke(kept));
        }
    }

    void locks() throws Exception {
        try (Client client = connect(); Client other = connect()) {
            long lease = get(client.getLeaseClient().grant(600)).getID();
            long otherLease = get(other.getLeaseClient().grant(600)).getID();
            ByteSequence name = sequence("jlock");
            ByteSequence held = get(client.getLockClient().lock(name, lease)).getKey();
            var waiting = other.getLockClient().lock(name, otherLease);
            until("a second one in the queue", () -> get(client.getKVClient().get(name, prefix())).getCount() == 2);
            Check.equal("it waits", waiting.isDone(), false);
            get(client.getLockClient().unlock(held));
            ByteSequence next = get(waiting).getKey();
            Check.equal("the holder", get(client.getKVClient().get(name, prefix())).getKvs().get(0).getKey(), next);
            // A holder whose lease ends holds it no longer.
            var again = client.getLockClient().lock(name, lease);
            get(other.getLeaseClient().revoke(otherLease));
            get(client.getLockClient().unlock(get(again).getKey()));
            get(client.getLeaseClient().revoke(lease));
        }
    }

    void elections() throws Exception {
        try (Client client = connect(); Client other = connect()) {
            long lease = get(client.getLeaseClient().grant(600)).getID();
            long otherLease = get(other.getLeaseClient().grant(600)).getID();
            ByteSequence name = sequence("jelection");
            BlockingQueue<ByteSequence> leaders = new LinkedBlockingQueue<>();
            Election election = client.getElectionClient();
            election.observe(name, new Election.Listener() {
                @Override
                public void onNext(LeaderResponse leader) {
                    leaders.add(leader.getKv().getValue());
                }

                @Override
                public void onError(Throwable error) {
                    leaders.add(sequence(error.toString()));
                }

                @Override
                public void onCompleted() {
                    leaders.add(sequence("the end"));
                }
            });
            LeaderKey first = get(election.campaign(name, lease, sequence("first"))).getLeader();
            Check.equal("leader", get(election.leader(name)).getKv().getValue(), sequence("first"));
            Check.equal("observed", next(leaders), sequence("first"));
            var campaign = other.getElectionClient().campaign(name, otherLease, sequence("second"));
            until("a second candidate", () -> get(client.getKVClient().get(name, prefix())).getCount() == 2);
            get(election.proclaim(first, sequence("first again")));
            Check.equal("observed", next(leaders), sequence("first again"));
            Check.equal("it waits", campaign.isDone(), false);
            get(election.resign(first));
            LeaderKey second = get(campaign).getLeader();
            Check.equal("its lease", second.getLease(), otherLease);
            Check.equal("observed", next(leaders), sequence("second"));
            get(other.getElectionClient().resign(second));
            get(client.getLeaseClient().revoke(lease));
            get(other.getLeaseClient().revoke(otherLease));
        }
    }

    /** No event is lost and none comes twice, and a lease is renewed on. */
    void restarts() throws Exception {
        try (Client client = connect()) {
            KV kv = client.getKVClient();
            long id = get(client.getLeaseClient().grant(30)).getID();
            get(kv.put(sequence("jr-lease"), sequence("v"), PutOption.builder().withLeaseId(id).build()));
            AtomicInteger renewals = new AtomicInteger();
            List<Map.Entry<ByteSequence, Long>> seen = new CopyOnWriteArrayList<>();
            WatchOption option = WatchOption.builder().isPrefix(true).withRevision(revision(kv)).build();
            // The observer is told of each broken connection, and of renewals again after it.
            try (var keeper = client.getLeaseClient().keepAlive(id,
                        Observers.observer(renewal -> renewals.incrementAndGet()));
                    Watcher watcher = client.getWatchClient().watch(sequence("jr/"), option, answer -> {
                        for (WatchEvent event : answer.getEvents()) {
                            seen.add(Map.entry(event.getKeyValue().getKey(), event.getKeyValue().getModRevision()));
                        }
                    })) {
                stopAndKill("jr/", seen);
                List<Map.Entry<ByteSequence, Long>> all = get(kv.get(sequence("jr/"), prefix())).getKvs().stream()
                    .map(row -> Map.entry(row.getKey(), row.getModRevision())).toList();
                until("the last event", () -> seen.size() >= all.size());
                Check.equal("every event once, in order", List.copyOf(seen), all);
                int before = renewals.get();
                until("a renewal", () -> renewals.get() > before);
                Check.equal("the lease's key", get(kv.get(sequence("jr-lease"))).getCount(), 1L);
            }
            get(client.getLeaseClient().revoke(id));
        }
    }

    /**
     * Writes one key after the other while the server stops, is killed, and comes back: at each of the steps only after as
     * many as were acknowledged have been seen. A write that failed is not tried again, and may have taken effect.
     */
    private void stopAndKill(String prefix, List<?> seen) throws Exception {
        AtomicInteger acknowledged = new AtomicInteger();
        AtomicBoolean more = new AtomicBoolean(true);
        Thread thread = new Thread(() -> {
            for (int i = 0; more.get(); i++) {
                try {
                    writer.put(prefix + i, "v" + i);
                    acknowledged.incrementAndGet();
                } catch (Exception refused) {
                    Thread.yield();
                }
            }
        });
        thread.start();
        try {
            step("at first", acknowledged, seen);
            server.stop();
            server.start();
            step("after the stop", acknowledged, seen);
            server.kill();
            server.start();
            step("after the kill", acknowledged, seen);
        } finally {
            more.set(false);
            thread.join();
        }
    }

    private static void step(String what, AtomicInteger acknowledged, List<?> seen) throws Exception {
        int before = acknowledged.get();
        until("writes " + what, () -> acknowledged.get() >= before + 20);
        int target = acknowledged.get();
        until("events " + what, () -> seen.size() >= target);
    }
}
