//! `top`: the members at a glance, again and again: who leads, how far each has come, and how much each does how fast.
//!
//! It is not etcd's. State comes from the call `Status`, rates and latencies from what two looks at `/metrics` differ in.

mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use api::etcdserverpb::StatusResponse;
use client::Client;
use cobra::{Flag, Kind};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::concurrency::Stop;
use super::endpoint::endpoints;
use crate::exit::{BAD_FEATURE, Exit};
use crate::metrics::Metrics;
use crate::output;
use crate::printer::Format;
use crate::session::Session;
use crate::terminal::{Paint, Screen};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::new(
        "interval",
        Kind::Duration,
        "2s",
        "time between two looks, over which rates and latencies are taken",
    ),
    Flag::switch("once", "print what one interval has brought, and exit"),
];

/// A member that is looked at.
struct Member {
    endpoint: String,
    client: Result<Client, String>,
}

/// What is known of a member after a look.
#[derive(Clone, Debug)]
struct Look {
    endpoint: String,
    at: Instant,
    status: Result<StatusResponse, String>,
    /// Not all endpoints have a page.
    metrics: Option<Metrics>,
}

/// What is shown: two looks at each member, and the names of members.
#[derive(Clone, Debug, Default)]
struct Picture {
    before: Vec<Look>,
    now: Vec<Look>,
    names: BTreeMap<u64, String>,
}

pub(crate) fn run(session: &mut Session) -> Result<(), Exit> {
    if !session.args().is_empty() {
        return Err(Exit::arguments("top command accepts no arguments"));
    }
    let pause = u64::try_from(session.input.nanos("interval")).unwrap_or_default();
    if pause == 0 {
        return Err(Exit::arguments("--interval must be more than nothing"));
    }
    session.configure(&[])?;
    let format = session.printer.format;
    if matches!(format, Format::Fields | Format::Protobuf) {
        let what = "only simple, table and json are supported as output formats";
        return Err(Exit::new(BAD_FEATURE, what));
    }
    let connect = |endpoint: String| {
        let client = session.connect(std::slice::from_ref(&endpoint));
        let client = client.map(|client| client.with_timeout(session.timeout()));
        Member { endpoint, client: client.map_err(|exit| exit.message.unwrap_or_default()) }
    };
    let members: Vec<Member> = endpoints(session)?.into_iter().map(connect).collect();
    let once = session.input.bool("once");
    let screen = (!once && format != Format::Json).then(Screen::open).flatten();
    let top = Top { members, limit: session.timeout(), format, once, screen };
    session.wait(top.run(Duration::from_nanos(pause)))
}

/// One run.
struct Top {
    members: Vec<Member>,
    limit: Duration,
    format: Format,
    once: bool,
    /// Where the same place is written again and again; elsewhere one table follows the other.
    screen: Option<Screen>,
}

impl Top {
    async fn run(mut self, pause: Duration) -> Result<(), Exit> {
        let mut stop = Stop::new()?;
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut picture = Picture::default();
        loop {
            // What was typed before anything was seen waits.
            let shows = !picture.now.is_empty();
            let mut keys = self.screen.as_mut().filter(|_| shows).map(Screen::keys);
            let quit = async {
                match &mut keys {
                    Some(keys) => while !matches!(keys.recv().await, Some(b'q' | b'Q') | None) {},
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.wait() => return Ok(()),
                () = quit => return Ok(()),
                () = async {
                    ticks.tick().await;
                    look(&self.members, self.limit, &mut picture).await;
                } => {}
            }
            // Rates take two looks; at a terminal somebody waits for what is known already.
            if self.screen.is_none() && picture.before.is_empty() {
                continue;
            }
            self.show(&picture, pause);
            if self.once {
                return Ok(());
            }
        }
    }

    fn show(&mut self, picture: &Picture, pause: Duration) {
        match (&mut self.screen, self.format) {
            (Some(screen), _) => {
                let mut text = view::text(picture, pause, Paint::stdout());
                text += "\nq quits\n";
                screen.show(&text);
            }
            (None, Format::Json) => output::line(&view::json(picture)),
            (None, _) => output::stdout(view::text(picture, pause, Paint::stdout()).as_bytes()),
        }
    }
}

/// Looks at all members at once. What was known becomes what was before.
async fn look(members: &[Member], limit: Duration, picture: &mut Picture) {
    let mut looks = JoinSet::new();
    for (number, member) in members.iter().enumerate() {
        let (endpoint, client) = (member.endpoint.clone(), member.client.clone());
        looks.spawn(async move { (number, look_at(endpoint, client, limit).await) });
    }
    let mut found = looks.join_all().await;
    found.sort_unstable_by_key(|(number, _)| *number);
    let now: Vec<Look> = found.into_iter().map(|(_, look)| look).collect();
    picture.before = std::mem::replace(&mut picture.now, now);
    let known = |look: &Look| look.id().is_none_or(|id| picture.names.contains_key(&id));
    if picture.now.iter().all(known) {
        return;
    }
    let clients = members.iter().zip(&picture.now).filter(|(_, look)| look.status.is_ok());
    for client in clients.filter_map(|(member, _)| member.client.as_ref().ok()) {
        if let Ok(answer) = client.member_list_serializable().await {
            picture.names = answer.members.into_iter().map(|m| (m.id, m.name)).collect();
            return;
        }
    }
}

async fn look_at(endpoint: String, client: Result<Client, String>, limit: Duration) -> Look {
    let status = async {
        match client {
            Ok(client) => client.status(&endpoint).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        }
    };
    let (status, metrics) = tokio::join!(status, Metrics::fetch(&endpoint, limit));
    Look { at: Instant::now(), status, metrics: metrics.ok(), endpoint }
}

impl Look {
    /// The member that has answered.
    fn id(&self) -> Option<u64> {
        let status = self.status.as_ref().ok()?;
        status.header.as_ref().map(|header| header.member_id)
    }
}
