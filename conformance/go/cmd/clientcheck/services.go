package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"conformance/harness"
)

// waiting reports that nothing arrives for a while.
func waiting[V any](t *harness.T, what string, c <-chan V) {
	select {
	case v := <-c:
		t.Fatalf("%s: did not wait: %v", what, v)
	case <-time.After(300 * time.Millisecond):
	}
}

func within[V any](t *harness.T, what string, c <-chan V) V {
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: waited for nothing", what)
		panic("unreachable")
	}
}

type locked struct {
	response *lpb.LockResponse
	err      error
}

type won struct {
	response *epb.CampaignResponse
	err      error
}

// serviceCases are about the services Lock and Election, which the server itself performs.
func serviceCases(e *env) {
	ctx := func() context.Context { return harness.Timeout(seconds(40)) }
	lock, election := lpb.NewLockClient(e.conn), epb.NewElectionClient(e.conn)
	grant := func(t *harness.T, ttl int64) int64 {
		lease, err := e.client.Grant(ctx(), ttl)
		t.OK(err)
		return int64(lease.ID)
	}
	tryLock := func(ctx context.Context, name string, lease int64) <-chan locked {
		done := make(chan locked, 1)
		go func() {
			response, err := lock.Lock(ctx, &lpb.LockRequest{Name: []byte(name), Lease: lease})
			done <- locked{response, err}
		}()
		return done
	}
	campaign := func(ctx context.Context, name, value string, lease int64) <-chan won {
		done := make(chan won, 1)
		go func() {
			request := &epb.CampaignRequest{Name: []byte(name), Value: []byte(value), Lease: lease}
			response, err := election.Campaign(ctx, request)
			done <- won{response, err}
		}()
		return done
	}
	// until waits for a condition that another call brings about.
	until := func(t *harness.T, what string, holds func() bool) {
		for deadline := time.Now().Add(seconds(20)); !holds(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: never", what)
			}
		}
	}
	count := func(t *harness.T, prefix string) int64 {
		return e.get(t, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()).Count
	}

	e.Case("lock service: key, value, lease, header", func(t *harness.T) {
		lease, before := grant(t, 600), e.put(t, "before", "")
		held, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("one"), Lease: lease})
		t.OK(err)
		t.Equal("key", string(held.Key), fmt.Sprintf("one/%x", lease))
		t.Equal("revision", held.Header.Revision, before+1)
		t.Equal("header", held.Header.ClusterId != 0 && held.Header.MemberId != 0 && held.Header.RaftTerm > 0, true)
		kv := e.get(t, string(held.Key)).Kvs[0]
		t.Equal("value", string(kv.Value), "")
		t.Equal("lease", kv.Lease, lease)
		again, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("one"), Lease: lease})
		t.OK(err)
		t.Equal("the same once more", string(again.Key), string(held.Key))
		t.Equal("without a revision", again.Header.Revision, before+1)
		freed, err := lock.Unlock(ctx(), &lpb.UnlockRequest{Key: held.Key})
		t.OK(err)
		t.Equal("revision of the end", freed.Header.Revision, before+2)
		freed, err = lock.Unlock(ctx(), &lpb.UnlockRequest{Key: held.Key})
		t.OK(err)
		t.Equal("nothing to unlock", freed.Header.Revision, before+2)
	})
	e.Case("lock service: without a lease", func(t *harness.T) {
		held, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("leaseless")})
		t.OK(err)
		kv := e.get(t, string(held.Key)).Kvs[0]
		t.Equal("key", string(held.Key), fmt.Sprintf("leaseless/%x", kv.Lease))
		ttl, err := e.client.TimeToLive(ctx(), clientv3.LeaseID(kv.Lease))
		t.OK(err)
		t.Equal("granted", ttl.GrantedTTL, 60)
	})
	e.Case("lock service: one after another", func(t *harness.T) {
		first, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("queue"), Lease: grant(t, 600)})
		t.OK(err)
		second := tryLock(ctx(), "queue", grant(t, 600))
		until(t, "the second queues", func() bool { return count(t, "queue/") == 2 })
		third := tryLock(ctx(), "queue", grant(t, 600))
		until(t, "the third queues", func() bool { return count(t, "queue/") == 3 })
		waiting(t, "second", second)
		freed, err := lock.Unlock(ctx(), &lpb.UnlockRequest{Key: first.Key})
		t.OK(err)
		two := within(t, "second", second)
		t.OK(two.err)
		t.Equal("the header is of the last read", two.response.Header.Revision, freed.Header.Revision)
		waiting(t, "third", third)
		_, err = lock.Unlock(ctx(), &lpb.UnlockRequest{Key: two.response.Key})
		t.OK(err)
		t.OK(within(t, "third", third).err)
	})
	e.Case("lock service: who gives up leaves the queue", func(t *harness.T) {
		first, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("leave"), Lease: grant(t, 600)})
		t.OK(err)
		impatient, leave := context.WithCancel(ctx())
		second := tryLock(impatient, "leave", grant(t, 600))
		until(t, "the second queues", func() bool { return count(t, "leave/") == 2 })
		leave()
		t.Error("left", within(t, "second", second).err, "rpc error: code = Canceled desc = context canceled")
		until(t, "its key goes", func() bool { return count(t, "leave/") == 1 })
		late, stop := context.WithTimeout(ctx(), time.Second)
		defer stop()
		third := tryLock(late, "leave", grant(t, 600))
		t.Error("late", within(t, "third", third).err, "rpc error: code = DeadlineExceeded desc = context deadline exceeded")
		until(t, "its key goes", func() bool { return count(t, "leave/") == 1 })
		_, err = lock.Unlock(ctx(), &lpb.UnlockRequest{Key: first.Key})
		t.OK(err)
	})
	e.Case("lock service: a lease ends", func(t *harness.T) {
		dying := grant(t, 600)
		_, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("dead"), Lease: dying})
		t.OK(err)
		waiter, doomed := grant(t, 600), grant(t, 600)
		second := tryLock(ctx(), "dead", waiter)
		until(t, "the second queues", func() bool { return count(t, "dead/") == 2 })
		third := tryLock(ctx(), "dead", doomed)
		until(t, "the third queues", func() bool { return count(t, "dead/") == 3 })
		_, err = e.client.Revoke(ctx(), clientv3.LeaseID(doomed))
		t.OK(err)
		waiting(t, "the third, although it has no key", third)
		_, err = e.client.Revoke(ctx(), clientv3.LeaseID(dying))
		t.OK(err)
		t.OK(within(t, "second", second).err)
		_, err = e.client.Revoke(ctx(), clientv3.LeaseID(waiter))
		t.OK(err)
		t.Error("third", within(t, "third", third).err, "rpc error: code = Unknown desc = mutex: session is expired")
	})
	e.Case("lock service: what it refuses", func(t *harness.T) {
		_, err := lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("x"), Lease: 4711})
		t.Error("no lease", err, "rpc error: code = Unknown desc = etcdserver: requested lease not found")
		_, err = lock.Lock(ctx(), &lpb.LockRequest{Name: []byte("x"), Lease: -1})
		t.Error("negative lease", err, "rpc error: code = Unknown desc = etcdserver: requested lease not found")
		_, err = lock.Unlock(ctx(), &lpb.UnlockRequest{})
		t.Error("no key", err, "rpc error: code = Unknown desc = etcdserver: key is not provided")
		held, err := lock.Lock(ctx(), &lpb.LockRequest{Lease: grant(t, 600)})
		t.OK(err)
		t.Equal("no name", string(held.Key[:1]), "/")
	})

	e.Case("election service: campaign, leader, proclaim, resign", func(t *harness.T) {
		lease, before := grant(t, 600), e.put(t, "before", "")
		_, err := election.Leader(ctx(), &epb.LeaderRequest{Name: []byte("e")})
		t.Error("nobody", err, "rpc error: code = Unknown desc = election: no leader")
		win := within(t, "campaign", campaign(ctx(), "e", "v1", lease))
		t.OK(win.err)
		leader := win.response.Leader
		t.Equal("leader", fmt.Sprintf("%s %s %d %d", leader.Name, leader.Key, leader.Rev, leader.Lease),
			fmt.Sprintf("e e/%x %d %d", lease, before+1, lease))
		t.Equal("header", win.response.Header.Revision, before+1)
		said, err := election.Proclaim(ctx(), &epb.ProclaimRequest{Leader: leader, Value: []byte("v2")})
		t.OK(err)
		t.Equal("header of proclaim", said.Header.Revision, before+2)
		found, err := election.Leader(ctx(), &epb.LeaderRequest{Name: []byte("e")})
		t.OK(err)
		t.Equal("value", string(found.Kv.Value), "v2")
		t.Equal("header of leader", found.Header.Revision, before+2)
		again := within(t, "campaign", campaign(ctx(), "e", "v3", lease))
		t.OK(again.err)
		t.Equal("revision of the key", again.response.Leader.Rev, before+1)
		t.Equal("header before the value", again.response.Header.Revision, before+2)
		t.Equal("a new value", string(e.get(t, string(leader.Key)).Kvs[0].Value), "v3")
		gone, err := election.Resign(ctx(), &epb.ResignRequest{Leader: leader})
		t.OK(err)
		t.Equal("header of resign", gone.Header.Revision, before+4)
		gone, err = election.Resign(ctx(), &epb.ResignRequest{Leader: leader})
		t.OK(err)
		t.Equal("nothing to resign", gone.Header.Revision, before+4)
		_, err = election.Proclaim(ctx(), &epb.ProclaimRequest{Leader: leader, Value: []byte("v4")})
		t.Error("no leader any more", err, "rpc error: code = Unknown desc = election: not leader")
	})
	e.Case("election service: one after another", func(t *harness.T) {
		first := within(t, "first", campaign(ctx(), "line", "a", grant(t, 600)))
		t.OK(first.err)
		second := campaign(ctx(), "line", "b", grant(t, 600))
		until(t, "the second queues", func() bool { return count(t, "line/") == 2 })
		waiting(t, "second", second)
		impatient, leave := context.WithCancel(ctx())
		third := campaign(impatient, "line", "c", grant(t, 600))
		until(t, "the third queues", func() bool { return count(t, "line/") == 3 })
		leave()
		t.Error("left", within(t, "third", third).err, "rpc error: code = Canceled desc = context canceled")
		until(t, "its key goes", func() bool { return count(t, "line/") == 2 })
		_, err := election.Resign(ctx(), &epb.ResignRequest{Leader: first.response.Leader})
		t.OK(err)
		two := within(t, "second", second)
		t.OK(two.err)
		t.Equal("header of its put", two.response.Header.Revision, two.response.Leader.Rev)
	})
	e.Case("election service: observe", func(t *harness.T) {
		watching, stop := context.WithCancel(ctx())
		defer stop()
		stream, err := election.Observe(watching, &epb.LeaderRequest{Name: []byte("o")})
		t.OK(err)
		seen := make(chan *epb.LeaderResponse, 16)
		ended := make(chan error, 1)
		go func() {
			for {
				response, err := stream.Recv()
				if err != nil {
					ended <- err
					return
				}
				seen <- response
			}
		}()
		expect := func(value string, header int64) {
			response := within(t, "leader "+value, seen)
			t.Equal("value", string(response.Kv.Value), value)
			t.Equal("header of "+value, response.Header.Revision, header)
		}
		waiting(t, "no leader", seen)
		first := within(t, "first", campaign(ctx(), "o", "a", grant(t, 600)))
		t.OK(first.err)
		expect("a", first.response.Leader.Rev)
		for _, value := range []string{"b", "c"} {
			said, err := election.Proclaim(ctx(), &epb.ProclaimRequest{Leader: first.response.Leader, Value: []byte(value)})
			t.OK(err)
			expect(value, said.Header.Revision)
		}
		second := campaign(ctx(), "o", "d", grant(t, 600))
		until(t, "the second queues", func() bool { return count(t, "o/") == 2 })
		gone, err := election.Resign(ctx(), &epb.ResignRequest{Leader: first.response.Leader})
		t.OK(err)
		t.OK(within(t, "second", second).err)
		expect("d", gone.Header.Revision)
		late, err := election.Observe(ctx(), &epb.LeaderRequest{Name: []byte("o")})
		t.OK(err)
		response, err := late.Recv()
		t.OK(err)
		t.Equal("who comes late", string(response.Kv.Value), "d")
		stop()
		t.Error("stopped", within(t, "end", ended), "rpc error: code = Canceled desc = context canceled")
	})
	e.Case("election service: what it refuses", func(t *harness.T) {
		const missing = `rpc error: code = Unknown desc = "leader" field must be provided`
		_, err := election.Proclaim(ctx(), &epb.ProclaimRequest{})
		t.Error("proclaim", err, missing)
		_, err = election.Resign(ctx(), &epb.ResignRequest{})
		t.Error("resign", err, missing)
		_, err = election.Proclaim(ctx(), &epb.ProclaimRequest{Leader: &epb.LeaderKey{Lease: 1}})
		t.Error("no key", err, "rpc error: code = Unknown desc = etcdserver: key is not provided")
		_, err = election.Campaign(ctx(), &epb.CampaignRequest{Name: []byte("r"), Lease: 4711})
		t.Error("no lease", err, "rpc error: code = Unknown desc = etcdserver: requested lease not found")
	})
	e.Case("election service: without a lease", func(t *harness.T) {
		win := within(t, "campaign", campaign(ctx(), "leaseless-e", "v", 0))
		t.OK(win.err)
		ttl, err := e.client.TimeToLive(ctx(), clientv3.LeaseID(win.response.Leader.Lease))
		t.OK(err)
		t.Equal("granted", ttl.GrantedTTL, 60)
		leader := win.response.Leader
		leader.Lease = 0
		_, err = election.Proclaim(ctx(), &epb.ProclaimRequest{Leader: leader, Value: []byte("w")})
		t.OK(err)
		kv := e.get(t, string(leader.Key)).Kvs[0]
		t.Equal("a lease of its own", kv.Lease != int64(ttl.ID) && kv.Lease != 0, true)
	})
}
