//! Named buckets over bolt: a batched writer and reads that never wait for it.
