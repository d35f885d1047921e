//! Questions to the leader, over its peer port: the front door's, and promotions that other members ask of this one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Error;
use api::etcdserverpb as pb;
use api::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use bytes::Bytes;
use prost::Message as _;
use rpc::{AskLeader, Delivery, Inbox, LeaderAnswer, LeaderRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;
use transport::{Call, LeaseRefusal, PeerUrl, Refusal, Tls};

use crate::peer_desk::PeerDesk;

/// The pause before the leader is asked again, or looked for again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// What peers send questions and answers about leases as.
const PROTOBUF: &str = "application/protobuf";

/// Takes questions until the front door has ended. Each is a task of its own.
pub(crate) async fn run(
    mut questions: mpsc::Receiver<AskLeader>,
    desk: Arc<PeerDesk>,
    inboxes: Arc<[Arc<Inbox>]>,
) {
    while let Some(question) = questions.recv().await {
        let (desk, inboxes) = (Arc::clone(&desk), Arc::clone(&inboxes));
        tokio::spawn(async move {
            let result = ask(question.request, question.deadline, &desk).await;
            let token = question.token;
            if let Some(inbox) = inboxes.get((token >> 48) as usize) {
                inbox.push(Delivery::Leader { token, result });
            }
        });
    }
}

/// Makes a learner a voter, wherever the leader is, and gives all members as JSON.
pub(crate) async fn promote(
    id: u64,
    timeout: Duration,
    desk: &PeerDesk,
) -> Result<String, Refusal> {
    match ask(LeaderRequest::Promote(id), Instant::now() + timeout, desk).await {
        Ok(LeaderAnswer::Members(members)) => Ok(cluster::members_to_json(members.iter())),
        Ok(_) => Err(promote_refusal(Error::Stopped)),
        Err(error) => Err(promote_refusal(error)),
    }
}

fn promote_refusal(error: Error) -> Refusal {
    let status = match error {
        Error::MemberNotFound => 404,
        Error::MemberNotLearner | Error::LearnerNotReady => 412,
        _ => {
            let text = "Internal Server Error".to_owned();
            return Refusal { status: 500, text };
        }
    };
    Refusal { status, text: error.internal_message().to_owned() }
}

/// Asks whoever leads until there is an answer that counts.
async fn ask(
    request: LeaderRequest,
    deadline: Instant,
    desk: &PeerDesk,
) -> Result<LeaderAnswer, Error> {
    loop {
        let leader = desk.state.leader.load(Ordering::Relaxed);
        let now = Instant::now();
        if now >= deadline {
            return Err(if leader == 0 { Error::NoLeader } else { Error::Timeout });
        }
        let asking = async {
            if leader == desk.state.member_id {
                ask_here(request, desk).await
            } else {
                let cluster = desk.state.cluster();
                let urls = cluster.member(leader).map_or(&[][..], |member| &member.peer_urls);
                let timeout = deadline - now;
                ask_there(request, urls, timeout, desk.tls.as_ref()).await
            }
        };
        match tokio::time::timeout_at(deadline, asking).await {
            Ok(Some(result)) => return result,
            Ok(None) => tokio::time::sleep(RETRY_INTERVAL).await,
            Err(_) => {}
        }
    }
}

/// This member has come to lead meanwhile. `None`: not now.
async fn ask_here(request: LeaderRequest, desk: &PeerDesk) -> Option<Result<LeaderAnswer, Error>> {
    match request {
        LeaderRequest::LeaseRenew(id) => match desk.renew(id).await {
            Ok(ttl) => Some(Ok(LeaderAnswer::Renewed(Some(ttl)))),
            Err(LeaseRefusal::NotFound) => Some(Ok(LeaderAnswer::Renewed(None))),
            Err(_) => None,
        },
        LeaderRequest::LeaseTimeToLive { id, keys } => match desk.time_to_live(id, keys).await {
            Ok(lease) => Some(Ok(LeaderAnswer::LeaseTtl(Some(lease)))),
            Err(LeaseRefusal::NotFound) => Some(Ok(LeaderAnswer::LeaseTtl(None))),
            Err(_) => None,
        },
        LeaderRequest::Promote(id) => match desk.promote(id).await {
            Ok(cluster) => Some(Ok(LeaderAnswer::Members(cluster.members().cloned().collect()))),
            Err(Error::NotLeader | Error::NoLeader) => None,
            Err(error) => Some(Err(error)),
        },
    }
}

/// Asks at each URL of the leader. `None`: there was no answer that counts.
async fn ask_there(
    request: LeaderRequest,
    urls: &[String],
    timeout: Duration,
    tls: Option<&Tls>,
) -> Option<Result<LeaderAnswer, Error>> {
    let urls = PeerUrl::parse_all(urls).ok()?;
    for url in urls {
        let call = call(request, url.clone(), timeout).with_tls(tls);
        match call.send().await {
            Ok(answer) => {
                if let Some(result) = read(request, answer.status, &answer.body) {
                    return Some(result);
                }
            }
            Err(error) => debug!(%url, %error, "failed to ask the leader"),
        }
    }
    None
}

fn call(request: LeaderRequest, url: PeerUrl, timeout: Duration) -> Call {
    let (path, content) = match request {
        LeaderRequest::LeaseRenew(id) => {
            let request = pb::LeaseKeepAliveRequest { id };
            ("/leases".to_owned(), Some((PROTOBUF, Bytes::from(request.encode_to_vec()))))
        }
        LeaderRequest::LeaseTimeToLive { id, keys } => {
            let request = LeaseInternalRequest {
                lease_time_to_live_request: Some(pb::LeaseTimeToLiveRequest { id, keys }),
            };
            ("/leases/internal".to_owned(), Some((PROTOBUF, Bytes::from(request.encode_to_vec()))))
        }
        LeaderRequest::Promote(id) => (format!("/members/promote/{id}"), None),
    };
    Call {
        method: http::Method::POST,
        content,
        // All keys of a lease may be in it.
        answer_bytes_max: 512 << 20,
        ..Call::get(url, &path, timeout)
    }
}

fn read(request: LeaderRequest, status: u16, body: &[u8]) -> Option<Result<LeaderAnswer, Error>> {
    match (request, status) {
        (LeaderRequest::LeaseRenew(_), 404) => Some(Ok(LeaderAnswer::Renewed(None))),
        (LeaderRequest::LeaseRenew(id), 200) => {
            let answer = pb::LeaseKeepAliveResponse::decode(body).ok()?;
            (answer.id == id).then_some(Ok(LeaderAnswer::Renewed(Some(answer.ttl))))
        }
        (LeaderRequest::LeaseTimeToLive { .. }, 404) => Some(Ok(LeaderAnswer::LeaseTtl(None))),
        (LeaderRequest::LeaseTimeToLive { id, .. }, 200) => {
            let answer = LeaseInternalResponse::decode(body).ok()?.lease_time_to_live_response?;
            let lease = apply::LeaseTtl {
                ttl: answer.ttl,
                granted_ttl: answer.granted_ttl,
                keys: answer.keys,
            };
            (answer.id == id).then_some(Ok(LeaderAnswer::LeaseTtl(Some(lease))))
        }
        (LeaderRequest::Promote(_), 200) => {
            Some(Ok(LeaderAnswer::Members(cluster::members_from_json(body).ok()?)))
        }
        (LeaderRequest::Promote(_), 404) => Some(Err(Error::MemberNotFound)),
        (LeaderRequest::Promote(_), 412) => {
            let text = String::from_utf8_lossy(body);
            // Both have the same status.
            [Error::LearnerNotReady, Error::MemberNotLearner]
                .into_iter()
                .find(|error| text.contains(error.internal_message()))
                .map(Err)
        }
        _ => None,
    }
}
