//! The front door before a member whose consensus is a counter: real state, real sockets.

mod client;
mod deadlines;
mod gateway;
mod health;
mod hostile;
mod limits;
mod locks;
mod member;
mod members;
mod pages;
mod pings;
mod reflection;
mod shares;
mod streams;
mod unary;
