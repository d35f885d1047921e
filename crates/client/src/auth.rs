//! Users, roles and permissions.

use api::authpb::UserAddOptions;
use api::etcdserverpb as pb;

use crate::call::Method;
use crate::client::Client;
use crate::error::Result;
use crate::op::{to_from_key, to_prefix};

pub use api::authpb::Permission;
pub use api::authpb::permission::Type as PermissionType;
pub use api::etcdserverpb::{
    AuthDisableResponse, AuthEnableResponse, AuthRoleAddResponse, AuthRoleDeleteResponse,
    AuthRoleGetResponse, AuthRoleGrantPermissionResponse, AuthRoleListResponse,
    AuthRoleRevokePermissionResponse, AuthStatusResponse, AuthUserAddResponse,
    AuthUserChangePasswordResponse, AuthUserDeleteResponse, AuthUserGetResponse,
    AuthUserGrantRoleResponse, AuthUserListResponse, AuthUserRevokeRoleResponse,
    AuthenticateResponse,
};

/// The keys of a permission: one, or a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    key: bytes::Bytes,
    range_end: bytes::Bytes,
}

impl KeyRange {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into().into(), range_end: bytes::Bytes::new() }
    }

    /// The keys from this one to before `end`.
    #[must_use]
    pub fn range(key: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into().into(), range_end: end.into().into() }
    }

    /// All keys that begin with this one.
    #[must_use]
    pub fn prefix(key: impl Into<Vec<u8>>) -> Self {
        let mut range = Self::key(key);
        to_prefix(&mut range.key, &mut range.range_end);
        range
    }

    /// This key and all behind it.
    #[must_use]
    pub fn from_key(key: impl Into<Vec<u8>>) -> Self {
        let mut range = Self::key(key);
        to_from_key(&mut range.key, &mut range.range_end);
        range
    }
}

/// The method of this name, which must not happen twice.
macro_rules! once {
    ($name:literal) => {
        Method::once(concat!("/etcdserverpb.Auth/", $name))
    };
}

/// The method of this name, which reads.
macro_rules! read {
    ($name:literal) => {
        Method::repeatable(concat!("/etcdserverpb.Auth/", $name))
    };
}

/// Errors of these calls: the cluster refuses, or the call fails.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Client {
    /// Turns authentication on; needs a user root with the role root.
    pub async fn auth_enable(&self) -> Result<AuthEnableResponse> {
        self.unary(once!("AuthEnable"), pb::AuthEnableRequest {}).await
    }

    /// Turns authentication off.
    pub async fn auth_disable(&self) -> Result<AuthDisableResponse> {
        self.unary(once!("AuthDisable"), pb::AuthDisableRequest {}).await
    }

    /// Whether authentication is on, and the revision of users and roles.
    pub async fn auth_status(&self) -> Result<AuthStatusResponse> {
        self.unary(once!("AuthStatus"), pb::AuthStatusRequest {}).await
    }

    /// A token for a name and a password. [`Config::user`](crate::Config::user) does this by itself.
    pub async fn authenticate(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthenticateResponse> {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        self.unary(once!("Authenticate"), request).await
    }

    /// Adds a user.
    pub async fn user_add(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthUserAddResponse> {
        self.add_user(name.into(), password.into(), false).await
    }

    /// Adds a user who proves who it is by a certificate.
    pub async fn user_add_without_password(
        &self,
        name: impl Into<String>,
    ) -> Result<AuthUserAddResponse> {
        self.add_user(name.into(), String::new(), true).await
    }

    async fn add_user(
        &self,
        name: String,
        password: String,
        no_password: bool,
    ) -> Result<AuthUserAddResponse> {
        let options = Some(UserAddOptions { no_password });
        let request =
            pb::AuthUserAddRequest { name, password, options, ..pb::AuthUserAddRequest::default() };
        self.unary(once!("UserAdd"), request).await
    }

    /// The roles of a user.
    pub async fn user_get(&self, name: impl Into<String>) -> Result<AuthUserGetResponse> {
        self.unary(read!("UserGet"), pb::AuthUserGetRequest { name: name.into() }).await
    }

    /// The users.
    pub async fn user_list(&self) -> Result<AuthUserListResponse> {
        self.unary(read!("UserList"), pb::AuthUserListRequest {}).await
    }

    /// Deletes a user.
    pub async fn user_delete(&self, name: impl Into<String>) -> Result<AuthUserDeleteResponse> {
        self.unary(once!("UserDelete"), pb::AuthUserDeleteRequest { name: name.into() }).await
    }

    /// Changes the password of a user.
    pub async fn user_change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthUserChangePasswordResponse> {
        let request = pb::AuthUserChangePasswordRequest {
            name: name.into(),
            password: password.into(),
            ..pb::AuthUserChangePasswordRequest::default()
        };
        self.unary(once!("UserChangePassword"), request).await
    }

    /// Gives a role to a user.
    pub async fn user_grant_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthUserGrantRoleResponse> {
        let request = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        self.unary(once!("UserGrantRole"), request).await
    }

    /// Takes a role from a user.
    pub async fn user_revoke_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthUserRevokeRoleResponse> {
        let request = pb::AuthUserRevokeRoleRequest { name: user.into(), role: role.into() };
        self.unary(once!("UserRevokeRole"), request).await
    }

    /// Adds a role.
    pub async fn role_add(&self, name: impl Into<String>) -> Result<AuthRoleAddResponse> {
        self.unary(once!("RoleAdd"), pb::AuthRoleAddRequest { name: name.into() }).await
    }

    /// The permissions of a role.
    pub async fn role_get(&self, role: impl Into<String>) -> Result<AuthRoleGetResponse> {
        self.unary(read!("RoleGet"), pb::AuthRoleGetRequest { role: role.into() }).await
    }

    /// The roles.
    pub async fn role_list(&self) -> Result<AuthRoleListResponse> {
        self.unary(read!("RoleList"), pb::AuthRoleListRequest {}).await
    }

    /// Deletes a role.
    pub async fn role_delete(&self, role: impl Into<String>) -> Result<AuthRoleDeleteResponse> {
        self.unary(once!("RoleDelete"), pb::AuthRoleDeleteRequest { role: role.into() }).await
    }

    /// Lets a role read or write keys.
    pub async fn role_grant_permission(
        &self,
        role: impl Into<String>,
        keys: KeyRange,
        permission: PermissionType,
    ) -> Result<AuthRoleGrantPermissionResponse> {
        let KeyRange { key, range_end } = keys;
        let perm = Some(Permission { perm_type: permission.into(), key, range_end });
        let request = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm };
        self.unary(once!("RoleGrantPermission"), request).await
    }

    /// Takes the permission for these keys from a role.
    pub async fn role_revoke_permission(
        &self,
        role: impl Into<String>,
        keys: KeyRange,
    ) -> Result<AuthRoleRevokePermissionResponse> {
        let KeyRange { key, range_end } = keys;
        let request = pb::AuthRoleRevokePermissionRequest { role: role.into(), key, range_end };
        self.unary(once!("RoleRevokePermission"), request).await
    }
}
