//! The configuration file: YAML or JSON whose keys are the flags' names.

use std::fs;

use serde_json::Value;

use crate::commandline;
use crate::table::{self, Kind};

/// The longest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Flags that are no settings: in a file their names say nothing, as any unknown key.
const NO_SETTINGS: [&str; 3] = ["config-file", "discovery-fallback", "version"];

/// Lists that are no URLs.
const LISTS: [&str; 2] = ["cors", "host-whitelist"];

/// Reads a file into flag values; the error is the text for the log.
pub(crate) fn read(path: &str) -> Result<Vec<(&'static str, String)>, String> {
    let size = fs::metadata(path).map_err(|err| open_error(path, &err))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{path}: configuration file of {size} bytes is too long"));
    }
    let text = fs::read_to_string(path).map_err(|err| open_error(path, &err))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let value: Value = serde_saphyr::from_str(&text)
        .map_err(|err| format!("error converting YAML to JSON: {err}"))?;
    from_value(&value)
}

fn open_error(path: &str, err: &std::io::Error) -> String {
    match err.kind() {
        std::io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        std::io::ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        _ => format!("open {path}: {err}"),
    }
}

fn from_value(value: &Value) -> Result<Vec<(&'static str, String)>, String> {
    let Value::Object(fields) = value else {
        return Err("error unmarshaling JSON: the file is not a mapping".to_owned());
    };
    let mut texts = Vec::new();
    // What is null is not given.
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let setting = table::find(key).filter(|flag| !NO_SETTINGS.contains(&flag.name));
        let Some(flag) = setting else {
            refuse_section(key, value)?;
            continue;
        };
        let Some(text) = to_text(flag.kind, value) else {
            return Err(format!("error unmarshaling JSON: bad value for {key}: {value}"));
        };
        // An empty list in a file leaves the default, as in etcd.
        if text.is_empty() && (flag.kind == Kind::Urls || LISTS.contains(&flag.name)) {
            continue;
        }
        commandline::check(flag, &text).map_err(|why| format!("{key}: {why}"))?;
        texts.push((flag.name, text));
    }
    Ok(texts)
}

/// Sections that carry TLS and discovery settings: refused unless nothing in them is set.
fn refuse_section(key: &str, value: &Value) -> Result<(), String> {
    let is_section =
        matches!(key, "client-transport-security" | "peer-transport-security" | "discovery-config");
    if is_section && !is_unset(value) {
        return Err(format!("{key} is not supported yet by this server"));
    }
    Ok(())
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_unset),
        Value::Object(fields) => fields.values().all(is_unset),
    }
}

/// The text that the same value would have on the command line.
fn to_text(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Duration, Value::Number(nanos)) => Some(format!("{}ns", nanos.as_i64()?)),
        (Kind::Bool, Value::Bool(on)) => Some(on.to_string()),
        (Kind::Int | Kind::Uint, Value::Number(number)) => Some(number.to_string()),
        (Kind::Text, Value::Number(number)) => Some(number.to_string()),
        (Kind::Text | Kind::Urls, Value::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(items?.join(","))
        }
        (Kind::Bool | Kind::Int | Kind::Uint, Value::String(_)) => None,
        (_, Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(yaml: &str) -> Result<Vec<(&'static str, String)>, String> {
        from_value(&serde_saphyr::from_str(yaml).expect("yaml"))
    }

    #[test]
    fn keys_are_flags_and_durations_are_nanoseconds() {
        let mut read = texts(
            "name: n1\nsnapshot-count: 50\nwatch-progress-notify-interval: 100000000\nlog-outputs: [stderr]\npre-vote: false\n",
        )
        .expect("values");
        read.sort_unstable();
        let expected = [
            ("log-outputs", "stderr"),
            ("name", "n1"),
            ("pre-vote", "false"),
            ("snapshot-count", "50"),
            ("watch-progress-notify-interval", "100000000ns"),
        ];
        assert_eq!(read, expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn what_is_null_or_an_empty_list_or_no_setting_is_not_given() {
        let yaml = "discovery-fallback: proxy\nname:\ncors:\nhost-whitelist: ''\nlisten-client-urls: ''\nsnapshot-count:\ndata-dir: ''\n";
        assert_eq!(texts(yaml), Ok(vec![("data-dir", String::new())]));
    }

    #[test]
    fn bad_values_and_unsupported_sections_are_refused() {
        assert!(texts("snapshot-count: many").is_err());
        assert!(texts("name: {a: 1}").is_err());
        assert!(texts("- 1").is_err());
        assert_eq!(
            texts("client-transport-security: {auto-tls: true}"),
            Err("client-transport-security is not supported yet by this server".to_owned())
        );
        assert_eq!(
            texts("client-transport-security: {auto-tls: false, cert-file: ''}"),
            Ok(vec![])
        );
    }
}
