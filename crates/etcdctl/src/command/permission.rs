//! `role`: roles and what they permit.

use api::authpb::permission::Type;
use client::auth::KeyRange;

use crate::answer::Answer;
use crate::exit::Exit;
use crate::session::Session;

fn role(session: &Session, command: &str) -> Result<String, Exit> {
    if session.args().len() != 1 {
        let sentence = format!("role {command} command requires role name as its argument");
        return Err(Exit::arguments(sentence));
    }
    Ok(session.arg(0))
}

pub(crate) fn add(session: &mut Session) -> Result<(), Exit> {
    let role = role(session, "add")?;
    let client = session.client()?;
    let answer = session.ask("Auth/RoleAdd", client.role_add(&role))?;
    session.print(&Answer::RoleAdd(&role, &answer))
}

pub(crate) fn delete(session: &mut Session) -> Result<(), Exit> {
    let role = role(session, "delete")?;
    let client = session.client()?;
    let answer = session.ask("Auth/RoleDelete", client.role_delete(&role))?;
    session.print(&Answer::RoleDelete(&role, &answer))
}

pub(crate) fn get(session: &mut Session) -> Result<(), Exit> {
    let role = role(session, "get")?;
    let client = session.client()?;
    let answer = session.ask("Auth/RoleGet", client.role_get(&role))?;
    session.print(&Answer::RoleGet(&role, &answer))
}

pub(crate) fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("role list command requires no arguments"));
    }
    let client = session.client()?;
    let answer = session.ask("Auth/RoleList", client.role_list())?;
    session.print(&Answer::RoleList(&answer))
}

pub(crate) fn grant(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() < 3 {
        return Err(Exit::arguments(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let kind = match session.arg(1).to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => {
            let message = format!("invalid permission type: {}", session.arg(1));
            return Err(Exit::arguments(message));
        }
    };
    let role = session.arg(0);
    let (key, end) = keys(session, &session.args()[2..])?;
    let client = session.client()?;
    let call = client.role_grant_permission(&role, KeyRange::range(key, end), kind);
    let answer = session.ask("Auth/RoleGrantPermission", call)?;
    session.print(&Answer::RoleGrant(&role, &answer))
}

pub(crate) fn revoke(session: &mut Session) -> Result<(), Exit> {
    if session.args().len() < 2 {
        return Err(Exit::arguments(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let role = session.arg(0);
    let shown = session.args()[1].clone();
    let (key, end) = keys(session, &session.args()[1..])?;
    let client = session.client()?;
    let call = client.role_revoke_permission(&role, KeyRange::range(key, end.clone()));
    let answer = session.ask("Auth/RoleRevokePermission", call)?;
    session.print(&Answer::RoleRevoke(&role, &shown, &end, &answer))
}

/// The key and the end of the range that arguments and flags name.
fn keys(session: &Session, args: &[Vec<u8>]) -> Result<(Vec<u8>, Vec<u8>), Exit> {
    let exclusive = || Exit::arguments("--from-key and --prefix flags are mutually exclusive");
    let (prefix, from_key) = (session.input.bool("prefix"), session.input.bool("from-key"));
    let open = || b"\0".to_vec();
    match (args, prefix, from_key) {
        ([key, ..], true, true) if key.is_empty() => Err(exclusive()),
        // All keys, or the empty one alone.
        ([key, ..], false, false) if key.is_empty() => Ok((open(), Vec::new())),
        ([key, ..], ..) if key.is_empty() => Ok((open(), open())),
        ([_], true, true) => Err(exclusive()),
        ([key], true, false) => Ok((key.clone(), client::prefix_end(key).to_vec())),
        ([key], false, true) => Ok((key.clone(), open())),
        (_, true, _) => Err(Exit::arguments("unexpected endkey argument with --prefix flag")),
        (_, _, true) => Err(Exit::arguments("unexpected endkey argument with --from-key flag")),
        ([key, end, ..], ..) => Ok((key.clone(), end.clone())),
        ([key], ..) => Ok((key.clone(), Vec::new())),
        ([], ..) => unreachable!("the caller has counted"),
    }
}
