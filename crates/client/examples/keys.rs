//! Keys, conditions and leases: `cargo run -p client --example keys [ENDPOINT...]`.

#![expect(clippy::print_stdout, reason = "an example")]

use client::{Client, Compare, Comparison, Config, Get, Put, SortOrder, SortTarget};

/// Takes the first of some seats that is free.
pub(crate) async fn example(client: &Client) -> client::Result<()> {
    for seat in ["12A", "12B", "12C"] {
        client.put(format!("seats/{seat}"), "").await?;
    }

    let free = client.get("seats/").prefix().sort(SortTarget::Key, SortOrder::Ascend).await?;
    let Some(seat) = free.kvs.first() else { return Ok(()) };

    // Taken only as long as it is paid within a minute, and only if nobody was quicker.
    let lease = client.lease_grant(60).await?;
    let unchanged = Compare::mod_revision(seat.key.clone(), Comparison::Equal, seat.mod_revision);
    let answer = client
        .txn()
        .when(unchanged)
        .then(Put::new(seat.key.clone(), "Ada").lease(lease.id))
        .otherwise(Get::new(seat.key.clone()))
        .await?;
    println!("{:?} is {}", seat.key, if answer.succeeded { "taken" } else { "gone" });

    client.lease_revoke(lease.id).await?;
    let left = client.get("seats/").prefix().count_only().await?.count;
    println!("{left} seats without an owner");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> client::Result<()> {
    let mut endpoints: Vec<String> = std::env::args().skip(1).collect();
    if endpoints.is_empty() {
        endpoints.push("http://127.0.0.1:2379".to_owned());
    }
    example(&Client::connect(Config::new(endpoints)).await?).await
}
