//! The lessor over a backend in memory.

mod model;
mod script;

use std::path::Path;
use std::time::Duration;

use backend::Backend;
use env::{Disk, MemDisk};
use lease::{Lessor, Options};

fn backend() -> Backend {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/snap"), 0o700).expect("no fault");
    let options = backend::Options {
        map_bytes: 16 << 20,
        alloc_bytes: 64 << 10,
        ..backend::Options::default()
    };
    Backend::open(disk, Path::new("/snap/db"), options).expect("opened").0
}

fn restore(backend: &Backend, checkpoints: bool) -> Lessor {
    let checkpoint_interval = checkpoints.then_some(Duration::from_secs(300));
    let options = Options { ttl_min: 2, checkpoint_interval };
    Lessor::restore(backend, options).expect("restored")
}
