//! Configuration, listeners, threads and queues: starts and stops a member.
