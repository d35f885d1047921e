//! Judges of what clients saw.

pub mod linear;
