//! `get`, `put`, `del`, `compaction`.

use std::io::Read;
use std::thread;
use std::time::Duration;

use client::{Delete, Get, Kv, Op, OpResponse, Put, SortOrder, SortTarget};
use cobra::{Flag, Input, Kind, go};

use crate::answer::Answer;
use crate::exit::{BAD_FEATURE, ERROR, Exit};
use crate::output;
use crate::printer::Format;
use crate::session::Session;

pub(crate) const GET: &[Flag] = &[
    Flag::new("consistency", Kind::Text, "l", "Linearizable(l) or Serializable(s)")
        .choices(&["l", "s"]),
    Flag::new("order", Kind::Text, "", "Order of results; ASCEND or DESCEND (ASCEND by default)")
        .choices(&["ASCEND", "DESCEND"]),
    Flag::new("sort-by", Kind::Text, "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
        .choices(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]),
    Flag::new("limit", Kind::Int, "0", "Maximum number of results"),
    Flag::switch("prefix", "Get keys with matching prefix"),
    Flag::switch(
        "from-key",
        "Get keys that are greater than or equal to the given key using byte compare",
    ),
    Flag::new("rev", Kind::Int, "0", "Specify the kv revision"),
    Flag::switch("keys-only", "Get only the keys"),
    Flag::switch("count-only", "Get only the count"),
    Flag::switch("print-value-only", "Only write values when using the \"simple\" output format"),
    Flag::new("min-create-rev", Kind::Int, "0", "Minimum create revision"),
    Flag::new("max-create-rev", Kind::Int, "0", "Maximum create revision"),
    Flag::new("min-mod-rev", Kind::Int, "0", "Minimum modification revision"),
    Flag::new("max-mod-rev", Kind::Int, "0", "Maximum modification revision"),
    Flag::switch("stream", "Use the RangeStream RPC"),
];

pub(crate) const PUT: &[Flag] = &[
    Flag::new("lease", Kind::Text, "0", "lease ID (in hexadecimal) to attach to the key"),
    Flag::switch("prev-kv", "return the previous key-value pair before modification"),
    Flag::switch("ignore-value", "updates the key using its current value"),
    Flag::switch("ignore-lease", "updates the key using its current lease"),
];

pub(crate) const DELETE: &[Flag] = &[
    Flag::switch("prefix", "delete keys with matching prefix"),
    Flag::switch("prev-kv", "return deleted key-value pairs"),
    Flag::switch(
        "from-key",
        "delete keys that are greater than or equal to the given key using byte compare",
    ),
    Flag::switch("range", "delete range of keys"),
];

pub(crate) fn get(session: &mut Session) -> Result<(), Exit> {
    let get = range(&session.input, Get::new)?;
    let client = session.timed_client()?;
    let result = if session.input.bool("stream") {
        let get = range(&session.input, |key| client.get(key))?;
        session.wait(collect(get))
    } else {
        session.ask("KV/Range", async {
            match client.execute(Op::Get(get)).await? {
                OpResponse::Get(answer) => Ok(answer),
                _ => Err(client::Error::Unexpected("the answer to another operation")),
            }
        })
    };
    let answer = result?;
    if session.input.bool("count-only") && session.printer.format != Format::Fields {
        return Err(Exit::arguments("--count-only is only for `--write-out=fields`"));
    }
    if session.input.bool("print-value-only") {
        if !session.is_simple() {
            return Err(Exit::arguments("print-value-only is only for `--write-out=simple`"));
        }
        session.printer.values_only = true;
    }
    session.print(&Answer::Get(&answer))
}

/// The parts of a streamed range as one answer.
async fn collect(get: Get<client::Client>) -> client::Result<api::etcdserverpb::RangeResponse> {
    let mut stream = get.stream().await?;
    let mut whole = api::etcdserverpb::RangeResponse::default();
    while let Some(part) = stream.next().await? {
        whole.header = part.header.or(whole.header);
        whole.more |= part.more;
        whole.count = whole.count.max(part.count);
        whole.kvs.extend(part.kvs);
    }
    Ok(whole)
}

/// Makes a range of flags and arguments.
pub(crate) fn range<C>(input: &Input, get: impl FnOnce(Vec<u8>) -> Get<C>) -> Result<Get<C>, Exit> {
    let Some(key) = input.args.first() else {
        return Err(Exit::arguments(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (prefix, from_key) = (input.bool("prefix"), input.bool("from-key"));
    refuse_both(prefix, from_key)?;
    if input.bool("keys-only") && input.bool("count-only") {
        return Err(Exit::arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let mut get = get(key.clone());
    if is_serializable(&input.text("consistency"), &input.text("consistency"))? {
        get = get.serializable();
    }
    if let Some(end) = input.args.get(1) {
        refuse_end(prefix, from_key)?;
        get = get.range(end.clone());
    }
    get = get.limit(input.int("limit"));
    if input.int("rev") > 0 {
        get = get.revision(input.int("rev"));
    }
    let order = order(&input.text("order"))?;
    get = get.sort(target(&input.text("sort-by"))?, order);
    if prefix {
        get = get.prefix();
    }
    if from_key {
        get = get.from_key();
    }
    if input.bool("keys-only") {
        get = get.keys_only();
    }
    if input.bool("count-only") {
        get = get.count_only();
    }
    bounds(input, get)
}

fn bounds<C>(input: &Input, mut get: Get<C>) -> Result<Get<C>, Exit> {
    let limits = |min: &str, max: &str, names: [&str; 2]| {
        let (min, max) = (input.int(min), input.int(max));
        if max > 0 && min > max {
            let [low, high] = names;
            let message = format!("{low}(={min}) > {high}(={max})");
            return Err(Exit::new(BAD_FEATURE, message));
        }
        Ok((min, max))
    };
    let names = ["getMinCreateRev", "getMaxCreateRev"];
    let (min, max) = limits("min-create-rev", "max-create-rev", names)?;
    if min > 0 {
        get = get.min_create_revision(min);
    }
    if max > 0 {
        get = get.max_create_revision(max);
    }
    let (min, max) = limits("min-mod-rev", "max-mod-rev", ["getMinModRev", "getMaxModRev"])?;
    if min > 0 {
        get = get.min_mod_revision(min);
    }
    if max > 0 {
        get = get.max_mod_revision(max);
    }
    Ok(get)
}

fn order(text: &str) -> Result<SortOrder, Exit> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Exit::new(BAD_FEATURE, format!("bad sort order {text}"))),
    }
}

fn target(text: &str) -> Result<SortTarget, Exit> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Exit::new(BAD_FEATURE, format!("bad sort target {text}"))),
    }
}

fn refuse_both(prefix: bool, from_key: bool) -> Result<(), Exit> {
    if prefix && from_key {
        return Err(Exit::arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    Ok(())
}

fn refuse_end(prefix: bool, from_key: bool) -> Result<(), Exit> {
    if prefix || from_key {
        return Err(Exit::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    Ok(())
}

/// Whether a read need not ask the others. `shown` is what the error names.
pub(crate) fn is_serializable(consistency: &str, shown: &str) -> Result<bool, Exit> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        _ => {
            let quoted = go::quote(shown.as_bytes());
            Err(Exit::new(BAD_FEATURE, format!("unknown consistency flag {quoted}")))
        }
    }
}

pub(crate) fn put(session: &mut Session) -> Result<(), Exit> {
    let put = write(&session.input, read_value)?;
    let client = session.timed_client()?;
    let answer = session.ask("KV/Put", async {
        match client.execute(Op::Put(put)).await? {
            OpResponse::Put(answer) => Ok(answer),
            _ => Err(client::Error::Unexpected("the answer to another operation")),
        }
    })?;
    session.print(&Answer::Put(&answer))
}

/// All of standard input.
fn read_value() -> Vec<u8> {
    let mut value = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut value) {
        Ok(_) => value,
        Err(_) => Vec::new(),
    }
}

/// Makes a put of flags and arguments; `missing` has the value if there is no argument for it.
pub(crate) fn write(input: &Input, missing: impl FnOnce() -> Vec<u8>) -> Result<Put, Exit> {
    let needs =
        || Exit::arguments("put command needs 1 argument and input from stdin or 2 arguments");
    let key = input.args.first().ok_or_else(needs)?;
    let ignore_value = input.bool("ignore-value");
    let value = match input.args.get(1) {
        Some(_) if ignore_value => {
            return Err(Exit::arguments(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        Some(value) => value.clone(),
        None if ignore_value => Vec::new(),
        None => match missing() {
            value if value.is_empty() => return Err(needs()),
            value => value,
        },
    };
    let lease = go::parse_int(&input.text("lease"), 16)
        .map_err(|why| Exit::arguments(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    let mut put = Put::new(key.clone(), value).lease(lease);
    if input.bool("prev-kv") {
        put = put.prev_kv();
    }
    if ignore_value {
        put = put.ignore_value();
    }
    if input.bool("ignore-lease") {
        put = put.ignore_lease();
    }
    Ok(put)
}

pub(crate) fn delete(session: &mut Session) -> Result<(), Exit> {
    let delete = removal(&session.input)?;
    let client = session.timed_client()?;
    let answer = session.ask("KV/DeleteRange", async {
        match client.execute(Op::Delete(delete)).await? {
            OpResponse::Delete(answer) => Ok(answer),
            _ => Err(client::Error::Unexpected("the answer to another operation")),
        }
    })?;
    session.print(&Answer::Delete(&answer))
}

/// Makes a deletion of flags and arguments. Before a range goes without `--range`, there is time for second thoughts.
pub(crate) fn removal(input: &Input) -> Result<Delete, Exit> {
    let (key, end) = match input.args.as_slice() {
        [key] => (key, None),
        [key, end] => (key, Some(end)),
        _ => {
            return Err(Exit::arguments(
                "del command needs one argument as key and an optional argument as range_end",
            ));
        }
    };
    let (prefix, from_key) = (input.bool("prefix"), input.bool("from-key"));
    refuse_both(prefix, from_key)?;
    let mut delete = Delete::new(key.clone());
    if let Some(end) = end {
        refuse_end(prefix, from_key)?;
        delete = delete.range(end.clone());
        if !input.bool("range") {
            output::stderr(&format!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.\n",
                go::quote(key),
                go::quote(end)
            ));
            thread::sleep(Duration::from_secs(2));
        }
    }
    if prefix {
        delete = delete.prefix();
    }
    if input.bool("prev-kv") {
        delete = delete.prev_kv();
    }
    if from_key {
        delete = delete.from_key();
    }
    Ok(delete)
}

pub(crate) fn compact(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("compaction command needs 1 argument"));
    }
    let revision = go::parse_int(&session.arg(0), 10).map_err(|why| Exit::new(ERROR, why))?;
    let physical = session.input.bool("physical");
    let client = session.timed_client()?;
    session.ask("KV/Compact", client.compact(revision, physical))?;
    output::line(&format!("compacted revision {revision}"));
    Ok(())
}
