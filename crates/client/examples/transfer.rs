//! Programs that are transactions: `cargo run -p client --example transfer [ENDPOINT...]`.

#![expect(clippy::print_stdout, reason = "an example")]

use bytes::Bytes;
use client::concurrency::Stm;
use client::{Client, Config};

fn balance(value: Option<Bytes>) -> i64 {
    let text = value.map(|value| String::from_utf8_lossy(&value).into_owned());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Moves money between accounts, twenty times at once; none is made or lost.
pub(crate) async fn example(client: &Client) -> client::Result<()> {
    client.put("accounts/ada", "100").await?;
    client.put("accounts/bob", "100").await?;
    let transfers = (0..20).map(|_| {
        let stm = Stm::new(client).prefetch(["accounts/ada", "accounts/bob"]);
        tokio::spawn(stm.run(|txn| async move {
            let ada = balance(txn.get("accounts/ada").await?);
            let bob = balance(txn.get("accounts/bob").await?);
            txn.put("accounts/ada", (ada - 1).to_string());
            txn.put("accounts/bob", (bob + 1).to_string());
            Ok(())
        }))
    });
    for transfer in transfers.collect::<Vec<_>>() {
        transfer.await.expect("it does not panic")?;
    }
    for kv in client.get("accounts/").prefix().await?.kvs {
        println!("{}: {}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    }
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
