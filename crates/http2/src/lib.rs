//! HTTP/2 for gRPC as a pure state machine: bytes in, events out.
