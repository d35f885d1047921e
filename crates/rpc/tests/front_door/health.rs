//! `grpc.health.v1.Health`: the server as a whole serves, but for the time of a defragmentation if the feature gate says so.

use std::sync::atomic::Ordering;

use api::health as pb;
use pb::health_check_response::ServingStatus::{self, NotServing, ServiceUnknown, Serving};
use rpc::Limits;

use crate::client::{Call, Client};
use crate::member::Member;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const LIST: &str = "/grpc.health.v1.Health/List";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn service(name: &str) -> pb::HealthCheckRequest {
    pb::HealthCheckRequest { service: name.to_owned() }
}

/// A member with the feature gate `StopGRPCServiceOnDefrag`.
fn gated() -> Member {
    let drain_timeout = std::time::Duration::ZERO;
    let stop_grpc_service_on_defrag = true;
    Member::with_limits(Limits { stop_grpc_service_on_defrag, drain_timeout, ..Limits::default() })
}

fn defragment(member: &Member, is_under_way: bool) {
    member.state.defragmenting.store(is_under_way, Ordering::Relaxed);
}

/// What Check and List say of the server.
async fn asked(client: &Client) -> ServingStatus {
    let checked: pb::HealthCheckResponse = client.call(CHECK, &service("")).await.ok();
    let listed: pb::HealthListResponse =
        client.call(LIST, &pb::HealthListRequest::default()).await.ok();
    let listed: Vec<_> = listed.statuses.into_iter().map(|(name, it)| (name, it.status)).collect();
    assert_eq!(listed, [(String::new(), checked.status)]);
    checked.status()
}

async fn watch(client: &Client, name: &str) -> Call {
    let mut watch = client.open(WATCH, &[]).await;
    watch.send(&service(name));
    watch.half_close();
    watch
}

async fn next(watch: &mut Call) -> ServingStatus {
    watch.next::<pb::HealthCheckResponse>().await.expect("a status").status()
}

#[tokio::test]
async fn a_service_of_its_own_has_no_health() {
    let member = Member::start();
    let client = Client::connect(member.address).await;
    for name in ["etcdserverpb.KV", "x"] {
        let unknown = client.call(CHECK, &service(name)).await;
        assert_eq!(unknown.error(), "5 unknown service");
        assert_eq!(next(&mut watch(&client, name).await).await, ServiceUnknown);
    }
    assert_eq!(asked(&client).await, Serving);
}

#[tokio::test]
async fn a_defragmentation_is_told_and_its_end() {
    let member = gated();
    let client = Client::connect(member.address).await;
    let mut early = watch(&client, "").await;
    let mut unknown = watch(&client, "x").await;
    assert_eq!(next(&mut unknown).await, ServiceUnknown);
    for is_under_way in [false, true, false] {
        defragment(&member, is_under_way);
        let expected = if is_under_way { NotServing } else { Serving };
        assert_eq!(next(&mut early).await, expected);
        assert_eq!(asked(&client).await, expected);
        assert_eq!(next(&mut watch(&client, "").await).await, expected);
    }
    // The other was told nothing more.
    member.begin_shutdown();
    let end = unknown.next::<pb::HealthCheckResponse>().await.expect_err("the end");
    assert_eq!((end.code, end.message.as_str()), (14, "etcdserver: server stopped"));
}

/// As in etcd, where nothing but a defragmentation changes it: who has no room or no leader serves reads.
#[tokio::test]
async fn neither_alarms_nor_a_lost_leader_are_told() {
    for (member, is_gated) in [(Member::start(), false), (gated(), true)] {
        let client = Client::connect(member.address).await;
        let mut told = watch(&client, "").await;
        assert_eq!(next(&mut told).await, Serving);
        member.state.alarms.write().push(apply::Alarm { member_id: 1, alarm: 1 });
        member.state.leader.store(0, Ordering::Relaxed);
        if !is_gated {
            defragment(&member, true);
        }
        assert_eq!(asked(&client).await, Serving);
        // A stream is looked after once a second: one with a deadline has ended only after that.
        let late = client.open(WATCH, &[("grpc-timeout", "1m")]).await.answer().await;
        assert_eq!(late.code, 4);
        member.begin_shutdown();
        let end = told.next::<pb::HealthCheckResponse>().await.expect_err("the end");
        assert_eq!(end.code, 14);
    }
}

#[tokio::test]
async fn a_learner_has_no_health() {
    let member = Member::start();
    member.state.is_learner.store(true, Ordering::Relaxed);
    let client = Client::connect(member.address).await;
    for path in [CHECK, LIST, WATCH] {
        let refused = client.call(path, &service("")).await;
        assert_eq!(refused.error(), "9 etcdserver: rpc not supported for learner", "{path}");
    }
}
