//! Which command a line means. Flags may stand before and between the names of commands, so that the finder has to know
//! which of them take the next word as their value.

use crate::command::{COMPLETE, COMPLETE_BARE, Found, Node};
use crate::flag::{Flag, Kind};
use crate::go;
use crate::usage;

/// Goes down from the root as long as a word names a command.
///
/// # Errors
/// The first word names none: the sentence, with what it may have meant.
pub(crate) fn find<'p, A: Copy>(
    root: &'p Node<A>,
    words: &[Vec<u8>],
) -> Result<Found<'p, A>, String> {
    let mut path = vec![root];
    let mut words = words.to_vec();
    loop {
        let node = *path.last().expect("a path has its root");
        let known = known_flags(&path);
        let Some(at) = first_name(&words, &known) else { break };
        let Some(child) = child(node, &words[at]) else { break };
        words = without(&words, at, &known);
        path.push(child);
    }
    if let [root] = path.as_slice()
        && let Some(at) = first_name(&words, &known_flags(&path))
    {
        let quoted = go::quote(&words[at]);
        let name = root.command.name();
        return Err(format!(
            "unknown command {quoted} for \"{name}\"{}",
            suggestions(root, &String::from_utf8_lossy(&words[at]))
        ));
    }
    Ok(Found { path, words })
}

/// Whether the line calls the completion without descriptions.
pub(crate) fn called_as_bare(words: &[Vec<u8>]) -> bool {
    let is_call = |word: &&Vec<u8>| word.starts_with(b"__complete");
    words.iter().find(is_call).is_some_and(|word| word == COMPLETE_BARE.as_bytes())
}

/// The flags that take part in the search: the flag for help is known at the root only, since cobra gives it to a
/// command after it was found.
fn known_flags<A>(path: &[&Node<A>]) -> Vec<Flag> {
    let mut known: Vec<Flag> = Vec::new();
    let (last, above) = path.split_last().expect("a path has its root");
    known.extend(last.command.flags);
    known.extend(last.command.persistent);
    for node in above {
        known.extend(node.command.persistent);
    }
    if above.is_empty() {
        known.push(usage::HELP);
    }
    known
}

/// Whether the word is a flag whose value is the next word. Unknown flags count as such.
fn takes_next(word: &[u8], known: &[Flag]) -> bool {
    if !word.starts_with(b"-") || word.contains(&b'=') {
        return false;
    }
    let is_switch = |found: Option<&Flag>| found.is_some_and(|flag| flag.kind == Kind::Bool);
    match word {
        [b'-', b'-', name @ ..] => {
            !is_switch(known.iter().find(|flag| flag.name.as_bytes() == name))
        }
        [b'-', letter] => {
            let letter = char::from(*letter);
            !is_switch(known.iter().find(|flag| flag.shorthand == Some(letter)))
        }
        _ => false,
    }
}

/// Where the first word stands that is neither a flag nor the value of one.
fn first_name(words: &[Vec<u8>], known: &[Flag]) -> Option<usize> {
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_slice();
        if word == b"--" {
            return None;
        }
        if takes_next(word, known) {
            // A value with nothing behind it ends the search.
            if at + 2 >= words.len() {
                return None;
            }
            at += 2;
            continue;
        }
        if !word.is_empty() && !word.starts_with(b"-") {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The words without the first that equals the name at `at`.
fn without(words: &[Vec<u8>], at: usize, known: &[Flag]) -> Vec<Vec<u8>> {
    let name = &words[at];
    let mut position = 0;
    while position < words.len() {
        let word = words[position].as_slice();
        if word == b"--" {
            break;
        }
        if takes_next(word, known) {
            position += 2;
            continue;
        }
        if word == name.as_slice() {
            let mut rest = words.to_vec();
            rest.remove(position);
            return rest;
        }
        position += 1;
    }
    words.to_vec()
}

/// The child of this name, or the only one whose name begins so.
fn child<'p, A: Copy>(node: &'p Node<A>, word: &[u8]) -> Option<&'p Node<A>> {
    let names = |child: &Node<A>| {
        let name = child.command.name();
        [name, if name == COMPLETE { COMPLETE_BARE } else { name }]
    };
    let exact = |child: &&Node<A>| names(child).iter().any(|name| name.as_bytes() == word);
    if let Some(child) = node.children.iter().find(exact) {
        return Some(child);
    }
    let begins = |child: &&Node<A>| {
        !child.command.extra && names(child).iter().any(|name| name.as_bytes().starts_with(word))
    };
    let mut matches = node.children.iter().filter(begins);
    match (matches.next(), matches.next()) {
        (Some(child), None) => Some(child),
        _ => None,
    }
}

fn suggestions<A: Copy>(root: &Node<A>, typed: &str) -> String {
    let typed = typed.to_lowercase();
    let near = |child: &&Node<A>| {
        let name = child.command.name().to_lowercase();
        child.is_available() && (distance(&typed, &name) <= 2 || name.starts_with(&typed))
    };
    let mut text = String::new();
    for child in root.children.iter().filter(near) {
        if text.is_empty() {
            text.push_str("\n\nDid you mean this?\n");
        }
        text.push_str(&format!("\t{}\n", child.command.name()));
    }
    text
}

/// Levenshtein's, of bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if a == b { diagonal } else { diagonal.min(above).min(row[j]) + 1 };
            diagonal = above;
        }
    }
    row[right.len()]
}
