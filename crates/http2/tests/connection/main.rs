//! A whole connection from outside: frames in, text out. `rules` goes through RFC 9113, `floods` through the known
//! attacks, `sending` through answers and flow control, `properties` through random input, `client` through all of this
//! for the client's half. `both_halves` talk to each other, `against_h2` and `h2_serves` let the `h2` crate judge.

mod against_h2;
mod both_halves;
mod client;
mod floods;
mod h2_serves;
mod properties;
mod rules;
mod sending;
mod wire;
