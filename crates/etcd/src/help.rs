//! What `--help`, `--version` and a wrong command line print.

use std::fmt::Write as _;

use crate::table::{FLAGS, Flag, Support};

/// etcd's four lines, and one of our own.
pub(crate) fn version() -> String {
    format!(
        "etcd Version: {}\nGit SHA: {}\nGo Version: {}\nGo OS/Arch: {}/{}\nquorate Version: {}\n",
        server::ETCD_VERSION,
        server::GIT_SHA,
        server::GO_VERSION,
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        env!("CARGO_PKG_VERSION"),
    )
}

/// The usage, as it follows a mistake.
pub(crate) fn usage() -> String {
    "Usage:\n\n  etcd [flags]\n    Start an etcd server.\n\n  etcd --version\n    Show the version of etcd.\n\n  etcd -h | --help\n    Show the help information about etcd.\n\n  etcd --config-file\n    Path to the server configuration file. Note that if a configuration file is provided, other command line flags and environment variables will be ignored.\n".to_owned()
}

/// The usage and all flags.
pub(crate) fn help() -> String {
    let mut text = usage();
    let mut section = "";
    for flag in FLAGS.iter().filter(|flag| flag.support != Support::Ignored) {
        if flag.section != section {
            section = flag.section;
            let _ = write!(text, "\n{section}:\n");
        }
        describe(&mut text, flag);
    }
    text
}

fn describe(text: &mut String, flag: &Flag) {
    let _ = write!(text, "  --{} '{}'\n    {}", flag.name, flag.default, flag.help);
    if flag.support == Support::DefaultOnly {
        text.push_str(" Not supported yet: only the default is accepted.");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_has_etcds_lines() {
        let text = version();
        let keys: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        assert_eq!(
            keys,
            ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch", "quorate Version"]
        );
        assert!(text.starts_with("etcd Version: 3.7.3\n"));
    }

    #[test]
    fn help_names_every_flag_once() {
        let text = help();
        for flag in FLAGS.iter().filter(|flag| flag.support != Support::Ignored) {
            let line = format!("  --{} '", flag.name);
            assert_eq!(text.matches(&line).count(), 1, "{}", flag.name);
        }
        assert_eq!(FLAGS.iter().filter(|f| f.support != Support::Ignored).count(), 114);
    }
}
