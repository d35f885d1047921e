//! Candidates for the completion of a command line, in the protocol that cobra's scripts speak: a line for each, with a
//! description behind a tab, and a last line that tells the shell what to do with them.

use crate::command::{Node, Program, Text};
use crate::flag::{Flag, Input, Kind, Origin};
use crate::{find, usage};

/// What the shell is told besides the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Default = 0,
    NoFiles = 4,
}

struct Candidates {
    lines: Vec<(String, String)>,
    directive: Directive,
}

/// Answers for the words of an unfinished line, the last of which is to be completed.
pub(crate) fn complete<A: Copy>(
    program: &Program<A>,
    root: &Node<A>,
    words: &[Vec<u8>],
    bare: bool,
) -> Text {
    let (last, before) = words.split_last().expect("checked: there is an argument");
    let found = candidates(program, root, before, last);
    let mut text = Text::default();
    let found = found.unwrap_or_else(|why| {
        text.stderr = format!("[Debug] [Error] {why}\n");
        Candidates { lines: Vec::new(), directive: Directive::Default }
    });
    for (word, description) in &found.lines {
        let line = match description.as_str() {
            "" => word.clone(),
            _ if bare => word.clone(),
            description => format!("{word}\t{description}"),
        };
        text.stdout += line.lines().next().unwrap_or_default().trim();
        text.stdout.push('\n');
    }
    text.stdout += &format!(":{}\n", found.directive as u8);
    let name = match found.directive {
        Directive::Default => "ShellCompDirectiveDefault",
        Directive::NoFiles => "ShellCompDirectiveNoFileComp",
    };
    text.stderr += &format!("Completion ended with directive: {name}\n");
    text
}

fn shown(words: &[Vec<u8>]) -> String {
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    words.join(" ")
}

fn candidates<A: Copy>(
    program: &Program<A>,
    root: &Node<A>,
    before: &[Vec<u8>],
    last: &[u8],
) -> Result<Candidates, String> {
    let found = find::find(root, before)
        .map_err(|_| format!("unable to find a command for arguments: [{}]", shown(before)))?;
    let node = found.last();
    let mut input = program.input(&found.path);
    let position = position(&input, &found.words, last);
    // Behind `--` no word is a flag.
    let count = |input: &mut Input, words: &[Vec<u8>]| {
        let failed = input.parse(words);
        failed.map(|()| input.args.len())
    };
    let words = &found.words[..found.words.len() - usize::from(position.takes_word)];
    let mut probe = program.input(&found.path);
    let with_dashes: Vec<Vec<u8>> = words.iter().cloned().chain([b"--".to_vec()]).collect();
    let behind = count(&mut probe, &with_dashes).unwrap_or_default();
    let plain = count(&mut input, words)
        .map_err(|why| format!("Error while parsing flags from args [{}]: {why}", shown(words)))?;
    let flags_allowed = behind <= plain;
    if let Some(name) = &position.unknown
        && flags_allowed
    {
        let command = node.command.name();
        return Err(format!("Subcommand '{command}' does not support flag '{name}'"));
    }
    if input.changed("help") {
        return Ok(Candidates { lines: Vec::new(), directive: Directive::NoFiles });
    }
    let text = String::from_utf8_lossy(last);
    let flag = position.flag.filter(|_| flags_allowed);
    if flag.is_none() && flags_allowed && text.starts_with('-') && !text.contains('=') {
        let lines = flag_names(&input, &text, node.command.name());
        return Ok(Candidates { lines, directive: Directive::NoFiles });
    }
    if let Some(flag) = flag {
        let lines = flag.choices.iter().map(|word| ((*word).to_owned(), String::new()));
        return Ok(Candidates { lines: lines.collect(), directive: Directive::Default });
    }
    if node.is_help() {
        return Ok(topics(root, &input.args, &text));
    }
    Ok(words_of(node, &input, &text))
}

/// Commands that there is help for, below those that are named already.
fn topics<A: Copy>(root: &Node<A>, named: &[Vec<u8>], text: &str) -> Candidates {
    let mut lines = Vec::new();
    if let Ok(found) = find::find(root, named) {
        list_children(found.last(), text, &mut lines);
    }
    Candidates { lines, directive: Directive::NoFiles }
}

/// Adds the commands below that begin so; whether there is any command at all.
fn list_children<A: Copy>(node: &Node<A>, text: &str, lines: &mut Vec<(String, String)>) -> bool {
    let mut has_any = false;
    for child in node.sorted() {
        if child.is_available() || child.is_help() {
            has_any = true;
            if child.command.name().starts_with(text) {
                lines.push((child.command.name().to_owned(), child.command.short.to_owned()));
            }
        }
    }
    has_any
}

/// Commands below, and words that the command takes.
fn words_of<A: Copy>(node: &Node<A>, input: &Input, text: &str) -> Candidates {
    let mut lines = Vec::new();
    let mut directive = Directive::Default;
    let own_flag_set = input.slots.iter().any(|slot| {
        slot.origin == Origin::Own
            && slot.changed
            && !node.command.persistent.iter().any(|flag| flag.name == slot.flag.name)
    });
    if input.args.is_empty() && !own_flag_set && list_children(node, text, &mut lines) {
        directive = Directive::NoFiles;
    }
    let words = usage::valid_words(node.command.arguments);
    if !words.is_empty() && input.args.is_empty() {
        directive = Directive::NoFiles;
        let fitting = words.iter().filter(|word| word.starts_with(text));
        lines.extend(fitting.map(|word| ((*word).to_owned(), String::new())));
    }
    Candidates { lines, directive }
}

/// Names of flags that may still be given, those from above first.
fn flag_names(input: &Input, text: &str, command: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for origin in [Origin::Inherited, Origin::Own] {
        let mut slots: Vec<_> = input.slots.iter().filter(|slot| slot.origin == origin).collect();
        slots.sort_unstable_by_key(|slot| slot.flag.name);
        for slot in slots {
            let again = slot.flag.kind == Kind::List;
            if slot.flag.hidden || (slot.changed && !again) {
                continue;
            }
            let long = format!("--{}", slot.flag.name);
            let short = slot.flag.shorthand.map(|letter| format!("-{letter}"));
            for name in [Some(long), short].into_iter().flatten() {
                if name.starts_with(text) {
                    lines.push((name, usage::flag_text(&slot.flag, command)));
                }
            }
        }
    }
    lines
}

/// What the unfinished word is.
struct Position {
    /// The flag whose value it is.
    flag: Option<Flag>,
    /// A flag that nobody knows stands before it.
    unknown: Option<String>,
    /// The last finished word is the flag's name and no argument.
    takes_word: bool,
}

fn position(input: &Input, before: &[Vec<u8>], last: &[u8]) -> Position {
    let none = Position { flag: None, unknown: None, takes_word: false };
    let last = String::from_utf8_lossy(last);
    let (name, with_equals) = if last.starts_with('-') {
        let Some((head, _)) = last.split_once('=') else { return none };
        (flag_name(head), true)
    } else {
        let Some(previous) = before.last() else { return none };
        let previous = String::from_utf8_lossy(previous);
        let is_flag = previous.len() >= 2 && previous.starts_with('-') && previous != "--";
        if !is_flag || previous.contains('=') {
            return none;
        }
        (flag_name(&previous), false)
    };
    let is = |flag: &Flag| {
        let letter = flag.shorthand.map(|letter| letter.to_string());
        flag.name == name || letter.as_deref() == Some(name.as_str())
    };
    match input.slots.iter().map(|slot| slot.flag).find(is) {
        None => Position { unknown: Some(name), ..none },
        Some(flag) if !with_equals && flag.kind == Kind::Bool => none,
        Some(flag) => Position { flag: Some(flag), takes_word: !with_equals, ..none },
    }
}

fn flag_name(word: &str) -> String {
    match word.strip_prefix("--") {
        Some(name) => name.to_owned(),
        None => word.chars().next_back().map(String::from).unwrap_or_default(),
    }
}
