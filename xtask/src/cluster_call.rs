//! The one gRPC call of `cargo xtask cluster`.

use api::etcdserverpb::{MemberAddRequest, MemberAddResponse};

use crate::grpc::Channel;

/// Asks the member at `address` to add a learner. The error is its text, or that of the connection.
pub(crate) fn add_learner(address: &str, peer_url: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| err.to_string())?;
    let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
    let call = async {
        let channel = Channel::connect(address).await?;
        channel.unary("/etcdserverpb.Cluster/MemberAdd", &request).await
    };
    let answer: Result<MemberAddResponse, _> = runtime.block_on(call);
    answer.map(drop).map_err(|failure| failure.to_string())
}
