//! What it is: an engine for bbolt's file format (version 2): one writer, readers that never block it.
//! What it never does: know what the rows mean, retry a disk operation, trust a byte of the file.
//! Entry types: [`Db`], [`WriteTx`], [`ReadTx`], [`Cursor`]; [`check`] and [`compact`].
//! Owner: the backend's commit thread owns [`Db`]; a [`ReadTx`] may be shared by any thread.
//! How to test it: `cargo test -p bolt`.
//!
//! A file is an array of pages. Pages 0 and 1 are the two meta pages, written in turn: the valid
//! one with the higher transaction id says where the root bucket is. A bucket is a B+tree of branch
//! and leaf pages; a leaf row is a key with a value, or with a bucket inside this bucket. A page
//! too small for its rows is followed by overflow pages.
//!
//! A page that a meta page can reach is never changed. [`WriteTx`] loads the pages it touches into
//! nodes, and commit writes them elsewhere, makes them durable, and then writes the meta page. The
//! pages thus replaced are reused once no [`ReadTx`] can see them. A [`ReadTx`] is a meta page and
//! a memory map, nothing more; there is no lock between it and the writer.
//!
//! The list of free pages is not kept in the file (bbolt's `NoFreelistSync`, which etcd sets): the
//! first write transaction finds them by walking the tree, also in a file that has such a list.
//! That walk is also what makes the writer safe from a damaged tree: it refuses a page used twice.
//!
//! Left out: bbolt's read-write cursors, `MoveBucket`, `Batch`, statistics, and writing a list of
//! free pages.

mod check;
mod compact;
mod cursor;
mod db;
mod error;
mod freelist;
mod layout;
mod node;
mod read;
mod spill;
mod walk;
mod write;

pub use check::check;
pub use compact::compact;
pub use cursor::{Cursor, Item};
pub use db::{Db, Options, open_read_only};
pub use error::{Damage, Error};
pub use read::{Bucket, ReadTx};
pub use write::{BucketMut, WriteTx};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32_768;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;
