//! Compiles `proto/*.proto` into Rust: messages by `prost`, the table of services by `services`, the paths and messages
//! of the JSON gateway by `schema`, what the server tells of itself by `reflection`.
//! No `protoc` is needed.

#[path = "build/reflection.rs"]
mod reflection;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/services.rs"]
mod services;

use prost_build::Config;
use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};
use std::path::PathBuf;
use std::{env, error, fs, io};

/// Every file of `proto/` but [`INTEROP_FILE`], in the order in which the table of services lists them.
const PROTO_FILES: [&str; 15] = [
    "rpc.proto",
    "v3lock.proto",
    "v3election.proto",
    "health.proto",
    "reflection.proto",
    "kv.proto",
    "auth.proto",
    "raft_internal.proto",
    "membership.proto",
    "lease.proto",
    "raft.proto",
    "record.proto",
    "snap.proto",
    "etcdserver.proto",
    "version.proto",
];

/// Of builds for tests alone.
const INTEROP_FILE: &str = "interop.proto";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files = PROTO_FILES.to_vec();
    if env::var_os("CARGO_FEATURE_INTEROP").is_some() {
        files.push(INTEROP_FILE);
    }
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(&files)?;
    let schema = schema::generate(&compiler.descriptor_pool(), services::variant_name)?;
    fs::write(out_dir.join("schema_table.rs"), schema)?;
    let reflection = reflection::generate(&compiler.descriptor_pool())?;
    fs::write(out_dir.join("reflection_table.rs"), reflection)?;
    let mut descriptors = compiler.file_descriptor_set();
    // Annotations are for this program alone.
    descriptors.file.retain(|file| files.contains(&file.name()));
    fs::write(out_dir.join("service_table.rs"), services::generate(&descriptors, &files)?)?;
    generate_messages(descriptors)?;
    Ok(())
}

/// Writes one Rust file for each package.
fn generate_messages(mut descriptors: FileDescriptorSet) -> io::Result<()> {
    for message in descriptors.file.iter_mut().flat_map(|file| &mut file.message_type) {
        rename_url_fields(message);
    }
    Config::new().bytes(["."]).compile_fds(descriptors)
}

/// Renames `peerURLs` to `peerUrls`, lest prost make `peer_ur_ls` of it.
fn rename_url_fields(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if let Some(name) = &mut field.name {
            *name = name.replace("URLs", "Urls");
        }
    }
}
