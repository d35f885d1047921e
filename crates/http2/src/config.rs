/// Limits of one connection. The defaults suit etcd: many small calls, a few long streams, requests up to 2 MiB.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a server lets a request go on whose answer is complete, until it asks for its end with a reset. What
    /// comes is checked and dropped.
    pub linger_ms: u64,
    /// Streams a client may have open at a time; `u32::MAX` (etcd's default) is not announced.
    pub max_concurrent_streams: u32,
    /// Bytes a peer may send on one stream before they are released.
    pub initial_window: u32,
    /// Bytes a peer may send on the whole connection before they are released; at least 65,535.
    pub connection_window: u32,
    /// Largest payload of a frame we accept, 16,384 to 16,777,215.
    pub max_frame_size: u32,
    /// Largest header list we accept, counted as RFC 9113 6.5.2 does (name + value + 32 a field).
    pub max_header_list: u32,
    /// Size of the dynamic table the peer may fill in our memory.
    pub header_table_size: u32,
    /// Bytes of bookkeeping a client may make a server hold in open streams; beyond it streams are refused.
    pub stream_memory_max: usize,
    /// A stream whose queue went above this many bytes reports [`crate::Event::Writable`] once it is at or below it.
    pub writable_mark: usize,
    /// [`crate::Connection::output`] frames queued data until this many bytes wait to be written.
    pub output_mark: usize,
    /// Resets (by the peer of unanswered streams, or that its frames made us send) allowed in a burst ...
    pub reset_burst: u32,
    /// ... and the rate per second at which that allowance comes back. A stream answered in full returns one too.
    pub resets_per_second: u32,
    /// Frames that move nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown) allowed in a burst ...
    pub idle_frame_burst: u32,
    /// ... and the rate per second at which that allowance comes back. Frames that move data return some too.
    pub idle_frames_per_second: u32,
    /// Acknowledgements, resets and window updates that may wait unwritten because the peer does not read.
    pub control_queue_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linger_ms: 1000,
            max_concurrent_streams: u32::MAX,
            initial_window: 1 << 20,
            connection_window: 16 << 20,
            max_frame_size: 16_384,
            max_header_list: 64 << 10,
            header_table_size: 4096,
            stream_memory_max: 64 << 20,
            writable_mark: 64 << 10,
            output_mark: 256 << 10,
            reset_burst: 4096,
            resets_per_second: 512,
            idle_frame_burst: 8192,
            idle_frames_per_second: 1024,
            control_queue_max: 10_000,
        }
    }
}
