// Command clientcheck judges a server by etcd's own client library: each case compares answers with the values that etcd
// gives. It starts the server itself, several times side by side, and restarts it where a case says so.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"conformance/harness"
)

// env is a server with clients for it; a group of cases owns one.
type env struct {
	*harness.Suite
	server *harness.Server
	client *clientv3.Client
	conn   *grpc.ClientConn
	kv     pb.KVClient
	watch  pb.WatchClient
	lease  pb.LeaseClient
	maint  pb.MaintenanceClient
}

// Case runs a case; a server that it brought down is reported once and started again for the next one.
func (e *env) Case(name string, f func(t *harness.T)) {
	e.Suite.Case(name, f)
	if !e.server.Running() {
		e.Failed("server after "+name, fmt.Errorf("ended: %s", e.server.LogTail()))
		if err := e.server.Run(); err != nil {
			e.Failed("restart after "+name, err)
		}
	}
}

func main() {
	binary := flag.String("server", "", "server binary")
	work := flag.String("work", "", "folder for data")
	only := flag.String("only", "", "names of cases, separated by semicolons")
	flag.Parse()
	suite := &harness.Suite{Binary: *binary, Work: *work, Only: map[string]bool{}}
	if *binary == "" || *work == "" {
		fmt.Fprintln(os.Stderr, "usage: clientcheck -server BINARY -work DIR [-only CASE;...]")
		os.Exit(2)
	}
	for _, name := range strings.FieldsFunc(*only, func(r rune) bool { return r == ';' }) {
		suite.Only[name] = true
	}
	suite.Groups(
		group("kv", keyValueCases),
		group("txn", transactionCases),
		group("watch", watchCases, "--watch-progress-notify-interval", "500ms"),
		group("lease", leaseCases),
		group("concurrency", concurrencyCases),
		group("services", serviceCases),
		group("maintenance", maintenanceCases),
		group("restart", restartCases),
		group("front", frontCases),
		group("quota", quotaCases, "--quota-backend-bytes", "4194304"),
	)
	suite.Finish()
}

func group(name string, cases func(*env), flags ...string) func(*harness.Suite) {
	return func(suite *harness.Suite) {
		server, err := suite.Start(name, flags...)
		if err != nil {
			suite.Failed("start of group "+name, err)
			return
		}
		client, err := server.Client()
		if err != nil {
			suite.Failed("client of group "+name, err)
			return
		}
		if err := server.Settled(client); err != nil {
			suite.Failed("start of group "+name, err)
			return
		}
		conn, err := server.Raw()
		if err != nil {
			suite.Failed("client of group "+name, err)
			return
		}
		cases(&env{
			Suite: suite, server: server, client: client, conn: conn,
			kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn),
			lease: pb.NewLeaseClient(conn), maint: pb.NewMaintenanceClient(conn),
		})
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// put writes and returns the revision.
func (e *env) put(t *harness.T, key, value string, opts ...clientv3.OpOption) int64 {
	answer, err := e.client.Put(harness.Timeout(seconds(10)), key, value, opts...)
	t.OK(err)
	return answer.Header.Revision
}

func (e *env) get(t *harness.T, key string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	answer, err := e.client.Get(harness.Timeout(seconds(10)), key, opts...)
	t.OK(err)
	return answer
}

func (e *env) del(t *harness.T, key string, opts ...clientv3.OpOption) *clientv3.DeleteResponse {
	answer, err := e.client.Delete(harness.Timeout(seconds(10)), key, opts...)
	t.OK(err)
	return answer
}
