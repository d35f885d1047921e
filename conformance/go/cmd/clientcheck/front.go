package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"conformance/harness"
)

const (
	rangePath = "/etcdserverpb.KV/Range"
	putPath   = "/etcdserverpb.KV/Put"
)

// answer is what came for a request, as it came.
type answer struct {
	// Head and trailers have a line for each field.
	head, trailers []string
	body           []byte
}

func (a *answer) field(name string) string {
	for _, line := range append(a.head, a.trailers...) {
		if value, found := strings.CutPrefix(line, name+": "); found {
			return value
		}
	}
	return ""
}

// verdict is the status of HTTP and that of gRPC with its text.
func (a *answer) verdict() string {
	return strings.TrimSpace(strings.Join([]string{a.field(":status"), a.field("grpc-status"), a.field("grpc-message")}, " "))
}

// messages cuts the body: of each message whether it is compressed, and its bytes.
func (a *answer) messages(t *harness.T) (flags []byte, messages [][]byte) {
	for body := a.body; len(body) > 0; {
		if len(body) < 5 || len(body)-5 < int(binary.BigEndian.Uint32(body[1:])) {
			t.Fatalf("half a message: %x", body)
		}
		end := 5 + binary.BigEndian.Uint32(body[1:])
		flags, messages = append(flags, body[0]), append(messages, body[5:end])
		body = body[end:]
	}
	return flags, messages
}

// ask sends one request on a connection of its own, with these fields behind those that all have.
func (e *env) ask(t *harness.T, head []string, body []byte) *answer {
	conn, err := net.Dial("tcp", e.server.Addr)
	t.OK(err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(seconds(20)))
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.WriteSettings()
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(head); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: head[i], Value: head[i+1]})
	}
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	for ; len(body) > 16384; body = body[16384:] {
		framer.WriteData(1, false, body[:16384])
	}
	framer.WriteData(1, true, body)
	_, err = conn.Write(out.Bytes())
	t.OK(err)
	var a answer
	for {
		frame, err := framer.ReadFrame()
		t.OK(err)
		if frame.Header().StreamID != 1 {
			continue
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			var lines []string
			for _, field := range frame.Fields {
				lines = append(lines, field.Name+": "+field.Value)
			}
			if a.head == nil {
				a.head = lines
			} else {
				a.trailers = lines
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			a.body = append(a.body, frame.Data()...)
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			t.Fatalf("reset: %v", frame.ErrCode)
		}
		if ended {
			return &a
		}
	}
}

func packed(t *harness.T, compressed bool, message proto.Message) []byte {
	body, err := proto.Marshal(message)
	t.OK(err)
	flag := byte(0)
	if compressed {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(body)
		w.Close()
		body, flag = out.Bytes(), 1
	}
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(body))), body...)
}

func unpacked(t *harness.T, message []byte) []byte {
	reader, err := gzip.NewReader(bytes.NewReader(message))
	t.OK(err)
	plain, err := io.ReadAll(reader)
	t.OK(err)
	return plain
}

// call is the head of a call with further fields.
func call(path string, fields ...string) []string {
	return append([]string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "etcd",
		"content-type", "application/grpc", "te", "trailers",
	}, fields...)
}

// frontCases are about what gRPC asks of a server before it asks for a service, byte for byte.
func frontCases(e *env) {
	request := func(t *harness.T) []byte { return packed(t, false, &pb.RangeRequest{Key: []byte("front")}) }
	without := func(head []string, name string) []string {
		for i := 0; i < len(head); i += 2 {
			if head[i] == name {
				return append(append([]string{}, head[:i]...), head[i+2:]...)
			}
		}
		panic(name)
	}
	with := func(head []string, name, value string) []string {
		return append(without(head, name), name, value)
	}
	plain := call(rangePath)
	get := append([]string{":method", "GET"}, without(plain, ":method")...)
	named := append([]string{":method", "POST", ":scheme", "http", ":path", rangePath}, plain[8:]...)
	for _, c := range []struct {
		name string
		head []string
		want string
	}{
		{"plain", plain, "200 0"},
		{"a host instead of an authority", append(named, "host", "etcd"), "200 0"},
		{"a host beside an authority", call(rangePath, "host", "other"), "200 0"},
		{"neither host nor authority", named, "400 13 no host or :authority header present"},
		{"two hosts", append(named, "host", "a", "host", "b"),
			"400 13 num values of :authority: 0, num values of host: 2, both must only have 1 value as per HTTP/2 spec"},
		{"an authority and two hosts", call(rangePath, "host", "a", "host", "b"),
			"400 13 num values of :authority: 1, num values of host: 2, both must only have 1 value as per HTTP/2 spec"},
		{"GET", get, `405 13 Received a HEADERS frame with :method "GET" which should be POST`},
		{"no content type", without(plain, "content-type"), `415 3 invalid gRPC request content-type ""`},
		{"JSON", with(plain, "content-type", "application/json"),
			`415 3 invalid gRPC request content-type "application/json"`},
		{"a content type with a subtype", with(plain, "content-type", "application/grpc+proto"), "200 0"},
		{"bytes", call(rangePath, "x-bin", "AQI", "y-bin", "AQI=", "z-bin", ""), "200 0"},
		{"bytes that are none", call(rangePath, "x-bin", "AQ=="+"AQ=="),
			`400 13 malformed binary metadata "AQ==AQ==" in header "x-bin": illegal base64 data at input byte 4`},
		{"one letter for bytes", call(rangePath, "x-bin", "A"),
			`400 13 malformed binary metadata "A" in header "x-bin": illegal base64 data at input byte 0`},
		{"letters of URLs for bytes", call(rangePath, "x-bin", "A-_A"),
			`400 13 malformed binary metadata "A-_A" in header "x-bin": illegal base64 data at input byte 1`},
		{"no time", call(rangePath, "grpc-timeout", "0S"), "200 4 context deadline exceeded"},
		{"no time for an unknown method", call("/a.B/C", "grpc-timeout", "0n"), "200 4 context deadline exceeded"},
		{"a time without a unit", call(rangePath, "grpc-timeout", "10"),
			`400 13 malformed grpc-timeout: transport: timeout unit is not recognized: "10"`},
		{"an unknown encoding", call(rangePath, "grpc-encoding", "squash"),
			`200 12 grpc: Decompressor is not installed for grpc-encoding "squash"`},
		{"an unknown service", call("/a.B/C"), "200 12 unknown service a.B"},
		{"an unknown method", call("/etcdserverpb.KV/C"), "200 12 unknown method C for service etcdserverpb.KV"},
		{"no method", call("/a"), `200 12 malformed method name: "/a"`},
	} {
		e.Case("front: "+c.name, func(t *harness.T) {
			t.Equal("verdict", e.ask(t, c.head, request(t)).verdict(), c.want)
		})
	}
	value := bytes.Repeat([]byte("value"), 2000)
	gz := []string{"grpc-encoding", "gzip"}
	e.Case("front: answers are compressed as requests are", func(t *harness.T) {
		put := packed(t, true, &pb.PutRequest{Key: []byte("front"), Value: value})
		t.Equal("put", e.ask(t, call(putPath, gz...), put).verdict(), "200 0")
		got := e.ask(t, call(rangePath, gz...), packed(t, true, &pb.RangeRequest{Key: []byte("front")}))
		t.Equal("head", got.head, []string{":status: 200", "content-type: application/grpc", "grpc-encoding: gzip"})
		flags, messages := got.messages(t)
		t.Equal("flags", flags, []byte{1})
		var response pb.RangeResponse
		t.OK(proto.Unmarshal(unpacked(t, messages[0]), &response))
		t.Equal("value", response.Kvs[0].Value, value)
		if len(messages[0]) > len(value)/10 {
			t.Fatalf("%d bytes for a value of %d", len(messages[0]), len(value))
		}
	})
	e.Case("front: answers are compressed for who only names gzip", func(t *harness.T) {
		flags, _ := e.ask(t, call(rangePath, gz...), request(t)).messages(t)
		t.Equal("flags", flags, []byte{1})
	})
	e.Case("front: answers are not compressed for who takes gzip", func(t *harness.T) {
		got := e.ask(t, call(rangePath, "grpc-accept-encoding", "gzip"), request(t))
		flags, _ := got.messages(t)
		t.Equal("flags", fmt.Sprint(flags, got.field("grpc-encoding")), fmt.Sprint([]byte{0}, ""))
	})
	e.Case("front: a compressed stream", func(t *harness.T) {
		got := e.ask(t, call("/etcdserverpb.Maintenance/Snapshot", gz...), packed(t, true, &pb.SnapshotRequest{}))
		t.Equal("encoding", got.field("grpc-encoding"), "gzip")
		flags, messages := got.messages(t)
		size, left := uint64(0), uint64(0)
		for i, message := range messages {
			var response pb.SnapshotResponse
			t.Equal("flag", flags[i], 1)
			t.OK(proto.Unmarshal(unpacked(t, message), &response))
			size, left = size+uint64(len(response.Blob)), response.RemainingBytes
		}
		t.Equal("left", left, 0)
		if size < uint64(20<<10) {
			t.Fatalf("a snapshot of %d bytes", size)
		}
	})
	e.Case("front: an error names no encoding", func(t *harness.T) {
		got := e.ask(t, call(rangePath, gz...), packed(t, true, &pb.RangeRequest{}))
		t.Equal("head", got.head, []string{":status: 200", "content-type: application/grpc", "grpc-status: 3", "grpc-message: etcdserver: key is not provided"})
		t.Equal("body", got.body, []byte{})
	})
	e.Case("front: an answer ends with its status alone", func(t *harness.T) {
		got := e.ask(t, call(rangePath), request(t))
		t.Equal("head", got.head, []string{":status: 200", "content-type: application/grpc"})
		t.Equal("trailers", strings.TrimSuffix(strings.Join(got.trailers, "|"), "|grpc-message: "), "grpc-status: 0")
	})
}
