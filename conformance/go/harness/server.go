package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var nextPort atomic.Int32

// FreePort finds a loopback port below the ephemeral range. Processes that run side by side look in blocks of their own.
func FreePort() int {
	block := 12000 + os.Getpid()%80*100
	for {
		port := block + int(nextPort.Add(1))%100
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port
		}
	}
}

// Server is a member of a cluster of one. Its directory and ports stay the same over restarts.
type Server struct {
	Addr   string
	Dir    string
	Scheme string

	binary string
	extra  []string
	args   []string
	log    string
	cmd    *exec.Cmd
	done   chan error
}

// Start starts the server under test with a new directory and waits until it is healthy.
func (s *Suite) Start(name string, extra ...string) (*Server, error) {
	return s.StartScheme("http", name, extra...)
}

// StartScheme is Start with the scheme of the client URL; an https server counts as started when its port accepts.
func (s *Suite) StartScheme(scheme, name string, extra ...string) (*Server, error) {
	if err := os.MkdirAll(s.Work, 0o700); err != nil {
		return nil, err
	}
	server := &Server{
		Addr:   fmt.Sprintf("127.0.0.1:%d", FreePort()),
		Dir:    filepath.Join(s.Work, name),
		Scheme: scheme,
		binary: s.Binary,
		log:    filepath.Join(s.Work, name+".log"),
	}
	server.extra = extra
	server.setArgs()
	s.mu.Lock()
	s.stopping = append(s.stopping, server.Kill)
	s.mu.Unlock()
	return server, server.Run()
}

func (s *Server) setArgs() {
	client, peer := s.Scheme+"://"+s.Addr, fmt.Sprintf("http://127.0.0.1:%d", FreePort())
	s.args = append([]string{
		"--name", "n1", "--data-dir", s.Dir,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "n1=" + peer,
	}, s.extra...)
}

// Twin is another server on the same directory, on other ports, not started.
func (s *Server) Twin() *Server {
	twin := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", FreePort()), Dir: s.Dir, Scheme: s.Scheme, binary: s.binary, extra: s.extra, log: s.log + ".twin"}
	twin.setArgs()
	return twin
}

// Run starts the process (again) and waits until it is healthy.
func (s *Server) Run() error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.waitHealthy()
}

// Launch starts the process and does not wait.
func (s *Server) Launch() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// A server must not outlive a killed checker.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, done := s.cmd, make(chan error, 1)
	s.done = done
	go func() { done <- cmd.Wait() }()
	return nil
}

func (s *Server) waitHealthy() error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if s.Healthy() {
			return nil
		}
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("server ended: %v: %s", err, s.LogTail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("server not healthy after 30 s: %s", s.LogTail())
}

// Healthy asks /health once.
func (s *Server) Healthy() bool {
	if s.Scheme == "https" {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + s.Addr + "/health")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return strings.Contains(string(body), `"true"`)
}

// Pid of the running process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Running says whether the process is still there.
func (s *Server) Running() bool {
	select {
	case err := <-s.done:
		s.done <- err
		return false
	default:
		return true
	}
}

// LogTail is the end of the server's log.
func (s *Server) LogTail() string {
	bytes, _ := os.ReadFile(s.log)
	if len(bytes) > 600 {
		bytes = bytes[len(bytes)-600:]
	}
	return string(bytes)
}

// Stop sends SIGTERM and waits for the end.
func (s *Server) Stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.done:
		s.done <- err
		return nil
	case <-time.After(20 * time.Second):
		s.Kill()
		return errors.New("SIGTERM did not stop the server in 20 s")
	}
}

// Kill sends SIGKILL and waits for the end.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.cmd.Process.Kill()
	err := <-s.done
	s.done <- err
}

// Client connects etcd's client library to the server.
func (s *Server) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   []string{s.Addr},
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
}

// Settled waits until the server has set the version of its storage. etcd does that once it has heard of the cluster's
// version, or at the next of its looks, some seconds apart.
func (s *Server) Settled(client *clientv3.Client) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		status, err := client.Status(Timeout(10*time.Second), s.Addr)
		if err == nil && status.StorageVersion != "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no storage version after 60 s: %v: %s", err, s.LogTail())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Raw connects plain gRPC to the server, for requests that the client library would not send.
func (s *Server) Raw() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+s.Addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
}

// Memory is the resident set in bytes.
func (s *Server) Memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.Pid()))
	if err != nil {
		return 0
	}
	var size, resident int64
	fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// Timeout is a context for one call.
func Timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
