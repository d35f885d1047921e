//! Paths of pages that are not clean, like `//health` or `/x/../health`: Go's mux sends the client to the clean one.

/// Where a request for `path` is sent on to, with its query; `None`: it is answered as it is. The status is 307.
#[must_use]
pub fn redirect(path: &str, query: Option<&str>) -> Option<String> {
    let clean = clean(path);
    if clean == path {
        return None;
    }
    // Go escapes again what is escaped.
    let mut location = clean.replace('%', "%25");
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    Some(location)
}

/// What a browser shows of it; only a `GET` is answered with it.
#[must_use]
pub fn redirect_page(location: &str) -> String {
    let mut text = String::from("<a href=\"");
    for c in location.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&#34;"),
            '\'' => text.push_str("&#39;"),
            c => text.push(c),
        }
    }
    text.push_str("\">Temporary Redirect</a>.\n\n");
    text
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_by_go() {
        for (path, expected) in [
            ("/", None),
            ("/health", None),
            ("/health/", None),
            ("/%2e%2e/health", None),
            ("/...", None),
            ("//health", Some("/health")),
            ("/health//", Some("/health/")),
            ("/./version", Some("/version")),
            ("/x/../health", Some("/health")),
            ("/../../health", Some("/health")),
            ("/health/..", Some("/")),
            ("/health/.", Some("/health")),
            ("//a%20b", Some("/a%2520b")),
            ("", Some("/")),
            ("*", Some("/*")),
        ] {
            assert_eq!(redirect(path, None).as_deref(), expected, "{path}");
        }
        assert_eq!(redirect("//v", Some("a=b&c")).as_deref(), Some("/v?a=b&c"));
        assert_eq!(redirect("/v", Some("//")), None);
        let page = "<a href=\"/v?a=&#34;&amp;&lt;\">Temporary Redirect</a>.\n\n";
        assert_eq!(redirect_page("/v?a=\"&<"), page);
    }
}
