package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"conformance/harness"
)

func dial(t *harness.T, addr string) net.Conn {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	t.OK(err)
	return conn
}

// hello is a TLS client hello, as far as its first flight goes.
func hello(t *harness.T) []byte {
	client, server := net.Pipe()
	defer client.Close()
	go tls.Client(client, &tls.Config{ServerName: "localhost"}).Handshake()
	buffer := make([]byte, 4096)
	n, err := server.Read(buffer)
	t.OK(err)
	return buffer[:n]
}

func socketCases(e *env) {
	addr := e.server.Addr
	noise := make([]byte, 64<<10)
	random := mathrand.NewChaCha8([32]byte{1})
	random.Read(noise)
	garbage := map[string][]byte{
		"random bytes":                  noise,
		"zeros":                         make([]byte, 64<<10),
		"half an HTTP/2 preface":        []byte("PRI * HTTP/2.0\r\n\r\nS"),
		"a preface, then noise":         append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), noise...),
		"an HTTP/1 line of 1 MB":        []byte("GET /" + strings.Repeat("a", 1<<20)),
		"HTTP/1 headers without an end": []byte("GET /health HTTP/1.1\r\n" + strings.Repeat("X-A: b\r\n", 100_000)),
		"an unknown HTTP/1 method":      []byte("FLY / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"two lengths":                   []byte("POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
	}
	for name, bytes := range garbage {
		e.attack("garbage: "+name, func(t *harness.T) {
			conn := dial(t, addr)
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(2 * time.Second))
			conn.Write(bytes)
			io.Copy(io.Discard, conn)
		})
	}
	e.attack("half a TLS hello on the plain port, connections left open", func(t *harness.T) {
		first := hello(t)
		for i := range 100 {
			conn := dial(t, addr)
			defer conn.Close()
			conn.Write(first[:len(first)*i/100])
		}
		e.serves(t)
	})
	e.attack("2,000 connections opened and reset", func(t *harness.T) {
		for range 2000 {
			conn := dial(t, addr)
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	})
	e.attack("200 clients that send one byte now and then", func(t *harness.T) {
		var all sync.WaitGroup
		for i := range 200 {
			conn := dial(t, addr)
			defer conn.Close()
			text := "GET /version HTTP/1.1\r\nHost: x\r\n"
			if i%2 == 0 {
				text = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
			}
			all.Go(func() {
				for _, c := range text[:15] {
					conn.Write([]byte{byte(c)})
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		slowest := e.throughout(t, all.Wait)
		if slowest > 3*time.Second {
			t.Fatalf("an ordinary call took %v", slowest)
		}
	})
	e.attack("10,000 idle connections", func(t *harness.T) { idle(t, e) })
}

func idle(t *harness.T, e *env) {
	var limit syscall.Rlimit
	t.OK(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < 10_600 {
		t.Skipf("the limit of open files is %d", limit.Cur)
	}
	before := e.server.Memory()
	conns := make([]net.Conn, 0, 10_000)
	defer func() {
		for _, conn := range conns {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	for range 10_000 {
		conn, err := net.DialTimeout("tcp", e.server.Addr, 5*time.Second)
		if err != nil {
			t.Fatalf("connection %d: %v", len(conns), err)
		}
		conns = append(conns, conn)
	}
	e.serves(t)
	if grown := e.server.Memory() - before; grown > 1<<30 {
		t.Fatalf("%d MB for 10,000 idle connections", grown>>20)
	}
}

// tlsCases needs a server with certificates; one that does not have TLS yet says so at start and is skipped.
func tlsCases(e *env) {
	cert, key, err := selfSigned(e.Work)
	if err != nil {
		e.Failed("certificate", err)
		return
	}
	server, err := e.StartScheme("https", "tls", "--cert-file", cert, "--key-file", key)
	e.Case("TLS: silent and half hellos, plain text; a proper handshake is still served", func(t *harness.T) {
		if err != nil && strings.Contains(err.Error(), "server ended") {
			t.Lackf("no TLS server: %.300s", err)
		}
		t.OK(err)
		first := hello(t)
		for i := range 300 {
			conn := dial(t, server.Addr)
			defer conn.Close()
			switch i % 3 {
			case 0:
				conn.Write(first[:len(first)/2])
			case 1:
				conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			}
		}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", server.Addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		t.OK(err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(conn, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		body, err := io.ReadAll(conn)
		t.OK(err)
		t.Equal("answered", strings.Contains(string(body), "etcdserver"), true)
	})
}

func selfSigned(folder string) (string, string, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), 0o600)
}
