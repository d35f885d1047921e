//! The command line as data: every command and flag, with etcd's texts.

use cobra::{Arguments, Command, Flag, Kind, Program};

use crate::command::{
    alarm, auth, check, cluster, completion, concurrency, downgrade, endpoint, kv, lease, mirror,
    permission, snapshot, top, txn, user, watch,
};
use crate::session::Action;

const KV: &str = "Key-value commands";
const CLUSTER: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const AUTHENTICATION: &str = "Authentication commands";
const UTILITY: &str = "Utility commands";

/// The whole program.
pub(crate) const PROGRAM: Program<Action> = Program {
    root: Command {
        persistent: GLOBAL,
        ..Command::parent("etcdctl", "A simple command line client for etcd3.", COMMANDS)
    },
    groups: &[KV, CLUSTER, CONCURRENCY, AUTHENTICATION, UTILITY],
    help_group: UTILITY,
    help_long: "Help provides help for any command in the application.\n\
                Simply type etcdctl help [path to command] for full details.",
    footer: "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n",
    hides_help: true,
};

const fn text(name: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Text, "", usage)
}

const fn number(name: &'static str, usage: &'static str) -> Flag {
    Flag::new(name, Kind::Int, "0", usage)
}

/// Flags of every command.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::new("endpoints", Kind::List, "[127.0.0.1:2379]", "gRPC endpoints").hidden(),
    Flag::switch("debug", "enable client-side debug logging").hidden(),
    Flag::new("write-out", Kind::Text, "simple", "set the output format (fields, json, protobuf, simple, table)")
        .short('w')
        .choices(&["fields", "json", "protobuf", "simple", "table"])
        .hidden(),
    Flag::switch("hex", "print byte strings as hex encoded strings").hidden(),
    Flag::new("dial-timeout", Kind::Duration, "2s", "dial timeout for client connections").hidden(),
    Flag::new(
        "command-timeout",
        Kind::Duration,
        "5s",
        "timeout for short running command (excluding dial timeout)",
    )
    .hidden(),
    Flag::new("keepalive-time", Kind::Duration, "2s", "keepalive time for client connections").hidden(),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "keepalive timeout for client connections").hidden(),
    number(
        "max-request-bytes",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    )
    .hidden(),
    number(
        "max-recv-bytes",
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    )
    .hidden(),
    Flag::new("insecure-transport", Kind::Bool, "true", "disable transport security for client connections").hidden(),
    Flag::new("insecure-discovery", Kind::Bool, "true", "accept insecure SRV records describing cluster endpoints")
        .hidden(),
    Flag::switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    )
    .hidden(),
    text("cert", "identify secure client using this TLS certificate file").hidden(),
    text("key", "identify secure client using this TLS key file").hidden(),
    text("cacert", "verify certificates of TLS-enabled secure servers using this CA bundle").hidden(),
    text(
        "auth-jwt-token",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    )
    .hidden(),
    text("user", "username[:password] for authentication (prompt if password is not supplied)").hidden(),
    text(
        "password",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    )
    .hidden(),
    text("discovery-srv", "domain name to query for SRV records describing cluster endpoints").short('d').hidden(),
    text("discovery-srv-name", "service name to query when using DNS discovery").hidden(),
];

const COMMANDS: &[Command<Action>] = &[
    Command::new("get [options] <key> [range_end]", "Gets the key or a range of keys", kv::get as Action)
        .flags(kv::GET)
        .group(KV),
    Command::new(
        "put [options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        kv::put as Action,
    )
    .long(PUT_LONG)
    .flags(kv::PUT)
    .group(KV),
    Command::new(
        "del [options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        kv::delete as Action,
    )
    .flags(kv::DELETE)
    .group(KV),
    Command::new("txn [options]", "Txn processes all the requests in one transaction", txn::run as Action)
        .long(TXN_LONG)
        .flags(&[Flag::switch("interactive", "Input transaction in interactive mode").short('i')])
        .group(KV),
    Command::new("compaction [options] <revision>", "Compacts the event history in etcd", kv::compact as Action)
        .flags(&[Flag::switch(
            "physical",
            "'true' to wait for compaction to physically remove all old revisions",
        )])
        .group(KV),
    Command::parent(
        "alarm <subcommand>",
        "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
        &[
            Command::new("disarm", "Disarms all alarms", alarm::disarm as Action),
            Command::new("list", "Lists all alarms", alarm::list as Action),
        ],
    )
    .long("Alarm related commands")
    .group(CLUSTER),
    Command::new(
        "defrag",
        "Defragments the storage of the etcd members with given endpoints",
        endpoint::defrag as Action,
    )
    .persistent(ALL_MEMBERS)
    .group(CLUSTER),
    Command::parent(
        "endpoint <subcommand>",
        "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
        ENDPOINT,
    )
    .long("Endpoint related commands")
    .persistent(ALL_MEMBERS)
    .group(CLUSTER),
    Command::new(
        "move-leader <transferee-member-id>",
        "Transfers leadership to another etcd cluster member.",
        cluster::move_leader as Action,
    )
    .group(CLUSTER),
    Command::new(
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        watch::run as Action,
    )
    .flags(watch::FLAGS)
    .group(KV),
    Command::new("version", "Prints the version of etcdctl", completion::version as Action).group(UTILITY),
    Command::parent(
        "lease <subcommand>",
        "Lease related commands. Use `etcdctl lease --help` to see subcommands",
        LEASE,
    )
    .long("Lease related commands")
    .group(KV),
    Command::parent(
        "member <subcommand>",
        "Membership related commands. Use `etcdctl member --help` to see subcommands",
        MEMBER,
    )
    .long("Membership related commands")
    .group(CLUSTER),
    Command::parent(
        "snapshot <subcommand>",
        "Manages etcd node snapshots",
        &[Command::new(
            "save <filename>",
            "Stores an etcd node backend snapshot to a given file",
            snapshot::save as Action,
        )
        .example(SNAPSHOT_EXAMPLE)],
    )
    .example(SNAPSHOT_EXAMPLE)
    .group(CLUSTER),
    Command::new(
        "make-mirror [options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        mirror::run as Action,
    )
    .flags(mirror::FLAGS)
    .group(UTILITY),
    Command::new("lock <lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock", concurrency::lock as Action)
        .flags(&[Flag::new("ttl", Kind::Int, "10", "timeout for session")])
        .group(CONCURRENCY),
    Command::new(
        "elect <election-name> [proposal]",
        "Observes and participates in leader election",
        concurrency::elect as Action,
    )
    .flags(&[Flag::switch("listen", "observation mode").short('l')])
    .group(CONCURRENCY),
    Command::parent(
        "auth <enable or disable>",
        "Enable or disable authentication. Use `etcdctl auth --help` to see subcommands",
        &[
            Command::new("enable", "Enables authentication", auth::enable as Action),
            Command::new("disable", "Disables authentication", auth::disable as Action),
            Command::new("status", "Returns authentication status", auth::status as Action),
        ],
    )
    .long("Enable or disable authentication")
    .group(AUTHENTICATION),
    Command::parent(
        "user <subcommand>",
        "User related commands. Use `etcdctl user --help` to see subcommands",
        USER,
    )
    .long("User related commands")
    .group(AUTHENTICATION),
    Command::parent(
        "role <subcommand>",
        "Role related commands. Use `etcdctl role --help` to see subcommands",
        ROLE,
    )
    .long("Role related commands")
    .group(AUTHENTICATION),
    Command::parent(
        "check <subcommand>",
        "commands for checking properties of the etcd cluster. Use `etcdctl check --help` to see subcommands",
        CHECK,
    )
    .long("commands for checking properties of the etcd cluster")
    .group(UTILITY),
    Command {
        arguments: Arguments::OneOf(&["bash", "zsh", "fish", "powershell"]),
        bare_usage: true,
        ..Command::new(
            "completion [bash|zsh|fish|powershell]",
            "Generate completion script",
            completion::script as Action,
        )
    }
    .long(COMPLETION_LONG)
    .group(UTILITY),
    Command::parent(
        "downgrade <TARGET_VERSION>",
        "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands",
        &[
            Command::new(
                "validate <TARGET_VERSION>",
                "Validate downgrade capability before starting downgrade",
                downgrade::validate as Action,
            ),
            Command::new(
                "enable <TARGET_VERSION>",
                "Start a downgrade action to cluster",
                downgrade::enable as Action,
            ),
            Command::new(
                "cancel",
                "Cancel the ongoing downgrade action to cluster",
                downgrade::cancel as Action,
            ),
        ],
    )
    .long("Downgrade related commands")
    .group(CLUSTER),
    Command::new("top", "Shows what the members do, again and again", top::run as Action)
        .long(TOP_LONG)
        .flags(top::FLAGS)
        .persistent(ALL_MEMBERS)
        .extra(),
    Command::new("options", "Show the global command-line flags", completion::options as Action).group(UTILITY),
];

const ALL_MEMBERS: &[Flag] =
    &[Flag::switch("cluster", "use all endpoints from the cluster member list")];

const ENDPOINT: &[Command<Action>] = &[
    Command::new(
        "health",
        "Checks the healthiness of endpoints specified in `--endpoints` flag",
        endpoint::health as Action,
    ),
    Command::new(
        "status",
        "Prints out the status of endpoints specified in `--endpoints` flag",
        endpoint::status as Action,
    )
    .long(
        "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n\
         The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.\n",
    ),
    Command::new("hashkv", "Prints the KV history hash for each endpoint in --endpoints", endpoint::hashkv as Action)
        .persistent(&[number("rev", "maximum revision to hash (default: latest revision)")]),
];

const LEASE: &[Command<Action>] = &[
    Command::new("grant <ttl>", "Creates leases", lease::grant as Action),
    Command::new("revoke <leaseID>", "Revokes leases", lease::revoke as Action),
    Command::new(
        "timetolive <leaseID> [options]",
        "Get lease information",
        lease::time_to_live as Action,
    )
    .flags(&[Flag::switch("keys", "Get keys attached to this lease")]),
    Command::new("list", "List all active leases", lease::list as Action),
    Command::new(
        "keep-alive [options] <leaseID>",
        "Keeps leases alive (renew)",
        lease::keep_alive as Action,
    )
    .flags(&[Flag::switch(
        "once",
        "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
    )]),
];

const CONSISTENCY: Flag =
    Flag::new("consistency", Kind::Text, "l", "Linearizable(l) or Serializable(s)");

const MEMBER: &[Command<Action>] = &[
    Command::new("add <memberName> [options]", "Adds a member into the cluster", cluster::add as Action).flags(&[
        text("peer-urls", "comma separated peer URLs for the new member."),
        Flag::switch("learner", "indicates if the new member is raft learner"),
    ]),
    Command::new("remove <memberID>", "Removes a member from the cluster", cluster::remove as Action),
    Command::new("update <memberID> [options]", "Updates a member in the cluster", cluster::update as Action)
        .flags(&[text("peer-urls", "comma separated peer URLs for the updated member.")]),
    Command::new("list", "Lists all members in the cluster", cluster::list as Action)
        .long(
            "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.\n\
             The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.\n",
        )
        .flags(&[CONSISTENCY]),
    Command::new(
        "promote <memberID>",
        "Promotes a non-voting member in the cluster",
        cluster::promote as Action,
    )
    .long("Promotes a non-voting learner member to a voting one in the cluster.\n"),
];

const USER: &[Command<Action>] = &[
    Command::new(
        "add <user name or user:password> [options]",
        "Adds a new user",
        user::add as Action,
    )
    .flags(&[
        Flag::new(
            "interactive",
            Kind::Bool,
            "true",
            "Read password from stdin instead of interactive terminal",
        ),
        text("new-user-password", "Supply password from the command line flag"),
        Flag::switch("no-password", "Create a user without password (CN based auth only)"),
    ]),
    Command::new("delete <user name>", "Deletes a user", user::delete as Action),
    Command::new(
        "get <user name> [options]",
        "Gets detailed information of a user",
        user::get as Action,
    )
    .flags(&[Flag::switch("detail", "Show permissions of roles granted to the user")]),
    Command::new("list", "Lists all users", user::list as Action),
    Command::new(
        "passwd <user name> [options]",
        "Changes password of user",
        user::passwd as Action,
    )
    .flags(&[Flag::new(
        "interactive",
        Kind::Bool,
        "true",
        "If true, read password from stdin instead of interactive terminal",
    )]),
    Command::new(
        "grant-role <user name> <role name>",
        "Grants a role to a user",
        user::grant_role as Action,
    ),
    Command::new(
        "revoke-role <user name> <role name>",
        "Revokes a role from a user",
        user::revoke_role as Action,
    ),
];

const ROLE: &[Command<Action>] = &[
    Command::new("add <role name>", "Adds a new role", permission::add as Action),
    Command::new("delete <role name>", "Deletes a role", permission::delete as Action),
    Command::new("get <role name>", "Gets detailed information of a role", permission::get as Action),
    Command::new("list", "Lists all roles", permission::list as Action),
    Command::new(
        "grant-permission [options] <role name> <permission type> <key> [endkey]",
        "Grants a key to a role",
        permission::grant as Action,
    )
    .flags(&[
        Flag::switch("prefix", "grant a prefix permission"),
        Flag::switch(
            "from-key",
            "grant a permission of keys that are greater than or equal to the given key using byte compare",
        ),
    ]),
    Command::new(
        "revoke-permission <role name> <key> [endkey]",
        "Revokes a key from a role",
        permission::revoke as Action,
    )
    .flags(&[
        Flag::switch("prefix", "revoke a prefix permission"),
        Flag::switch(
            "from-key",
            "revoke a permission of keys that are greater than or equal to the given key using byte compare",
        ),
    ]),
];

const COMPACT_AFTER: Flag =
    Flag::switch("auto-compact", "Compact storage with last revision after test is finished.");
const DEFRAG_AFTER: Flag =
    Flag::switch("auto-defrag", "Defragment storage after test is finished.");

const CHECK: &[Command<Action>] = &[
    Command::new("perf [options]", "Check the performance of the etcd cluster", check::perf as Action).flags(&[
        Flag::new(
            "load",
            Kind::Text,
            "s",
            "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). Different workload models use different configurations in terms of number of clients and expected throughput.",
        )
        .choices(&["small", "medium", "large", "xLarge"]),
        Flag::new(
            "prefix",
            Kind::Text,
            "/etcdctl-check-perf/",
            "The prefix for writing the performance check's keys.",
        ),
        COMPACT_AFTER,
        DEFRAG_AFTER,
    ]),
    Command::new(
        "datascale [options]",
        "Check the memory usage of holding data for different workloads on a given server endpoint.",
        check::datascale as Action,
    )
    .long("If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.")
    .flags(&[
        Flag::new(
            "load",
            Kind::Text,
            "s",
            "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
        ),
        Flag::new(
            "prefix",
            Kind::Text,
            "/etcdctl-check-datascale/",
            "The prefix for writing the datascale check's keys.",
        ),
        COMPACT_AFTER,
        DEFRAG_AFTER,
    ]),
];

const PUT_LONG: &str = "
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
";

const TXN_LONG: &str = r#"Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod("key1") > "0"

# success requests (get, put, delete):
put key1 "overwrote-key1"

# failure requests (get, put, delete):
put key1 "created-key1"
put key2 "some extra key"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options."#;

const SNAPSHOT_EXAMPLE: &str = "  # Save snapshot to a given file
  etcdctl snapshot save /backup/etcd-snapshot.db
\x20\x20
  # Get snapshot from given address and save it to file
  etcdctl snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
\x20\x20
  # Get snapshot from given address with certificates
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
\x20\x20
  # Get snapshot with certain user and password
  etcdctl --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
\x20\x20
  # Get snapshot from given address with timeout
  etcdctl --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
\x20\x20
  # Save snapshot with desirable time format
  etcdctl snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db";

const TOP_LONG: &str = "Shows what the members at --endpoints do, again and again: who leads, how far each has come, what each holds,\n\
how much it does each second, and how long half of it and all but a hundredth took at most.\n\n\
At a terminal it fills the screen until q is typed. Elsewhere one table follows the other; -w json writes an array\n\
with an object for each member. The command is not etcd's.";

const COMPLETION_LONG: &str = r#"To load completions:

Bash:

  $ source <(etcdctl completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ etcdctl completion bash > /etc/bash_completion.d/etcdctl
  # macOS:
  $ etcdctl completion bash > /usr/local/etc/bash_completion.d/etcdctl

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo "autoload -U compinit; compinit" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ etcdctl completion zsh > "${fpath[1]}/_etcdctl"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ etcdctl completion fish | source

  # To load completions for each session, execute once:
  $ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PowerShell:

  PS> etcdctl completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> etcdctl completion powershell > etcdctl.ps1
  # and source this file from your PowerShell profile.
"#;
