// Command writer keeps a server busy with writes and records what was acknowledged; later it verifies the record.
//
//	writer load   -endpoint A[,A...] -record F -seed N [-for D | -ops N] [-big N] [-workers N] [-persist]
//	writer verify -endpoint A -record F
//
// A record line is: revision, key, hash of the value; "-" for a deleted key.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: writer load|verify ...")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	endpoint := flags.String("endpoint", "", "client address, or several with commas between")
	record := flags.String("record", "", "file of acknowledged writes, appended")
	seed := flags.Uint64("seed", 1, "seed of the work")
	limit := flags.Duration("for", 0, "time to write for")
	ops := flags.Int64("ops", 0, "number of writes")
	big := flags.Int("big", 0, "number of values of 700 kB written first")
	workers := flags.Int("workers", 16, "number of writes at a time")
	persist := flags.Bool("persist", false, "go on after a write that failed")
	flags.Parse(os.Args[2:])
	client, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(*endpoint, ","), DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
	})
	if err == nil {
		if os.Args[1] == "verify" {
			err = verify(client, *record)
		} else {
			work := load{
				client: client, limit: *limit, ops: *ops, big: *big, workers: *workers, persist: *persist,
			}
			err = work.run(*record, *seed)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type load struct {
	client  *clientv3.Client
	limit   time.Duration
	ops     int64
	big     int
	workers int
	persist bool

	mu   sync.Mutex
	file *os.File
	done atomic.Int64
}

func (l *load) run(record string, seed uint64) error {
	file, err := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	l.file = file
	ctx := context.Background()
	for i := range l.big {
		value := strings.Repeat(string(rune('a'+i%26)), 700_000)
		if err := l.put(ctx, fmt.Sprintf("big/%d", i%7), value); err != nil {
			return err
		}
	}
	// A worker ends at its first error unless it persists: in a kill -9 run that is the kill, and what was
	// acknowledged before it is in the record.
	if l.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.limit)
		defer cancel()
	}
	var workers sync.WaitGroup
	for worker := range l.workers {
		workers.Go(func() { l.work(ctx, rand.New(rand.NewPCG(seed, uint64(worker))), worker) })
	}
	workers.Wait()
	fmt.Println(l.done.Load())
	return nil
}

func (l *load) work(ctx context.Context, random *rand.Rand, worker int) {
	for ctx.Err() == nil {
		if done := l.done.Add(1); l.ops > 0 && done > l.ops {
			return
		}
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		key := fmt.Sprintf("w/%02d/%04d", worker, random.IntN(400))
		var err error
		switch n := random.IntN(100); {
		case n < 80:
			err = l.put(call, key, strings.Repeat(fmt.Sprintf("%d,", random.Uint64()), 1+random.IntN(20)))
		case n < 92:
			err = l.delete(call, key)
		case n < 97:
			err = l.txn(call, key, fmt.Sprint(random.Uint64()))
		default:
			err = l.leased(call, key)
		}
		cancel()
		if err != nil && !l.persist {
			return
		}
	}
}

func (l *load) put(ctx context.Context, key, value string) error {
	answer, err := l.client.Put(ctx, key, value)
	if err != nil {
		return err
	}
	return l.note(answer.Header.Revision, key, digest([]byte(value)))
}

func (l *load) delete(ctx context.Context, key string) error {
	answer, err := l.client.Delete(ctx, key)
	if err != nil || answer.Deleted == 0 {
		return err
	}
	return l.note(answer.Header.Revision, key, "-")
}

func (l *load) txn(ctx context.Context, key, value string) error {
	ops := []clientv3.Op{clientv3.OpPut(key, value), clientv3.OpPut(key+"/twin", value)}
	answer, err := l.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	if err := l.note(answer.Header.Revision, key, digest([]byte(value))); err != nil {
		return err
	}
	return l.note(answer.Header.Revision, key+"/twin", digest([]byte(value)))
}

func (l *load) leased(ctx context.Context, key string) error {
	lease, err := l.client.Grant(ctx, 3600)
	if err != nil {
		return err
	}
	answer, err := l.client.Put(ctx, key, "leased", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	return l.note(answer.Header.Revision, key, digest([]byte("leased")))
}

func (l *load) note(revision int64, key, value string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintln(l.file, revision, key, value)
	return err
}

func digest(value []byte) string {
	hash := fnv.New64a()
	hash.Write(value)
	return fmt.Sprintf("%016x", hash.Sum64())
}

// verify reads every acknowledged write back at its own revision.
func verify(client *clientv3.Client, record string) error {
	file, err := os.Open(record)
	if err != nil {
		return err
	}
	defer file.Close()
	type write struct {
		revision   int64
		key, value string
	}
	writes := make(chan write, 64)
	problems := make(chan error, 64)
	var checked, compacted atomic.Int64
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for w := range writes {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				answer, err := client.Get(ctx, w.key, clientv3.WithRev(w.revision), clientv3.WithSerializable())
				cancel()
				got := "-"
				switch {
				case err != nil && strings.Contains(err.Error(), "compacted"):
					compacted.Add(1)
					continue
				case err == nil && len(answer.Kvs) == 1:
					got = digest(answer.Kvs[0].Value)
					if answer.Kvs[0].ModRevision != w.revision {
						got = fmt.Sprintf("a value of revision %d", answer.Kvs[0].ModRevision)
					}
				}
				if err == nil && got != w.value {
					err = fmt.Errorf("got %s, want %s", got, w.value)
				}
				if err != nil {
					select {
					case problems <- fmt.Errorf("acknowledged write of %s at revision %d: %w", w.key, w.revision, err):
					default:
					}
				}
				checked.Add(1)
			}
		})
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var w write
		if _, err := fmt.Sscan(lines.Text(), &w.revision, &w.key, &w.value); err == nil {
			writes <- w
		}
	}
	close(writes)
	workers.Wait()
	close(problems)
	if err := lines.Err(); err != nil {
		return err
	}
	count := len(problems)
	for problem := range problems {
		return fmt.Errorf("%d or more lost, the first: %w", count, problem)
	}
	fmt.Printf("%d acknowledged writes found, %d compacted\n", checked.Load(), compacted.Load())
	return nil
}
