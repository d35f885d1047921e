//! `member` and `move-leader`.

use cobra::go;

use super::kv::is_serializable;
use crate::answer::Answer;
use crate::exit::{ERROR, Exit};
use crate::output;
use crate::session::Session;

pub(crate) fn add(session: &mut Session) -> Result<(), Exit> {
    match session.args().len() {
        0 => return Err(Exit::arguments("member name not provided")),
        1 => {}
        _ => {
            let mut message = "too many arguments".to_owned();
            for index in 0..session.args().len() {
                let word = session.arg(index);
                if word.to_lowercase().starts_with("http") {
                    message += &format!(", did you mean --peer-urls={word}");
                }
            }
            return Err(Exit::arguments(message));
        }
    }
    let name = session.arg(0);
    let (urls, list) = peer_urls(session)?;
    let client = session.timed_client()?;
    for url in &list {
        check_url(url).map_err(|why| Exit::new(ERROR, format!("{why}: {url}")))?;
    }
    let answer = if session.input.bool("learner") {
        session.ask("Cluster/MemberAdd", client.member_add_as_learner(list))?
    } else {
        session.ask("Cluster/MemberAdd", client.member_add(list))?
    };
    session.print(&Answer::MemberAdd(&answer))?;
    if !session.is_simple() {
        return Ok(());
    }
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    let mut cluster = Vec::new();
    for member in &answer.members {
        let name = if member.id == id { &name } else { &member.name };
        cluster.extend(member.peer_urls.iter().map(|url| format!("{name}={url}")));
    }
    let quote = |text: &str| go::quote(text.as_bytes());
    output::line(&format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        quote(&name),
        quote(&cluster.join(",")),
        quote(&urls)
    ));
    Ok(())
}

/// The flag's text, and its parts.
fn peer_urls(session: &Session) -> Result<(String, Vec<String>), Exit> {
    let urls = session.input.text("peer-urls");
    if urls.is_empty() {
        return Err(Exit::arguments("member peer urls not provided"));
    }
    let list = urls.split(',').map(str::to_owned).collect();
    Ok((urls, list))
}

/// Etcd's client library looks at URLs before it asks; at those of an update it does not.
fn check_url(url: &str) -> Result<(), &'static str> {
    let (scheme, rest) = url.trim().split_once("://").unwrap_or(("", url));
    match scheme {
        "unix" | "unixs" => return Ok(()),
        "http" | "https" => {}
        _ => return Err("URL scheme must be http, https, unix, or unixs"),
    }
    let (address, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = address.rsplit_once(':').map(|(host, _)| host);
    let is_plain =
        |host: &str| !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    if !host.is_some_and(is_plain) {
        return Err("URL address does not have the form \"host:port\"");
    }
    if path.is_empty() { Ok(()) } else { Err("URL must not contain a path") }
}

fn member_id(session: &Session) -> Result<u64, Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("member ID is not provided"));
    }
    go::parse_uint(&session.arg(0), 16)
        .map_err(|why| Exit::arguments(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

pub(crate) fn remove(session: &mut Session) -> Result<(), Exit> {
    let id = member_id(session)?;
    let client = session.timed_client()?;
    let answer = session.ask("Cluster/MemberRemove", client.member_remove(id))?;
    session.print(&Answer::MemberRemove(id, &answer))
}

pub(crate) fn update(session: &mut Session) -> Result<(), Exit> {
    let id = member_id(session)?;
    let (_, urls) = peer_urls(session)?;
    let client = session.timed_client()?;
    let answer = session.ask("Cluster/MemberUpdate", client.member_update(id, urls))?;
    session.print(&Answer::MemberUpdate(id, &answer))
}

pub(crate) fn promote(session: &mut Session) -> Result<(), Exit> {
    let id = member_id(session)?;
    let client = session.timed_client()?;
    let answer = session.ask("Cluster/MemberPromote", client.member_promote(id))?;
    session.print(&Answer::MemberPromote(id, &answer))
}

pub(crate) fn list(session: &mut Session) -> Result<(), Exit> {
    // Etcd's tool names the flag of `get` in its error, which is at its default here.
    let serializable = is_serializable(&session.input.text("consistency"), "l")?;
    let client = session.timed_client()?;
    let answer = if serializable {
        session.ask("Cluster/MemberList", client.member_list_serializable())?
    } else {
        session.ask("Cluster/MemberList", client.member_list())?
    };
    session.print(&Answer::MemberList(&answer))
}

pub(crate) fn move_leader(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments("move-leader command needs 1 argument"));
    }
    let target = go::parse_uint(&session.arg(0), 16).map_err(Exit::arguments)?;
    session.configure(&[])?;
    if session.endpoints().is_empty() {
        session.connect(&[])?;
    }
    for endpoint in session.endpoints() {
        let client = session.connect(std::slice::from_ref(endpoint))?;
        let client = client.with_timeout(session.timeout());
        let status = session.ask("Maintenance/Status", client.status(endpoint))?;
        let member = status.header.map_or(0, |header| header.member_id);
        if member == status.leader {
            let answer = session.ask("Maintenance/MoveLeader", client.move_leader(target))?;
            return session.print(&Answer::MoveLeader(member, target, &answer));
        }
    }
    let endpoints = session.endpoints().join(" ");
    Err(Exit::arguments(format!("no leader endpoint given at [{endpoints}]")))
}

/// The client URLs of all members.
pub(crate) fn client_urls(session: &Session) -> Result<Vec<String>, Exit> {
    let client = session
        .connect(session.endpoints())
        .map_err(|exit| Exit { code: ERROR, ..exit })?
        .with_timeout(session.timeout());
    let answer = session.ask("Cluster/MemberList", client.member_list()).map_err(|error| {
        let what = "failed to fetch endpoints from etcd cluster member list";
        Exit::new(ERROR, format!("{what}: {error}"))
    })?;
    Ok(answer.members.into_iter().flat_map(|member| member.client_urls).collect())
}
