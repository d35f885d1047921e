package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"conformance/harness"
)

// create watches a prefix.
func create(prefix string) *pb.WatchRequest {
	end := []byte(clientv3.GetPrefixRangeEnd(prefix))
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: end}}}
}

func watchCases(e *env) {
	e.attack("100,000 watches on one stream", func(t *harness.T) {
		conn, err := e.server.Raw()
		t.OK(err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 28*time.Second)
		defer cancel()
		stream, err := pb.NewWatchClient(conn).Watch(ctx)
		t.OK(err)
		before := e.server.Memory()
		created := make(chan error, 1)
		go func() {
			for range 100_000 {
				answer, err := stream.Recv()

				if err == nil && !answer.Created {
					err = fmt.Errorf("answer %v", answer)
				}
				if err != nil {
					created <- err
					return
				}
			}
			created <- nil
		}()
		slowest := e.throughout(t, func() {
			for i := range 100_000 {
				if stream.Send(create(fmt.Sprintf("lots/%d/", i))) != nil {
					return
				}
			}
			err = <-created
		})
		t.OK(err)
		if grown := e.server.Memory() - before; grown > 1<<30 {
			t.Fatalf("%d MB for 100,000 watches", grown>>20)
		}
		if slowest > 4*time.Second {
			t.Fatalf("an ordinary call took %v", slowest)
		}
		_, err = e.client.Put(harness.Timeout(5*time.Second), "lots/77777/x", "1")
		t.OK(err)
		answer, err := stream.Recv()
		t.OK(err)
		t.Equal("event", string(answer.Events[0].Kv.Key), "lots/77777/x")
	})
	e.attack("watchers that never read", func(t *harness.T) {
		for range 20 {
			p := e.peer(t)
			defer p.close()
			body, err := proto.Marshal(create("deaf/"))
			t.OK(err)
			id := p.open("/etcdserverpb.Watch/Watch")
			p.framer.WriteData(id, false, message(0, body))
			p.out.Flush()
		}
		before := e.server.Memory()
		value := strings.Repeat("d", 10_000)
		var writers sync.WaitGroup
		failures := make(chan error, 16)
		for worker := range 16 {
			writers.Go(func() {
				for range 300 {
					if _, err := e.client.Put(harness.Timeout(10*time.Second), fmt.Sprintf("deaf/%d", worker), value); err != nil {
						failures <- err
						return
					}
				}
			})
		}
		writers.Wait()
		close(failures)
		for err := range failures {
			t.OK(err)
		}
		// 48 MB of events for each of 20 watchers.
		if grown := e.server.Memory() - before; grown > 700<<20 {
			t.Fatalf("%d MB more", grown>>20)
		}
	})
	e.attack("50,000 cancels of unknown watches and progress requests, never read", func(t *harness.T) {
		p := e.peer(t)
		defer p.close()
		id := p.open("/etcdserverpb.Watch/Watch")
		cancel, err := proto.Marshal(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 12345}}})
		t.OK(err)
		progress, err := proto.Marshal(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		t.OK(err)
		p.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		e.throughout(t, func() {
			for range 25_000 {
				p.framer.WriteData(id, false, append(message(0, cancel), message(0, progress)...))
				if p.out.Flush() != nil {
					return
				}
			}
		})
	})
	e.attack("1,000 watch streams opened and never read", func(t *harness.T) {
		p := e.peer(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		defer p.close()
		p.discard()
		body, err := proto.Marshal(create("ordinary"))
		t.OK(err)
		for range 1000 {
			p.framer.WriteData(p.open("/etcdserverpb.Watch/Watch"), false, message(0, body))
		}
		p.out.Flush()
		for range 50 {
			e.serves(t)
		}
	})
	e.attack("10,000 keep-alives of no lease, never read", func(t *harness.T) {
		p := e.peer(t)
		defer p.close()
		body, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: 99})
		t.OK(err)
		id := p.open("/etcdserverpb.Lease/LeaseKeepAlive")
		p.conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
		e.throughout(t, func() {
			for range 10_000 {
				p.framer.WriteData(id, false, message(0, body))
				if p.out.Flush() != nil {
					return
				}
			}
		})
	})
}
