package main

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"conformance/harness"
)

func leaseCases(e *env) {
	ctx := func() context.Context { return harness.Timeout(seconds(20)) }
	e.Case("lease: grant, attach, time to live, revoke", func(t *harness.T) {
		lease, err := e.client.Grant(ctx(), 600)
		t.OK(err)
		t.Equal("ttl", lease.TTL, 600)
		t.Equal("id is positive", lease.ID > 0, true)
		e.put(t, "l/b", "1", clientv3.WithLease(lease.ID))
		e.put(t, "l/a", "1", clientv3.WithLease(lease.ID))
		before := e.put(t, "l/c", "1", clientv3.WithLease(lease.ID))
		e.put(t, "l/c", "2")
		ttl, err := e.client.TimeToLive(ctx(), lease.ID, clientv3.WithAttachedKeys())
		t.OK(err)
		keys := []string{}
		for _, key := range ttl.Keys {
			keys = append(keys, string(key))
		}
		sort.Strings(keys)
		t.Equal("keys", strings.Join(keys, " "), "l/a l/b")
		t.Equal("granted", ttl.GrantedTTL, 600)
		t.Equal("remaining is close", ttl.TTL > 590 && ttl.TTL <= 600, true)
		revoked, err := e.client.Revoke(ctx(), lease.ID)
		t.OK(err)
		t.Equal("one revision", revoked.Header.Revision, before+2)
		t.Equal("left", names(e.get(t, "l/", clientv3.WithPrefix()).Kvs), "l/c")
		_, err = e.client.Revoke(ctx(), lease.ID)
		t.Error("again", err, "etcdserver: requested lease not found")
		gone, err := e.client.TimeToLive(ctx(), lease.ID)
		t.OK(err)
		t.Equal("gone", fmt.Sprint(gone.TTL, gone.GrantedTTL), "-1 0")
	})
	grants := []struct {
		id, ttl int64
		want    string
	}{
		{77, 60, "77 60"}, {-9, 60, "-9 60"}, {math.MaxInt64, 60, fmt.Sprint(int64(math.MaxInt64), 60)},
		{78, 0, "78 2"}, {79, -3, "79 2"}, {80, 9_000_000_000, "80 9000000000"},
		{77, 60, "rpc error: code = FailedPrecondition desc = etcdserver: lease already exists"},
		{81, 9_000_000_001, "rpc error: code = OutOfRange desc = etcdserver: too large lease TTL"},
	}
	for i, c := range grants {
		e.Case(fmt.Sprintf("lease: grant %d of id %d for %d s", i, c.id, c.ttl), func(t *harness.T) {
			answer, err := e.lease.LeaseGrant(ctx(), &pb.LeaseGrantRequest{ID: c.id, TTL: c.ttl})
			if err != nil {
				t.Equal("answer", err, c.want)
			} else {
				t.Equal("answer", fmt.Sprint(answer.ID, answer.TTL), c.want)
			}
		})
	}
	e.Case("lease: list, revoke of unknown ids", func(t *harness.T) {
		leases, err := e.client.Leases(ctx())
		t.OK(err)
		found := map[int64]bool{}
		for _, lease := range leases.Leases {
			found[int64(lease.ID)] = true
		}
		t.Equal("all", fmt.Sprint(found[77], found[-9], found[math.MaxInt64], found[80]), "true true true true")
		for _, id := range []int64{0, 4711, math.MinInt64} {
			_, err := e.lease.LeaseRevoke(ctx(), &pb.LeaseRevokeRequest{ID: id})
			t.Error("revoke", err, "rpc error: code = NotFound desc = etcdserver: requested lease not found")
		}
	})
	e.Case("lease: keep-alive stream, also of an unknown id", func(t *harness.T) {
		stream, err := e.lease.LeaseKeepAlive(ctx())
		t.OK(err)
		for _, c := range []struct{ id, ttl int64 }{{77, 60}, {4711, 0}, {-9, 60}, {0, 0}} {
			t.OK(stream.Send(&pb.LeaseKeepAliveRequest{ID: c.id}))
			answer, err := stream.Recv()
			t.OK(err)
			t.Equal("answer", fmt.Sprint(answer.ID, answer.TTL, answer.Header != nil), fmt.Sprint(c.id, c.ttl, true))
		}
		_, err = e.client.KeepAliveOnce(ctx(), 4711)
		t.Error("client", err, "etcdserver: requested lease not found")
	})
	e.Case("lease: expiry deletes its keys in one revision, a watcher sees it", func(t *harness.T) {
		lease, err := e.client.Grant(ctx(), 2)
		t.OK(err)
		watch := e.client.Watch(ctx(), "ex/", clientv3.WithPrefix(), clientv3.WithFilterPut())
		e.put(t, "ex/1", "v", clientv3.WithLease(lease.ID))
		e.put(t, "ex/2", "v", clientv3.WithLease(lease.ID))
		begun := time.Now()
		answer := <-watch
		t.Equal("events", len(answer.Events), 2)
		t.Equal("order", fmt.Sprint(string(answer.Events[0].Kv.Key), string(answer.Events[1].Kv.Key)), "ex/1ex/2")
		took := time.Since(begun)
		t.Equal("in time", took > time.Second && took < 8*time.Second, true)
		t.Equal("left", e.get(t, "ex/", clientv3.WithPrefix()).Count, 0)
		gone, err := e.client.TimeToLive(ctx(), lease.ID)
		t.OK(err)
		t.Equal("ttl", gone.TTL, -1)
	})
	e.Case("lease: kept alive it does not expire", func(t *harness.T) {
		lease, err := e.client.Grant(ctx(), 2)
		t.OK(err)
		e.put(t, "kept", "v", clientv3.WithLease(lease.ID))
		alive, cancel := context.WithCancel(context.Background())
		defer cancel()
		answers, err := e.client.KeepAlive(alive, lease.ID)
		t.OK(err)
		end := time.After(5 * time.Second)
		count := 0
	loop:
		for {
			select {
			case answer := <-answers:
				if answer == nil {
					t.Fatalf("keep-alive ended")
				}
				count++
			case <-end:
				break loop
			}
		}
		t.Equal("kept", e.get(t, "kept").Count, 1)
		t.Equal("renewals", count >= 4, true)
	})
	e.Case("lease: a key moves between leases", func(t *harness.T) {
		first, err := e.client.Grant(ctx(), 600)
		t.OK(err)
		second, err := e.client.Grant(ctx(), 600)
		t.OK(err)
		e.put(t, "mv", "1", clientv3.WithLease(first.ID))
		e.put(t, "mv", "2", clientv3.WithLease(second.ID))
		_, err = e.client.Revoke(ctx(), first.ID)
		t.OK(err)
		t.Equal("kept", e.get(t, "mv").Kvs[0].Lease, second.ID)
		e.del(t, "mv")
		e.put(t, "mv", "3")
		_, err = e.client.Revoke(ctx(), second.ID)
		t.OK(err)
		t.Equal("detached by the delete", string(e.get(t, "mv").Kvs[0].Value), "3")
	})
}
