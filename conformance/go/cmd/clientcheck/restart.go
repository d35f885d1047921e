package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"conformance/harness"
)

func restartCases(e *env) {
	ends := []struct {
		name string
		end  func() error
	}{
		{"SIGTERM", e.server.Stop},
		{"SIGKILL", func() error { e.server.Kill(); return nil }},
	}
	for _, c := range ends {
		e.Case("restart after "+c.name+": everything acknowledged is there", func(t *harness.T) { restart(t, e, c.name, c.end) })
	}
	e.Case("restart: a watch goes on where it was", func(t *harness.T) {
		ctx, cancel := context.WithTimeout(context.Background(), seconds(50))
		defer cancel()
		channel := e.client.Watch(ctx, "rw/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-channel
		e.put(t, "rw/1", "1")
		t.Equal("before", describe2(<-channel), "rw/1")
		e.server.Kill()
		t.OK(e.server.Run())
		e.put(t, "rw/2", "2")
		e.put(t, "rw/3", "3")
		got := ""
		for !strings.Contains(got, "rw/3") {
			answer, open := <-channel
			if !open {
				t.Fatalf("watch closed after %q", got)
			}
			t.OK(answer.Err())
			got += describe2(answer) + " "
		}
		t.Equal("after", strings.Join(strings.Fields(got), " "), "rw/2 rw/3")
	})
	e.Case("restart: ten times in a row, writing all the time", func(t *harness.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		acknowledged := make(chan string, 1_000_000)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ctx.Err() == nil; i++ {
				call, stop := context.WithTimeout(ctx, time.Second)
				key := fmt.Sprintf("always/%06d", i)
				if _, err := e.client.Put(call, key, "v"); err == nil {
					acknowledged <- key
				}
				stop()
			}
		}()
		for range 10 {
			time.Sleep(50 * time.Millisecond)
			e.server.Kill()
			t.OK(e.server.Run())
		}
		cancel()
		<-done
		close(acknowledged)
		there := map[string]bool{}
		for _, kv := range e.get(t, "always/", clientv3.WithPrefix()).Kvs {
			there[string(kv.Key)] = true
		}
		for key := range acknowledged {
			if !there[key] {
				t.Fatalf("%s was acknowledged and is lost", key)
			}
		}
	})
	e.Case("a second server on the same directory does not serve", func(t *harness.T) {
		// etcd waits for the lock without end; ending with a message is as good.
		second := e.server.Twin()
		t.OK(second.Launch())
		defer second.Kill()
		for begun := time.Now(); time.Since(begun) < 3*time.Second && second.Running(); time.Sleep(100 * time.Millisecond) {
			t.Equal("healthy", second.Healthy(), false)
		}
		e.put(t, "still", "here")
	})
}

func describe2(answer clientv3.WatchResponse) string {
	var keys []string
	for _, event := range answer.Events {
		keys = append(keys, string(event.Kv.Key))
	}
	return strings.Join(keys, " ")
}

func restart(t *harness.T, e *env, name string, end func() error) {
	ctx := func() context.Context { return harness.Timeout(seconds(20)) }
	lease, err := e.client.Grant(ctx(), 600)
	t.OK(err)
	for i := range 500 {
		e.put(t, fmt.Sprintf("%s/%03d", name, i%100), fmt.Sprint(i))
	}
	e.put(t, name+"/leased", "1", clientv3.WithLease(lease.ID))
	e.del(t, name+"/050")
	e.put(t, name+"/last", "1")
	short, err := e.client.Grant(ctx(), 3)
	t.OK(err)
	now := e.put(t, name+"/short", "1", clientv3.WithLease(short.ID))
	_, err = e.client.Compact(ctx(), now-300)
	t.OK(err)
	hash, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now - 2})
	t.OK(err)
	before := full(e.get(t, name, clientv3.WithPrefix(), clientv3.WithRev(now)).Kvs)
	t.OK(end())
	t.OK(e.server.Run())
	// On a slow machine the short lease may have expired by now, which is a revision.
	answer := e.get(t, name+"/short")
	t.Equal("revision", answer.Header.Revision, now+1-answer.Count)
	t.Equal("keys", full(e.get(t, name, clientv3.WithPrefix(), clientv3.WithRev(now)).Kvs), before)
	again, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now - 2})
	t.OK(err)
	t.Equal("hash", again.Hash, hash.Hash)
	t.Equal("compact revision", again.CompactRevision, now-300)
	_, err = e.client.Get(ctx(), name, clientv3.WithRev(now-301))
	t.Error("compacted", err, "etcdserver: mvcc: required revision has been compacted")
	ttl, err := e.client.TimeToLive(ctx(), lease.ID, clientv3.WithAttachedKeys())
	t.OK(err)
	t.Equal("lease keys", fmt.Sprintf("%s %d", ttl.Keys, ttl.GrantedTTL), fmt.Sprintf("[%s/leased] 600", name))
	for begun := time.Now(); e.get(t, name+"/short").Count > 0; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 12*time.Second {
			t.Fatalf("the short lease did not expire after the restart")
		}
	}
}

func quotaCases(e *env) {
	e.Case("quota: full, alarm, compact, defragment, disarm", func(t *harness.T) {
		ctx := func() context.Context { return harness.Timeout(seconds(20)) }
		value := strings.Repeat("q", 500_000)
		var failed error
		for i := 0; i < 100 && failed == nil; i++ {
			_, failed = e.client.Put(ctx(), "q", value)
			time.Sleep(20 * time.Millisecond) // the size is that of the last commit, every 100 ms
		}
		t.Error("put", failed, "etcdserver: mvcc: database space exceeded")
		_, err := e.client.Put(ctx(), "small", "1")
		t.Error("small put", err, "etcdserver: mvcc: database space exceeded")
		alarms, err := e.client.AlarmList(ctx())
		t.OK(err)
		t.Equal("alarm", fmt.Sprint(len(alarms.Alarms), alarms.Alarms[0].Alarm), "1 NOSPACE")
		answer := e.del(t, "q")
		_, err = e.client.Compact(ctx(), answer.Header.Revision, clientv3.WithCompactPhysical())
		t.OK(err)
		_, err = e.client.Defragment(ctx(), e.server.Addr)
		t.OK(err)
		_, err = e.client.AlarmDisarm(ctx(), &clientv3.AlarmMember{})
		t.OK(err)
		e.put(t, "small", "1")
	})
}
