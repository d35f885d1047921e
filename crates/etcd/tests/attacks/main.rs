//! The `etcd` binary under attack: what strangers on its ports cost it, and whether others are served meanwhile. It is a program
//! of its own, since programs run one after another: members of other tests would lose their leaders beside these.

#![expect(clippy::print_stderr, reason = "tells of what is skipped, and what attacks cost")]

mod attacks;
#[path = "../member/client.rs"]
#[allow(dead_code, reason = "the tests of members need more of it")]
mod client;
mod crowd;
mod frames;
mod large;
#[path = "../member/support.rs"]
#[allow(dead_code, reason = "the tests of members need more of it")]
mod support;
