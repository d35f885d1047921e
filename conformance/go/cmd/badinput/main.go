// Command badinput sends a server what no proper client sends. After each case the server must still be the same process
// and must serve an ordinary client.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"conformance/harness"
)

type env struct {
	*harness.Suite
	server *harness.Server
	client *clientv3.Client
	pid    int
}

// serves fails unless an ordinary client is served within a second or two.
func (e *env) serves(t *harness.T) {
	if !e.server.Running() || e.server.Pid() != e.pid {
		t.Fatalf("the server ended: %s", e.server.LogTail())
	}
	begun := time.Now()
	_, err := e.client.Put(harness.Timeout(5*time.Second), "ordinary", begun.String())
	t.OK(err)
	answer, err := e.client.Get(harness.Timeout(5*time.Second), "ordinary")
	t.OK(err)
	t.Equal("value", string(answer.Kvs[0].Value), begun.String())
	// A new connection too, not only the old one.
	if !e.server.Healthy() {
		t.Fatalf("a new connection is not served")
	}
}

// attack is one case: what is done, then the check that the server still serves.
func (e *env) attack(name string, f func(t *harness.T)) {
	e.Case(name, func(t *harness.T) {
		f(t)
		e.serves(t)
	})
	if !e.server.Running() {
		if err := e.server.Run(); err != nil {
			e.Failed("restart after "+name, err)
		}
		e.pid = e.server.Pid()
	}
}

// throughout runs f and meanwhile an ordinary client, whose slowest call it returns.
func (e *env) throughout(t *harness.T, f func()) time.Duration {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	var slowest time.Duration
	for {
		select {
		case <-done:
			return slowest
		default:
		}
		begun := time.Now()
		e.serves(t)
		slowest = max(slowest, time.Since(begun))
		time.Sleep(10 * time.Millisecond)
	}
}

func main() {
	binary := flag.String("server", "", "server binary")
	work := flag.String("work", "", "folder for data")
	only := flag.String("only", "", "names of cases, separated by semicolons")
	flag.Parse()
	if *binary == "" || *work == "" {
		fmt.Fprintln(os.Stderr, "usage: badinput -server BINARY -work DIR [-only CASE;...]")
		os.Exit(2)
	}
	suite := &harness.Suite{Binary: *binary, Work: *work, Only: map[string]bool{}}
	for _, name := range strings.FieldsFunc(*only, func(r rune) bool { return r == ';' }) {
		suite.Only[name] = true
	}
	server, err := suite.Start("bad")
	if err != nil {
		suite.Failed("start", err)
		suite.Finish()
	}
	client, err := server.Client()
	if err != nil {
		suite.Failed("client", err)
		suite.Finish()
	}
	e := &env{suite, server, client, server.Pid()}
	socketCases(e)
	frameCases(e)
	callCases(e)
	watchCases(e)
	tlsCases(e)
	suite.Case("memory stays bounded", func(t *harness.T) {
		if memory := server.Memory(); memory > 3<<30 {
			t.Fatalf("%d MB resident after all cases", memory>>20)
		}
	})
	suite.Case("after all of it SIGTERM still stops the server cleanly, and it starts again", func(t *harness.T) {
		t.OK(server.Stop())
		t.OK(server.Run())
		e.pid = server.Pid()
		e.serves(t)
	})
	suite.Finish()
}
