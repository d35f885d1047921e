//! Members: who they are, and how they come and go.

use api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};

use crate::call::Method;
use crate::client::Client;
use crate::error::Result;

pub use api::etcdserverpb::{
    Member, MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse,
    MemberUpdateResponse,
};

const ADD: Method = Method::once("/etcdserverpb.Cluster/MemberAdd");
const REMOVE: Method = Method::once("/etcdserverpb.Cluster/MemberRemove");
const UPDATE: Method = Method::once("/etcdserverpb.Cluster/MemberUpdate");
const LIST: Method = Method::repeatable("/etcdserverpb.Cluster/MemberList");
const PROMOTE: Method = Method::once("/etcdserverpb.Cluster/MemberPromote");

fn strings<S: Into<String>>(urls: impl IntoIterator<Item = S>) -> Vec<String> {
    urls.into_iter().map(Into::into).collect()
}

impl Client {
    /// Adds a member, which is to be started with these peer URLs.
    ///
    /// # Errors
    /// If the cluster refuses it, or the call fails.
    pub async fn member_add<S: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = S>,
    ) -> Result<MemberAddResponse> {
        let request = MemberAddRequest { peer_urls: strings(peer_urls), is_learner: false };
        self.unary(ADD, request).await
    }

    /// Adds a member that has no vote until it is promoted.
    ///
    /// # Errors
    /// If the cluster refuses it, or the call fails.
    pub async fn member_add_as_learner<S: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = S>,
    ) -> Result<MemberAddResponse> {
        let request = MemberAddRequest { peer_urls: strings(peer_urls), is_learner: true };
        self.unary(ADD, request).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// If the cluster refuses it, or the call fails.
    pub async fn member_remove(&self, id: u64) -> Result<MemberRemoveResponse> {
        self.unary(REMOVE, MemberRemoveRequest { id }).await
    }

    /// Tells the others where a member is found from now on.
    ///
    /// # Errors
    /// If the cluster refuses it, or the call fails.
    pub async fn member_update<S: Into<String>>(
        &self,
        id: u64,
        peer_urls: impl IntoIterator<Item = S>,
    ) -> Result<MemberUpdateResponse> {
        self.unary(UPDATE, MemberUpdateRequest { id, peer_urls: strings(peer_urls) }).await
    }

    /// The members.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn member_list(&self) -> Result<MemberListResponse> {
        self.unary(LIST, MemberListRequest { linearizable: true }).await
    }

    /// The members as the one that is asked knows them, without a word to the others.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn member_list_serializable(&self) -> Result<MemberListResponse> {
        self.unary(LIST, MemberListRequest { linearizable: false }).await
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// If it isn't one, or is behind, or the call fails.
    pub async fn member_promote(&self, id: u64) -> Result<MemberPromoteResponse> {
        self.unary(PROMOTE, MemberPromoteRequest { id }).await
    }
}
