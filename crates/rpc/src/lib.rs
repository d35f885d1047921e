//! The front door: gRPC services, watch and lease streams, health and metrics pages.
