//! `v3electionpb.Election`: whoever has created the oldest key under a name leads, and its value is what others see.

use api::Error;
use api::etcdserverpb as pb;
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use api::range::prefix_end;
use api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use bytes::Bytes;

use super::steps::{self, Found, Steps};
use super::{Result, decode, refuse_learner};
use crate::desk::{CallInfo, Desk, Next};
use crate::task::{self, GivenUp, Messages};

/// `Campaign`: answered when the client leads.
pub(crate) fn campaign(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: CampaignRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, given_up| win(Steps::new(caller), given_up, request)))
}

/// `Proclaim`: changes the value of a leader.
pub(crate) fn proclaim(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: ProclaimRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, _| async move {
        let steps = Steps::new(caller);
        let mut leader = request.leader.ok_or_else(missing_leader)?;
        leader.lease = steps.session(leader.lease).await?;
        let header = tell(&steps, &leader, request.value).await?;
        Ok(ProclaimResponse { header: Some(header) })
    }))
}

/// `Leader`: the oldest key.
pub(crate) fn leader(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: LeaderRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, _| async move {
        let prefix = steps::prefix_of(&request.name);
        let found = Steps::new(caller).range(&steps::first_created(&prefix)).await?;
        match found.kv {
            Some(kv) => Ok(LeaderResponse { header: Some(found.header), kv: Some(kv) }),
            None => Err(Error::ElectionNoLeader.into()),
        }
    }))
}

/// `Observe`: each leader, and each value that it proclaims.
pub(crate) fn observe(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: LeaderRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::stream(desk, call, |caller, messages| async move {
        let prefix = steps::prefix_of(&request.name);
        // What goes wrong ends the stream without a word, as in etcd.
        let _ = follow(&Steps::new(caller), &prefix, &messages).await;
    }))
}

/// `Resign`: deletes the key of a leader.
pub(crate) fn resign(desk: &mut Desk, call: &CallInfo, request: &[u8]) -> Result<Next> {
    let request: ResignRequest = decode(request)?;
    refuse_learner(desk)?;
    Ok(task::unary(desk, call, |caller, _| async move {
        let steps = Steps::new(caller);
        let mut leader = request.leader.ok_or_else(missing_leader)?;
        leader.lease = steps.session(leader.lease).await?;
        let header = give_up(&steps, &leader.key, leader.rev).await?;
        Ok(ResignResponse { header: Some(header) })
    }))
}

async fn win(
    steps: Steps,
    mut given_up: GivenUp,
    request: CampaignRequest,
) -> Result<CampaignResponse> {
    let lease = steps.session(request.lease).await?;
    let prefix = steps::prefix_of(&request.name);
    let key = steps::key_of(&prefix, lease);
    let response = steps
        .txn(&pb::TxnRequest {
            compare: vec![steps::created_at(&key, 0)],
            success: vec![steps::put_op(&key, request.value.clone(), lease)],
            failure: vec![steps::range_op(steps::get(&key))],
        })
        .await?;
    let header = response.header.unwrap_or_default();
    let mut leader = LeaderKey { name: request.name, key, rev: header.revision, lease };
    if !response.succeeded {
        // This lease campaigns, or leads, already.
        let kv = steps::first_row(&response, 0).cloned().unwrap_or_default();
        leader.rev = kv.create_revision;
        if kv.value != request.value
            && let Err(status) = tell(&steps, &leader, request.value).await
        {
            let _ = give_up(&steps, &leader.key, leader.rev).await;
            return Err(status);
        }
    }
    tokio::select! {
        waited = steps.wait_deletes(&prefix, leader.rev - 1) => waited?,
        () = given_up.wait() => {
            let _ = give_up(&steps, &leader.key, leader.rev).await;
            return Err(Error::ContextCanceled.into());
        }
    }
    Ok(CampaignResponse { header: Some(header), leader: Some(leader) })
}

/// Changes the value of a leader's key, if it still is the leader's.
async fn tell(steps: &Steps, leader: &LeaderKey, value: Bytes) -> Result<pb::ResponseHeader> {
    let response = steps
        .txn(&pb::TxnRequest {
            compare: vec![steps::created_at(&leader.key, leader.rev)],
            success: vec![steps::put_op(&leader.key, value, leader.lease)],
            failure: Vec::new(),
        })
        .await?;
    if !response.succeeded {
        return Err(Error::ElectionNotLeader.into());
    }
    Ok(response.header.unwrap_or_default())
}

/// Deletes a leader's key, if it still is the leader's.
async fn give_up(steps: &Steps, key: &Bytes, revision: i64) -> Result<pb::ResponseHeader> {
    let response = steps
        .txn(&pb::TxnRequest {
            compare: vec![steps::created_at(key, revision)],
            success: vec![steps::delete_op(key)],
            failure: Vec::new(),
        })
        .await?;
    Ok(response.header.unwrap_or_default())
}

/// Sends each leader until the client is gone.
async fn follow(steps: &Steps, prefix: &Bytes, messages: &Messages) -> Result<()> {
    loop {
        let found = steps.range(&steps::first_created(prefix)).await?;
        let (header, kv) = match found {
            Found { header, kv: Some(kv) } => (header, kv),
            Found { header, kv: None } => first_put(steps, prefix, header.revision).await?,
        };
        let (key, next) = (kv.key.clone(), header.revision + 1);
        if !send(messages, header, kv).await {
            return Ok(());
        }
        let mut watch = steps.watch(key, Bytes::new(), next).await;
        'reign: loop {
            let response = watch.next().await?;
            let header = response.header.unwrap_or_default();
            for event in response.events {
                if event.r#type() == EventType::Delete {
                    break 'reign;
                }
                if !send(messages, header, event.kv.unwrap_or_default()).await {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for the first key of a name that has none.
async fn first_put(
    steps: &Steps,
    prefix: &Bytes,
    revision: i64,
) -> Result<(pb::ResponseHeader, KeyValue)> {
    let mut watch = steps.watch(prefix.clone(), prefix_end(prefix), revision).await;
    loop {
        let response = watch.next().await?;
        let put = response.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv) {
            let header = response.header.unwrap_or_default();
            return Ok((pb::ResponseHeader { revision: kv.mod_revision, ..header }, kv));
        }
    }
}

async fn send(messages: &Messages, header: pb::ResponseHeader, kv: KeyValue) -> bool {
    messages.send(&LeaderResponse { header: Some(header), kv: Some(kv) }).await
}

fn missing_leader() -> api::Status {
    Error::MissingLeaderKey.into()
}
