//! etcd's write-ahead log segments and snapshot files.
