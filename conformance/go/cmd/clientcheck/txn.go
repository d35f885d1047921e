package main

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"conformance/harness"
)

func put(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func rng(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func del(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func nested(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

func then(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func (e *env) txn(t *harness.T, txn *pb.TxnRequest) *pb.TxnResponse {
	answer, err := e.kv.Txn(harness.Timeout(seconds(10)), txn)
	t.OK(err)
	return answer
}

func transactionCases(e *env) {
	e.Case("txn: 128 operations are one revision", func(t *harness.T) {
		ops := make([]clientv3.Op, 128)
		for i := range ops {
			ops[i] = clientv3.OpPut(fmt.Sprintf("full/%03d", i), "v")
		}
		answer, err := e.client.Txn(harness.Timeout(seconds(10))).Then(ops...).Commit()
		t.OK(err)
		t.Equal("revision", answer.Header.Revision, 2)
		keys := e.get(t, "full/", clientv3.WithPrefix(), clientv3.WithMinModRev(2), clientv3.WithMaxModRev(2))
		t.Equal("keys", len(keys.Kvs), 128)
		_, err = e.client.Txn(harness.Timeout(seconds(10))).Then(append(ops, clientv3.OpPut("one", "more"))...).Commit()
		t.Error("129", err, "etcdserver: too many operations in txn request")
	})
	e.Case("txn: the branch taken, its answers and their headers", func(t *harness.T) {
		e.put(t, "t/b", "2")
		base := e.put(t, "t/a", "1")
		answer, err := e.client.Txn(harness.Timeout(seconds(5))).
			If(clientv3.Compare(clientv3.Value("t/a"), "=", "1")).
			Then(
				clientv3.OpGet("t/a"), clientv3.OpPut("t/a", "2", clientv3.WithPrevKV()), clientv3.OpGet("t/a"),
				clientv3.OpDelete("t/none"), clientv3.OpDelete("t/b", clientv3.WithPrevKV()), clientv3.OpGet("t/b"),
			).
			Else(clientv3.OpGet("t/else")).Commit()
		t.OK(err)
		t.Equal("succeeded", answer.Succeeded, true)
		t.Equal("revision", answer.Header.Revision, base+1)
		r := answer.Responses
		t.Equal("range before", full(r[0].GetResponseRange().Kvs), fmt.Sprintf("t/a=1(%d,%d,1,0)", base, base))
		t.Equal("range before: header", r[0].GetResponseRange().Header.Revision, base)
		t.Equal("put: header", r[1].GetResponsePut().Header.Revision, base+1)
		t.Equal("put: other header fields", r[1].GetResponsePut().Header.MemberId, 0)
		t.Equal("put: previous", string(r[1].GetResponsePut().PrevKv.Value), "1")
		t.Equal("range after", full(r[2].GetResponseRange().Kvs), fmt.Sprintf("t/a=2(%d,%d,2,0)", base, base+1))
		t.Equal("range after: header", r[2].GetResponseRange().Header.Revision, base+1)
		t.Equal("deleted nothing", r[3].GetResponseDeleteRange().Deleted, 0)
		t.Equal("deleted", string(r[4].GetResponseDeleteRange().PrevKvs[0].Value), "2")
		t.Equal("gone", r[5].GetResponseRange().Count, 0)
	})
	compareCases(e)
	nestedCases(e)
	e.Case("txn: an empty one and a read-only one change nothing", func(t *harness.T) {
		before := e.get(t, "x").Header.Revision
		t.Equal("empty succeeds", e.txn(t, &pb.TxnRequest{}).Succeeded, true)
		t.Equal("read", e.txn(t, then(rng("t/a"))).Header.Revision, before)
		t.Equal("delete of nothing", e.txn(t, then(del("none", ""))).Header.Revision, before)
	})
	refused := []struct {
		name, want string
		txn        *pb.TxnRequest
	}{
		{"an operation without content", "etcdserver: key not found", then(&pb.RequestOp{})},
		{"the same key put twice", "etcdserver: duplicate key given in txn request", then(put("d", "1"), put("d", "2"))},
		{"a put in a deleted range", "etcdserver: duplicate key given in txn request", then(del("d", "e"), put("d1", "2"))},
		{"a put before the delete of its range", "etcdserver: duplicate key given in txn request", then(put("d1", "2"), del("d", "e"))},
		{"the same key put in a nested one", "etcdserver: duplicate key given in txn request", then(put("d", "1"), nested(then(put("d", "2"))))},
		{"the same key put in two nested ones", "etcdserver: duplicate key given in txn request", then(nested(then(put("d", "1"))), nested(then(put("d", "2"))))},
		{"an empty key", "etcdserver: key is not provided", then(put("", "1"))},
		{"an empty key compared", "etcdserver: key is not provided", &pb.TxnRequest{Compare: []*pb.Compare{{}}}},
		{"an empty key in a nested range", "etcdserver: key is not provided", then(nested(then(rng(""))))},
	}
	for _, c := range refused {
		e.Case("txn refused: "+c.name, func(t *harness.T) {
			before := e.get(t, "x").Header.Revision
			_, err := e.kv.Txn(harness.Timeout(seconds(5)), c.txn)
			t.Error("answer", err, "rpc error: code = InvalidArgument desc = "+c.want)
			t.Equal("revision", e.get(t, "x").Header.Revision, before)
		})
	}
	e.Case("txn: allowed overlaps", func(t *harness.T) {
		e.txn(t, then(del("o", "p"), del("o1", "o2"), rng("o"), rng("o")))
		e.txn(t, then(nested(&pb.TxnRequest{Success: []*pb.RequestOp{put("o", "1")}, Failure: []*pb.RequestOp{put("o", "2")}})))
		e.txn(t, &pb.TxnRequest{Success: []*pb.RequestOp{put("o", "1")}, Failure: []*pb.RequestOp{put("o", "2")}})
	})
	e.Case("txn: a failing check leaves nothing behind", func(t *harness.T) {
		before := e.get(t, "x").Header.Revision
		_, err := e.kv.Txn(harness.Timeout(seconds(5)), then(put("half", "1"), &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte("half2"), Lease: 4711},
		}}))
		t.Error("lease", err, "rpc error: code = NotFound desc = etcdserver: requested lease not found")
		t.Equal("half", e.get(t, "half").Count, 0)
		t.Equal("revision", e.get(t, "x").Header.Revision, before)
	})
}

func compareCases(e *env) {
	var created, modified int64
	e.Case("compare: keys are written", func(t *harness.T) {
		created = e.put(t, "cmp/a", "m")
		modified = e.put(t, "cmp/a", "n")
		e.put(t, "cmp/b", "n")
	})
	value := func(v string) *pb.Compare_Value { return &pb.Compare_Value{Value: []byte(v)} }
	key, missing, end := []byte("cmp/a"), []byte("cmp/none"), []byte("cmp0")
	cases := []struct {
		name    string
		compare func() *pb.Compare
		want    bool
	}{
		{"value =", func() *pb.Compare { return &pb.Compare{Key: key, Target: pb.Compare_VALUE, TargetUnion: value("n")} }, true},
		{"value >", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_VALUE, Result: pb.Compare_GREATER, TargetUnion: value("m")}
		}, true},
		{"value <", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_VALUE, Result: pb.Compare_LESS, TargetUnion: value("m")}
		}, false},
		{"value != of a missing key", func() *pb.Compare {
			return &pb.Compare{Key: missing, Target: pb.Compare_VALUE, Result: pb.Compare_NOT_EQUAL, TargetUnion: value("m")}
		}, false},
		{"create", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: created}}
		}, true},
		{"mod", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: modified}}
		}, true},
		{"version of a missing key is 0", func() *pb.Compare {
			return &pb.Compare{Key: missing, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{}}
		}, true},
		{"version", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 2}}
		}, true},
		{"lease", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{Lease: 1}}
		}, false},
		{"every key of a range", func() *pb.Compare {
			return &pb.Compare{Key: []byte("cmp/"), RangeEnd: end, Target: pb.Compare_VALUE, TargetUnion: value("n")}
		}, true},
		{"one key of a range differs", func() *pb.Compare {
			return &pb.Compare{Key: []byte("cmp/"), RangeEnd: end, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 2}}
		}, false},
		{"an empty range, value", func() *pb.Compare {
			return &pb.Compare{Key: []byte("q"), RangeEnd: []byte("r"), Target: pb.Compare_VALUE, Result: pb.Compare_NOT_EQUAL, TargetUnion: value("n")}
		}, false},
		{"an empty range, create 0", func() *pb.Compare {
			return &pb.Compare{Key: []byte("q"), RangeEnd: []byte("r"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{}}
		}, true},
		{"an unknown result", func() *pb.Compare {
			return &pb.Compare{Key: key, Target: pb.Compare_VALUE, Result: 77, TargetUnion: value("zzz")}
		}, true},
		{"an unknown target", func() *pb.Compare { return &pb.Compare{Key: key, Target: 77, TargetUnion: value("zzz")} }, true},
		{"a value of another kind", func() *pb.Compare {
			return &pb.Compare{Key: missing, Target: pb.Compare_VERSION, TargetUnion: value("zzz")}
		}, true},
	}
	for _, c := range cases {
		e.Case("compare: "+c.name, func(t *harness.T) {
			t.Equal("succeeded", e.txn(t, &pb.TxnRequest{Compare: []*pb.Compare{c.compare()}}).Succeeded, c.want)
		})
	}
}

func nestedCases(e *env) {
	e.Case("txn: nested, compares see the state before all", func(t *harness.T) {
		e.put(t, "n/a", "1")
		inner := &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("n/a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}},
			Success: []*pb.RequestOp{put("n/b", "inner"), rng("n/a")},
			Failure: []*pb.RequestOp{put("n/c", "not")},
		}
		answer := e.txn(t, then(put("n/a", "2"), nested(inner), rng("n/b")))
		in := answer.Responses[1].GetResponseTxn()
		t.Equal("succeeded", in.Succeeded, true)
		t.Equal("inner header", fmt.Sprint(in.Header != nil, in.Header.GetRevision()), "true 0")
		t.Equal("inner range", string(in.Responses[1].GetResponseRange().Kvs[0].Value), "2")
		t.Equal("outer range", string(answer.Responses[2].GetResponseRange().Kvs[0].Value), "inner")
		t.Equal("one revision", e.get(t, "n/b").Kvs[0].ModRevision, e.get(t, "n/a").Kvs[0].ModRevision)
		t.Equal("else", e.get(t, "n/c").Count, 0)
	})
	deep := func(levels int) *pb.TxnRequest {
		txn := then(put("deep", fmt.Sprint(levels)))
		for range levels {
			txn = then(nested(txn))
		}
		return txn
	}
	e.Case("txn: nested 20 deep", func(t *harness.T) {
		e.txn(t, deep(20))
		t.Equal("value", string(e.get(t, "deep").Kvs[0].Value), "20")
	})
	e.Case("txn: nested 1,000 deep is refused", func(t *harness.T) {
		_, err := e.kv.Txn(harness.Timeout(seconds(10)), deep(1000))
		t.Error("answer", err, "rpc error: code = InvalidArgument desc = etcdserver: too many operations in txn request")
	})
	e.Case("txn: the budget of operations goes down with depth", func(t *harness.T) {
		ops := make([]*pb.RequestOp, 127)
		for i := range ops {
			ops[i] = put(fmt.Sprintf("budget/%d", i), "")
		}
		e.txn(t, then(nested(then(ops...))))
		_, err := e.kv.Txn(context.Background(), then(nested(then(append(ops, put("budget/x", ""))...))))
		t.Error("answer", err, "rpc error: code = InvalidArgument desc = etcdserver: too many operations in txn request")
	})
}
