//! Multi-version key space: key index, revisions, ranges, transactions, compaction, hashes and watch groups.
