//! What operators do: members, upkeep, snapshots, users.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use client::auth::{KeyRange, PermissionType};
use client::maintenance::AlarmMember;
use client::{Client, EtcdError};
use sha2::{Digest as _, Sha256};

use crate::support::{Cluster, Wire, alone, run};

#[test]
fn members_are_told_and_changed() {
    run(async {
        let (cluster, client) = alone().await;
        let members = client.member_list().await.expect("members").members;
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].name, "n0");
        assert_eq!(client.member_list_serializable().await.expect("members").members, members);
        let learner = client.member_add_as_learner(["http://127.0.0.1:1"]).await.expect("add");
        let learner = learner.member.expect("a member");
        assert!(learner.is_learner);
        let error = client.member_promote(learner.id).await.expect_err("it is behind");
        assert!(error.is(EtcdError::LearnerNotReady), "{error}");
        client.member_update(learner.id, ["http://127.0.0.1:2"]).await.expect("update");
        let left = client.member_remove(learner.id).await.expect("remove").members;
        assert_eq!(left, members);
        let error = client.member_remove(learner.id).await.expect_err("gone");
        assert!(error.is(EtcdError::MemberNotFound), "{error}");
        let status = client.status(&cluster.servers[0].endpoint()).await.expect("status");
        assert_eq!((status.version.as_str(), status.leader), ("3.7.3", members[0].id));
        let error = client.move_leader(77).await.expect_err("no such member");
        assert!(error.is(EtcdError::BadLeaderTransferee), "{error}");
    });
}

#[test]
fn upkeep_is_asked_of_one_member_and_the_lead_is_handed_over() {
    run(async {
        let cluster = Cluster::start(3).await;
        let client = cluster.client().await;
        let put = client.put("k", "v").await.expect("put").header.expect("a header");
        let mut hashes = Vec::new();
        for server in &cluster.servers {
            let endpoint = server.endpoint();
            // A read that all have agreed on brings a member up to date.
            server.client().await.get("k").await.expect("get");
            client.defragment(&endpoint).await.expect("defragment");
            client.hash(&endpoint).await.expect("hash");
            hashes.push(client.hash_kv(&endpoint, put.revision).await.expect("hash").hash);
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
        assert_eq!(client.alarm_list().await.expect("alarms").alarms, []);
        assert_eq!(client.alarm_disarm(AlarmMember::default()).await.expect("none").alarms, []);
        hand_over(&cluster, &client).await;
    });
}

async fn hand_over(cluster: &Cluster, client: &Client) {
    let first = cluster.servers[0].endpoint();
    let status = client.status(&first).await.expect("status");
    let members = client.member_list().await.expect("members").members;
    let leader = members.iter().find(|member| member.id == status.leader).expect("a leader");
    let next = members.iter().find(|member| member.id != status.leader).expect("another");
    let at_leader = client::Config::new(leader.client_urls.clone());
    let at_leader = Client::connect(at_leader).await.expect("a client");
    at_leader.move_leader(next.id).await.expect("move");
    let status = at_leader.status(&next.client_urls[0]).await.expect("status");
    assert_eq!(status.leader, next.id);
}

#[test]
fn a_snapshot_is_whole_or_nothing() {
    run(async {
        let (cluster, client) = alone().await;
        client.put("k", vec![0; 1 << 20]).await.expect("put");
        let path = cluster.scratch.join("saved.db");
        let mut heard = Vec::new();
        let saved = client.snapshot_save(&path, |progress| heard.push(progress)).await;
        let saved = saved.expect("a snapshot");
        assert_eq!(saved.version, "3.7.0");
        let bytes = fs::read(&path).expect("a file");
        assert_eq!(bytes.len() as u64, saved.size_bytes);
        let (database, trailer) = bytes.split_at(bytes.len() - 32);
        assert_eq!(*Sha256::digest(database), *trailer);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let last = heard.last().expect("progress");
        assert_eq!((last.received_bytes, last.total_bytes), (saved.size_bytes, saved.size_bytes));
        assert!(heard.is_sorted_by_key(|progress| progress.received_bytes));
        assert!(!cluster.scratch.join("saved.db.part").exists());

        let wire = Wire::to(cluster.servers[0].address()).await;
        let cut = Client::connect(client::Config::new([wire.endpoint()])).await.expect("a client");
        let failed = cut.snapshot_save(&path, |_| wire.cut()).await;
        failed.expect_err("the connection broke");
        assert!(!cluster.scratch.join("saved.db.part").exists());
        assert_eq!(fs::read(&path).expect("the old file"), bytes);

        let nowhere = cluster.scratch.join("none/saved.db");
        let error = client.snapshot_save(&nowhere, |_| {}).await.expect_err("no directory");
        let text = error.to_string();
        assert!(text.starts_with("could not open ") && text.contains("saved.db.part"), "{text}");
    });
}

#[test]
fn calls_about_users_reach_the_server() {
    run(async {
        let (_cluster, client) = alone().await;
        // The server has no users yet; what matters here is that each call arrives and its refusal returns.
        let results = [
            client.user_add("u", "p").await.map(drop),
            client.role_add("r").await.map(drop),
            client
                .role_grant_permission("r", KeyRange::prefix("k"), PermissionType::Read)
                .await
                .map(drop),
            client.auth_status().await.map(drop),
        ];
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.code(), client::Code::Unimplemented, "{error}");
        }
    });
}
