//! As much of protoc as prost-build calls: `protoc -o FILE -I DIR... PROTO...`, in pure Rust.

use std::process::ExitCode;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut output, mut includes, mut files) = (None, Vec::new(), Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-o" => output = args.next(),
            "-I" => includes.extend(args.next()),
            flag if flag.starts_with('-') => {}
            _ => files.push(arg),
        }
    }
    let output = output.ok_or("no -o FILE")?;
    let mut compiler = protox::Compiler::new(includes).map_err(|err| err.to_string())?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files).map_err(|err| format!("{err:?}"))?;
    std::fs::write(&output, compiler.encode_file_descriptor_set())
        .map_err(|err| format!("{output}: {err}"))
}
