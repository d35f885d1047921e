//! `cargo xtask tidy`: rules of this repository that neither rustc nor clippy knows.
//!
//! Dependencies point down the ranks, deterministic crates name nothing of the outside world, a library opens with its
//! five lines, documents name only what exists. Each rule is in the module named after what it reads.

mod docs;
mod manifest;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use docs::Code;
use source::Source;

/// A breach of a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: String) -> Self {
        Self { path: path.to_owned(), line, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A text of the repository.
struct Text {
    path: String,
    content: String,
}

/// Checks the repository at `root`.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn run(root: &Path) -> io::Result<Vec<Finding>> {
    let mut texts = Vec::new();
    collect(root, root, &mut texts)?;
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    let mut findings = Vec::new();
    check_rust(&texts, &mut findings);
    check_manifests(&texts, &mut findings);
    let mut code = Code::default();
    for text in texts.iter().filter(|text| text.path.ends_with(".rs")) {
        code.add(&text.path, &text.content);
    }
    code.check_flows(&mut findings);
    let differences = texts.iter().find(|text| text.path == "docs/differences.md");
    code.check_differences(differences.map_or("", |text| &text.content), &mut findings);
    for text in &texts {
        rules::check_text(&text.path, &text.content, &mut findings);
        if text.path.ends_with(".md") && text.path != "CHANGELOG.md" {
            code.check_document(root, &text.path, &text.content, &mut findings);
        }
    }
    Ok(findings)
}

fn check_rust(texts: &[Text], findings: &mut Vec<Finding>) {
    let rust: Vec<&Text> = texts.iter().filter(|text| text.path.ends_with(".rs")).collect();
    let test_paths: Vec<PathBuf> = rust
        .iter()
        .flat_map(|text| Source::new(&text.content).test_paths(Path::new(&text.path)))
        .collect();
    for text in rust {
        let path = Path::new(&text.path);
        let in_product = path.components().any(|part| part.as_os_str() == "src");
        let is_test = !in_product || test_paths.iter().any(|test| path.starts_with(test));
        rules::check_rust(&text.path, crate_of(&text.path), is_test, &text.content, findings);
    }
}

/// The folder of the crate that a file belongs to.
fn crate_of(path: &str) -> &str {
    path.strip_prefix("crates/").unwrap_or(path).split('/').next().unwrap_or_default()
}

fn check_manifests(texts: &[Text], findings: &mut Vec<Finding>) {
    let content =
        |path: &str| texts.iter().find(|text| text.path == path).map(|text| &text.content);
    let is_member = |path: &str| path.starts_with("crates/") || path.starts_with("xtask/");
    let manifests = texts.iter().filter(|text| text.path.ends_with("/Cargo.toml"));
    for text in manifests.filter(|text| is_member(&text.path)) {
        manifest::check(&text.path, crate_of(&text.path), &text.content, findings);
    }
    // Clippy reads one file for a package and does not merge, so each deterministic crate has a copy.
    let model = content(&format!("crates/{}/clippy.toml", manifest::DETERMINISTIC[0]));
    for name in manifest::DETERMINISTIC {
        let path = format!("crates/{name}/clippy.toml");
        let copy = content(&path);
        if copy.is_none() || copy != model {
            let what = "deterministic crates have the same clippy.toml, word for word";
            findings.push(Finding::new(&path, 1, what.to_owned()));
        }
    }
}

/// Reads all texts below `folder`; what git ignores and what is not ours is left out.
fn collect(root: &Path, folder: &Path, texts: &mut Vec<Text>) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_ours = !name.starts_with('.') || matches!(name, ".ci" | ".cargo" | ".gitignore");
        if !is_ours || name == "target" || name.ends_with(".etcd") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, texts)?;
        } else if is_text(name) {
            let path_in_root =
                path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            texts.push(Text { path: path_in_root, content: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}

/// Scripts of tests are not among them: their blanks are what a program printed.
fn is_text(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    match extension {
        Some(extension) => matches!(extension, "rs" | "toml" | "md" | "proto" | "go" | "sh"),
        None => matches!(name, "run" | "floor"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_repository_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root");
        let findings = super::run(root).expect("readable files");
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }
}
