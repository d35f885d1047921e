//! `lease-keepalive`.

use std::sync::Arc;

use client::Client;

use crate::load::drive;
use crate::session::{Failure, Session};

const TTL_S: i64 = 100;

pub(crate) async fn keepalive(session: &Session) -> Result<(), Failure> {
    let amount = crate::load::Amount { total: session.number("total")?, rate: 0 };
    let clients = session.clients().await?;
    let mut leases = Vec::new();
    for client in &clients {
        leases.push(client.lease_grant(TTL_S).await.map_err(Failure::new)?.id);
    }
    let leases = Arc::new(leases);
    let report = drive(&clients, amount, session.samples(), move |client: Client, number| {
        let lease = leases[number as usize % leases.len()];
        async move { client.lease_keep_alive_once(lease).await.map(drop) }
    });
    session.report("", "lease-keepalive", &report.await?);
    Ok(())
}
