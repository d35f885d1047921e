//! What operators need. What concerns one member is asked of its endpoint.

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{
    AlarmRequest, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
    MoveLeaderRequest, StatusRequest,
};
use prost::Message;

use crate::call::Method;
use crate::client::Client;
use crate::error::Result;

pub use api::etcdserverpb::downgrade_request::DowngradeAction;
pub use api::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, DefragmentResponse, DowngradeResponse, HashKvResponse,
    HashResponse, MoveLeaderResponse, StatusResponse,
};

const ALARM: Method = Method::repeatable("/etcdserverpb.Maintenance/Alarm");
const STATUS: Method = Method::repeatable("/etcdserverpb.Maintenance/Status");
const DEFRAGMENT: Method = Method::once("/etcdserverpb.Maintenance/Defragment");
const HASH: Method = Method::repeatable("/etcdserverpb.Maintenance/Hash");
const HASH_KV: Method = Method::repeatable("/etcdserverpb.Maintenance/HashKV");
const MOVE_LEADER: Method = Method::repeatable("/etcdserverpb.Maintenance/MoveLeader");
const DOWNGRADE: Method = Method::once("/etcdserverpb.Maintenance/Downgrade");

impl Client {
    /// The alarms that are raised.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn alarm_list(&self) -> Result<AlarmResponse> {
        self.unary(ALARM, AlarmRequest::default()).await
    }

    /// Lowers an alarm of a member, and returns what was lowered. Member 0 with [`AlarmType::None`] stands for all
    /// that are raised.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn alarm_disarm(&self, alarm: AlarmMember) -> Result<AlarmResponse> {
        if alarm != AlarmMember::default() {
            return self.disarm(alarm).await;
        }
        let mut all = AlarmResponse::default();
        for alarm in self.alarm_list().await?.alarms {
            all.alarms.extend(self.disarm(alarm).await?.alarms);
        }
        Ok(all)
    }

    async fn disarm(&self, AlarmMember { member_id, alarm }: AlarmMember) -> Result<AlarmResponse> {
        let action = AlarmAction::Deactivate.into();
        self.unary(ALARM, AlarmRequest { action, member_id, alarm }).await
    }

    /// How the member at this endpoint is.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn status(&self, endpoint: &str) -> Result<StatusResponse> {
        self.unary_at(endpoint, STATUS, StatusRequest {}).await
    }

    /// Rewrites the database of the member at this endpoint without holes.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn defragment(&self, endpoint: &str) -> Result<DefragmentResponse> {
        self.unary_at(endpoint, DEFRAGMENT, DefragmentRequest {}).await
    }

    /// A hash of the keys up to a revision (0: the current one) of the member at this endpoint.
    ///
    /// # Errors
    /// If the revision was forgotten or isn't there yet, or the call fails.
    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKvResponse> {
        self.unary_at(endpoint, HASH_KV, HashKvRequest { revision }).await
    }

    /// A hash of the whole database of the member at this endpoint; for tests.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn hash(&self, endpoint: &str) -> Result<HashResponse> {
        self.unary_at(endpoint, HASH, HashRequest {}).await
    }

    /// Hands the lead to another member. The leader must be the only endpoint.
    ///
    /// # Errors
    /// If another member is asked, or the call fails.
    pub async fn move_leader(&self, target_id: u64) -> Result<MoveLeaderResponse> {
        self.unary(MOVE_LEADER, MoveLeaderRequest { target_id }).await
    }

    /// Checks, begins or ends a downgrade of the cluster to a version.
    ///
    /// # Errors
    /// If the cluster refuses it, or the call fails.
    pub async fn downgrade(
        &self,
        action: DowngradeAction,
        version: impl Into<String>,
    ) -> Result<DowngradeResponse> {
        let request = DowngradeRequest { action: action.into(), version: version.into() };
        self.unary(DOWNGRADE, request).await
    }

    /// A call to one endpoint, which need not be one of the client's.
    async fn unary_at<Q, A>(&self, endpoint: &str, method: Method, request: Q) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.caller().alone(endpoint)?.unary(self.terms(), method, request).await
    }
}
