//! Leases.

use std::time::Duration;

use client::{Client, Config, EtcdError};

use crate::support::{Wire, alone, run};

#[test]
fn leases_come_and_go() {
    run(async {
        let (_cluster, client) = alone().await;
        let lease = client.lease_grant(60).id(0x77).await.expect("grant");
        assert_eq!((lease.id, lease.ttl), (0x77, 60));
        let error = client.lease_grant(60).id(0x77).await.expect_err("taken");
        assert!(error.is(EtcdError::LeaseExist));
        let other = client.lease_grant(60).await.expect("grant").id;
        let mut all: Vec<i64> =
            client.leases().await.expect("leases").leases.iter().map(|lease| lease.id).collect();
        all.sort_unstable();
        assert_eq!(all, [0x77, other]);
        client.put("k", "v").lease(0x77).await.expect("put");
        let told = client.lease_time_to_live(0x77, true).await.expect("lease");
        assert_eq!((told.granted_ttl, &*told.keys[0]), (60, &b"k"[..]));
        client.lease_revoke(0x77).await.expect("revoke");
        assert_eq!(client.get("k").await.expect("get").count, 0);
        assert_eq!(client.lease_time_to_live(0x77, false).await.expect("lease").ttl, -1);
        let error = client.lease_revoke(0x77).await.expect_err("gone");
        assert!(error.is(EtcdError::LeaseNotFound));
    });
}

#[test]
fn a_lease_is_renewed_until_it_is_let_go() {
    run(async {
        let (_cluster, client) = alone().await;
        let lease = client.lease_grant(2).await.expect("grant").id;
        assert_eq!(client.lease_keep_alive_once(lease).await.expect("renewal").ttl, 2);
        let mut first = client.lease_keep_alive(lease);
        let mut second = client.lease_keep_alive(lease);
        assert_eq!(first.next().await.expect("a renewal").expect("a renewal").ttl, 2);
        assert_eq!(first.id(), lease);
        drop(first);
        client.lease_revoke(lease).await.expect("revoke");
        let error = loop {
            match second.next().await.expect("an end") {
                Ok(renewal) => assert_eq!(renewal.ttl, 2),
                Err(error) => break error,
            }
        };
        assert!(error.is(EtcdError::LeaseNotFound), "{error}");
        assert!(second.next().await.is_none());
        let error = client.lease_keep_alive_once(lease).await.expect_err("gone");
        assert!(error.is(EtcdError::LeaseNotFound));
    });
}

#[test]
fn renewals_come_after_a_third_and_survive_a_break() {
    run(async {
        let (cluster, direct) = alone().await;
        let wire = Wire::to(cluster.servers[0].address()).await;
        let config = Config::new([wire.endpoint()])
            .reconnect_wait(Duration::from_millis(1), Duration::from_millis(5));
        let client = Client::connect(config).await.expect("a client");
        // The shortest that the server grants with an election of a second.
        let lease = client.lease_grant(2).await.expect("grant");
        let mut renewals = client.lease_keep_alive(lease.id);
        renewals.next().await.expect("a renewal").expect("a renewal");
        wire.cut();
        for _ in 0..2 {
            renewals.next().await.expect("a renewal").expect("a renewal");
        }
        assert!(direct.lease_time_to_live(lease.id, false).await.expect("lease").ttl > 0);
    });
}
