//! The rewrite of the backend's file at the start, when that frees enough of the disk.

use backend::{Backend, Committer};
use env::Disk;
use tracing::info;

use crate::announce::size;

/// Rewrites the file if that frees `threshold` bytes; 0: never.
///
/// # Errors
/// If the disk fails; the file is the old one then.
pub(crate) fn at_start<D: Disk>(
    backend: &mut Backend,
    committer: &mut Committer<D>,
    threshold: u64,
) -> Result<(), backend::Error> {
    if threshold == 0 {
        return Ok(());
    }
    let (before, in_use) = (backend.size(), backend.size_in_use());
    if before.saturating_sub(in_use) < threshold {
        info!(
            "current-db-size-bytes" = before,
            "current-db-size" = size(before),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = size(in_use),
            "bootstrap-defrag-threshold-bytes" = threshold,
            "bootstrap-defrag-threshold" = size(threshold),
            "Skipping defragmentation"
        );
        return Ok(());
    }
    let done = committer.defrag()?;
    backend.committed(done);
    info!(
        "current-db-size-bytes-diff" = backend.size().cast_signed() - before.cast_signed(),
        "current-db-size-bytes" = backend.size(),
        "current-db-size" = size(backend.size()),
        "finished defragmenting directory"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use backend::Bucket;
    use bytes::Bytes;
    use env::MemDisk;

    use super::*;

    #[test]
    fn a_file_is_rewritten_from_the_threshold_on() {
        let fill = |backend: &mut Backend, value: Option<&Bytes>| {
            for n in 0_u64..256 {
                match value {
                    Some(value) => backend.put(Bucket::Key, &n.to_be_bytes(), value.clone()),
                    None => backend.delete(Bucket::Key, &n.to_be_bytes()),
                }
            }
        };
        let (mut backend, mut committer) = open();
        fill(&mut backend, Some(&Bytes::from(vec![7; 4_000])));
        commit(&mut backend, &mut committer);
        fill(&mut backend, None);
        commit(&mut backend, &mut committer);
        // Which pages a commit has freed is known from the next one on.
        backend.put(Bucket::Key, b"k", Bytes::from_static(b"v"));
        commit(&mut backend, &mut committer);
        let full = backend.size();
        let free = full - backend.size_in_use();
        assert!(free > 1_000_000, "{free} bytes are free");

        for (threshold, is_rewritten) in [(0, false), (free + 1, false), (free, true)] {
            at_start(&mut backend, &mut committer, threshold).expect("a rewrite");
            assert_eq!(backend.size() < full, is_rewritten, "{threshold}");
        }
        let value = backend.get(Bucket::Key, b"k").expect("a read");
        assert_eq!(value.as_deref(), Some(b"v".as_slice()));
    }

    fn open() -> (Backend, Committer<MemDisk>) {
        let path = Path::new("/db");
        Backend::open(MemDisk::new(), path, backend::Options::default()).expect("a backend")
    }

    fn commit(backend: &mut Backend, committer: &mut Committer<MemDisk>) {
        let batch = backend.freeze().expect("a batch");
        let done = committer.commit(batch).expect("a commit");
        backend.committed(done);
    }
}
