//! A whole connection from outside: frames in, text out. `rules` goes through RFC 9113, `floods` through the known
//! attacks, `sending` through answers and flow control, `properties` through random input, `against_h2` lets the
//! `h2` crate's client judge.

mod against_h2;
mod floods;
mod properties;
mod rules;
mod sending;
mod wire;
