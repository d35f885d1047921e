//! The one gRPC call of `cargo xtask cluster`.

use api::etcdserverpb::MemberAddRequest;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::net::TcpStream;

/// Asks the member at `address` to add a learner. The error is its text, or that of the connection.
pub(crate) fn add_learner(address: &str, peer_url: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| err.to_string())?;
    let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
    runtime.block_on(call(address, &request)).map_err(|err| err.to_string())?
}

async fn call(
    address: &str,
    request: &MemberAddRequest,
) -> Result<Result<(), String>, Box<dyn std::error::Error>> {
    let socket = TcpStream::connect(address).await?;
    let (sender, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let head = http::Request::post("http://etcd/etcdserverpb.Cluster/MemberAdd")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut send) = sender.ready().await?.send_request(head, false)?;
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.encoded_len())?);
    request.encode(&mut frame)?;
    send.send_data(Bytes::from(frame), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut end = head.headers;
    while let Some(data) = body.data().await {
        data?;
    }
    if let Some(trailers) = body.trailers().await? {
        end.extend(trailers);
    }
    let text = |name| end.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(match text("grpc-status") {
        "0" => Ok(()),
        _ => Err(text("grpc-message").to_owned()),
    })
}
