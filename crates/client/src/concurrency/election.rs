//! Who of many leads.

use api::etcdserverpb::response_op::Response;
use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use super::key::{GivenUp, lease_name, revision, wait_deletes};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::op::{Compare, Comparison, Delete, Get, Put, TxnResponse};
use crate::watch::{KeyValue, Watcher};
use crate::{ResponseHeader, SortTarget};

/// A candidate of an election. The one whose key is the oldest leads.
///
/// The key of a candidate is `<prefix>/<lease in hexadecimal>`, and its value is what it proclaims.
///
/// ```
/// # async fn example(client: client::Client) -> client::Result<()> {
/// use client::concurrency::Election;
///
/// let session = client.session().ttl(5).await?;
/// let mut election = Election::new(&session, "service/leader");
/// election.campaign("10.0.0.1:8080").await?;
/// println!("this one leads");
/// election.resign().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Election {
    session: Session,
    prefix: String,
    /// The key of this candidate, with the revision of its creation, while it leads.
    lead: Option<(Bytes, i64)>,
    header: ResponseHeader,
}

impl Election {
    /// The election of this name.
    #[must_use]
    pub fn new(session: &Session, prefix: &str) -> Self {
        let header = ResponseHeader::default();
        Self { session: session.clone(), prefix: format!("{prefix}/"), lead: None, header }
    }

    /// Goes on as the leader that another process of the same session was.
    #[must_use]
    pub fn resume(session: &Session, prefix: &str, key: impl Into<Vec<u8>>, revision: i64) -> Self {
        let lead = Some((key.into().into(), revision));
        Self { lead, ..Self::new(session, prefix) }
    }

    /// Becomes a candidate with this value, and waits to lead. If this is given up, so is the candidacy.
    ///
    /// # Errors
    /// If the session ends, or a call fails.
    pub async fn campaign(&mut self, value: impl Into<Vec<u8>>) -> Result<()> {
        let value: Vec<u8> = value.into();
        let client = self.session.client().clone();
        let key = Bytes::from(format!("{}{}", self.prefix, lease_name(self.session.lease())));
        let given_up = GivenUp::new(&self.session, Some(key.clone()));
        let answer: TxnResponse = client
            .txn()
            .when(Compare::create_revision(key.clone(), Comparison::Equal, 0))
            .then(Put::new(key.clone(), value.clone()).lease(self.session.lease()))
            .otherwise(Get::new(key.clone()))
            .await?;
        let mut created = revision(answer.header.as_ref());
        if !answer.succeeded {
            // A candidate already, perhaps of something else.
            let Some(Response::ResponseRange(range)) =
                answer.responses.first().and_then(|op| op.response.as_ref())
            else {
                return Err(Error::Unexpected("no key of the candidate"));
            };
            let kv = range.kvs.first().ok_or(Error::Unexpected("no key of the candidate"))?;
            created = kv.create_revision;
            if kv.value != value {
                self.lead = Some((key.clone(), created));
                self.proclaim(value).await?;
            }
        }
        self.lead = None;
        tokio::select! {
            result = wait_deletes(&client, &self.prefix, created.saturating_sub(1)) => result?,
            () = self.session.done() => return Err(Error::SessionExpired),
        }
        given_up.keep();
        self.lead = Some((key, created));
        self.header = answer.header.unwrap_or_default();
        Ok(())
    }

    /// Leads with another value.
    ///
    /// # Errors
    /// [`Error::ElectionNotLeader`] if it leads no longer, and if the call fails.
    pub async fn proclaim(&mut self, value: impl Into<Vec<u8>>) -> Result<()> {
        let Some((key, created)) = &self.lead else { return Err(Error::ElectionNotLeader) };
        let answer: TxnResponse = self
            .session
            .client()
            .txn()
            .when(Compare::create_revision(key.clone(), Comparison::Equal, *created))
            .then(Put::new(key.clone(), value).lease(self.session.lease()))
            .await?;
        if !answer.succeeded {
            self.lead = None;
            return Err(Error::ElectionNotLeader);
        }
        self.header = answer.header.unwrap_or_default();
        Ok(())
    }

    /// Lets another one lead. Who doesn't lead need not resign.
    ///
    /// # Errors
    /// If the call fails: the lead then ends with the session.
    pub async fn resign(&mut self) -> Result<()> {
        let Some((key, created)) = self.lead.take() else { return Ok(()) };
        let answer: TxnResponse = self
            .session
            .client()
            .txn()
            .when(Compare::create_revision(key.clone(), Comparison::Equal, created))
            .then(Delete::new(key))
            .await?;
        self.header = answer.header.unwrap_or_default();
        Ok(())
    }

    /// The key of who leads, with what it proclaims.
    ///
    /// # Errors
    /// [`Error::ElectionNoLeader`] if nobody leads, and if the call fails.
    pub async fn leader(&self) -> Result<KeyValue> {
        let first = self.session.client().get(self.prefix.as_str()).first_by(SortTarget::Create);
        first.await?.kvs.into_iter().next().ok_or(Error::ElectionNoLeader)
    }

    /// Follows who leads, and what it proclaims.
    #[must_use]
    pub fn observe(&self) -> Observer {
        let client = self.session.client().clone();
        Observer { client, prefix: self.prefix.clone(), leader: None, heard: Vec::new() }
    }

    /// The key by which it leads, and the revision at which the key was created; `None` if it does not lead.
    #[must_use]
    pub fn lead(&self) -> Option<(&Bytes, i64)> {
        self.lead.as_ref().map(|(key, revision)| (key, *revision))
    }

    /// The header of the last answer that changed something here.
    #[must_use]
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// Leaders, one after the other.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    prefix: String,
    /// The watch of the key of the one who leads.
    leader: Option<Watcher>,
    /// What is to be told next; the last comes first.
    heard: Vec<KeyValue>,
}

impl Observer {
    /// The next leader, or the next thing that a leader proclaims. Some that led shortly may be left out, never the
    /// last one. May be given up and called again.
    ///
    /// # Errors
    /// If a call fails; another call begins anew.
    pub async fn next(&mut self) -> Result<KeyValue> {
        loop {
            if let Some(kv) = self.heard.pop() {
                return Ok(kv);
            }
            let Some(watcher) = &mut self.leader else {
                self.find().await?;
                continue;
            };
            let Some(response) = watcher.next().await else {
                self.leader = None;
                continue;
            };
            let response = response.inspect_err(|_| self.leader = None)?;
            for event in response.events {
                if event.r#type() == EventType::Delete {
                    self.leader = None;
                    break;
                }
                self.heard.extend(event.kv);
            }
            self.heard.reverse();
        }
    }

    /// Finds who leads, or waits for the first candidate.
    async fn find(&mut self) -> Result<()> {
        let answer = self.client.get(self.prefix.as_str()).first_by(SortTarget::Create).await?;
        let mut since = revision(answer.header.as_ref());
        let kv = match answer.kvs.into_iter().next() {
            Some(kv) => kv,
            None => {
                let watch = self.client.watch(self.prefix.as_str()).prefix();
                let event = super::key::wait_event(
                    watch.start_revision(since.saturating_add(1)),
                    EventType::Put,
                )
                .await?;
                let kv = event.kv.ok_or(Error::Unexpected("an event without a key"))?;
                since = kv.mod_revision;
                kv
            }
        };
        self.leader =
            Some(self.client.watch(kv.key.clone()).start_revision(since.saturating_add(1)).await?);
        self.heard.push(kv);
        Ok(())
    }
}
