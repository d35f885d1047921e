//! tonic's own code for etcd's services, out of the same files as the product's messages.

use std::error::Error;

const PROTO: &str = "../../crates/api/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile(["rpc.proto"], [PROTO])?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(files)?;
    Ok(())
}
