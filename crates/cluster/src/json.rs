//! JSON as Go's `encoding/json` writes it: `<`, `>`, `&` and two line separators are escaped.

/// Appends a string with its quotes.
pub(crate) fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends an array of strings; an empty list is Go's nil slice.
pub(crate) fn put_strings(out: &mut String, texts: &[String]) {
    if texts.is_empty() {
        out.push_str("null");
        return;
    }
    for (i, text) in texts.iter().enumerate() {
        out.push(if i == 0 { '[' } else { ',' });
        put_string(out, text);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    #[test]
    fn escapes() {
        let mut out = String::new();
        put_string(&mut out, "a\"\\<>&\n\u{1}\u{2028}é\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\u003c\\u003e\\u0026\\n\\u0001\\u2028é\u{7f}\"");
    }

    proptest! {
        #[test]
        fn is_json(text: String) {
            let mut out = String::new();
            put_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
        }
    }
}
