//! Go's way to measure, in little: each benchmark runs for about a time, and a line of `go test -bench` is printed.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]
#![expect(unsafe_code, reason = "the allocator is counted")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
struct Counting;

fn count(size: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(size as u64, Ordering::Relaxed);
}

// SAFETY: every call is passed on as it is; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: `ptr` came from `System` with this layout, and the caller's promise about the size is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// CPU time of all threads so far: on a machine that does other things as well, it says more than the wall clock.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One run of a benchmark, of `n` operations.
pub(crate) struct Run {
    pub(crate) n: u64,
    begun: Option<(Instant, Duration, u64, u64)>,
    elapsed: Duration,
    cpu: Duration,
    allocations: u64,
    bytes: u64,
}

impl Run {
    fn new(n: u64) -> Self {
        let mut run = Self {
            n,
            begun: None,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            allocations: 0,
            bytes: 0,
        };
        run.start();
        run
    }

    /// Goes on measuring.
    pub(crate) fn start(&mut self) {
        let (allocations, bytes) =
            (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
        self.begun = Some((Instant::now(), cpu_time(), allocations, bytes));
    }

    /// Measures nothing until `start`.
    pub(crate) fn stop(&mut self) {
        if let Some((begun, cpu, allocations, bytes)) = self.begun.take() {
            self.elapsed += begun.elapsed();
            self.cpu += cpu_time() - cpu;
            self.allocations += ALLOCATIONS.load(Ordering::Relaxed) - allocations;
            self.bytes += BYTES.load(Ordering::Relaxed) - bytes;
        }
    }

    /// Forgets what was measured so far: it was preparation.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.n);
    }
}

/// What the command line asks for: `[--seconds N] [NAME]`, where a name stands for all that contain it.
pub(crate) struct Options {
    seconds: f64,
    filter: String,
}

impl Options {
    pub(crate) fn from_args() -> Self {
        let mut options = Self { seconds: 0.5, filter: String::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => {
                    let value = args.next().and_then(|value| value.parse().ok());
                    options.seconds = value.expect("--seconds is followed by a number");
                }
                // cargo's
                "--bench" => {}
                name => options.filter = name.to_owned(),
            }
        }
        options
    }

    /// Runs with more and more operations until it takes long enough; the last run counts.
    pub(crate) fn bench(&self, name: &str, mut f: impl FnMut(&mut Run)) {
        const N_MAX: u64 = 1_000_000_000;
        if !name.contains(&self.filter) {
            return;
        }
        let mut n = 1;
        loop {
            let mut run = Run::new(n);
            f(&mut run);
            run.stop();
            let seconds = run.elapsed.as_secs_f64();
            if seconds >= self.seconds || n >= N_MAX {
                let per_op = |count: u64| count / n;
                println!(
                    "{name} {n} {:.2} ns/op {:.2} cpu-ns/op {} B/op {} allocs/op",
                    seconds * 1e9 / n as f64,
                    run.cpu.as_secs_f64() * 1e9 / n as f64,
                    per_op(run.bytes),
                    per_op(run.allocations)
                );
                return;
            }
            // As Go does: aim a fifth beyond, but grow at least by one and at most a hundredfold.
            let aimed = self.seconds / seconds.max(1e-9) * n as f64 * 1.2;
            n = (aimed as u64).clamp(n + 1, n.saturating_mul(100)).min(N_MAX);
        }
    }
}
