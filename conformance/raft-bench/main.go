// Command raft-bench measures go.etcd.io/raft/v3 with the work of crates/raft-node/benches/raft/main.rs, and prints what that
// prints. Names are those of the library's own benchmarks, and of raft-rs's.
package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/quorum"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// noLogger writes nothing.
type noLogger struct{}

func (noLogger) Debug(...any)            {}
func (noLogger) Debugf(string, ...any)   {}
func (noLogger) Info(...any)             {}
func (noLogger) Infof(string, ...any)    {}
func (noLogger) Warning(...any)          {}
func (noLogger) Warningf(string, ...any) {}
func (noLogger) Error(...any)            {}
func (noLogger) Errorf(string, ...any)   {}
func (noLogger) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (noLogger) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (noLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (noLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

// A run is one run of a benchmark, of N operations.
type run struct {
	N             int
	wall, cpu     time.Duration
	allocs, bytes uint64
	isOn          bool
	begun         time.Time
	begunCPU      time.Duration
	begunMem      runtime.MemStats
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// start goes on measuring.
func (r *run) start() {
	runtime.ReadMemStats(&r.begunMem)
	r.isOn, r.begun, r.begunCPU = true, time.Now(), cpuTime()
}

// stop measures nothing until start.
func (r *run) stop() {
	if !r.isOn {
		return
	}
	r.wall += time.Since(r.begun)
	r.cpu += cpuTime() - r.begunCPU
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.allocs += mem.Mallocs - r.begunMem.Mallocs
	r.bytes += mem.TotalAlloc - r.begunMem.TotalAlloc
	r.isOn = false
}

// reset forgets what was measured so far: it was preparation.
func (r *run) reset() {
	*r = run{N: r.N}
	r.start()
}

var (
	filter  string
	seconds float64
)

// bench runs with more and more operations until it takes long enough; the last run counts.
func bench(name string, f func(r *run)) {
	if !strings.Contains(name, filter) {
		return
	}
	for n := 1; ; {
		runtime.GC()
		r := run{N: n}
		r.start()
		f(&r)
		r.stop()
		if r.wall.Seconds() >= seconds || n >= 1e9 {
			per := func(count float64) float64 { return count / float64(n) }
			fmt.Printf("%s %d %.2f ns/op %.2f cpu-ns/op %.0f B/op %.0f allocs/op\n", name, n,
				per(float64(r.wall)), per(float64(r.cpu)), per(float64(r.bytes)), per(float64(r.allocs)))
			return
		}
		aimed := seconds / max(r.wall.Seconds(), 1e-9) * float64(n) * 1.2
		n = min(max(int(aimed), n+1), n*100, 1e9)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newStorage(voters int) *raft.MemoryStorage {
	conf := &pb.ConfState{}
	for id := 1; id <= voters; id++ {
		conf.Voters = append(conf.Voters, uint64(id))
	}
	one := uint64(1)
	s := raft.NewMemoryStorage()
	must(s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{ConfState: conf, Index: &one, Term: &one}}))
	return s
}

func newConfig(id uint64, s raft.Storage) *raft.Config {
	return &raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: s,
		MaxSizePerMsg: 1<<64 - 1, MaxInflightMsgs: 256, Logger: noLogger{},
	}
}

func newRawNode(voters int) (*raft.RawNode, *raft.MemoryStorage) {
	s := newStorage(voters)
	rn, err := raft.NewRawNode(newConfig(1, s))
	must(err)
	return rn, s
}

// stabilize does what there is to do, with followers that agree to everything.
func stabilize(rn *raft.RawNode, s *raft.MemoryStorage) (applied uint64) {
	for rn.HasReady() {
		rd := rn.Ready()
		if n := len(rd.CommittedEntries); n > 0 {
			applied = rd.CommittedEntries[n-1].GetIndex()
		}
		must(s.Append(rd.Entries))
		for _, m := range rd.Messages {
			switch m.GetType() {
			case pb.MsgVote:
				must(rn.Step(&pb.Message{To: m.From, From: m.To, Term: m.Term, Type: pb.MsgVoteResp.Enum()}))
			case pb.MsgApp:
				index := m.GetIndex()
				if n := len(m.GetEntries()); n > 0 {
					index = m.GetEntries()[n-1].GetIndex()
				}
				must(rn.Step(&pb.Message{To: m.From, From: m.To, Term: m.Term, Type: pb.MsgAppResp.Enum(), Index: &index}))
			}
		}
		rn.Advance(rd)
	}
	return applied
}

func newLeader(voters int) (*raft.RawNode, *raft.MemoryStorage) {
	rn, s := newRawNode(voters)
	must(rn.Campaign())
	stabilize(rn, s)
	return rn, s
}

func rawNode(voters int) func(r *run) {
	return func(r *run) {
		rn, s := newLeader(voters)
		var applied uint64
		r.reset()
		for i := 0; i < r.N; i++ {
			must(rn.Propose([]byte("foo")))
			applied = stabilize(rn, s)
		}
		if applied != uint64(r.N+2) {
			panic("not everything was applied")
		}
	}
}

func leaderPropose(size int) func(r *run) {
	return func(r *run) {
		rn, s := newLeader(1)
		r.reset()
		for i := 0; i < r.N; i++ {
			must(rn.Propose(make([]byte, size)))
			if i%1024 == 1023 {
				r.stop()
				stabilize(rn, s)
				must(s.Compact(rn.BasicStatus().Applied))
				r.start()
			}
		}
	}
}

// sink keeps the compiler from leaving work out.
var (
	sink        any
	sum         uint64
	lastStatus  raft.Status
	basicStatus raft.BasicStatus
)

func status(members int) {
	rn, _ := newLeader(members)
	of := func(name string, f func()) {
		bench(fmt.Sprintf("BenchmarkStatus/members=%d/%s", members, name), func(r *run) {
			for i := 0; i < r.N; i++ {
				f()
			}
		})
	}
	of("Status", func() { lastStatus = rn.Status() })
	of("Status-example", func() {
		for _, pr := range rn.Status().Progress {
			sum += pr.Match
		}
	})
	of("BasicStatus", func() { basicStatus = rn.BasicStatus() })
	of("WithProgress", func() {
		rn.WithProgress(func(uint64, raft.ProgressType, tracker.Progress) {})
	})
	of("WithProgress-example", func() {
		var n uint64
		rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) { n += pr.Match })
		sum += n
	})
}

type acked map[uint64]quorum.Index

func (a acked) AckedIndex(id uint64) (quorum.Index, bool) {
	index, ok := a[id]
	return index, ok
}

func committedIndex(voters int) func(r *run) {
	return func(r *run) {
		c, l := quorum.MajorityConfig{}, acked{}
		for id := uint64(1); id <= uint64(voters); id++ {
			c[id] = struct{}{}
			l[id] = quorum.Index((id * 0x9e3779b97f4a7c15) >> 1)
		}
		r.reset()
		for i := 0; i < r.N; i++ {
			sum += uint64(c.CommittedIndex(l))
		}
	}
}

func oneNode(r *run) {
	ctx := context.Background()
	s := newStorage(1)
	n := raft.RestartNode(newConfig(1, s))
	defer n.Stop()
	must(n.Campaign(ctx))
	go func() {
		for i := 0; i < r.N; i++ {
			must(n.Propose(ctx, []byte("foo")))
		}
	}()
	for {
		rd := <-n.Ready()
		must(s.Append(rd.Entries))
		// a reasonable time for a disk to sync
		time.Sleep(time.Millisecond)
		n.Advance()
		if rd.HardState.GetCommit() == uint64(r.N+2) {
			return
		}
	}
}

// threeNodes proposes to one of three members, until all three have it.
func threeNodes(r *run) {
	ctx := context.Background()
	last := uint64(r.N + 2)
	var nodes [3]raft.Node
	var storages [3]*raft.MemoryStorage
	var inboxes [3]chan *pb.Message
	for i := range nodes {
		storages[i] = newStorage(3)
		config := newConfig(uint64(i+1), storages[i])
		config.MaxSizePerMsg = 1 << 20
		nodes[i] = raft.RestartNode(config)
		inboxes[i] = make(chan *pb.Message, 1024)
	}
	var done sync.WaitGroup
	for i := range nodes {
		done.Add(1)
		go func() {
			for m := range inboxes[i] {
				// a stopped node takes no message
				_ = nodes[i].Step(ctx, m)
			}
		}()
		go func() {
			isDone := false
			for rd := range nodes[i].Ready() {
				must(storages[i].Append(rd.Entries))
				for _, m := range rd.Messages {
					inboxes[m.GetTo()-1] <- m
				}
				n := len(rd.CommittedEntries)
				nodes[i].Advance()
				if !isDone && n > 0 && rd.CommittedEntries[n-1].GetIndex() == last {
					isDone = true
					done.Done()
				}
			}
		}()
	}
	must(nodes[0].Campaign(ctx))
	// a first one, so that there is a leader
	must(nodes[0].Propose(ctx, []byte("somedata")))
	r.reset()
	for i := 1; i < r.N; i++ {
		must(nodes[0].Propose(ctx, []byte("somedata")))
	}
	done.Wait()
	r.stop()
	for _, n := range nodes {
		n.Stop()
	}
}

func main() {
	flag.Float64Var(&seconds, "seconds", 0.5, "how long each benchmark runs, about")
	flag.Parse()
	filter = flag.Arg(0)
	bench("BenchmarkOneNode", oneNode)
	bench("BenchmarkProposal3Nodes", threeNodes)
	bench("BenchmarkRawNode/single-voter", rawNode(1))
	bench("BenchmarkRawNode/two-voters", rawNode(2))
	for _, members := range []int{1, 3, 5, 100} {
		status(members)
	}
	for _, voters := range []int{1, 3, 5, 7, 9, 11} {
		bench(fmt.Sprintf("BenchmarkMajorityConfig_CommittedIndex/voters=%d", voters), committedIndex(voters))
	}
	bench("RawNode::new", func(r *run) {
		for i := 0; i < r.N; i++ {
			sink, _ = newRawNode(1)
		}
	})
	for _, size := range []int{0, 128, 4096} {
		bench(fmt.Sprintf("RawNode::leader_propose/%d", size), leaderPropose(size))
	}
}
