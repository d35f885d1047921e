//! Commands as data, and what becomes of a command line.

use crate::flag::{Flag, Input, Origin};
use crate::{complete, find, usage};

/// What a command takes besides flags, as far as cobra judges it.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    /// The command judges by itself.
    Any,
    /// Exactly one of these words.
    OneOf(&'static [&'static str]),
    /// At least one, and flags are words like others.
    Raw,
}

/// A command; `A` says what is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Command<A: 'static> {
    /// The name, and behind it what the usage shows of its arguments.
    pub usage: &'static str,
    /// One line.
    pub short: &'static str,
    /// What the help begins with; the short text where there is none.
    pub long: &'static str,
    /// Lines under "Examples:".
    pub example: &'static str,
    /// The title under which the command above lists it.
    pub group: &'static str,
    /// Flags of this command alone.
    pub flags: &'static [Flag],
    /// Flags of this command and of those below.
    pub persistent: &'static [Flag],
    /// Commands below, in the order in which suggestions name them.
    pub subcommands: &'static [Self],
    /// What else it takes.
    pub arguments: Arguments,
    /// The usage leaves out `[flags]`.
    pub bare_usage: bool,
    /// Neither listed nor suggested.
    pub hidden: bool,
    /// One that the original does not have: hidden, and found by its whole name alone, so that what is shortened means what
    /// it means there.
    pub extra: bool,
    /// What it does; nothing where it only has commands below.
    pub action: Option<A>,
}

impl<A: Copy> Command<A> {
    /// A command that does something.
    #[must_use]
    pub const fn new(usage: &'static str, short: &'static str, action: A) -> Self {
        Self { action: Some(action), ..Self::parent(usage, short, &[]) }
    }

    /// A command that only has others below it.
    #[must_use]
    pub const fn parent(
        usage: &'static str,
        short: &'static str,
        subcommands: &'static [Self],
    ) -> Self {
        Self {
            usage,
            short,
            long: "",
            example: "",
            group: "",
            flags: &[],
            persistent: &[],
            subcommands,
            arguments: Arguments::Any,
            bare_usage: false,
            hidden: false,
            extra: false,
            action: None,
        }
    }

    /// With a longer text for the help.
    #[must_use]
    pub const fn long(self, long: &'static str) -> Self {
        Self { long, ..self }
    }

    /// With examples.
    #[must_use]
    pub const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// In a group.
    #[must_use]
    pub const fn group(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    /// Not in the original.
    #[must_use]
    pub const fn extra(self) -> Self {
        Self { extra: true, ..self }
    }

    /// With flags of its own.
    #[must_use]
    pub const fn flags(self, flags: &'static [Flag]) -> Self {
        Self { flags, ..self }
    }

    /// With flags that those below have, too.
    #[must_use]
    pub const fn persistent(self, persistent: &'static [Flag]) -> Self {
        Self { persistent, ..self }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }
}

/// A whole program.
#[derive(Clone, Copy, Debug)]
pub struct Program<A: 'static> {
    /// The command that all others are below.
    pub root: Command<A>,
    /// Titles of groups, in the order of the help.
    pub groups: &'static [&'static str],
    /// The group of the command `help`.
    pub help_group: &'static str,
    /// What the help of the command `help` begins with.
    pub help_long: &'static str,
    /// A line behind every help.
    pub footer: &'static str,
    /// Whether the help of the root leaves out `--help`.
    pub hides_help: bool,
}

/// What is to be written, and the exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
    /// The exit code.
    pub code: u8,
}

/// What becomes of a command line.
#[derive(Clone, Debug)]
pub enum Outcome<A> {
    /// The action of a command, with what it was given.
    Run(A, Input),
    /// Help, an error or candidates for completion.
    Print(Text),
}

/// A command line that has found its command.
pub(crate) struct Found<'p, A: 'static> {
    /// From the root to the command.
    pub(crate) path: Vec<&'p Node<A>>,
    /// The words without the names of commands.
    pub(crate) words: Vec<Vec<u8>>,
}

/// A command in the tree, with those that cobra adds.
#[derive(Debug)]
pub(crate) struct Node<A: 'static> {
    pub(crate) command: Command<Step<A>>,
    pub(crate) children: Vec<Self>,
}

/// What a command does: the program's action, or one of cobra's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<A> {
    Action(A),
    Help,
    Complete,
}

pub(crate) const COMPLETE: &str = "__complete";
pub(crate) const COMPLETE_BARE: &str = "__completeNoDesc";

impl<A: Copy> Node<A> {
    fn new(command: &Command<A>) -> Self {
        let children = command.subcommands.iter().map(Self::new).collect();
        Self {
            command: Command {
                usage: command.usage,
                short: command.short,
                long: command.long,
                example: command.example,
                group: command.group,
                flags: command.flags,
                persistent: command.persistent,
                subcommands: &[],
                arguments: command.arguments,
                bare_usage: command.bare_usage,
                hidden: command.hidden || command.extra,
                extra: command.extra,
                action: command.action.map(Step::Action),
            },
            children,
        }
    }

    pub(crate) fn is_help(&self) -> bool {
        matches!(self.command.action, Some(Step::Help))
    }

    /// Whether it is offered: not hidden, and it or one below can run. The command `help` is not in this sense.
    pub(crate) fn is_available(&self) -> bool {
        let runs = self.command.action.is_some() || self.children.iter().any(Self::is_available);
        !self.command.hidden && !self.is_help() && runs
    }

    /// Children in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<&Self> {
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_unstable_by_key(|child| child.command.name());
        children
    }
}

impl<A: Copy> Program<A> {
    /// The tree with `help`, and with the command of completion scripts when that is what was called.
    fn tree(&self, words: &[Vec<u8>]) -> Node<A> {
        let mut root = Node::new(&self.root);
        let help = Command {
            long: self.help_long,
            group: self.help_group,
            ..Command::new("help [command]", "Help about any command", Step::Help)
        };
        root.children.push(Node { command: help, children: Vec::new() });
        let complete = Command {
            arguments: Arguments::Raw,
            bare_usage: true,
            hidden: true,
            long: "__complete is a special command that is used by the shell completion logic\n\
                   to request completion choices for the specified command-line.",
            ..Command::new(
                "__complete [command-line]",
                "Request shell completion choices for the specified command-line",
                Step::Complete,
            )
        };
        root.children.push(Node { command: complete, children: Vec::new() });
        let called = |found: &Found<'_, A>| found.last().command.name() == COMPLETE;
        if !find::find(&root, words).is_ok_and(|found| called(&found)) {
            root.children.pop();
        }
        root
    }

    /// What the words behind the program's name ask for.
    #[must_use]
    pub fn interpret(&self, words: &[Vec<u8>]) -> Outcome<A> {
        let root = self.tree(words);
        let found = match find::find(&root, words) {
            Ok(found) => found,
            Err(why) => {
                let name = self.root.name();
                let stderr = format!("Error: {why}\nRun '{name} --help' for usage.\n");
                return Outcome::Print(Text { stderr, code: 1, ..Text::default() });
            }
        };
        let mut input = self.input(&found.path);
        let command = &found.last().command;
        let refuse = |why: &str| {
            let stderr = format!("Error: {why}\n{}\n", usage::usage(self, &found.path));
            Outcome::Print(Text { stderr, code: 1, ..Text::default() })
        };
        if matches!(command.arguments, Arguments::Raw) {
            input.args.clone_from(&found.words);
        } else if let Err(why) = input.parse(&found.words) {
            return refuse(&why.0);
        }
        let Some(step) = command.action.filter(|_| !input.bool("help")) else {
            let stdout = usage::help(self, &found.path);
            return Outcome::Print(Text { stdout, ..Text::default() });
        };
        if let Err(why) = check(command, &found.path, &input.args) {
            return refuse(&why);
        }
        match step {
            Step::Action(action) => Outcome::Run(action, input),
            Step::Help => Outcome::Print(self.explain(&root, &input.args)),
            Step::Complete => {
                let bare = find::called_as_bare(words);
                Outcome::Print(complete::complete(self, &root, &input.args, bare))
            }
        }
    }

    /// Reads a line as one command would read its words, for programs that read commands from their input.
    ///
    /// # Errors
    /// pflag's sentence.
    pub fn parse(
        &self,
        command: &Command<A>,
        words: &[Vec<u8>],
    ) -> Result<Input, crate::FlagError> {
        let own = command.flags.iter().map(|flag| (*flag, Origin::Own));
        let mut input = Input::new(own);
        input.parse(words).map(|()| input)
    }

    fn explain(&self, root: &Node<A>, words: &[Vec<u8>]) -> Text {
        match find::find(root, words) {
            Ok(found) => Text { stdout: usage::help(self, &found.path), ..Text::default() },
            Err(_) => {
                let topics: Vec<String> = words
                    .iter()
                    .map(|word| format!("`{}`", String::from_utf8_lossy(word)))
                    .collect();
                let usage = usage::usage(self, &[root]);
                let stderr = format!("Unknown help topic [{}]\n{usage}", topics.join(" "));
                Text { stderr, ..Text::default() }
            }
        }
    }

    /// The flags that the last command of the path knows.
    pub(crate) fn input(&self, path: &[&Node<A>]) -> Input {
        Input::new(self.flags(path))
    }

    pub(crate) fn flags(&self, path: &[&Node<A>]) -> Vec<(Flag, Origin)> {
        let (last, above) = path.split_last().expect("a path has its root");
        let own = last.command.flags.iter().chain(last.command.persistent);
        let mut flags: Vec<_> = own.map(|flag| (*flag, Origin::Own)).collect();
        let hidden = above.is_empty() && self.hides_help;
        flags.push((Flag { hidden, ..usage::HELP }, Origin::Own));
        for node in above.iter().rev() {
            flags.extend(node.command.persistent.iter().map(|flag| (*flag, Origin::Inherited)));
        }
        flags
    }
}

impl<'p, A> Found<'p, A> {
    pub(crate) fn last(&self) -> &'p Node<A> {
        self.path.last().expect("a path has its root")
    }
}

fn check<A: Copy>(
    command: &Command<Step<A>>,
    path: &[&Node<A>],
    args: &[Vec<u8>],
) -> Result<(), String> {
    match command.arguments {
        Arguments::Any => Ok(()),
        Arguments::Raw if args.is_empty() => {
            Err("requires at least 1 arg(s), only received 0".to_owned())
        }
        Arguments::Raw => Ok(()),
        Arguments::OneOf(words) => {
            let [arg] = args else {
                return Err(format!("accepts 1 arg(s), received {}", args.len()));
            };
            if words.iter().any(|word| word.as_bytes() == arg.as_slice()) {
                return Ok(());
            }
            let path = usage::path_text(path);
            Err(format!("invalid argument {} for \"{path}\"", crate::go::quote(arg)))
        }
    }
}
