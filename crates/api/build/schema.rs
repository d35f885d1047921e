//! Generates `schema_table.rs`: the paths of the JSON gateway, and its messages as JSON shows them.

use protox::prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind,
    MessageDescriptor,
};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The option of a method that says where it is found over HTTP.
const HTTP_OPTION: &str = "google.api.http";

/// What the paths lead to, and all that this holds.
#[derive(Default)]
struct Found {
    routes: Vec<String>,
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
}

/// The text of `schema_table.rs`.
pub(crate) fn generate(
    pool: &DescriptorPool,
    variant: impl Fn(&str, &str) -> String,
) -> Result<String, fmt::Error> {
    let option = pool.get_extension_by_name(HTTP_OPTION).expect("the option is compiled");
    let mut found = Found::default();
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            if !options.has_extension(&option) {
                continue;
            }
            let rpc = variant(service.name(), method.name());
            let (input, output) = (method.input(), method.output());
            let rule = options.get_extension(&option);
            for path in paths(rule.as_message().expect("a rule")) {
                found.routes.push(format!(
                    "    Route {{ path: {path:?}, rpc: Rpc::{rpc}, input: &{}, output: &{} }},",
                    constant(input.full_name()),
                    constant(output.full_name())
                ));
            }
            found.collect(input);
            found.collect(output);
        }
    }
    found.write()
}

/// All paths of a rule.
fn paths(rule: &DynamicMessage) -> Vec<String> {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name).expect("a field of the rule");
        value.as_str().expect("a string").to_owned()
    };
    assert_eq!(text("body"), "*", "the body is the whole request");
    let mut paths = vec![text("post")];
    let further = rule.get_field_by_name("additional_bindings").expect("a field of the rule");
    for rule in further.as_list().expect("a list") {
        paths.extend(self::paths(rule.as_message().expect("a rule")));
    }
    paths
}

impl Found {
    /// Takes in a message and all that it holds.
    fn collect(&mut self, message: MessageDescriptor) {
        if self.messages.insert(message.full_name().to_owned(), message.clone()).is_some() {
            return;
        }
        for field in message.fields() {
            match field.kind() {
                Kind::Message(inner) => self.collect(inner),
                Kind::Enum(values) => {
                    self.enums.insert(values.full_name().to_owned(), values);
                }
                _ => {}
            }
        }
    }

    fn write(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let count = self.routes.len();
        writeln!(out, "/// Every path, in the order of the services.")?;
        writeln!(out, "pub static ROUTES: [Route; {count}] = [\n{}\n];\n", self.routes.join("\n"))?;
        for (name, message) in &self.messages {
            writeln!(out, "static {}: Message = Message {{", constant(name))?;
            writeln!(out, "    name: {name:?},\n    fields: &[")?;
            // In the order of their declaration, which is that of the output.
            for declared in &message.descriptor_proto().field {
                let number = u32::try_from(declared.number()).expect("positive");
                write_field(&mut out, &message.get_field(number).expect("declared"))?;
            }
            writeln!(out, "    ],\n}};\n")?;
        }
        for (name, values) in &self.enums {
            writeln!(out, "static {}: Enum = Enum {{ values: &[", constant(name))?;
            for value in values.values() {
                writeln!(out, "    ({:?}, {}),", value.name(), value.number())?;
            }
            writeln!(out, "] }};\n")?;
        }
        Ok(out)
    }
}

fn write_field(out: &mut String, field: &FieldDescriptor) -> fmt::Result {
    assert!(!field.is_map(), "no message of the gateway has a map");
    let kind = match field.kind() {
        Kind::Bool => "Bool".to_owned(),
        Kind::Int32 => "Int32".to_owned(),
        Kind::Int64 => "Int64".to_owned(),
        Kind::Uint32 => "Uint32".to_owned(),
        Kind::Uint64 => "Uint64".to_owned(),
        Kind::String => "String".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Enum(values) => format!("Enum(&{})", constant(values.full_name())),
        Kind::Message(message) => format!("Message(&{})", constant(message.full_name())),
        other => panic!("{} is {other:?}", field.full_name()),
    };
    let oneof = field.containing_oneof().map(|oneof| oneof.full_name().to_owned());
    writeln!(
        out,
        "        Field {{ number: {}, name: {:?}, json_name: {:?}, kind: Kind::{kind}, \
         is_list: {}, oneof: {oneof:?} }},",
        field.number(),
        field.name(),
        field.json_name(),
        field.cardinality() == Cardinality::Repeated,
    )
}

/// `etcdserverpb.PutRequest` as `ETCDSERVERPB_PUTREQUEST`.
fn constant(full_name: &str) -> String {
    full_name.replace('.', "_").to_uppercase()
}
