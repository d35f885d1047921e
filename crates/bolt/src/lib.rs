//! An engine for bbolt's file format.
