//! `user`: users, their passwords and roles.

use std::io;

use crate::answer::Answer;
use crate::exit::Exit;
use crate::session::Session;
use crate::{output, terminal, words};

/// The one argument, or the sentence.
fn only_argument(session: &Session, sentence: &str) -> Result<String, Exit> {
    if session.args().len() != 1 {
        return Err(Exit::arguments(sentence));
    }
    Ok(session.arg(0))
}

pub(crate) fn add(session: &mut Session) -> Result<(), Exit> {
    let name = only_argument(session, "user add command requires user name as its argument")?;
    let from_flag = session.input.text("new-user-password");
    let (user, password) = if session.input.bool("no-password") {
        (name, None)
    } else if !from_flag.is_empty() {
        (name, Some(from_flag))
    } else {
        match name.split_once(':') {
            Some(("", _)) => return Err(Exit::arguments("empty user name is not allowed")),
            Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
            None => {
                let password = password(session, &name)?;
                (name, Some(password))
            }
        }
    };
    let client = session.client()?;
    let answer = match password {
        Some(password) => session.ask("Auth/UserAdd", client.user_add(&user, password))?,
        None => session.ask("Auth/UserAdd", client.user_add_without_password(&user))?,
    };
    session.print(&Answer::UserAdd(&user, &answer))
}

/// A new password: typed twice, or with `--interactive=false` a word on standard input.
fn password(session: &Session, user: &str) -> Result<String, Exit> {
    if !session.input.bool("interactive") {
        let mut line = String::new();
        // Nothing to read is an empty password, which the server judges.
        let _ = io::stdin().read_line(&mut line);
        let end = line.bytes().position(words::is_blank).unwrap_or(line.len());
        line.truncate(end);
        return Ok(line);
    }
    let ask = |prompt: String| {
        terminal::ask(&prompt)
            .map_err(|error| Exit::arguments(format!("failed to ask password: {error}")))
    };
    let first = ask(format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err(Exit::arguments("empty password"));
    }
    let second = ask(format!("Type password of {user} again for confirmation: "))?;
    if first != second {
        return Err(Exit::arguments("given passwords are different"));
    }
    Ok(first)
}

pub(crate) fn delete(session: &mut Session) -> Result<(), Exit> {
    let user = only_argument(session, "user delete command requires user name as its argument")?;
    let client = session.client()?;
    let answer = session.ask("Auth/UserDelete", client.user_delete(&user))?;
    session.print(&Answer::UserDelete(&user, &answer))
}

pub(crate) fn get(session: &mut Session) -> Result<(), Exit> {
    let user = only_argument(session, "user get command requires user name as its argument")?;
    let client = session.client()?;
    let answer = session.ask("Auth/UserGet", client.user_get(&user))?;
    if !session.input.bool("detail") {
        return session.print(&Answer::UserGet(&user, &answer));
    }
    output::line(&format!("User: {user}"));
    for role in &answer.roles {
        output::line("");
        let permissions = session.ask("Auth/RoleGet", client.role_get(role))?;
        session.print(&Answer::RoleGet(role, &permissions))?;
    }
    Ok(())
}

pub(crate) fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("user list command requires no arguments"));
    }
    let client = session.client()?;
    let answer = session.ask("Auth/UserList", client.user_list())?;
    session.print(&Answer::UserList(&answer))
}

pub(crate) fn passwd(session: &mut Session) -> Result<(), Exit> {
    let user = only_argument(session, "user passwd command requires user name as its argument")?;
    let password = password(session, &user)?;
    let client = session.client()?;
    let call = client.user_change_password(user, password);
    let answer = session.ask("Auth/UserChangePassword", call)?;
    session.print(&Answer::UserPassword(&answer))
}

/// A user and a role.
fn pair(session: &Session, sentence: &str) -> Result<(String, String), Exit> {
    if session.args().len() != 2 {
        return Err(Exit::arguments(sentence));
    }
    Ok((session.arg(0), session.arg(1)))
}

pub(crate) fn grant_role(session: &mut Session) -> Result<(), Exit> {
    let sentence = "user grant command requires user name and role name as its argument";
    let (user, role) = pair(session, sentence)?;
    let client = session.client()?;
    let answer = session.ask("Auth/UserGrantRole", client.user_grant_role(&user, &role))?;
    session.print(&Answer::UserGrant(&user, &role, &answer))
}

pub(crate) fn revoke_role(session: &mut Session) -> Result<(), Exit> {
    let sentence = "user revoke-role requires user name and role name as its argument";
    let (user, role) = pair(session, sentence)?;
    let client = session.client()?;
    let answer = session.ask("Auth/UserRevokeRole", client.user_revoke_role(&user, &role))?;
    session.print(&Answer::UserRevoke(&user, &role, &answer))
}
