//! Usage and help.

use crate::command::{Arguments, COMPLETE, COMPLETE_BARE, Node, Program};
use crate::flag::{Flag, Kind, Origin};

/// The flag that each command has; its text ends with the command's name.
pub(crate) const HELP: Flag = Flag::switch("help", "").short('h');

/// What the flag's line says; that of `--help` names the command.
pub(crate) fn flag_text(flag: &Flag, command: &str) -> String {
    if flag.name == HELP.name { format!("help for {command}") } else { flag.usage.to_owned() }
}

/// The names from the root to the command.
pub(crate) fn path_text<A: Copy>(path: &[&Node<A>]) -> String {
    let names: Vec<_> = path.iter().map(|node| node.command.name()).collect();
    names.join(" ")
}

/// What `--help` prints.
pub(crate) fn help<A: Copy>(program: &Program<A>, path: &[&Node<A>]) -> String {
    let command = &path.last().expect("a path has its root").command;
    let long = if command.long.is_empty() { command.short } else { command.long };
    format!("{}\n\n{}{}", long.trim_end(), usage(program, path), program.footer)
}

/// The usage, which also follows an error.
pub(crate) fn usage<A: Copy>(program: &Program<A>, path: &[&Node<A>]) -> String {
    let node = *path.last().expect("a path has its root");
    let command = &node.command;
    let line = path_text(path);
    let mut out = "Usage:".to_owned();
    if command.action.is_some() {
        let above = line.strip_suffix(command.name()).unwrap_or_default();
        let flags = if command.bare_usage { "" } else { " [flags]" };
        out += &format!("\n  {above}{}{flags}", command.usage);
    }
    let has_commands = node.children.iter().any(Node::is_available);
    if has_commands {
        out += &format!("\n  {line} [command]");
    }
    if command.name() == COMPLETE {
        out += &format!("\n\nAliases:\n  {COMPLETE}, {COMPLETE_BARE}");
    }
    if !command.example.is_empty() {
        out += &format!("\n\nExamples:\n{}", command.example);
    }
    if has_commands {
        let groups = if path.len() == 1 { program.groups } else { &[] };
        out += &list_commands(node, groups);
    }
    let flags = program.flags(path);
    for (title, origin) in [("Flags", Origin::Own), ("Global Flags", Origin::Inherited)] {
        let shown = flags.iter().filter(|(_, from)| *from == origin).map(|(flag, _)| flag);
        let text = lines(shown, command.name());
        if !text.is_empty() {
            out += &format!("\n\n{title}:\n{}", text.trim_end());
        }
    }
    if has_commands {
        out +=
            &format!("\n\nUse \"{line} [command] --help\" for more information about a command.");
    }
    out + "\n"
}

fn list_commands<A: Copy>(node: &Node<A>, groups: &[&str]) -> String {
    let width = node.children.iter().map(|child| child.command.name().len()).max();
    let width = width.unwrap_or_default().max(11);
    let children = node.sorted();
    let list = |title: &str, group: Option<&str>| {
        let mut out = format!("\n\n{title}");
        for child in &children {
            let command = &child.command;
            let listed = child.is_available() || child.is_help();
            if listed && group.is_none_or(|group| command.group == group) {
                out += &format!("\n  {:width$} {}", command.name(), command.short);
            }
        }
        out
    };
    if groups.is_empty() {
        return list("Available Commands:", None);
    }
    groups.iter().map(|group| list(group, Some(group))).collect()
}

/// The lines of flags, in the order of their names, hidden ones too.
#[must_use]
pub fn flag_usages(flags: &[Flag]) -> String {
    let shown: Vec<Flag> = flags.iter().map(|flag| Flag { hidden: false, ..*flag }).collect();
    lines(shown.iter(), "")
}

fn lines<'f>(flags: impl Iterator<Item = &'f Flag>, command: &str) -> String {
    let mut flags: Vec<&Flag> = flags.filter(|flag| !flag.hidden).collect();
    flags.sort_unstable_by_key(|flag| flag.name);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let width = heads.iter().map(String::len).max().unwrap_or_default();
    let mut out = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        out += &format!("{head:width$}   {}", flag_text(flag, command));
        if !flag.default_is_zero() {
            out += &match flag.kind {
                Kind::Text => format!(" (default \"{}\")", flag.default),
                _ => format!(" (default {})", flag.default),
            };
        }
        out.push('\n');
    }
    out
}

fn head(flag: &Flag) -> String {
    let name = match flag.shorthand {
        Some(letter) => format!("  -{letter}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    format!("{name} {}", flag.kind.placeholder()).trim_end().to_owned()
}

/// Words that may follow the command.
pub(crate) fn valid_words(arguments: Arguments) -> &'static [&'static str] {
    match arguments {
        Arguments::OneOf(words) => words,
        Arguments::Any | Arguments::Raw => &[],
    }
}
