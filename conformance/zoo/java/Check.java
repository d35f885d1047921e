import com.google.common.util.concurrent.ListenableFuture;
import com.google.protobuf.ByteString;
import io.etcd.jetcd.api.*;
import io.etcd.jetcd.api.lock.LockGrpc;
import io.etcd.jetcd.api.lock.LockRequest;
import io.etcd.jetcd.api.lock.UnlockRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Judges a server through grpc-java on Netty, and through jetcd, etcd's client in Java.
 * Arguments: SERVER FOLDER PORT [CASE]. PORT and the one after it must be free.
 */
public final class Check {
    static final long LIMIT = 60;
    private final Server server;
    private final ManagedChannel channel;
    private final Map<String, Case> cases = new LinkedHashMap<>();
    /** Cases that mostly wait. */
    private final Map<String, Case> waiting = new LinkedHashMap<>();
    /** Cases that stop the server. */
    private final Map<String, Case> stopping = new LinkedHashMap<>();
    private final AtomicInteger passed = new AtomicInteger();
    private final AtomicInteger failed = new AtomicInteger();

    private interface Case {
        void run() throws Exception;
    }

    private interface Work<T> {
        T run() throws Exception;
    }

    private static final class NotYet extends RuntimeException {
        NotYet(String why) {
            super(why);
        }
    }

    public static void main(String[] args) throws Exception {
        Server server = new Server(args[0], Path.of(args[1]), Integer.parseInt(args[2]));
        int code = 2;
        server.start();
        try {
            code = new Check(server).run(Set.of(Arrays.copyOfRange(args, 3, args.length)));
        } finally {
            server.stop();
        }
        System.exit(code);
    }

    private Check(Server server) {
        this.server = server;
        this.channel = connect("127.0.0.1:" + server.port).build();
        cases.put("put get delete", this::putGetDelete);
        cases.put("large value", this::largeValue);
        cases.put("concurrent calls", this::concurrentCalls);
        cases.put("txn", this::txn);
        cases.put("large range", this::largeRange);
        cases.put("watch", this::watch);
        cases.put("slow watcher", this::slowWatcher);
        cases.put("lease keep alive", this::leaseKeepAlive);
        cases.put("error status", this::errorStatus);
        cases.put("unknown method", this::unknownMethod);
        cases.put("compacted", this::compacted);
        cases.put("deadline", this::deadline);
        cases.put("deadline of a lock", this::deadlineOfALock);
        cases.put("cancel watch", this::cancelWatch);
        cases.put("metadata", this::metadata);
        cases.put("long metadata", this::longMetadata);
        cases.put("gzip", this::gzip);
        cases.put("health", this::health);
        cases.put("abandoned channels", this::abandonedChannels);
        Jetcd jetcd = new Jetcd(server, (key, value) -> put(channel, key, bytes(value)));
        cases.put("jetcd: keys", jetcd::keys);
        cases.put("jetcd: transactions", jetcd::transactions);
        cases.put("jetcd: watch", jetcd::watch);
        cases.put("jetcd: leases", jetcd::leases);
        cases.put("jetcd: locks", jetcd::locks);
        cases.put("jetcd: elections", jetcd::elections);
        waiting.put("keep-alive pings", this::keepAlivePings);
        waiting.put("jetcd: lease that runs out", jetcd::leaseThatRunsOut);
        stopping.put("restart", this::restart);
        stopping.put("jetcd: watch and lease across restarts", jetcd::restarts);
    }

    /** Cases run in order; those that mostly wait run beside the others, but for the first, which counts revisions. */
    private int run(Set<String> only) throws InterruptedException {
        if (!only.isEmpty()) {
            List.of(cases, waiting, stopping).forEach(each -> each.keySet().retainAll(only));
        }
        List<Thread> beside = new ArrayList<>();
        for (Map.Entry<String, Case> entry : cases.entrySet()) {
            one(entry.getKey(), entry.getValue());
            if (beside.isEmpty()) {
                beside.addAll(start(waiting));
            }
        }
        if (beside.isEmpty()) {
            beside.addAll(start(waiting));
        }
        for (Thread thread : beside) {
            thread.join();
        }
        stopping.forEach(this::one);
        System.out.printf("%d passed, %d failed%n", passed.get(), failed.get());
        return failed.get() == 0 ? 0 : 1;
    }

    private List<Thread> start(Map<String, Case> cases) {
        List<Thread> threads = new ArrayList<>();
        cases.forEach((name, body) -> threads.add(new Thread(() -> one(name, body))));
        threads.forEach(Thread::start);
        return threads;
    }

    private void one(String name, Case body) {
        long begun = System.nanoTime();
        try {
            body.run();
            passed.incrementAndGet();
            System.out.println("ok " + name);
        } catch (NotYet lack) {
            System.out.println("not yet " + name + ": " + lack.getMessage());
        } catch (Throwable error) {
            failed.incrementAndGet();
            System.out.println("FAIL " + name + ": " + error.toString().replace('\n', ' '));
            error.printStackTrace();
        }
        System.err.printf("%s: %d ms%n", name, (System.nanoTime() - begun) / 1_000_000);
    }

    private static NettyChannelBuilder connect(String address) {
        return NettyChannelBuilder.forTarget(address).usePlaintext().maxInboundMessageSize(Integer.MAX_VALUE);
    }

    private static KVGrpc.KVBlockingStub kv(Channel channel) {
        return KVGrpc.newBlockingStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
    }

    private static LeaseGrpc.LeaseBlockingStub lease(Channel channel) {
        return LeaseGrpc.newBlockingStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
    }

    static void equal(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(String.format("%s: got %.300s, want %.300s", what, got, want));
        }
    }

    /** The call must fail with this status; with a text of null, the client made one up. */
    private static Status refused(Work<?> call, Status.Code code, String text) throws Exception {
        Status status;
        try {
            Object answer = call.run();
            throw new AssertionError("no error but " + answer + ", want " + code + " " + text);
        } catch (StatusRuntimeException error) {
            status = error.getStatus();
        }
        equal("code of " + status, status.getCode(), code);
        if (text != null) {
            equal("text", status.getDescription(), text);
        }
        return status;
    }

    private static ByteString bytes(String text) {
        return ByteString.copyFromUtf8(text);
    }

    private static ByteString zeroes(int size) {
        return ByteString.copyFrom(new byte[size]);
    }

    /** The end of the range of keys that begin with {@code key}. */
    private static ByteString after(String key) {
        byte[] end = key.getBytes(StandardCharsets.UTF_8);
        end[end.length - 1]++;
        return ByteString.copyFrom(end);
    }

    private static PutRequest putRequest(String key, ByteString value) {
        return PutRequest.newBuilder().setKey(bytes(key)).setValue(value).build();
    }

    private static PutResponse put(Channel channel, String key, ByteString value) {
        return kv(channel).put(putRequest(key, value));
    }

    private static RangeResponse get(Channel channel, String key) {
        return kv(channel).range(RangeRequest.newBuilder().setKey(bytes(key)).build());
    }

    private static RequestOp op(PutRequest put) {
        return RequestOp.newBuilder().setRequestPut(put).build();
    }

    /** A stream in both directions; answers are asked for one at a time, so unread ones wait in the windows. */
    private static final class Stream<Q, A> implements ClientResponseObserver<Q, A> {
        private final BlockingQueue<Object> answers = new LinkedBlockingQueue<>();
        private ClientCallStreamObserver<Q> requests;

        @Override
        public void beforeStart(ClientCallStreamObserver<Q> requests) {
            this.requests = requests;
            requests.disableAutoRequestWithInitial(0);
        }

        @Override
        public void onNext(A answer) {
            answers.add(answer);
        }

        @Override
        public void onError(Throwable error) {
            answers.add(error);
        }

        @Override
        public void onCompleted() {
            answers.add(Status.OK.withDescription("end").asRuntimeException());
        }

        void send(Q request) {
            requests.onNext(request);
        }

        @SuppressWarnings("unchecked")
        A next() throws InterruptedException {
            requests.request(1);
            Object answer = answers.poll(LIMIT, TimeUnit.SECONDS);
            if (answer == null) {
                throw new AssertionError("no answer in time");
            }
            if (answer instanceof RuntimeException error) {
                throw error;
            }
            return (A) answer;
        }

        void end() {
            requests.onCompleted();
        }

        void cancel() {
            requests.cancel("by the case", null);
        }
    }

    private static WatchRequest create(String key, long from, boolean prefix, boolean previous) {
        WatchCreateRequest.Builder create = WatchCreateRequest.newBuilder()
            .setKey(bytes(key)).setStartRevision(from).setPrevKv(previous);
        if (prefix) {
            create.setRangeEnd(after(key));
        }
        return WatchRequest.newBuilder().setCreateRequest(create).build();
    }

    private static Stream<WatchRequest, WatchResponse> watch(Channel channel, WatchRequest create) throws Exception {
        Stream<WatchRequest, WatchResponse> stream = new Stream<>();
        WatchGrpc.newStub(channel).withDeadlineAfter(2 * LIMIT, TimeUnit.SECONDS).watch(stream);
        stream.send(create);
        WatchResponse created = stream.next();
        equal("created", List.of(created.getCreated(), created.getCanceled()), List.of(true, false));
        return stream;
    }

    private static ByteString value(WatchResponse answer) {
        return answer.getEvents(0).getKv().getValue();
    }

    private void putGetDelete() {
        ByteString value = ByteString.copyFrom(new byte[] {0, -1, 32});
        long first = put(channel, "a/1", value).getHeader().getRevision();
        RangeResponse answer = get(channel, "a/1");
        equal("count", List.of(answer.getCount(), answer.getMore()), List.of(1L, false));
        equal("value", answer.getKvs(0).getValue(), value);
        equal("created", answer.getKvs(0).getCreateRevision(), first);
        DeleteRangeResponse gone = kv(channel).deleteRange(
            DeleteRangeRequest.newBuilder().setKey(bytes("a/1")).setPrevKv(true).build());
        equal("deleted", gone.getDeleted(), 1L);
        equal("previous", gone.getPrevKvs(0).getValue(), value);
        equal("gone", get(channel, "a/1").getCount(), 0L);
    }

    private void largeValue() throws Exception {
        byte[] value = new byte[1 << 20];
        new java.util.Random(1).nextBytes(value);
        put(channel, "large", ByteString.copyFrom(value));
        equal("value", get(channel, "large").getKvs(0).getValue().equals(ByteString.copyFrom(value)), true);
        refused(() -> put(channel, "larger", zeroes(1_600_000)), Status.Code.INVALID_ARGUMENT,
            "etcdserver: request is too large");
        refused(() -> put(channel, "larger", zeroes(2 << 20)), Status.Code.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (2097165 vs. 2097152)");
        equal("after the refusal", get(channel, "large").getKvs(0).getValue().size(), 1 << 20);
    }

    private void concurrentCalls() throws Exception {
        int total = 5000;
        KVGrpc.KVFutureStub futures = KVGrpc.newFutureStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
        List<ListenableFuture<PutResponse>> calls = new ArrayList<>();
        for (int i = 0; i < total; i++) {
            calls.add(futures.put(putRequest("many/" + i, bytes("v"))));
        }
        Set<Long> revisions = new HashSet<>();
        for (ListenableFuture<PutResponse> call : calls) {
            revisions.add(call.get(LIMIT, TimeUnit.SECONDS).getHeader().getRevision());
        }
        equal("revisions", revisions.size(), total);
        RangeResponse answer = kv(channel).range(RangeRequest.newBuilder()
            .setKey(bytes("many/")).setRangeEnd(after("many/")).setCountOnly(true).build());
        equal("count", answer.getCount(), (long) total);
    }

    private void txn() {
        put(channel, "t", bytes("one"));
        TxnRequest request = TxnRequest.newBuilder()
            .addCompare(Compare.newBuilder().setKey(bytes("t")).setTarget(Compare.CompareTarget.VALUE)
                .setResult(Compare.CompareResult.EQUAL).setValue(bytes("one")))
            .addSuccess(op(putRequest("t", bytes("two")).toBuilder().setPrevKv(true).build()))
            .addSuccess(RequestOp.newBuilder().setRequestRange(RangeRequest.newBuilder().setKey(bytes("t"))))
            .addFailure(RequestOp.newBuilder()
                .setRequestDeleteRange(DeleteRangeRequest.newBuilder().setKey(bytes("t"))))
            .build();
        TxnResponse answer = kv(channel).txn(request);
        equal("first", answer.getSucceeded(), true);
        equal("previous", answer.getResponses(0).getResponsePut().getPrevKv().getValue(), bytes("one"));
        equal("read", answer.getResponses(1).getResponseRange().getKvs(0).getValue(), bytes("two"));
        answer = kv(channel).txn(request);
        equal("second", answer.getSucceeded(), false);
        equal("deleted", answer.getResponses(0).getResponseDeleteRange().getDeleted(), 1L);
    }

    private void largeRange() throws Exception {
        int total = 10_000;
        KVGrpc.KVFutureStub futures = KVGrpc.newFutureStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
        List<ListenableFuture<TxnResponse>> txns = new ArrayList<>();
        for (int begin = 0; begin < total; begin += 100) {
            TxnRequest.Builder txn = TxnRequest.newBuilder();
            for (int i = begin; i < begin + 100; i++) {
                String key = String.format("r/%05d", i);
                txn.addSuccess(op(putRequest(key, bytes(key.repeat(100)))));
            }
            txns.add(futures.txn(txn.build()));
        }
        for (ListenableFuture<TxnResponse> txn : txns) {
            txn.get(LIMIT, TimeUnit.SECONDS);
        }
        RangeRequest all = RangeRequest.newBuilder().setKey(bytes("r/")).setRangeEnd(after("r/")).build();
        RangeResponse part = kv(channel).range(all.toBuilder().setLimit(7).build());
        equal("limit", List.of(part.getKvsCount(), part.getMore(), part.getCount()), List.of(7, true, (long) total));
        // Several at once, so that answers share the connection's window.
        List<ListenableFuture<RangeResponse>> ranges = List.of(futures.range(all), futures.range(all), futures.range(all));
        for (ListenableFuture<RangeResponse> range : ranges) {
            RangeResponse answer = range.get(LIMIT, TimeUnit.SECONDS);
            equal("keys", answer.getKvsCount(), total);
            for (int i = 0; i < total; i++) {
                String key = String.format("r/%05d", i);
                equal("key", answer.getKvs(i).getKey(), bytes(key));
                equal("value", answer.getKvs(i).getValue(), bytes(key.repeat(100)));
            }
        }
    }

    private void watch() throws Exception {
        int total = 1000;
        Stream<WatchRequest, WatchResponse> stream = watch(channel, create("w/", 0, true, true));
        KVGrpc.KVFutureStub futures = KVGrpc.newFutureStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
        for (int i = 0; i < total; i++) {
            futures.put(putRequest("w/" + i % 100, bytes("value " + i)));
        }
        Map<ByteString, ByteString> last = new HashMap<>();
        long revision = 0;
        int seen = 0;
        while (seen < total) {
            for (Event event : stream.next().getEventsList()) {
                if (event.getKv().getModRevision() <= revision) {
                    throw new AssertionError(event.getKv().getModRevision() + " after " + revision);
                }
                revision = event.getKv().getModRevision();
                ByteString before = last.put(event.getKv().getKey(), event.getKv().getValue());
                equal("value before", event.getPrevKv().getValue(), before == null ? ByteString.EMPTY : before);
                seen++;
            }
        }
        // A client that has no more to ask is still told of events.
        stream.end();
        Thread.sleep(100);
        put(channel, "w/0", bytes("later"));
        equal("event after the end of requests", value(stream.next()), bytes("later"));
        stream.cancel();
    }

    /** A stream that nobody reads must not hold up the other calls of its connection. */
    private void slowWatcher() throws Exception {
        Stream<WatchRequest, WatchResponse> stream = watch(channel, create("slow/", 0, true, false));
        for (int i = 0; i < 60; i++) {
            put(channel, "slow/" + i, zeroes(200_000));
        }
        equal("another call", get(channel, "slow/59").getCount(), 1L);
        for (int seen = 0; seen < 60;) {
            seen += stream.next().getEventsCount();
        }
        stream.cancel();
    }

    private long grant(long seconds) {
        return lease(channel).leaseGrant(LeaseGrantRequest.newBuilder().setTTL(seconds).build()).getID();
    }

    private void leaseKeepAlive() throws Exception {
        long id = grant(30);
        kv(channel).put(putRequest("leased", bytes("v")).toBuilder().setLease(id).build());
        Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> stream = new Stream<>();
        LeaseGrpc.newStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS).leaseKeepAlive(stream);
        for (int i = 0; i < 20; i++) {
            stream.send(LeaseKeepAliveRequest.newBuilder().setID(id).build());
            LeaseKeepAliveResponse answer = stream.next();
            equal("renewed", List.of(answer.getID(), answer.getTTL()), List.of(id, 30L));
        }
        stream.send(LeaseKeepAliveRequest.newBuilder().setID(id + 1).build());
        equal("unknown lease", stream.next().getTTL(), 0L);
        stream.end();
        refused(stream::next, Status.Code.OK, "end");
        lease(channel).leaseRevoke(LeaseRevokeRequest.newBuilder().setID(id).build());
        equal("key of a revoked lease", get(channel, "leased").getCount(), 0L);
    }

    private void errorStatus() throws Exception {
        refused(() -> put(channel, "", bytes("v")), Status.Code.INVALID_ARGUMENT, "etcdserver: key is not provided");
        refused(() -> lease(channel).leaseRevoke(LeaseRevokeRequest.newBuilder().setID(77).build()),
            Status.Code.NOT_FOUND, "etcdserver: requested lease not found");
        refused(() -> kv(channel).range(RangeRequest.newBuilder().setKey(bytes("k")).setRevision(1L << 40).build()),
            Status.Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision");
    }

    private static final MethodDescriptor.Marshaller<byte[]> RAW = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }
    };

    private static byte[] raw(Channel channel, String name, byte[] request) {
        MethodDescriptor<byte[], byte[]> method = MethodDescriptor.newBuilder(RAW, RAW)
            .setType(MethodDescriptor.MethodType.UNARY).setFullMethodName(name).build();
        return ClientCalls.blockingUnaryCall(
            channel, method, CallOptions.DEFAULT.withDeadlineAfter(LIMIT, TimeUnit.SECONDS), request);
    }

    private void unknownMethod() throws Exception {
        refused(() -> raw(channel, "etcdserverpb.KV/Nope", new byte[0]), Status.Code.UNIMPLEMENTED,
            "unknown method Nope for service etcdserverpb.KV");
        refused(() -> raw(channel, "no.Such/Thing", new byte[100_000]), Status.Code.UNIMPLEMENTED,
            "unknown service no.Such");
    }

    private void compacted() throws Exception {
        long revision = put(channel, "c", bytes("1")).getHeader().getRevision();
        long latest = put(channel, "c", bytes("2")).getHeader().getRevision();
        kv(channel).compact(CompactionRequest.newBuilder().setRevision(latest).setPhysical(true).build());
        refused(() -> kv(channel).range(RangeRequest.newBuilder().setKey(bytes("c")).setRevision(revision).build()),
            Status.Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
        Stream<WatchRequest, WatchResponse> stream = watch(channel, create("c", revision, false, false));
        WatchResponse answer = stream.next();
        equal("watch", List.of(answer.getCanceled(), answer.getCompactRevision()), List.of(true, latest));
        stream.cancel();
    }

    /**
     * The server knows the deadline too: when it is first, it resets the stream, and the client calls that cancelled, or
     * it answers that the request timed out.
     */
    private static void late(Work<?> call) throws Exception {
        try {
            Object answer = call.run();
            throw new AssertionError("no error but " + answer);
        } catch (StatusRuntimeException error) {
            Status.Code code = error.getStatus().getCode();
            boolean timedOut = "etcdserver: request timed out".equals(error.getStatus().getDescription());
            if (code != Status.Code.DEADLINE_EXCEEDED && code != Status.Code.CANCELLED && !timedOut) {
                throw error;
            }
        }
    }

    private void deadline() throws Exception {
        Stream<WatchRequest, WatchResponse> stream = new Stream<>();
        WatchGrpc.newStub(channel).withDeadlineAfter(1, TimeUnit.SECONDS).watch(stream);
        stream.send(create("never", 0, false, false));
        long begun = System.nanoTime();
        late(() -> {
            stream.next();
            return stream.next();
        });
        long waited = System.nanoTime() - begun;
        if (waited > TimeUnit.SECONDS.toNanos(10)) {
            throw new AssertionError("ended after " + waited + " ns");
        }
        // Calls that end before, at and after their deadline.
        List<ListenableFuture<PutResponse>> calls = new ArrayList<>();
        for (int i = 0; i < 400; i++) {
            calls.add(KVGrpc.newFutureStub(channel).withDeadlineAfter(i * 50, TimeUnit.MICROSECONDS)
                .put(putRequest("d", zeroes(1000))));
        }
        for (ListenableFuture<PutResponse> call : calls) {
            try {
                call.get(LIMIT, TimeUnit.SECONDS);
            } catch (java.util.concurrent.ExecutionException error) {
                late(() -> {
                    throw (StatusRuntimeException) error.getCause();
                });
            }
        }
        get(channel, "d");
    }

    private void deadlineOfALock() throws Exception {
        LockGrpc.LockBlockingStub locks = LockGrpc.newBlockingStub(channel);
        Work<LockRequest> request = () -> LockRequest.newBuilder().setName(bytes("lock")).setLease(grant(60)).build();
        ByteString held;
        try {
            held = locks.withDeadlineAfter(LIMIT, TimeUnit.SECONDS).lock(request.run()).getKey();
        } catch (StatusRuntimeException error) {
            if (error.getStatus().getCode() == Status.Code.UNIMPLEMENTED) {
                throw new NotYet(error.getStatus().getDescription());
            }
            throw error;
        }
        late(() -> locks.withDeadlineAfter(400, TimeUnit.MILLISECONDS).lock(request.run()));
        locks.withDeadlineAfter(LIMIT, TimeUnit.SECONDS).unlock(UnlockRequest.newBuilder().setKey(held).build());
        // The waiter that gave up must not be in the way.
        locks.withDeadlineAfter(LIMIT, TimeUnit.SECONDS).lock(request.run());
    }

    private void cancelWatch() throws Exception {
        Stream<WatchRequest, WatchResponse> stream = watch(channel, create("x/1", 0, false, false));
        stream.send(create("x/2", 0, false, false));
        long second = stream.next().getWatchId();
        stream.send(WatchRequest.newBuilder()
            .setCancelRequest(WatchCancelRequest.newBuilder().setWatchId(0)).build());
        WatchResponse answer = stream.next();
        equal("canceled", List.of(answer.getWatchId(), answer.getCanceled()), List.of(0L, true));
        put(channel, "x/1", bytes("unseen"));
        put(channel, "x/2", bytes("seen"));
        answer = stream.next();
        equal("event", List.of(answer.getWatchId(), value(answer)), List.of(second, bytes("seen")));
        stream.cancel();
        refused(stream::next, Status.Code.CANCELLED, "by the case");
        // Streams that are cancelled at once must leave nothing that stops later ones.
        for (int i = 0; i < 200; i++) {
            watch(channel, create("x/3", 0, false, false)).cancel();
        }
        Stream<WatchRequest, WatchResponse> later = watch(channel, create("x/3", 0, false, false));
        put(channel, "x/3", bytes("v"));
        equal("later stream", value(later.next()), bytes("v"));
        later.cancel();
    }

    private static Metadata.Key<String> text(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    private Channel with(Metadata metadata) {
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
    }

    private void metadata() {
        Metadata metadata = new Metadata();
        metadata.put(text("hasleader"), "true");
        metadata.put(text("x-text"), "a b, c");
        metadata.put(text("x-many"), "1");
        metadata.put(text("x-many"), "2");
        metadata.put(text("x-long"), "l".repeat(6000));
        byte[] all = new byte[256];
        for (int i = 0; i < 256; i++) {
            all[i] = (byte) i;
        }
        metadata.put(Metadata.Key.of("x-bytes-bin", Metadata.BINARY_BYTE_MARSHALLER), all);
        AtomicReference<Metadata> initial = new AtomicReference<>();
        AtomicReference<Metadata> trailing = new AtomicReference<>();
        ClientInterceptor capture = MetadataUtils.newCaptureMetadataInterceptor(initial, trailing);
        put(ClientInterceptors.intercept(with(metadata), capture), "m", bytes("v"));
        equal("initial metadata", initial.get().keys(), Set.of("content-type"));
        equal("trailing metadata", trailing.get().keys(), Set.of());
        // Fresh names fill the header table beyond its size and are evicted.
        for (int i = 0; i < 300; i++) {
            Metadata fresh = new Metadata();
            fresh.put(text("x-name-" + i), "value".repeat(20));
            put(with(fresh), "m", bytes("v"));
        }
    }

    /** A header block of several frames. */
    private void longMetadata() {
        Metadata metadata = new Metadata();
        for (int i = 0; i < 6; i++) {
            metadata.put(text("x-long-" + i), "l".repeat(7000));
        }
        put(with(metadata), "m", bytes("v"));
    }

    private void gzip() throws Exception {
        ByteString value = bytes("compressible ".repeat(20_000));
        kv(channel).withCompression("gzip").put(putRequest("z", value));
        RangeResponse answer = kv(channel).withCompression("gzip")
            .range(RangeRequest.newBuilder().setKey(bytes("z")).build());
        equal("value", answer.getKvs(0).getValue(), value);
        Stream<WatchRequest, WatchResponse> stream = new Stream<>();
        WatchGrpc.newStub(channel).withCompression("gzip").withDeadlineAfter(LIMIT, TimeUnit.SECONDS).watch(stream);
        stream.send(create("z", 0, false, false));
        stream.next();
        put(channel, "z", value);
        equal("event", value(stream.next()), value);
        stream.cancel();
    }

    private void health() throws Exception {
        byte[] serving = {8, 1};
        equal("whole server", Arrays.toString(raw(channel, "grpc.health.v1.Health/Check", new byte[0])),
            Arrays.toString(serving));
        refused(() -> raw(channel, "grpc.health.v1.Health/Check", new byte[] {10, 4, 'n', 'o', 'p', 'e'}),
            Status.Code.NOT_FOUND, "unknown service");
    }

    /** This client pings every ten seconds at most. */
    private void keepAlivePings() throws Exception {
        try (Server.PingProxy proxy = new Server.PingProxy(server.port)) {
            ManagedChannel alive = connect(proxy.address())
                .keepAliveTime(10, TimeUnit.SECONDS).keepAliveTimeout(10, TimeUnit.SECONDS).build();
            Stream<WatchRequest, WatchResponse> stream = watch(alive, create("ping", 0, false, false));
            int before = proxy.pings.get();
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT);
            while (proxy.answers.get() == before) {
                if (System.nanoTime() > deadline) {
                    throw new AssertionError("no answered ping in time");
                }
                Thread.sleep(20);
            }
            put(alive, "ping", bytes("v"));
            equal("event", value(stream.next()), bytes("v"));
            equal("goaways", proxy.goaways.get(), 0);
            stream.cancel();
            alive.shutdownNow().awaitTermination(LIMIT, TimeUnit.SECONDS);
        }
    }

    /** Connections that are closed with calls under way. */
    private void abandonedChannels() throws Exception {
        for (int i = 0; i < 20; i++) {
            ManagedChannel other = connect("127.0.0.1:" + server.port).build();
            watch(other, create("q", 0, false, false));
            KVGrpc.newFutureStub(other).put(putRequest("q", zeroes(500_000)));
            other.shutdownNow().awaitTermination(LIMIT, TimeUnit.SECONDS);
        }
        put(channel, "q", bytes("v"));
    }

    private void restart() throws Exception {
        put(channel, "kept", bytes("v"));
        Stream<WatchRequest, WatchResponse> stream = watch(channel, create("kept", 0, false, false));
        server.stop();
        refused(stream::next, Status.Code.UNAVAILABLE, null);
        refused(() -> get(channel, "kept"), Status.Code.UNAVAILABLE, null);
        server.start();
        RangeRequest request = RangeRequest.newBuilder().setKey(bytes("kept")).build();
        equal("value", kv(channel).withWaitForReady().range(request).getKvs(0).getValue(), bytes("v"));
        Stream<WatchRequest, WatchResponse> later = watch(channel, create("kept", 0, false, false));
        put(channel, "kept", bytes("again"));
        equal("event", value(later.next()), bytes("again"));
        later.cancel();
    }
}
