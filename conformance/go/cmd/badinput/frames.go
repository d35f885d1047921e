package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"conformance/harness"
)

// peer is an HTTP/2 client that does exactly what it is told.
type peer struct {
	t      *harness.T
	conn   net.Conn
	out    *bufio.Writer
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32
}

func (e *env) peer(t *harness.T, settings ...http2.Setting) *peer {
	conn := dial(t, e.server.Addr)
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	p := &peer{t: t, conn: conn, out: bufio.NewWriterSize(conn, 64<<10), next: 1}
	p.framer = http2.NewFramer(p.out, bufio.NewReader(conn))
	p.framer.AllowIllegalWrites = true
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.hpack = hpack.NewEncoder(&p.block)
	p.out.WriteString(http2.ClientPreface)
	p.framer.WriteSettings(settings...)
	p.out.Flush()
	return p
}

func (p *peer) close() { p.conn.Close() }

// fields encodes a header block; the pseudo headers of a gRPC call come first.
func (p *peer) fields(path string, extra ...string) []byte {
	p.block.Reset()
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"te", "trailers"}} {
		p.hpack.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	if len(extra) == 0 {
		extra = []string{"content-type", "application/grpc"}
	}
	for i := 0; i+1 < len(extra); i += 2 {
		p.hpack.WriteField(hpack.HeaderField{Name: extra[i], Value: extra[i+1]})
	}
	return p.block.Bytes()
}

// open starts a call and returns its stream.
func (p *peer) open(path string, extra ...string) uint32 {
	id := p.next
	p.next += 2
	p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.fields(path, extra...), EndHeaders: true})
	return id
}

// discard reads and forgets what the server sends, until the connection ends.
func (p *peer) discard() {
	go func() {
		for {
			if _, err := p.framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
}

// status waits for the end of a stream: its grpc-status and text, HTTP status, reset or the end of the connection.
func (p *peer) status(id uint32) string {
	p.out.Flush()
	seen := ""
	for {
		frame, err := p.framer.ReadFrame()
		if err != nil {
			return "connection ended"
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			return "goaway " + frame.ErrCode.String()
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				return strings.TrimSpace(seen + " reset " + frame.ErrCode.String())
			}
		case *http2.DataFrame:
			if frame.StreamID == id && frame.StreamEnded() {
				return seen
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID != id {
				continue
			}
			for _, field := range frame.Fields {
				switch field.Name {
				case "grpc-status":
					seen = "grpc " + field.Value
				case ":status":
					if field.Value != "200" {
						seen = "http " + field.Value
					}
				}
			}
			if frame.StreamEnded() {
				return seen
			}
		}
	}
}

func message(compressed byte, body []byte) []byte {
	out := append([]byte{compressed}, binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	return append(out, body...)
}

const rangePath = "/etcdserverpb.KV/Range"

func rangeBody(t *harness.T, key, end string) []byte {
	body, err := proto.Marshal(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
	t.OK(err)
	return message(0, body)
}

func frameCases(e *env) {
	floods := []struct {
		name  string
		count int
		step  func(p *peer, i int)
	}{
		{"rapid reset: 30,000 calls opened and reset", 30_000, func(p *peer, i int) {
			p.framer.WriteRSTStream(p.open(rangePath), http2.ErrCodeCancel)
		}},
		{"30,000 calls with a body, reset at once", 30_000, func(p *peer, i int) {
			id := p.open(rangePath)
			p.framer.WriteData(id, true, []byte{0, 0, 0, 0, 3, 10, 1, 97})
			p.framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{"200,000 pings", 200_000, func(p *peer, i int) { p.framer.WritePing(false, [8]byte{byte(i)}) }},
		{"100,000 settings", 100_000, func(p *peer, i int) { p.framer.WriteSettings() }},
		{"100,000 empty data frames", 100_000, func(p *peer, i int) {
			if i == 0 {
				p.open(rangePath)
			}
			p.framer.WriteData(1, false, nil)
		}},
		{"100,000 window updates of an open call", 100_000, func(p *peer, i int) {
			if i == 0 {
				p.open("/etcdserverpb.Watch/Watch")
			}
			p.framer.WriteWindowUpdate(1, 1)
		}},
		{"100,000 frames of unknown type", 100_000, func(p *peer, i int) { p.framer.WriteRawFrame(0xfb, 0, 0, []byte("what")) }},
		{"100,000 priorities", 100_000, func(p *peer, i int) { p.framer.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 3}) }},
		{"headers continued without an end", 20_000, func(p *peer, i int) {
			if i == 0 {
				p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(rangePath)})
			}
			p.framer.WriteContinuation(1, false, []byte{0, 1, 'a', 1, 'b'})
		}},
		{"empty continuations without an end", 50_000, func(p *peer, i int) {
			if i == 0 {
				p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(rangePath)})
			}
			p.framer.WriteContinuation(1, false, nil)
		}},
		{"window overflow", 3, func(p *peer, i int) { p.framer.WriteWindowUpdate(0, 1<<31-1) }},
		{"10,000 calls at once that send nothing", 10_000, func(p *peer, i int) { p.open(rangePath) }},
	}
	for _, flood := range floods {
		e.attack("HTTP/2: "+flood.name, func(t *harness.T) {
			p := e.peer(t)
			defer p.close()
			p.discard()
			slowest := e.throughout(t, func() {
				for i := range flood.count {
					flood.step(p, i)
					if i%64 == 63 && p.out.Flush() != nil {
						return // the server had enough, as it should
					}
				}
				p.out.Flush()
			})
			if slowest > 4*time.Second {
				t.Fatalf("an ordinary call took %v", slowest)
			}
		})
	}
	wrongFrames(e)
	e.attack("HTTP/2: answers of 20 MB to windows of zero", func(t *harness.T) {
		value := strings.Repeat("w", 1_000_000)
		for i := range 20 {
			_, err := e.client.Put(harness.Timeout(5*time.Second), fmt.Sprintf("window/%d", i), value)
			t.OK(err)
		}
		before := e.server.Memory()
		for range 10 {
			p := e.peer(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			defer p.close()
			for range 5 {
				p.framer.WriteData(p.open(rangePath), true, rangeBody(t, "window/", "window0"))
			}
			p.out.Flush()
		}
		time.Sleep(500 * time.Millisecond)
		e.serves(t)
		if grown := e.server.Memory() - before; grown > 3<<30 {
			t.Fatalf("%d MB more", grown>>20)
		}
	})
}

func wrongFrames(e *env) {
	wrong := []struct {
		name string
		send func(p *peer)
	}{
		{"data on stream 0", func(p *peer) { p.framer.WriteData(0, false, []byte("x")) }},
		{"data on a stream never opened", func(p *peer) { p.framer.WriteData(77, false, []byte("x")) }},
		{"headers on an even stream", func(p *peer) {
			p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: p.fields(rangePath), EndHeaders: true})
		}},
		{"a broken header block", func(p *peer) {
			p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, EndHeaders: true})
		}},
		{"a frame above the size limit", func(p *peer) { p.framer.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)) }},
		{"settings of a wrong length", func(p *peer) { p.framer.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1, 2, 3}) }},
		{"a ping of a wrong length", func(p *peer) { p.framer.WriteRawFrame(http2.FramePing, 0, 0, []byte{1}) }},
		{"a push promise", func(p *peer) {
			p.framer.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, []byte{0, 0, 0, 2})
		}},
		{"a window update of zero", func(p *peer) { p.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)) }},
		{"a continuation without headers", func(p *peer) { p.framer.WriteContinuation(1, true, nil) }},
		{"padding longer than the frame", func(p *peer) { p.framer.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{200, 1}) }},
		{"a frame size setting out of range", func(p *peer) { p.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}) }},
	}
	for _, c := range wrong {
		e.attack("HTTP/2: "+c.name, func(t *harness.T) {
			p := e.peer(t)
			defer p.close()
			c.send(p)
			p.out.Flush()
			p.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			for {
				if _, err := p.framer.ReadFrame(); err != nil {
					return
				}
			}
		})
	}
}

func callCases(e *env) {
	gz := func(size int) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(make([]byte, size))
		w.Close()
		return out.Bytes()
	}
	grpc := []string{"content-type", "application/grpc"}
	with := func(extra ...string) []string { return append(append([]string{}, grpc...), extra...) }
	calls := []struct {
		name, path string
		fields     []string
		body       []byte
		end        bool
		want       string // alternatives separated by |; empty: anything
	}{
		{"an undecodable request", rangePath, grpc, message(0, []byte{0xff, 0xff, 0xff}), true, "grpc 13"},
		{"a length of 4 GiB", rangePath, grpc, []byte{0, 0xff, 0xff, 0xff, 0xff, 1}, false, "grpc 8"},
		{"a message cut off", rangePath, grpc, []byte{0, 0, 0, 0, 9, 1}, true, "grpc 2|grpc 13"},
		{"no message", rangePath, grpc, nil, true, "grpc 2|grpc 13"},
		{"a compressed message without an encoding", rangePath, grpc, message(1, []byte("x")), true, "grpc 13|grpc 12"},
		{"an unknown encoding", rangePath, with("grpc-encoding", "squash"), message(1, []byte("x")), true, "grpc 12"},
		{"broken gzip", rangePath, with("grpc-encoding", "gzip"), message(1, []byte("not gzip")), true, "grpc 13"},
		{"a gzip bomb of 50 MB", rangePath, with("grpc-encoding", "gzip"), message(1, gz(50<<20)), true, "grpc 8"},
		{"a path without a slash", "nowhere", grpc, nil, true, ""},
		{"a path without a method", "/etcdserverpb.KV", grpc, nil, true, "grpc 12"},
		{"an unknown method", "/etcdserverpb.KV/Nope", grpc, nil, true, "grpc 12"},
		{"a path of 60,000 bytes", "/" + strings.Repeat("p", 60_000), grpc, nil, true, ""},
		{"a wrong content type", rangePath, []string{"content-type", "text/plain"}, nil, true, "http 415|grpc 3"},
		{"a deadline that is no number", rangePath, with("grpc-timeout", "soonS"), rangeBody(nil0, "a", ""), true, "grpc 13|http 400|http 400 reset NO_ERROR|grpc 13 reset NO_ERROR"},
		{"a deadline of zero", rangePath, with("grpc-timeout", "0n"), rangeBody(nil0, "a", ""), true, ""},
		{"an immense deadline", rangePath, with("grpc-timeout", "99999999H"), rangeBody(nil0, "a", ""), true, "grpc 0"},
		{"1,000 headers", rangePath, with(strings.Split(strings.Repeat("x-many,v,", 1000)+"x,y", ",")...), rangeBody(nil0, "a", ""), true, ""},
		{"a header of 1 MB", rangePath, with("x-big", strings.Repeat("h", 1<<20)), rangeBody(nil0, "a", ""), true, ""},
	}
	for _, c := range calls {
		e.attack("call: "+c.name, func(t *harness.T) {
			p := e.peer(t)
			defer p.close()
			p.conn.SetDeadline(time.Now().Add(10 * time.Second))
			id := p.next
			p.next += 2
			p.headers(id, p.fields(c.path, c.fields...))
			for body := c.body; len(body) > 0; {
				n := min(len(body), 16<<10)
				p.framer.WriteData(id, false, body[:n])
				body = body[n:]
				if len(c.body) > 60_000 {
					p.out.Flush()
				}
			}
			if c.end {
				p.framer.WriteData(id, true, nil)
			}
			got := p.status(id)
			for _, want := range strings.Split(c.want, "|") {
				if want == "" || got == want || strings.HasPrefix(got, want+" reset") {
					return
				}
			}
			t.Fatalf("got %q, want %q", got, c.want)
		})
	}
	e.attack("call: a body without an end", func(t *harness.T) {
		p := e.peer(t)
		defer p.close()
		p.discard()
		id := p.open(rangePath)
		p.framer.WriteData(id, false, []byte{0, 0, 0x10, 0, 0}) // one message of 1 MB, never finished
		before := e.server.Memory()
		e.throughout(t, func() {
			for range 2000 { // 32 MB, whatever the window says
				p.framer.WriteData(id, false, make([]byte, 16<<10))
				if p.out.Flush() != nil {
					return
				}
			}
		})
		if grown := e.server.Memory() - before; grown > 200<<20 {
			t.Fatalf("%d MB more", grown>>20)
		}
	})
}

// nil0 lets a table use helpers that fail a case; marshalling does not fail.
var nil0 *harness.T = &harness.T{}

// headers writes a block of any size as one HEADERS frame and as many CONTINUATION frames as it takes.
func (p *peer) headers(id uint32, block []byte) {
	first := min(len(block), 16<<10)
	p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:first], EndHeaders: first == len(block)})
	for block = block[first:]; len(block) > 0; {
		n := min(len(block), 16<<10)
		p.framer.WriteContinuation(id, n == len(block), block[:n])
		block = block[n:]
	}
}
