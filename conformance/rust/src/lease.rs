//! Leases.

use etcd_client::{Client, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};

use crate::{Failure, equal, fail, refused};

pub(crate) async fn life(mut client: Client) -> Result<(), Failure> {
    let granted = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(4242))).await;
    let granted = granted.map_err(fail)?;
    equal("grant", (granted.id(), granted.ttl()), (4242, 60))?;
    let other = client.lease_grant(60, None).await.map_err(fail)?;
    equal("an id of its own", other.id() > 0 && other.id() != 4242, true)?;
    for key in ["lease/b", "lease/a"] {
        let options = PutOptions::new().with_lease(4242);
        client.put(key, "v", Some(options)).await.map_err(fail)?;
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(4242, Some(options)).await.map_err(fail)?;
    equal("granted", left.granted_ttl(), 60)?;
    equal("left", (50..=60).contains(&left.ttl()), true)?;
    let mut keys: Vec<&[u8]> = left.keys().iter().map(Vec::as_slice).collect();
    keys.sort_unstable();
    equal("keys", keys, vec![b"lease/a".as_slice(), b"lease/b"])?;
    let (mut keeper, mut stream) = client.lease_keep_alive(4242).await.map_err(fail)?;
    for _ in 0..3 {
        keeper.keep_alive().await.map_err(fail)?;
        let renewed = stream.message().await.map_err(fail)?.ok_or("the stream ended")?;
        equal("renewed", (renewed.id(), renewed.ttl()), (4242, 60))?;
    }
    let all = client.leases().await.map_err(fail)?;
    let mut ids: Vec<i64> = all.leases().iter().map(etcd_client::LeaseStatus::id).collect();
    ids.sort_unstable();
    let mut want = vec![4242, other.id()];
    want.sort_unstable();
    equal("leases", ids, want)?;
    client.lease_revoke(4242).await.map_err(fail)?;
    let got = client.get("lease/a", None).await.map_err(fail)?;
    equal("keys of a revoked lease", got.count(), 0)?;
    let gone = client.lease_time_to_live(4242, None).await.map_err(fail)?;
    equal("a revoked lease", gone.ttl(), -1)?;
    client.lease_revoke(other.id()).await.map_err(fail).map(drop)
}

pub(crate) async fn expiry(mut client: Client) -> Result<(), Failure> {
    let lease = client.lease_grant(1, None).await.map_err(fail)?;
    let mut stream = client.watch("expiry", Some(WatchOptions::new())).await.map_err(fail)?;
    let options = PutOptions::new().with_lease(lease.id());
    client.put("expiry", "v", Some(options)).await.map_err(fail)?;
    let mut seen = 0;
    while seen < 2 {
        let response = stream.message().await.map_err(fail)?.ok_or("the stream ended")?;
        seen += response.events().len();
    }
    let got = client.get("expiry", None).await.map_err(fail)?;
    equal("the key", got.count(), 0)
}

pub(crate) async fn errors(mut client: Client) -> Result<(), Failure> {
    let options = Some(LeaseGrantOptions::new().with_id(77));
    client.lease_grant(60, options.clone()).await.map_err(fail)?;
    let message = "etcdserver: lease already exists";
    refused("a taken id", client.lease_grant(60, options).await, message)?;
    client.lease_revoke(77).await.map_err(fail)?;
    let message = "etcdserver: requested lease not found";
    refused("revoked twice", client.lease_revoke(77).await, message)?;
    let message = "etcdserver: too large lease TTL";
    refused("too long", client.lease_grant(9_000_000_001, None).await, message)
}
