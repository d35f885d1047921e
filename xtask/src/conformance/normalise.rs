//! Takes out of an output what may differ between two runs of the same command: times, sizes, pointers.
//!
//! Member, cluster and raft facts stay in: both servers run in turn on the same ports, so their ids are equal.

/// A literal and the run of characters after it that is replaced.
const VARYING: &[(&str, Class)] = &[
    ("took = ", Class::Duration),
    ("took ", Class::Duration),
    ("\"took\":\"", Class::Quoted),
    ("\"ts\":\"", Class::Quoted),
    ("\"ts\":", Class::Decimal),
    ("\"size\":\"", Class::Quoted),
    ("\"total-size-bytes\":", Class::Number),
    ("\"size-bytes\":", Class::Number),
    ("\"totalSize\":", Class::Number),
    ("\"TotalSize\" : ", Class::Number),
    ("\"Size\" : ", Class::Number),
    ("-bytes\": ", Class::Number),
    ("-diff\": ", Class::Decimal),
    ("\"took\": \"", Class::Quoted),
    ("-size\": \"", Class::Quoted),
    ("-in-use\": \"", Class::Quoted),
    ("\"dbSize\":", Class::Number),
    ("\"dbSizeInUse\":", Class::Number),
    ("\"DBSize\" : ", Class::Number),
    ("\"DBSizeInUse\" : ", Class::Number),
    ("0x", Class::Number),
    ("LocalAddr: '127.0.0.1:", Class::Number),
    ("remaining(", Class::Number),
    ("\"ttl\":", Class::Number),
    ("\"TTL\" : ", Class::Number),
];

#[derive(Clone, Copy, Debug)]
enum Class {
    /// `1.25ms`, `3s`, `17µs`.
    Duration,
    /// Digits, hexadecimal ones included.
    Number,
    /// Digits, a point, a sign.
    Decimal,
    /// All up to the closing quote.
    Quoted,
}

impl Class {
    fn covers(self, c: char) -> bool {
        match self {
            Self::Duration => c.is_ascii_digit() || matches!(c, '.' | 'n' | 'u' | 'µ' | 'm' | 's'),
            Self::Number => c.is_ascii_hexdigit(),
            Self::Decimal => c.is_ascii_digit() || matches!(c, '.' | '-'),
            Self::Quoted => c != '"',
        }
    }
}

/// `text` without what varies; `known` are values of this run (ids, paths) and the names that stand for them.
pub(super) fn normalise(text: &str, known: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (value, name) in known {
        text = text.replace(value, name);
    }
    // Where in its source a Go program has given up.
    while let Some((head, tail)) = text.split_once(",\"stacktrace\":\"") {
        let behind = tail.split_once('"').map_or("", |(_, behind)| behind);
        text = format!("{head}{behind}");
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let rule = VARYING.iter().find(|(literal, _)| rest.starts_with(literal));
        if let Some((literal, class)) = rule {
            rest = rest[literal.len()..].trim_start_matches(|c| class.covers(c));
            out.push_str(literal);
            out.push('~');
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    sizes(&out)
}

/// Human sizes (`25 kB`) and percentages become `~`; runs of blanks and box lines, whose length depends on them, become one.
/// The time at the start of a console log line goes too.
fn sizes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for mut line in text.split_inclusive('\n') {
        if let Some((time, rest)) = line.split_once("Z\t")
            && time.len() == "2026-01-01T00:00:00".len()
            && time.starts_with("20")
        {
            out.push_str("~Z\t");
            line = rest;
        }
        if !line.contains("kB")
            && !line.contains("MB")
            && !line.contains('─')
            && !line.contains('%')
        {
            out.push_str(line);
            continue;
        }
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let mut kept: Vec<String> = Vec::new();
        for word in words {
            let unit = word.trim_end_matches([',', '\n']);
            if matches!(unit, "B" | "kB" | "MB" | "GB") && kept.last().is_some_and(|w| number(w)) {
                kept.pop();
                kept.push(format!("~{}", &word[unit.len()..]));
            } else if unit.strip_suffix('%').is_some_and(number) {
                kept.push(format!("~{}", &word[unit.len()..]));
            } else {
                kept.push(word.to_owned());
            }
        }
        let mut line = kept.join(" ");
        while line.contains("──") {
            line = line.replace("──", "─");
        }
        out.push_str(&line);
    }
    out
}

fn number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn what_varies_is_replaced_and_the_rest_stays() {
        let known = [("694d7".to_owned(), "$L".to_owned())];
        let cases = [
            ("lease 694d7 granted with TTL(5s)", "lease $L granted with TTL(5s)"),
            ("is healthy: took = 1.25ms\nnext", "is healthy: took = ~\nnext"),
            ("{\"ts\":\"2026-01-01T00:00:00\",\"a\":1}", "{\"ts\":\"~\",\"a\":1}"),
            ("a, 3.7.0, 25 kB, 16 kB, 34%, 2.1 GB, 7", "a, 3.7.0, ~, ~, ~, ~, 7"),
            ("{\"a\":1,\"stacktrace\":\"x.go:1\"}", "{\"a\":1}"),
            ("TTL(5s), remaining(4s)", "TTL(5s), remaining(~s)"),
            ("┌────┬──┐\n", "┌─┬─┐\n"),
            ("2026-11-21T11:30:51Z\tinfo\t{0xc0ffee}", "~Z\tinfo\t{0x~}"),
        ];
        for (text, expected) in cases {
            assert_eq!(normalise(text, &known), expected);
        }
    }
}
