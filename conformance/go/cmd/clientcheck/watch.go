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

	"conformance/harness"
)

// stream is a raw watch stream with a limit on the wait for each answer.
type stream struct {
	t       *harness.T
	client  pb.Watch_WatchClient
	answers chan *pb.WatchResponse
	errors  chan error
	cancel  context.CancelFunc
}

func (e *env) stream(t *harness.T) *stream {
	ctx, cancel := context.WithTimeout(context.Background(), seconds(28))
	client, err := e.watch.Watch(ctx)
	t.OK(err)
	s := &stream{t, client, make(chan *pb.WatchResponse, 10_000), make(chan error, 1), cancel}
	go func() {
		for {
			answer, err := client.Recv()
			if err != nil {
				s.errors <- err
				return
			}
			s.answers <- answer
		}
	}()
	return s
}

func (s *stream) create(request *pb.WatchCreateRequest) {
	s.t.OK(s.client.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}))
}

func (s *stream) stop(id int64) {
	request := &pb.WatchCancelRequest{WatchId: id}
	s.t.OK(s.client.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: request}}))
}

func (s *stream) progress() {
	request := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
	s.t.OK(s.client.Send(&pb.WatchRequest{RequestUnion: request}))
}

func (s *stream) next() *pb.WatchResponse {
	select {
	case answer := <-s.answers:
		return answer
	case err := <-s.errors:
		s.t.Fatalf("stream ended: %v", err)
	case <-time.After(seconds(10)):
		s.t.Fatalf("no watch answer for 10 s")
	}
	return nil
}

// silent fails when an answer comes within a short time.
func (s *stream) silent() {
	select {
	case answer := <-s.answers:
		s.t.Fatalf("unexpected answer %v", answer)
	case <-time.After(300 * time.Millisecond):
	}
}

// created starts a watch and takes its first answer.
func (s *stream) created(request *pb.WatchCreateRequest) *pb.WatchResponse {
	s.create(request)
	answer := s.next()
	s.t.Equal("created", fmt.Sprint(answer.Created, answer.Canceled), "true false")
	return answer
}

// events collects n events over as many answers as they take.
func (s *stream) events(n int) string {
	var out []string
	for len(out) < n {
		for _, event := range s.next().Events {
			out = append(out, describe(event))
		}
	}
	return strings.Join(out, " ")
}

func describe(event *mvccpb.Event) string {
	if event.Type == mvccpb.Event_DELETE {
		return "-" + string(event.Kv.Key)
	}
	return string(event.Kv.Key) + "=" + string(event.Kv.Value)
}

func watchCases(e *env) {
	e.Case("watch: live events", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		answer := s.created(&pb.WatchCreateRequest{Key: []byte("w/"), RangeEnd: []byte("w0")})
		t.Equal("id", answer.WatchId, 0)
		t.Equal("header", answer.Header.Revision, e.get(t, "x").Header.Revision)
		revision := e.put(t, "w/a", "1")
		got := s.next()
		t.Equal("header", got.Header.Revision, revision)
		kv := got.Events[0].Kv
		t.Equal("kv", fmt.Sprint(string(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version), fmt.Sprint("1", revision, revision, 1))
		e.del(t, "w/a")
		gone := s.next().Events[0]
		t.Equal("delete", describe(gone), "-w/a")
		t.Equal("its revision", gone.Kv.ModRevision, revision+1)
		t.Equal("its other fields", fmt.Sprint(gone.Kv.CreateRevision, gone.Kv.Version, len(gone.Kv.Value)), "0 0 0")
		e.put(t, "v", "outside")
		s.silent()
	})
	e.Case("watch: history, one transaction in one answer", func(t *harness.T) {
		first := e.put(t, "h/a", "1")
		e.put(t, "h/a", "2")
		e.txn(t, then(put("h/b", "1"), put("h/c", "1"), del("h/a", "")))
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{Key: []byte("h/"), RangeEnd: []byte("h0"), StartRevision: first})
		t.Equal("events", s.events(5), "h/a=1 h/a=2 h/b=1 h/c=1 -h/a")
		s.silent()
	})
	e.Case("watch: a start in the future", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		now := e.put(t, "f", "0")
		s.created(&pb.WatchCreateRequest{Key: []byte("f"), StartRevision: now + 3})
		for i := range 4 {
			e.put(t, "f", fmt.Sprint(i+1))
		}
		t.Equal("events", s.events(2), "f=3 f=4")
	})
	e.Case("watch: previous values", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{Key: []byte("pv"), PrevKv: true})
		e.put(t, "pv", "1")
		t.Equal("of a create", s.next().Events[0].PrevKv == nil, true)
		e.put(t, "pv", "2")
		t.Equal("of a put", string(s.next().Events[0].PrevKv.Value), "1")
		e.del(t, "pv")
		t.Equal("of a delete", string(s.next().Events[0].PrevKv.Value), "2")
	})
	e.Case("watch: filters", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{Key: []byte("fl"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}})
		s.created(&pb.WatchCreateRequest{Key: []byte("fl"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}})
		e.put(t, "fl", "1")
		answer := s.next()
		t.Equal("put", fmt.Sprint(answer.WatchId, describe(answer.Events[0])), "1fl=1")
		e.del(t, "fl")
		answer = s.next()
		t.Equal("delete", fmt.Sprint(answer.WatchId, describe(answer.Events[0])), "0-fl")
	})
	watchRefusals(e)
	e.Case("watch: ids", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		ids := []int64{}
		for _, id := range []int64{0, 2, 0, 0, 77, -5} {
			ids = append(ids, s.created(&pb.WatchCreateRequest{Key: []byte("id"), WatchId: id}).WatchId)
		}
		t.Equal("ids", ids, "[0 2 1 3 77 -5]")
		s.stop(1)
		canceled := s.next()
		t.Equal("cancel", fmt.Sprint(canceled.Canceled, canceled.WatchId, canceled.CancelReason), "true 1")
		s.stop(12345)
		s.silent()
		t.Equal("reuse", s.created(&pb.WatchCreateRequest{Key: []byte("id"), WatchId: 1}).WatchId, 1)
		e.put(t, "id", "v")
		seen := map[int64]bool{}
		for range 6 {
			seen[s.next().WatchId] = true
		}
		t.Equal("watchers", len(seen), 6)
	})
	e.Case("watch: progress on request", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		s.progress()
		s.silent()
		s.created(&pb.WatchCreateRequest{Key: []byte("pr")})
		revision := e.put(t, "elsewhere", "1")
		s.progress()
		answer := s.next()
		t.Equal("id", answer.WatchId, -1)
		t.Equal("revision", answer.Header.Revision, revision)
		t.Equal("events", len(answer.Events), 0)
	})
	e.Case("watch: progress by itself", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		id := s.created(&pb.WatchCreateRequest{Key: []byte("pn"), ProgressNotify: true}).WatchId
		revision := e.put(t, "elsewhere", "2")
		answer := s.next()
		t.Equal("id and events", fmt.Sprint(answer.WatchId, len(answer.Events)), fmt.Sprint(id, 0))
		t.Equal("revision", answer.Header.Revision, revision)
	})
	e.Case("watch: fragments", func(t *harness.T) {
		value := strings.Repeat("f", 1_000_000)
		first := e.put(t, "fr/0", value)
		for i := range 7 {
			e.put(t, fmt.Sprintf("fr/%d", i+1), value)
		}
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{Key: []byte("fr/"), RangeEnd: []byte("fr0"), StartRevision: first, Fragment: true})
		pieces, total := []bool{}, 0
		for total < 8 {
			answer := s.next()
			pieces = append(pieces, answer.Fragment)
			total += len(answer.Events)
		}
		t.Equal("pieces", pieces, "[true true true false]")
		whole := e.stream(t)
		defer whole.cancel()
		whole.created(&pb.WatchCreateRequest{Key: []byte("fr/"), RangeEnd: []byte("fr0"), StartRevision: first})
		t.Equal("without the option", len(whole.next().Events), 8)
		e.del(t, "fr/", clientv3.WithPrefix())
	})
	e.Case("watch: the whole key space, and an empty key", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{RangeEnd: []byte{0}})
		e.put(t, "anything", "1")
		t.Equal("event", s.events(1), "anything=1")
	})
	e.Case("watch: half-close keeps the watchers", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		s.created(&pb.WatchCreateRequest{Key: []byte("hc")})
		t.OK(s.client.CloseSend())
		e.put(t, "hc", "1")
		t.Equal("event", s.events(1), "hc=1")
	})
	manyWatches(e)
}

func watchRefusals(e *env) {
	e.Case("watch: a compacted start", func(t *harness.T) {
		first := e.put(t, "co", "1")
		at := e.put(t, "co", "2")
		_, err := e.client.Compact(harness.Timeout(seconds(10)), at)
		t.OK(err)
		s := e.stream(t)
		defer s.cancel()
		id := s.created(&pb.WatchCreateRequest{Key: []byte("co"), StartRevision: first}).WatchId
		answer := s.next()
		t.Equal("cancel", fmt.Sprint(answer.Canceled, answer.WatchId == id, answer.CompactRevision == at, answer.CancelReason, answer.Header.Revision), "true true true0")
		s.created(&pb.WatchCreateRequest{Key: []byte("co"), StartRevision: at})
		t.Equal("at the compacted revision", s.events(1), "co=2")
		channel := e.client.Watch(harness.Timeout(seconds(10)), "co", clientv3.WithRev(first))
		got := <-channel
		t.Error("client", got.Err(), "etcdserver: mvcc: required revision has been compacted")
	})
	refused := []struct {
		name, reason string
		request      *pb.WatchCreateRequest
	}{
		{"an id in use", "mvcc: duplicate watch ID provided on the WatchStream", &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 9}},
		{"a reversed range", "mvcc: watcher range is empty", &pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}},
		{"an empty range", "mvcc: watcher range is empty", &pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("b")}},
		{"a negative start", "etcdserver: mvcc: required revision has been compacted", &pb.WatchCreateRequest{Key: []byte("b"), StartRevision: -2}},
	}
	for _, c := range refused {
		e.Case("watch refused: "+c.name, func(t *harness.T) {
			s := e.stream(t)
			defer s.cancel()
			s.created(&pb.WatchCreateRequest{Key: []byte("ok"), WatchId: 9})
			s.create(c.request)
			answer := s.next()
			t.Equal("answer", fmt.Sprint(answer.Created, answer.Canceled, answer.WatchId, answer.CompactRevision, " ", answer.CancelReason), "true true -1 0 "+c.reason)
			e.put(t, "ok", "1")
			t.Equal("the other watch", s.events(1), "ok=1")
		})
	}
}

func manyWatches(e *env) {
	e.Case("watch: 5,000 watchers of one key on ten streams", func(t *harness.T) {
		var all sync.WaitGroup
		failures := make(chan string, 10)
		ready := make(chan struct{}, 10)
		for range 10 {
			s := e.stream(t)
			defer s.cancel()
			for range 500 {
				s.create(&pb.WatchCreateRequest{Key: []byte("many")})
			}
			all.Go(func() {
				created, events := 0, 0
				deadline := time.After(seconds(25))
				for events < 1000 {
					select {
					case answer := <-s.answers:
						events += len(answer.Events)
						if answer.Created {
							if created++; created == 500 {
								ready <- struct{}{}
							}
						}
					case <-deadline:
						failures <- fmt.Sprintf("%d created, %d events", created, events)
						return
					}
				}
			})
		}
		for range 10 {
			select {
			case <-ready:
			case <-time.After(seconds(20)):
				t.Fatalf("watches not created in 30 s")
			}
		}
		e.put(t, "many", "1")
		e.put(t, "many", "2")
		all.Wait()
		select {
		case text := <-failures:
			t.Fatalf("%s", text)
		default:
		}
	})
	e.Case("watch: a burst is delivered once, in order", func(t *harness.T) {
		ctx, cancel := context.WithTimeout(context.Background(), seconds(28))
		defer cancel()
		channel := e.client.Watch(ctx, "burst/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-channel
		go func() {
			var writers sync.WaitGroup
			for worker := range 20 {
				writers.Go(func() {
					for i := range 250 {
						e.client.Put(ctx, fmt.Sprintf("burst/%d", worker), fmt.Sprint(i))
					}
				})
			}
			writers.Wait()
		}()
		count, last := 0, int64(0)
		for count < 5000 {
			answer, open := <-channel
			if !open || answer.Err() != nil {
				t.Fatalf("ended after %d events: %v", count, answer.Err())
			}
			for _, event := range answer.Events {
				if event.Kv.ModRevision <= last {
					t.Fatalf("revision %d after %d", event.Kv.ModRevision, last)
				}
				last = event.Kv.ModRevision
				count++
			}
		}
	})
	e.Case("watch: one stream that starts late catches up with 5,000 events", func(t *harness.T) {
		s := e.stream(t)
		defer s.cancel()
		compacted := e.get(t, "burst/0").Kvs[0].CreateRevision
		s.created(&pb.WatchCreateRequest{Key: []byte("burst/"), RangeEnd: []byte("burst0"), StartRevision: compacted - 20})
		total := 0
		for total < 5000 {
			total += len(s.next().Events)
		}
		t.Equal("events", total, 5000)
	})
}
