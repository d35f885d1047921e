//! Generates `reflection_table.rs`: the files that the services need, and which of them has which name.

use protox::prost_reflect::{DescriptorPool, FileDescriptor};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The text of `reflection_table.rs`.
pub(crate) fn generate(pool: &DescriptorPool) -> Result<String, fmt::Error> {
    let mut files = Vec::new();
    for service in pool.services() {
        collect(service.parent_file(), &mut files);
    }
    let place = |file: &FileDescriptor| files.iter().position(|known| known == file);
    let mut symbols = BTreeMap::new();
    let mut note = |name: &str, file: &FileDescriptor| {
        if let Some(place) = place(file) {
            symbols.insert(name.to_owned(), place);
        }
    };
    for service in pool.services() {
        note(service.full_name(), &service.parent_file());
        for method in service.methods() {
            note(method.full_name(), &service.parent_file());
        }
    }
    for message in pool.all_messages() {
        let file = message.parent_file();
        note(message.full_name(), &file);
        message.fields().for_each(|field| note(field.full_name(), &file));
        message.oneofs().for_each(|oneof| note(oneof.full_name(), &file));
    }
    for names in pool.all_enums() {
        let file = names.parent_file();
        note(names.full_name(), &file);
        names.values().for_each(|value| note(value.full_name(), &file));
    }
    let mut extensions = BTreeMap::new();
    for extension in pool.all_extensions() {
        note(extension.full_name(), &extension.parent_file());
        if let Some(place) = place(&extension.parent_file()) {
            let message = extension.containing_message().full_name().to_owned();
            extensions.insert((message, extension.number()), place);
        }
    }
    write(&files, &symbols, &extensions)
}

/// A file behind those that it imports.
fn collect(file: FileDescriptor, into: &mut Vec<FileDescriptor>) {
    if into.contains(&file) {
        return;
    }
    for import in file.dependencies() {
        collect(import, into);
    }
    into.push(file);
}

fn write(
    files: &[FileDescriptor],
    symbols: &BTreeMap<String, usize>,
    extensions: &BTreeMap<(String, u32), usize>,
) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(out, "/// The files that the services need; each behind those that it imports.")?;
    writeln!(out, "pub static FILES: [File; {}] = [", files.len())?;
    for file in files {
        let imports = file.dependencies();
        let imports: Vec<usize> =
            imports.filter_map(|import| files.iter().position(|known| *known == import)).collect();
        let descriptor = file.encode_to_vec();
        writeln!(
            out,
            "    File {{ name: {:?}, imports: &{imports:?}, descriptor: b\"{}\" }},",
            file.name(),
            descriptor.escape_ascii()
        )?;
    }
    writeln!(out, "];\n")?;
    writeln!(out, "/// Full names, in order, and where in [`FILES`] each is.")?;
    writeln!(
        out,
        "static SYMBOLS: &[(&str, usize)] = &{:?};\n",
        symbols.iter().collect::<Vec<_>>()
    )?;
    writeln!(
        out,
        "/// Extensions by message and number, in order, and where in [`FILES`] each is."
    )?;
    let extensions: Vec<_> =
        extensions.iter().map(|((message, number), place)| (message, number, place)).collect();
    writeln!(out, "static EXTENSIONS: &[(&str, u32, usize)] = &{extensions:?};")?;
    Ok(out)
}
