//! Who leads, and who hears of it: `cargo run -p client --example leader [ENDPOINT...]`.

#![expect(clippy::print_stdout, reason = "an example")]

use client::concurrency::Election;
use client::{Client, Config, Put};

/// Leads, says so to who observes, writes what only the leader may write, and steps back.
pub(crate) async fn example(client: &Client) -> client::Result<()> {
    let session = client.session().ttl(10).await?;
    let mut election = Election::new(&session, "reports/leader");
    let mut observer = election.observe();

    election.campaign("10.0.0.1:8080").await?;
    println!("leader: {:?}", observer.next().await?.value);

    // A leader that was cut off and does not know it yet must not write.
    if let Some((key, revision)) = election.lead() {
        let leads =
            client::Compare::create_revision(key.clone(), client::Comparison::Equal, revision);
        let answer = client.txn().when(leads).then(Put::new("reports/last", "today")).await?;
        println!("{}", if answer.succeeded { "written" } else { "somebody else leads" });
    }

    election.proclaim("10.0.0.1:9090").await?;
    println!("leader: {:?}", observer.next().await?.value);
    election.resign().await?;
    session.close().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> client::Result<()> {
    let mut endpoints: Vec<String> = std::env::args().skip(1).collect();
    if endpoints.is_empty() {
        endpoints.push("http://127.0.0.1:2379".to_owned());
    }
    example(&Client::connect(Config::new(endpoints)).await?).await
}
