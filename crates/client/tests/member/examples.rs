//! The examples do what they say, against a member.

use crate::support::{alone, run};

#[expect(dead_code, reason = "their main functions")]
#[path = "../../examples/keys.rs"]
mod keys;
#[expect(dead_code, reason = "their main functions")]
#[path = "../../examples/leader.rs"]
mod leader;
#[expect(dead_code, reason = "their main functions")]
#[path = "../../examples/transfer.rs"]
mod transfer;

#[test]
fn examples_run() {
    run(async {
        let (_cluster, client) = alone().await;
        keys::example(&client).await.expect("keys");
        assert_eq!(client.get("seats/").prefix().await.expect("get").count, 2);
        leader::example(&client).await.expect("leader");
        assert_eq!(client.get("reports/last").await.expect("get").kvs[0].value, "today");
        assert_eq!(client.get("reports/leader").prefix().await.expect("get").count, 0);
        transfer::example(&client).await.expect("transfer");
        let accounts = client.get("accounts/").prefix().await.expect("get").kvs;
        let balances: Vec<&[u8]> = accounts.iter().map(|kv| &*kv.value).collect();
        assert_eq!(balances, [b"80", b"120".as_slice()]);
    });
}
