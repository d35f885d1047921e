// Package harness runs cases against a server process that it starts and stops itself.
package harness

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Suite counts cases and prints a line for each.
type Suite struct {
	// Binary is the server under test, Work a folder for its data.
	Binary, Work string
	// Only, when not empty, names the cases to run.
	Only map[string]bool

	mu             sync.Mutex
	passed, failed int
	stopping       []func()
}

// T is one running case; its methods end the case at the first failure.
type T struct{ name string }

type failure struct{ text string }

type skip struct{ text string }

type lack struct{ text string }

// Fatalf ends the case as failed. It must be called on the goroutine of the case.
func (t *T) Fatalf(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

// Skipf ends the case as not possible here.
func (t *T) Skipf(format string, args ...any) { panic(skip{fmt.Sprintf(format, args...)}) }

// Lackf ends the case as one for a feature that the server says it does not have.
func (t *T) Lackf(format string, args ...any) { panic(lack{fmt.Sprintf(format, args...)}) }

// OK fails unless err is nil.
func (t *T) OK(err error) {
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// Equal fails unless both print alike.
func (t *T) Equal(what string, got, want any) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s: got %.300s, want %.300s", what, g, w)
	}
}

// Error fails unless err has exactly this text.
func (t *T) Error(what string, err error, want string) {
	if err == nil {
		t.Fatalf("%s: no error, want %q", what, want)
	}
	if err.Error() != want {
		t.Fatalf("%s: got error %q, want %q", what, err, want)
	}
}

// Case runs f with a limit of 30 s and prints its result.
func (s *Suite) Case(name string, f func(t *T)) {
	if len(s.Only) > 0 && !s.Only[name] {
		return
	}
	result := make(chan any, 1)
	go func() {
		defer func() {
			value := recover()
			switch value.(type) {
			case nil, failure, skip, lack:
			default:
				value = failure{fmt.Sprintf("%v\n%s", value, debug.Stack())}
			}
			result <- value
		}()
		f(&T{name})
	}()
	var value any
	select {
	case value = <-result:
	case <-time.After(30 * time.Second):
		value = failure{"not finished after 30 s"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch value := value.(type) {
	case failure:
		s.failed++
		fmt.Printf("FAIL %s: %s\n", name, value.text)
	case skip:
		fmt.Printf("skipped %s: %s\n", name, value.text)
	case lack:
		fmt.Printf("not yet %s: %s\n", name, value.text)
	default:
		s.passed++
		fmt.Printf("ok %s\n", name)
	}
}

// Groups runs functions side by side, each with a server of its own.
func (s *Suite) Groups(groups ...func(s *Suite)) {
	var all sync.WaitGroup
	for _, group := range groups {
		all.Go(func() { group(s) })
	}
	all.Wait()
}

// Failed counts a failure outside of any case.
func (s *Suite) Failed(name string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	fmt.Printf("FAIL %s: %v\n", name, why)
}

// Finish stops the servers, prints the total and ends the process: 0 when all passed, else 1.
func (s *Suite) Finish() {
	for _, stop := range s.stopping {
		stop()
	}
	fmt.Printf("%d passed, %d failed\n", s.passed, s.failed)
	if s.failed > 0 {
		os.Exit(1)
	}
}
