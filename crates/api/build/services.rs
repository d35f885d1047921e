//! Generates `service_table.rs`: the static table of services, the `Rpc` enum and its lookup by path.

use protox::prost_reflect::prost_types::{FileDescriptorSet, MethodDescriptorProto};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// One method, as the table wants it.
struct Method {
    /// The variant of `Rpc`.
    variant: String,
    name: String,
    path: String,
    kind: &'static str,
    input: String,
    output: String,
}

/// One service under its full name.
struct Service {
    name: String,
    methods: Vec<Method>,
}

/// The text of `service_table.rs`, services in the order of `files`.
pub(crate) fn generate(
    descriptors: &FileDescriptorSet,
    files: &[&str],
) -> Result<String, fmt::Error> {
    let services = collect(descriptors, files);
    let mut out = String::new();
    write_enum(&mut out, &services)?;
    write_table(&mut out, &services)?;
    write_lookup(&mut out, &services)?;
    Ok(out)
}

fn collect(descriptors: &FileDescriptorSet, files: &[&str]) -> Vec<Service> {
    let mut services = Vec::new();
    for file in files {
        let found = descriptors.file.iter().find(|descriptor| descriptor.name() == *file);
        let descriptor = found.unwrap_or_else(|| panic!("{file} was not compiled"));
        for service in &descriptor.service {
            let name = format!("{}.{}", descriptor.package(), service.name());
            let methods = service.method.iter();
            let methods = methods.map(|method| describe(&name, service.name(), method)).collect();
            services.push(Service { name, methods });
        }
    }
    services
}

fn describe(full_name: &str, service: &str, method: &MethodDescriptorProto) -> Method {
    let name = method.name().to_owned();
    let kind = match (method.client_streaming(), method.server_streaming()) {
        (false, false) => "Unary",
        (false, true) => "ServerStream",
        (true, false) => "ClientStream",
        (true, true) => "Bidi",
    };
    Method {
        variant: variant_name(service, &name),
        path: format!("/{full_name}/{name}"),
        kind,
        input: method.input_type().trim_start_matches('.').to_owned(),
        output: method.output_type().trim_start_matches('.').to_owned(),
        name,
    }
}

/// Service and method run together, without stutter: `KvPut`, `LeaseGrant`, `AuthUserAdd`.
pub(crate) fn variant_name(service: &str, method: &str) -> String {
    let method = method.replace("KV", "Kv");
    if method.starts_with(service) {
        return method;
    }
    format!("{}{method}", service.replace("KV", "Kv"))
}

fn write_enum(out: &mut String, services: &[Service]) -> fmt::Result {
    writeln!(out, "/// Every method this server has, in the order of [`SERVICES`].")?;
    writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]")?;
    writeln!(out, "#[repr(u8)]\npub enum Rpc {{")?;
    for method in services.iter().flat_map(|service| &service.methods) {
        writeln!(out, "    /// `{}`", method.path)?;
        writeln!(out, "    {},", method.variant)?;
    }
    writeln!(out, "}}\n")
}

fn write_table(out: &mut String, services: &[Service]) -> fmt::Result {
    let count: usize = services.iter().map(|service| service.methods.len()).sum();
    writeln!(out, "/// Every method, indexed by [`Rpc`].")?;
    writeln!(out, "pub static METHODS: [Method; {count}] = [")?;
    for service in services {
        for method in &service.methods {
            let Method { variant, name, path, kind, input, output } = method;
            writeln!(
                out,
                "    Method {{ rpc: Rpc::{variant}, service: {:?}, name: {name:?}, path: {path:?}, \
                 kind: Kind::{kind}, input: {input:?}, output: {output:?} }},",
                service.name
            )?;
        }
    }
    writeln!(out, "];\n")?;
    writeln!(out, "/// Every service, with its methods in the order of their definition.")?;
    writeln!(out, "pub static SERVICES: &[Service] = &[")?;
    let mut start = 0;
    for service in services {
        let count = service.methods.len();
        writeln!(
            out,
            "    Service {{ name: {:?}, methods: METHODS.split_at({start}).1.split_at({count}).0 }},",
            service.name
        )?;
        start += count;
    }
    writeln!(out, "];\n")
}

/// A match on the length first: at most a handful of comparisons follow.
fn write_lookup(out: &mut String, services: &[Service]) -> fmt::Result {
    let mut by_length: BTreeMap<usize, Vec<&Method>> = BTreeMap::new();
    for method in services.iter().flat_map(|service| &service.methods) {
        by_length.entry(method.path.len()).or_default().push(method);
    }
    writeln!(out, "/// The method whose path is exactly `path`.")?;
    writeln!(out, "fn known(path: &[u8]) -> Option<Rpc> {{\n    Some(match path.len() {{")?;
    for (length, methods) in by_length {
        writeln!(out, "        {length} => match path {{")?;
        for method in methods {
            writeln!(out, "            b{:?} => Rpc::{},", method.path, method.variant)?;
        }
        writeln!(out, "            _ => return None,\n        }},")?;
    }
    writeln!(out, "        _ => return None,\n    }})\n}}")
}
