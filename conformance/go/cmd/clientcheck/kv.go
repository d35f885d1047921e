package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"conformance/harness"
)

func names(kvs []*mvccpb.KeyValue) string {
	var out []string
	for _, kv := range kvs {
		out = append(out, string(kv.Key))
	}
	return strings.Join(out, " ")
}

func full(kvs []*mvccpb.KeyValue) string {
	var out []string
	for _, kv := range kvs {
		out = append(out, fmt.Sprintf("%s=%s(%d,%d,%d,%d)", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease))
	}
	return strings.Join(out, " ")
}

func keyValueCases(e *env) {
	e.Case("an empty store is at revision 1", func(t *harness.T) {
		answer := e.get(t, "nothing")
		t.Equal("revision", answer.Header.Revision, 1)
		t.Equal("count", answer.Count, 0)
		t.Equal("deleted", e.del(t, "nothing").Deleted, 0)
		t.Equal("revision after a delete of nothing", e.get(t, "nothing").Header.Revision, 1)
	})
	e.Case("put sets the revisions of a key", func(t *harness.T) {
		t.Equal("first", e.put(t, "p", "1"), 2)
		t.Equal("second", e.put(t, "p", "2"), 3)
		t.Equal("kv", full(e.get(t, "p").Kvs), "p=2(2,3,2,0)")
		t.Equal("deleted", e.del(t, "p").Deleted, 1)
		t.Equal("revision", e.put(t, "p", "3"), 5)
		t.Equal("reborn", full(e.get(t, "p").Kvs), "p=3(5,5,1,0)")
		t.Equal("at 3", full(e.get(t, "p", clientv3.WithRev(3)).Kvs), "p=2(2,3,2,0)")
		t.Equal("at 4", full(e.get(t, "p", clientv3.WithRev(4)).Kvs), "")
	})
	e.Case("put returns the previous value when asked", func(t *harness.T) {
		ctx := harness.Timeout(seconds(5))
		answer, err := e.client.Put(ctx, "prev", "1", clientv3.WithPrevKV())
		t.OK(err)
		t.Equal("first", answer.PrevKv == nil, true)
		answer, err = e.client.Put(ctx, "prev", "2", clientv3.WithPrevKV())
		t.OK(err)
		t.Equal("second", string(answer.PrevKv.Value), "1")
		answer, err = e.client.Put(ctx, "prev", "3")
		t.OK(err)
		t.Equal("not asked", answer.PrevKv == nil, true)
		deleted := e.del(t, "prev", clientv3.WithPrevKV())
		t.Equal("delete", string(deleted.PrevKvs[0].Value), "3")
	})
	rangeCases(e)
	refusedRequests(e)
	streamCases(e)
	e.Case("any bytes are a key and a value", func(t *harness.T) {
		key, value := "bin\x00\xff\xfe/", "\x00\x80\xffv"
		e.put(t, key, value)
		t.Equal("value", []byte(e.get(t, key).Kvs[0].Value), []byte(value))
		t.Equal("prefix", len(e.get(t, "bin\x00\xff", clientv3.WithPrefix()).Kvs), 1)
	})
	e.Case("ignore_value and ignore_lease keep what is there", func(t *harness.T) {
		ctx := harness.Timeout(seconds(5))
		lease, err := e.client.Grant(ctx, 600)
		t.OK(err)
		e.put(t, "ignore", "value", clientv3.WithLease(lease.ID))
		e.put(t, "ignore", "", clientv3.WithIgnoreValue(), clientv3.WithLease(lease.ID))
		t.Equal("value", string(e.get(t, "ignore").Kvs[0].Value), "value")
		e.put(t, "ignore", "other", clientv3.WithIgnoreLease())
		t.Equal("lease", e.get(t, "ignore").Kvs[0].Lease, lease.ID)
		e.put(t, "ignore", "third")
		t.Equal("no lease", e.get(t, "ignore").Kvs[0].Lease, 0)
	})
	e.Case("a hundred clients write at once and each revision is used once", func(t *harness.T) {
		before := e.get(t, "x").Header.Revision
		seen := make(chan int64, 2000)
		var workers sync.WaitGroup
		for worker := range 100 {
			workers.Go(func() {
				for i := range 20 {
					ctx := harness.Timeout(seconds(20))
					answer, err := e.client.Put(ctx, fmt.Sprintf("many/%d/%d", worker, i), "v")
					if err != nil {
						seen <- -1
						return
					}
					seen <- answer.Header.Revision
				}
			})
		}
		workers.Wait()
		close(seen)
		revisions := map[int64]bool{}
		for revision := range seen {
			revisions[revision] = true
		}
		t.Equal("distinct", len(revisions), 2000)
		t.Equal("revision", e.get(t, "x").Header.Revision, before+2000)
		t.Equal("count", e.get(t, "many/", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, 2000)
	})
	compactionCases(e)
}

func rangeCases(e *env) {
	var base int64
	e.Case("range keys are written", func(t *harness.T) {
		for i, kv := range []string{"a=3", "b=1", "c=2", "d=5", "e=4", "b=9", "a=0", "a=7"} {
			key, value, _ := strings.Cut(kv, "=")
			revision := e.put(t, "r/"+key, value)
			if i == 0 {
				base = revision
			}
		}
	})
	// Offsets from base: a: create 0, mod 7, version 3; b: 1, 5, 2; c: 2, 2, 1; d: 3, 3, 1; e: 4, 4, 1.
	prefix := clientv3.WithPrefix()
	rev := func(offset int64) int64 { return base + offset }
	cases := []struct {
		name, want string
		count      int64
		more       bool
		opts       func() []clientv3.OpOption
	}{
		{"all", "r/a r/b r/c r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix} }},
		{"limit 2", "r/a r/b", 5, true, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithLimit(2)} }},
		{"limit 5", "r/a r/b r/c r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithLimit(5)} }},
		{"limit -1", "r/a r/b r/c r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithLimit(-1)} }},
		{"descending keys", "r/e r/d r/c", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(3)}
		}},
		{"by value", "r/b r/c", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend), clientv3.WithLimit(2), clientv3.WithRev(rev(4))}
		}},
		{"by value, descending", "r/b r/a r/d", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(3)}
		}},
		{"by modification", "r/c r/d r/e r/b r/a", 5, false, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend)}
		}},
		{"by version", "r/a r/b", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(2)}
		}},
		{"by creation", "r/e r/d", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(2)}
		}},
		{"min mod", "r/a r/b", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithMinModRev(rev(5))} }},
		{"max mod", "r/c r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithMaxModRev(rev(4))} }},
		{"min create", "r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithMinCreateRev(rev(3))} }},
		{"max create", "r/a r/b", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithMaxCreateRev(rev(1))} }},
		{"filter and limit", "r/c", 5, true, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithMaxModRev(rev(4)), clientv3.WithLimit(1)}
		}},
		{"both filters", "r/d", 5, false, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithMinModRev(rev(3)), clientv3.WithMaxModRev(rev(3))}
		}},
		{"an old revision", "r/a r/b r/c", 3, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithRev(rev(2))} }},
		{"half open", "r/a r/b", 2, false, func() []clientv3.OpOption { return []clientv3.OpOption{clientv3.WithRange("r/c")} }},
		{"reversed", "", 0, false, func() []clientv3.OpOption { return []clientv3.OpOption{clientv3.WithRange("a")} }},
		{"serializable", "r/a r/b r/c r/d r/e", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithSerializable()} }},
		{"count only", "", 5, false, func() []clientv3.OpOption { return []clientv3.OpOption{prefix, clientv3.WithCountOnly()} }},
		{"count only with limit and filter", "", 5, false, func() []clientv3.OpOption {
			return []clientv3.OpOption{prefix, clientv3.WithCountOnly(), clientv3.WithLimit(1), clientv3.WithMinModRev(rev(5))}
		}},
	}
	for _, c := range cases {
		e.Case("range: "+c.name, func(t *harness.T) {
			key := "r/"
			if c.name == "half open" {
				key = "r/a"
			}
			answer := e.get(t, key, c.opts()...)
			t.Equal("keys", names(answer.Kvs), c.want)
			t.Equal("count", answer.Count, c.count)
			t.Equal("more", answer.More, c.more)
			t.Equal("revision", answer.Header.Revision, rev(7))
		})
	}
	e.Case("range: keys only", func(t *harness.T) {
		answer := e.get(t, "r/", prefix, clientv3.WithKeysOnly(), clientv3.WithLimit(2))
		t.Equal("kvs", full(answer.Kvs), fmt.Sprintf("r/a=(%d,%d,3,0) r/b=(%d,%d,2,0)", rev(0), rev(7), rev(1), rev(5)))
		t.Equal("more", answer.More, true)
	})
	e.Case("range: sort order none with a target sorts only the first limit+1 keys", func(t *harness.T) {
		answer, err := e.kv.Range(harness.Timeout(seconds(5)), &pb.RangeRequest{
			Key: []byte("r/"), RangeEnd: []byte("r0"), Limit: 2, SortTarget: pb.RangeRequest_VALUE,
		})
		t.OK(err)
		t.Equal("keys", names(answer.Kvs), "r/c r/a")
	})
	e.Case("range: from key and whole space", func(t *harness.T) {
		all := e.get(t, "", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count
		t.Equal("from the first key", e.get(t, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly()).Count, all)
		t.Equal("from r/d", names(e.get(t, "r/d", clientv3.WithFromKey()).Kvs), "r/d r/e")
	})
}

func refusedRequests(e *env) {
	type request struct {
		name string
		want string
		call func(ctx context.Context) error
	}
	rng := func(r *pb.RangeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := e.kv.Range(ctx, r); return err }
	}
	put := func(r *pb.PutRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := e.kv.Put(ctx, r); return err }
	}
	compact := func(rev int64) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := e.kv.Compact(ctx, &pb.CompactionRequest{Revision: rev})
			return err
		}
	}
	invalid := "rpc error: code = InvalidArgument desc = etcdserver: "
	k := []byte("k")
	cases := []request{
		{"range of an empty key", invalid + "key is not provided", rng(&pb.RangeRequest{})},
		{"range with an unknown sort target", invalid + "invalid sort option", rng(&pb.RangeRequest{Key: k, SortTarget: 99})},
		{"range with an unknown sort order", invalid + "invalid sort option", rng(&pb.RangeRequest{Key: k, SortOrder: -3})},
		{"range of the future", "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision is a future revision", rng(&pb.RangeRequest{Key: k, Revision: 1 << 60})},
		{"put of an empty key", invalid + "key is not provided", put(&pb.PutRequest{Value: k})},
		{"put with a value and ignore_value", invalid + "value is provided", put(&pb.PutRequest{Key: k, Value: k, IgnoreValue: true})},
		{"put with a lease and ignore_lease", invalid + "lease is provided", put(&pb.PutRequest{Key: k, Lease: 7, IgnoreLease: true})},
		{"put of a missing key with ignore_value", invalid + "key not found", put(&pb.PutRequest{Key: []byte("missing"), IgnoreValue: true})},
		{"put of a missing key with ignore_lease", invalid + "key not found", put(&pb.PutRequest{Key: []byte("missing"), IgnoreLease: true})},
		{"put with an unknown lease", "rpc error: code = NotFound desc = etcdserver: requested lease not found", put(&pb.PutRequest{Key: k, Lease: 12345})},
		{"put with a negative unknown lease", "rpc error: code = NotFound desc = etcdserver: requested lease not found", put(&pb.PutRequest{Key: k, Lease: -1})},
		{"delete of an empty key", invalid + "key is not provided", func(ctx context.Context) error {
			_, err := e.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{})
			return err
		}},
		{"compaction of the future", "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision is a future revision", compact(1 << 60)},
		{"compaction of a negative revision", "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted", compact(-7)},
		{"put above the request limit", invalid + "request is too large", put(&pb.PutRequest{Key: k, Value: make([]byte, 1_600_000)})},
		{"put above the message limit", "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (3000008 vs. 2097152)", put(&pb.PutRequest{Key: k, Value: make([]byte, 3_000_000)})},
		{"unknown method", "rpc error: code = Unimplemented desc = unknown method Nope for service etcdserverpb.KV", func(ctx context.Context) error {
			return e.conn.Invoke(ctx, "/etcdserverpb.KV/Nope", &pb.RangeRequest{}, &pb.RangeResponse{})
		}},
		{"unknown service", "rpc error: code = Unimplemented desc = unknown service foo.Bar", func(ctx context.Context) error {
			return e.conn.Invoke(ctx, "/foo.Bar/Baz", &pb.RangeRequest{}, &pb.RangeResponse{})
		}},
	}
	for _, c := range cases {
		e.Case("refused: "+c.name, func(t *harness.T) {
			before := e.get(t, "x").Header.Revision
			t.Error("answer", c.call(harness.Timeout(seconds(10))), c.want)
			t.Equal("revision afterwards", e.get(t, "x").Header.Revision, before)
		})
	}
	e.Case("the largest request that fits is taken", func(t *harness.T) {
		value := strings.Repeat("v", 1_572_864-64)
		e.put(t, "largest", value)
		t.Equal("value", string(e.get(t, "largest").Kvs[0].Value) == value, true)
		e.del(t, "largest")
	})
	e.Case("a deadline that has passed", func(t *harness.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
		defer cancel()
		_, err := e.client.Get(ctx, "k")
		t.Error("answer", err, "context deadline exceeded")
	})
	e.Case("metadata: hasleader, client-api-version", func(t *harness.T) {
		ctx := metadata.AppendToOutgoingContext(harness.Timeout(seconds(5)), "hasleader", "true", "client-api-version", "3.7.3")
		_, err := e.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		t.OK(err)
	})
	e.Case("gzip requests are taken", func(t *harness.T) {
		gzipped(t, e)
	})
	e.Case("calls that later issues bring, or etcd has, answer a status", func(t *harness.T) {
		_, err := pb.NewAuthClient(e.conn).AuthStatus(harness.Timeout(seconds(5)), &pb.AuthStatusRequest{})
		if err != nil && status.Code(err) != codes.Unimplemented {
			t.Fatalf("%v", err)
		}
	})
}

func streamCases(e *env) {
	e.Case("range stream equals range", func(t *harness.T) {
		for i := range 300 {
			e.put(t, fmt.Sprintf("stream/%03d", i), strings.Repeat("x", 1+i*10))
		}
		for _, limit := range []int64{0, 1, 10, 11, 299, 300, 301} {
			opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(limit)}
			want := e.get(t, "stream/", opts...)
			stream, err := e.client.GetStream(harness.Timeout(seconds(10)), "stream/", opts...)
			t.OK(err)
			got, err := clientv3.GetStreamToGetResponse(stream)
			t.OK(err)
			t.Equal(fmt.Sprint("kvs, limit ", limit), full(got.Kvs), full(want.Kvs))
			t.Equal("count", got.Count, want.Count)
			t.Equal("more", got.More, want.More)
			t.Equal("revision", got.Header.Revision, want.Header.Revision)
		}
	})
	e.Case("range stream: chunks", func(t *harness.T) {
		stream, err := e.kv.RangeStream(harness.Timeout(seconds(10)), &pb.RangeRequest{Key: []byte("stream/"), RangeEnd: []byte("stream0")})
		t.OK(err)
		var sizes []int
		for {
			chunk, err := stream.Recv()
			t.OK(err)
			sizes = append(sizes, len(chunk.RangeResponse.Kvs))
			if chunk.RangeResponse.Header != nil {
				t.Equal("count", chunk.RangeResponse.Count, 300)
				break
			}
			t.Equal("count before the end", chunk.RangeResponse.Count, 0)
		}
		t.Equal("keys per chunk", sizes, "[10 20 40 80 150]")
	})
	e.Case("range stream: nothing, count only, refused", func(t *harness.T) {
		ctx := harness.Timeout(seconds(10))
		first := func(request *pb.RangeRequest) (*pb.RangeStreamResponse, error) {
			stream, err := e.kv.RangeStream(ctx, request)
			t.OK(err)
			return stream.Recv()
		}
		answer, err := first(&pb.RangeRequest{Key: []byte("nothing")})
		t.OK(err)
		t.Equal("header", answer.RangeResponse.Header != nil, true)
		answer, err = first(&pb.RangeRequest{Key: []byte("stream/"), RangeEnd: []byte("stream0"), CountOnly: true})
		t.OK(err)
		t.Equal("count", answer.RangeResponse.Count, 300)
		_, err = first(&pb.RangeRequest{Key: []byte("a"), SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_VALUE})
		t.Error("sort", err, "rpc error: code = Unimplemented desc = RangeStream does not support custom sort orders")
		_, err = first(&pb.RangeRequest{Key: []byte("a"), MinModRevision: 3})
		t.Error("filter", err, "rpc error: code = Unimplemented desc = RangeStream does not support revision filters")
		_, err = first(&pb.RangeRequest{})
		t.Error("empty", err, "rpc error: code = InvalidArgument desc = etcdserver: key is not provided")
	})
}

func compactionCases(e *env) {
	e.Case("compaction: reads below are refused, at and above served", func(t *harness.T) {
		ctx := harness.Timeout(seconds(20))
		first := e.put(t, "c", "1")
		second := e.put(t, "c", "2")
		third := e.put(t, "c", "3")
		answer, err := e.client.Compact(ctx, second, clientv3.WithCompactPhysical())
		t.OK(err)
		t.Equal("header", answer.Header.Revision, third)
		_, err = e.client.Get(ctx, "c", clientv3.WithRev(first))
		t.Error("below", err, "etcdserver: mvcc: required revision has been compacted")
		t.Equal("at", string(e.get(t, "c", clientv3.WithRev(second)).Kvs[0].Value), "2")
		t.Equal("above", string(e.get(t, "c", clientv3.WithRev(third)).Kvs[0].Value), "3")
		_, err = e.client.Compact(ctx, second)
		t.Error("again", err, "etcdserver: mvcc: required revision has been compacted")
		_, err = e.client.Compact(ctx, third+1)
		t.Error("future", err, "etcdserver: mvcc: required revision is a future revision")
		_, err = e.client.Txn(ctx).Then(clientv3.OpGet("c", clientv3.WithRev(first))).Commit()
		t.Error("in a transaction", err, "etcdserver: mvcc: required revision has been compacted")
	})
}

func gzipped(t *harness.T, e *env) {
	value := strings.Repeat("squeeze", 10_000)
	_, err := e.kv.Put(harness.Timeout(seconds(5)), &pb.PutRequest{Key: []byte("gzip"), Value: []byte(value)}, grpc.UseCompressor("gzip"))
	t.OK(err)
	t.Equal("value", string(e.get(t, "gzip").Kvs[0].Value) == value, true)
}
