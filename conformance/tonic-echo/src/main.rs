//! Answers each Put and each Range with a header, on tonic and one thread: `tonic-echo ADDRESS`. What
//! `crates/rpc/examples/echo.rs` is measured against.

use std::net::SocketAddr;

use generated::etcdserverpb as pb;
use pb::kv_server::{Kv, KvServer};
use tonic::codegen::tokio_stream::Empty;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[allow(dead_code, clippy::all, reason = "tonic's own code, for all of etcd's services")]
mod generated {
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
}

struct Echo;

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 7, member_id: 1, revision: 1, raft_term: 2 })
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not an echo"))
}

#[tonic::async_trait]
impl Kv for Echo {
    type RangeStreamStream = Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range(
        &self,
        _request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(pb::RangeResponse { header: header(), ..Default::default() }))
    }

    async fn put(
        &self,
        _request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(pb::PutResponse { header: header(), ..Default::default() }))
    }

    async fn range_stream(
        &self,
        _request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unimplemented()
    }

    async fn delete_range(
        &self,
        _request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        unimplemented()
    }

    async fn txn(
        &self,
        _request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        unimplemented()
    }

    async fn compact(
        &self,
        _request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        unimplemented()
    }
}

fn main() {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("usage: tonic-echo ADDRESS");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server =
        Server::builder().tcp_nodelay(true).add_service(KvServer::new(Echo)).serve(address);
    runtime.block_on(server).expect("it serves");
}
