use crate::{Arguments, Command, Flag, Kind, Outcome, Program, go};

const FLAGS: &[Flag] = &[
    Flag::new("order", Kind::Text, "", "order of results").choices(&["ASCEND", "DESCEND"]),
    Flag::new("limit", Kind::Int, "0", "how many"),
    Flag::switch("interactive", "ask").short('i'),
];

const CLUSTER: &[Flag] = &[Flag::switch("cluster", "all members")];

const GLOBAL: &[Flag] = &[
    Flag::new("endpoints", Kind::List, "[127.0.0.1:2379]", "where").hidden(),
    Flag::new("write-out", Kind::Text, "simple", "format").short('w').hidden(),
    Flag::new("timeout", Kind::Duration, "5s", "how long").hidden(),
];

const PROGRAM: Program<&str> = Program {
    root: Command {
        persistent: GLOBAL,
        ..Command::parent(
            "tool",
            "A tool.",
            &[
                Command::new("put <key>", "Puts", "put").group("kv"),
                Command::new("get [options] <key>", "Gets", "get").group("kv").flags(FLAGS),
                Command::parent(
                    "member <subcommand>",
                    "Members. Use `tool member --help`",
                    &[
                        Command::new("remove <id>", "Removes", "member remove"),
                        Command::new("list", "Lists", "member list"),
                    ],
                )
                .long("Members")
                .persistent(CLUSTER)
                .group("cluster"),
                Command {
                    arguments: Arguments::OneOf(&["bash", "zsh"]),
                    bare_usage: true,
                    ..Command::new("completion [bash|zsh]", "Script", "completion").group("kv")
                },
            ],
        )
    },
    groups: &["kv", "cluster"],
    help_group: "kv",
    help_long: "Help.",
    footer: "That is all.\n",
    hides_help: true,
};

/// The action with its flags and arguments, or what is printed; `|` stands for a line's end.
fn say(line: &str) -> String {
    let words: Vec<Vec<u8>> =
        line.split_whitespace().map(|word| word.replace("''", "").into_bytes()).collect();
    match PROGRAM.interpret(&words) {
        Outcome::Run(action, input) => {
            let mut text = action.to_owned();
            for slot in &input.slots {
                if slot.changed {
                    let (name, value) = (slot.flag.name, input.value_text(slot.flag.name));
                    text += &format!(" {name}={value}");
                }
            }
            for arg in &input.args {
                text += &format!(" [{}]", String::from_utf8_lossy(arg));
            }
            text
        }
        Outcome::Print(text) => {
            let both = format!("{}!{}", text.stdout, text.stderr).replace('\n', "|");
            format!("{} {both}", text.code)
        }
    }
}

#[test]
fn flags_stand_anywhere_and_names_may_be_short() {
    for (line, expected) in [
        ("get a", "get [a]"),
        ("g a --limit 3", "get limit=3 [a]"),
        ("--limit 3 get a", "get limit=3 [a]"),
        ("get --limit=-0x10 a", "get limit=-16 [a]"),
        ("get a -w json", "get write-out=json [a]"),
        ("-wjson get a", "get write-out=json [a]"),
        ("get -iwjson a", "get interactive=true write-out=json [a]"),
        ("get -w=json a", "get write-out=json [a]"),
        ("get -- -a --limit", "get [-a] [--limit]"),
        ("get - a", "get [-] [a]"),
        ("get --interactive=false a", "get interactive=false [a]"),
        ("m l --cluster", "member list cluster=true"),
        ("member --cluster list x", "member list cluster=true [x]"),
        ("--endpoints a,b get --endpoints c", "get endpoints=[a,b,c]"),
        ("get --timeout 1m1.5s", "get timeout=1m1.5s"),
        ("get --endpoints=", "get endpoints=[]"),
        ("get --endpoints=\"a,b\",c", "get endpoints=[a,b,c]"),
    ] {
        assert_eq!(say(line), expected, "{line}");
    }
}

#[test]
fn errors_are_cobras() {
    let usage = "|Usage:|  tool put <key> [flags]||Flags:|  -h, --help   help for put||";
    for (line, expected) in [
        ("nope", "1 !Error: unknown command \"nope\" for \"tool\"|Run 'tool --help' for usage.|"),
        (
            "pt",
            "1 !Error: unknown command \"pt\" for \"tool\"||Did you mean this?|\tput|\tget||Run 'tool --help' for usage.|",
        ),
        ("put --nope", &format!("1 !Error: unknown flag: --nope{usage}")),
        ("put -ab", &format!("1 !Error: unknown shorthand flag: 'a' in -ab{usage}")),
        ("put ---a", &format!("1 !Error: bad flag syntax: ---a{usage}")),
        ("put --timeout", &format!("1 !Error: flag needs an argument: --timeout{usage}")),
        ("put -w", &format!("1 !Error: flag needs an argument: 'w' in -w{usage}")),
        (
            "put --timeout=5",
            &format!(
                "1 !Error: invalid argument \"5\" for \"--timeout\" flag: time: missing unit in duration \"5\"{usage}"
            ),
        ),
        (
            "completion sh",
            "1 !Error: invalid argument \"sh\" for \"tool completion\"|Usage:|  tool completion [bash|zsh]||Flags:|  -h, --help   help for completion||",
        ),
    ] {
        assert_eq!(say(line), expected.replace("\\|", "|"), "{line}");
    }
}

#[test]
fn help_has_groups_flags_and_a_footer() {
    let root = "0 A tool.||Usage:|  tool [command]||kv|  completion  Script|  get         Gets|  help        Help about any command|  put         Puts||cluster|  member      Members. Use `tool member --help`||Use \"tool [command] --help\" for more information about a command.|That is all.|!";
    let member = "0 Members||Usage:|  tool member [command]||Available Commands:|  list        Lists|  remove      Removes||Flags:|      --cluster   all members|  -h, --help      help for member||Use \"tool member [command] --help\" for more information about a command.|That is all.|!";
    let list = "0 Lists||Usage:|  tool member list [flags]||Flags:|  -h, --help   help for list||Global Flags:|      --cluster   all members|That is all.|!";
    for (line, expected) in [
        ("", root),
        ("-h", root),
        ("help", root),
        ("member", member),
        ("member nope", member),
        ("help member", member),
        ("member -h", member),
        ("member -h list", member),
        ("member list -h", list),
        ("help m l", list),
    ] {
        assert_eq!(say(line), expected, "{line}");
    }
    assert!(say("help nope").starts_with("0 !Unknown help topic [`nope`]|Usage:|  tool [command]"));
}

#[test]
fn candidates_come_with_a_directive() {
    let (none, no_files) = (
        "!Completion ended with directive: ShellCompDirectiveDefault|",
        "!Completion ended with directive: ShellCompDirectiveNoFileComp|",
    );
    for (line, expected) in [
        ("__complete me", &format!("0 member\tMembers. Use `tool member --help`|:4|{no_files}")),
        ("__completeNoDesc member ''", &format!("0 list|remove|:4|{no_files}")),
        (
            "__completeNoDesc get --",
            &format!("0 --help|--interactive|--limit|--order|:4|{no_files}"),
        ),
        ("__completeNoDesc get --limit 1 --l", &format!("0 :4|{no_files}")),
        ("__completeNoDesc get -i", &format!("0 -i|:4|{no_files}")),
        ("__complete get --order ''", &format!("0 ASCEND|DESCEND|:0|{none}")),
        ("__complete get --order=D", &format!("0 ASCEND|DESCEND|:0|{none}")),
        ("__complete get a", &format!("0 :0|{none}")),
        ("__completeNoDesc help m", &format!("0 member|:4|{no_files}")),
        ("__completeNoDesc help member ''", &format!("0 list|remove|:4|{no_files}")),
        ("__complete completion b", &format!("0 bash|:4|{no_files}")),
        (
            "__complete get --nope ''",
            &format!(
                "0 :0|![Debug] [Error] Error while parsing flags from args [--nope]: unknown flag: --nope|{}",
                &none[1..]
            ),
        ),
        (
            "__complete get -wl ''",
            &format!(
                "0 :0|![Debug] [Error] Subcommand 'get' does not support flag 'l'|{}",
                &none[1..]
            ),
        ),
        (
            "__complete nope ''",
            &format!(
                "0 :0|![Debug] [Error] unable to find a command for arguments: [nope]|{}",
                &none[1..]
            ),
        ),
    ] {
        assert_eq!(&say(line), expected, "{line}");
    }
}

#[test]
fn numbers_are_gos() {
    let show = |text: &str, base| match go::parse_int(text, base) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    for (text, base, expected) in [
        ("12", 10, "12"),
        ("-7f", 16, "-127"),
        ("+5", 10, "5"),
        ("0x10", 0, "16"),
        ("010", 0, "8"),
        ("0b11", 0, "3"),
        ("1_000", 0, "1000"),
        ("1_000", 10, "strconv.ParseInt: parsing \"1_000\": invalid syntax"),
        ("", 10, "strconv.ParseInt: parsing \"\": invalid syntax"),
        (
            "9223372036854775808",
            10,
            "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
        ),
        ("-9223372036854775808", 10, "-9223372036854775808"),
        ("zz", 16, "strconv.ParseInt: parsing \"zz\": invalid syntax"),
    ] {
        assert_eq!(show(text, base), expected, "{text}");
    }
    assert_eq!(go::parse_uint("ffffffffffffffff", 16), Ok(u64::MAX));
    assert!(go::parse_uint("-1", 10).is_err());
}

#[test]
fn durations_are_gos() {
    for (text, expected) in [
        ("5s", "5s"),
        ("1h2m3.5s", "1h2m3.5s"),
        ("100ms", "100ms"),
        ("-1.5us", "-1.5µs"),
        ("90m", "1h30m0s"),
        ("0", "0s"),
        ("999ns", "999ns"),
        ("", "time: invalid duration \"\""),
        ("5", "time: missing unit in duration \"5\""),
        ("5x", "time: unknown unit \"x\" in duration \"5x\""),
        (".s", "time: invalid duration \".s\""),
        ("9999999h", "time: invalid duration \"9999999h\""),
    ] {
        let shown = go::parse_duration(text).map_or_else(|why| why, go::duration);
        assert_eq!(shown, expected, "{text}");
    }
}
