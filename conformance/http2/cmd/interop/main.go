// Command interop runs one of grpc-go's interoperability cases against a server with grpc.testing.TestService, plainly
// or with compressed messages. The cases are those of google.golang.org/grpc/interop/client which need no cloud; that
// program itself brings all of xDS along.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// A case ends the process with an error of its own if it fails.
type testCase struct {
	name string
	run  func(ctx context.Context, dial func() *grpc.ClientConn)
}

// on makes a case of one that needs a client.
func on(name string, run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) testCase {
	return testCase{name, func(ctx context.Context, dial func() *grpc.ClientConn) {
		run(ctx, testgrpc.NewTestServiceClient(dial()))
	}}
}

func soak(name string, anew bool) testCase {
	return testCase{name, func(ctx context.Context, dial func() *grpc.ClientConn) {
		conn := dial()
		interop.DoSoakTest(ctx, interop.SoakTestConfig{
			RequestSize: 271828, ResponseSize: 314159,
			PerIterationMaxAcceptableLatency: 20 * time.Second, OverallTimeout: time.Minute,
			ServerAddr: conn.Target(), NumWorkers: 4, Iterations: 40,
			ChannelForTest: func() (*grpc.ClientConn, func()) {
				if !anew {
					return conn, func() {}
				}
				own := dial()
				return own, func() { own.Close() }
			},
		})
	}}
}

var cases = []testCase{
	on("empty_unary", interop.DoEmptyUnaryCall),
	on("large_unary", interop.DoLargeUnaryCall),
	on("client_streaming", interop.DoClientStreaming),
	on("server_streaming", interop.DoServerStreaming),
	on("ping_pong", interop.DoPingPong),
	on("empty_stream", interop.DoEmptyStream),
	on("timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer),
	on("cancel_after_begin", interop.DoCancelAfterBegin),
	on("cancel_after_first_response", interop.DoCancelAfterFirstResponse),
	on("status_code_and_message", interop.DoStatusCodeAndMessage),
	on("special_status_message", interop.DoSpecialStatusMessage),
	on("custom_metadata", interop.DoCustomMetadata),
	{"unimplemented_method", func(ctx context.Context, dial func() *grpc.ClientConn) {
		interop.DoUnimplementedMethod(ctx, dial())
	}},
	{"unimplemented_service", func(ctx context.Context, dial func() *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(dial()))
	}},
	{"pick_first_unary", func(ctx context.Context, dial func() *grpc.ClientConn) {
		interop.DoPickFirstUnary(ctx, testgrpc.NewTestServiceClient(dial()))
	}},
	soak("rpc_soak", false),
	soak("channel_soak", true),
}

func main() {
	server := flag.String("server", "", "address of the server")
	compress := flag.Bool("gzip", false, "compress messages")
	list := flag.Bool("list", false, "print the names of the cases")
	name := flag.String("case", "", "the case to run")
	flag.Parse()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if *compress {
		options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient(*server, options...)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return conn
	}
	found := false
	for _, c := range cases {
		if *list {
			fmt.Println(c.name)
		} else if c.name == *name {
			found = true
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			c.run(ctx, dial)
			cancel()
		}
	}
	if !*list && !found {
		fmt.Fprintf(os.Stderr, "no case %q\n", *name)
		os.Exit(2)
	}
}
