//! Rust text as tidy needs it: without comments, literals and tests, and as a list of paths.

use std::path::{Path, PathBuf};

/// A source file in three forms of the same length and with the same lines.
#[derive(Debug)]
pub(crate) struct Source {
    /// As written, with literals blanked: words in comments count, words in strings do not.
    pub(crate) prose: String,
    /// With comments and literals blanked.
    pub(crate) code: String,
    /// With items under `#[cfg(test)]` blanked, too.
    pub(crate) production: String,
    /// Modules that are declared under `#[cfg(test)]`.
    pub(crate) test_modules: Vec<String>,
}

/// A path or a word as it stands in the code; a `use` of several gives one of each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let (prose, code) = mask(text);
        let (production, test_modules) = without_tests(&code);
        Self { prose, code, production, test_modules }
    }

    /// Where the modules that `path` declares under `#[cfg(test)]` lie: a file or folder each.
    pub(crate) fn test_paths(&self, path: &Path) -> Vec<PathBuf> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new(""));
        let base = match stem {
            "lib" | "main" => parent.to_path_buf(),
            _ => parent.join(stem),
        };
        let both = |name: &String| [base.join(format!("{name}.rs")), base.join(name)];
        self.test_modules.iter().flat_map(both).collect()
    }
}

/// Blanks literals in the first text, comments as well in the second.
fn mask(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut prose, mut code) = (bytes.to_vec(), bytes.to_vec());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            blank(&mut code[at..end]);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            blank(&mut code[at..end]);
            at = end;
        } else if let Some(len) = literal(rest, at > 0 && is_word(bytes[at - 1])) {
            blank(&mut prose[at..at + len]);
            blank(&mut code[at..at + len]);
            at += len;
        } else {
            at += 1;
        }
    }
    let string = |bytes| String::from_utf8(bytes).expect("whole characters were blanked");
    (string(prose), string(code))
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the literal that `text` begins with, if it does. `in_word`: the byte before belongs to a word.
fn literal(text: &[u8], in_word: bool) -> Option<usize> {
    let prefix = text.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let is_prefix = matches!(&text[..prefix], b"" | b"b" | b"c" | b"r" | b"br" | b"cr");
    if !is_prefix || (prefix > 0 && in_word) {
        return None;
    }
    let body = &text[prefix..];
    if text[..prefix].ends_with(b"r") {
        let hashes = body.iter().take_while(|&&byte| byte == b'#').count();
        return (body.get(hashes) == Some(&b'"')).then(|| {
            let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let open = prefix + hashes + 1;
            let close = text[open..].windows(end.len()).position(|window| window == end);
            close.map_or(text.len(), |close| open + close + end.len())
        });
    }
    match body {
        [b'"', ..] => Some(prefix + quoted(body, b'"')),
        [b'\'', b'\\', ..] => Some(prefix + quoted(body, b'\'')),
        // A character of up to four bytes; else it is a lifetime.
        [b'\'', inner @ ..] => {
            let text = String::from_utf8_lossy(&inner[..inner.len().min(5)]).into_owned();
            let len = text.chars().next().map_or(0, char::len_utf8);
            (inner.get(len) == Some(&b'\'')).then_some(prefix + len + 2)
        }
        _ => None,
    }
}

fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Blanks each item under `#[cfg(test)]`, and names those that are modules in files of their own.
fn without_tests(code: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut production = code.as_bytes().to_vec();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let item = start + MARK.len();
        let end = item_end(&code.as_bytes()[item..]) + item;
        let words: Vec<&str> = code[item..end].split_whitespace().collect();
        if let Some(at) = words.iter().position(|&word| word == "mod")
            && let Some(name) = words.get(at + 1).and_then(|name| name.strip_suffix(';'))
        {
            modules.push(name.to_owned());
        }
        blank(&mut production[start..end]);
        from = end;
    }
    (String::from_utf8(production).expect("whole items were blanked"), modules)
}

/// Up to the `;` or the closing brace that ends the item.
fn item_end(code: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Step,
    Other(u8),
}

/// All paths and words of masked code. In a `use`, groups are spelled out and new names left out.
pub(crate) fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].1 == Token::Word("use") {
            at = use_tree(&tokens, at + 1, "", &mut found);
            continue;
        }
        let (line, Token::Word(word)) = tokens[at] else {
            at += 1;
            continue;
        };
        let mut path = word.to_owned();
        at += 1;
        while let [(_, Token::Step), (_, Token::Word(word)), ..] = &tokens[at..] {
            path = format!("{path}::{word}");
            at += 2;
        }
        found.push(Mention { line, path });
    }
    found
}

fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = code.as_bytes();
    let (mut tokens, mut line, mut at) = (Vec::new(), 1, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'\n', ..] => (line, at) = (line + 1, at + 1),
            [byte, ..] if byte.is_ascii_whitespace() => at += 1,
            [b':', b':', ..] => {
                tokens.push((line, Token::Step));
                at += 2;
            }
            [byte, ..] if is_word(*byte) => {
                let len = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                tokens.push((line, Token::Word(&code[at..at + len])));
                at += len;
            }
            [byte, ..] => {
                tokens.push((line, Token::Other(*byte)));
                at += 1;
            }
            [] => {}
        }
    }
    tokens
}

/// Reads one tree of a `use` from token `at` on; returns where it ends.
fn use_tree(
    tokens: &[(usize, Token<'_>)],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<Mention>,
) -> usize {
    let mut path = prefix.to_owned();
    let mut line = tokens.get(at).map_or(0, |token| token.0);
    let mut step = |word: &str, word_line: usize| {
        line = word_line;
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(word);
    };
    while let Some(&(word_line, token)) = tokens.get(at) {
        match token {
            Token::Word("as") => at += 2,
            Token::Word(word) => {
                step(word, word_line);
                at += 1;
            }
            Token::Other(b'*') => {
                step("*", word_line);
                at += 1;
            }
            Token::Step => at += 1,
            Token::Other(b'{') => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.1 != Token::Other(b'}')) {
                    let end = use_tree(tokens, at, &path, found);
                    // A comma, or something that no `use` has; go on in any case.
                    at =
                        end + usize::from(tokens.get(end).map(|t| t.1) != Some(Token::Other(b'}')));
                }
                return at + 1;
            }
            Token::Other(_) => break,
        }
    }
    found.push(Mention { line, path });
    at
}

#[cfg(test)]
mod tests {
    use super::{Source, mentions};
    use std::path::{Path, PathBuf};

    fn paths(text: &str) -> String {
        let found = mentions(&Source::new(text).production);
        let words: Vec<String> =
            found.into_iter().map(|m| format!("{}:{}", m.line, m.path)).collect();
        words.join(" ")
    }

    #[test]
    fn groups_are_spelled_out() {
        assert_eq!(
            paths("use std::{fs, io::{self, Read as R}};\nuse a::*;\nb::c()"),
            "1:std::fs 1:std::io::self 1:std::io::Read 2:a::* 3:b::c"
        );
        assert_eq!(paths("use std::{\n    fs,\n    io,\n};"), "2:std::fs 3:std::io");
    }

    #[test]
    fn comments_and_literals_are_blank() {
        for text in [
            "// std::fs",
            "/* a /* std::fs */ b */",
            r#" "std::fs \" std::fs" "#,
            r##" r#"std::fs " std::fs"# "##,
            r##" br"std::fs" "##,
            r#" b'"' 'x' '"' '\'' "#,
        ] {
            assert_eq!(paths(text), "", "{text}");
        }
        assert_eq!(paths("fn a<'b>(c: &'b str) { x('y') }"), "1:fn 1:a 1:b 1:c 1:b 1:str 1:x");
    }

    #[test]
    fn tests_are_blank_and_their_files_named() {
        let text =
            "a;\n#[cfg(test)]\nmod tests {\n fn x() { [y]; }\n}\n#[cfg(test)]\nmod sample;\nb";
        let source = Source::new(text);
        let words: Vec<String> = mentions(&source.production).into_iter().map(|m| m.path).collect();
        assert_eq!(words, ["a", "b"]);
        assert_eq!(
            source.test_paths(Path::new("src/lib.rs")),
            [PathBuf::from("src/sample.rs"), PathBuf::from("src/sample")]
        );
        assert_eq!(source.test_paths(Path::new("src/x.rs"))[0], PathBuf::from("src/x/sample.rs"));
    }
}
