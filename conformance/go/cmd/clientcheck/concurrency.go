package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"conformance/harness"
)

func (e *env) session(t *harness.T, opts ...concurrency.SessionOption) *concurrency.Session {
	session, err := concurrency.NewSession(e.client, opts...)
	t.OK(err)
	return session
}

func concurrencyCases(e *env) {
	ctx := func() context.Context { return harness.Timeout(seconds(40)) }
	e.Case("mutex: one holder at a time", func(t *harness.T) {
		var inside, entered atomic.Int32
		failures := make(chan error, 8)
		var all sync.WaitGroup
		for range 8 {
			session := e.session(t)
			defer session.Close()
			all.Go(func() {
				mutex := concurrency.NewMutex(session, "mutex")
				for range 5 {
					err := mutex.Lock(ctx())
					if err == nil && inside.Add(1) != 1 {
						err = errors.New("two holders")
					}
					if err != nil {
						failures <- err
						return
					}
					entered.Add(1)
					inside.Add(-1)
					if err := mutex.Unlock(ctx()); err != nil {
						failures <- err
						return
					}
				}
			})
		}
		all.Wait()
		close(failures)
		for err := range failures {
			t.OK(err)
		}
		t.Equal("entered", entered.Load(), 40)
	})
	e.Case("mutex: try, own key, release", func(t *harness.T) {
		first, second := e.session(t), e.session(t)
		defer first.Close()
		defer second.Close()
		a, b := concurrency.NewMutex(first, "try"), concurrency.NewMutex(second, "try")
		t.OK(a.Lock(ctx()))
		t.Equal("key", a.Key(), fmt.Sprintf("try/%x", first.Lease()))
		t.Error("taken", b.TryLock(ctx()), "mutex: Locked by another session")
		t.OK(a.Unlock(ctx()))
		t.OK(b.TryLock(ctx()))
		t.OK(b.Unlock(ctx()))
	})
	e.Case("session: its keys go with it, and another waits for them", func(t *harness.T) {
		first, second := e.session(t, concurrency.WithTTL(2)), e.session(t)
		defer second.Close()
		a, b := concurrency.NewMutex(first, "gone"), concurrency.NewMutex(second, "gone")
		t.OK(a.Lock(ctx()))
		first.Orphan() // no keep-alive any more: the lease runs out
		begun := time.Now()
		t.OK(b.Lock(ctx()))
		took := time.Since(begun)
		t.Equal("waited for the expiry", took > 500*time.Millisecond && took < 10*time.Second, true)
	})
	e.Case("election: campaign, observe, proclaim, resign", func(t *harness.T) {
		first, second := e.session(t), e.session(t)
		defer first.Close()
		defer second.Close()
		a, b := concurrency.NewElection(first, "election"), concurrency.NewElection(second, "election")
		_, err := a.Leader(ctx())
		t.Error("nobody", err, "election: no leader")
		watching, cancel := context.WithCancel(context.Background())
		defer cancel()
		observed := b.Observe(watching)
		t.OK(a.Campaign(ctx(), "a"))
		leader := func(want string) {
			select {
			case answer := <-observed:
				t.Equal("observed", string(answer.Kvs[0].Value), want)
			case <-time.After(seconds(10)):
				t.Fatalf("leader %s not observed", want)
			}
		}
		leader("a")
		won := make(chan error, 1)
		go func() { won <- b.Campaign(ctx(), "b") }()
		t.OK(a.Proclaim(ctx(), "a2"))
		leader("a2")
		t.OK(a.Resign(ctx()))
		t.OK(<-won)
		leader("b")
		answer, err := b.Leader(ctx())
		t.OK(err)
		t.Equal("leader", string(answer.Kvs[0].Value), "b")
		t.Error("proclaim after resigning", a.Proclaim(ctx(), "x"), "election: not leader")
	})
	for name, level := range map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable, "repeatable reads": concurrency.RepeatableReads,
	} {
		e.Case("stm: "+name+" keeps the sum", func(t *harness.T) { transfers(t, e, name, level) })
	}
	e.Case("stm: abort", func(t *harness.T) {
		_, err := concurrency.NewSTM(e.client, func(stm concurrency.STM) error {
			stm.Put("aborted", "1")
			return errors.New("no")
		})
		t.Error("answer", err, "no")
		t.Equal("written", e.get(t, "aborted").Count, 0)
	})
}

func transfers(t *harness.T, e *env, name string, level concurrency.Isolation) {
	account := func(i int) string { return fmt.Sprintf("%s/%d", name, i) }
	for i := range 4 {
		e.put(t, account(i), "100")
	}
	failures := make(chan error, 8)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 10 {
				from, to := account((worker+i)%4), account((worker+i+1+i%3)%4)
				_, err := concurrency.NewSTM(e.client, func(stm concurrency.STM) error {
					if from == to {
						return nil
					}
					a, _ := strconv.Atoi(stm.Get(from))
					b, _ := strconv.Atoi(stm.Get(to))
					stm.Put(from, strconv.Itoa(a-1))
					stm.Put(to, strconv.Itoa(b+1))
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(harness.Timeout(seconds(40))))
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.OK(err)
	}
	sum := 0
	for _, kv := range e.get(t, name+"/", clientv3.WithPrefix()).Kvs {
		value, _ := strconv.Atoi(string(kv.Value))
		sum += value
	}
	t.Equal("sum", sum, 400)
}
