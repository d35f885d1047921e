//! Locks and elections, which wait for each other.

use api::etcdserverpb as pb;
use api::v3electionpb::{CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse};
use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use prost::Message;

use crate::client::{Call, Client, frame};
use crate::member::Member;

const LOCK: &str = "/v3lockpb.Lock/Lock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";

/// A call that has sent its one request.
async fn ask(client: &Client, path: &str, request: &impl Message) -> Call {
    let mut call = client.open(path, &[]).await;
    call.send_bytes(frame(request), true);
    call
}

async fn lease(client: &Client, id: i64) {
    let grant = pb::LeaseGrantRequest { ttl: 600, id };
    let _: pb::LeaseGrantResponse =
        client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.ok();
}

/// Waits until so many keys have this prefix.
async fn queue(client: &Client, prefix: &str, len: i64) {
    let mut range_end = prefix.as_bytes().to_vec();
    range_end.push(u8::MAX);
    let request = pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: range_end.into(),
        count_only: true,
        ..Default::default()
    };
    loop {
        let found: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &request).await.ok();
        if found.count == len {
            return;
        }
    }
}

#[tokio::test]
async fn a_lock_is_handed_on_and_who_gives_up_leaves_the_queue() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for id in 1..=3 {
        lease(&client, id).await;
    }
    let wish = |lease| LockRequest { name: "l".into(), lease };
    let held: LockResponse = client.call(LOCK, &wish(1)).await.ok();
    assert_eq!(held.key, "l/1");
    let gives_up = ask(&client, LOCK, &wish(2)).await;
    queue(&client, "l/", 2).await;
    let waits = ask(&client, LOCK, &wish(3)).await;
    queue(&client, "l/", 3).await;
    gives_up.reset();
    queue(&client, "l/", 2).await;
    let unlock = UnlockRequest { key: held.key };
    let _: UnlockResponse = client.call("/v3lockpb.Lock/Unlock", &unlock).await.ok();
    let held: LockResponse = waits.answer().await.ok();
    assert_eq!(held.key, "l/3");
    let error = client.call(LOCK, &wish(4)).await.error();
    assert_eq!(error, "2 etcdserver: requested lease not found");
}

#[tokio::test]
async fn leaders_are_observed_until_the_client_leaves() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    lease(&client, 1).await;
    lease(&client, 2).await;
    let name = || LeaderRequest { name: "e".into() };
    let mut observer = ask(&client, "/v3electionpb.Election/Observe", &name()).await;
    let wish = |lease, value: &str| CampaignRequest {
        name: "e".into(),
        lease,
        value: value.to_owned().into(),
    };
    let won: CampaignResponse = client.call(CAMPAIGN, &wish(1, "a")).await.ok();
    assert_eq!(won.leader.map(|leader| leader.key), Some("e/1".into()));
    let waits = ask(&client, CAMPAIGN, &wish(2, "b")).await;
    queue(&client, "e/", 2).await;
    let leader = async |observer: &mut Call| {
        let response: LeaderResponse = observer.next().await.expect("a leader");
        response.kv.map(|kv| kv.value)
    };
    assert_eq!(leader(&mut observer).await, Some("a".into()));
    let revoke = pb::LeaseRevokeRequest { id: 1 };
    let _: pb::LeaseRevokeResponse =
        client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await.ok();
    let won: CampaignResponse = waits.answer().await.ok();
    assert_eq!(won.leader.map(|leader| leader.key), Some("e/2".into()));
    assert_eq!(leader(&mut observer).await, Some("b".into()));
    observer.reset();
    let found: LeaderResponse = client.call("/v3electionpb.Election/Leader", &name()).await.ok();
    assert_eq!(found.kv.map(|kv| kv.value), Some("b".into()));
}
