//! The buckets of etcd's database.

/// A top-level bucket of etcd's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bucket {
    /// `key`: revisions to key-value rows.
    Key,
    /// `meta`: consistent index, term, configuration, compaction marks, storage version.
    Meta,
    /// `lease`: leases by id.
    Lease,
    /// `alarm`: raised alarms.
    Alarm,
    /// `cluster`: cluster version and downgrade.
    Cluster,
    /// `members`: the members of the cluster.
    Members,
    /// `members_removed`: the ids that may not come back.
    MembersRemoved,
    /// `auth`: whether authentication is on, and its revision.
    Auth,
    /// `authUsers`: users.
    AuthUsers,
    /// `authRoles`: roles.
    AuthRoles,
}

impl Bucket {
    /// How many buckets there are.
    pub const COUNT: usize = 10;

    /// All buckets, in the order of the enum.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Key,
        Self::Meta,
        Self::Lease,
        Self::Alarm,
        Self::Cluster,
        Self::Members,
        Self::MembersRemoved,
        Self::Auth,
        Self::AuthUsers,
        Self::AuthRoles,
    ];

    /// The bucket's name in the file.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Key => b"key",
            Self::Meta => b"meta",
            Self::Lease => b"lease",
            Self::Alarm => b"alarm",
            Self::Cluster => b"cluster",
            Self::Members => b"members",
            Self::MembersRemoved => b"members_removed",
            Self::Auth => b"auth",
            Self::AuthUsers => b"authUsers",
            Self::AuthRoles => b"authRoles",
        }
    }

    /// How full the pages of this bucket are left when one is split. Keys of `key` only ascend, so
    /// a page once left is never filled up.
    pub(crate) const fn fill_percent(self) -> f64 {
        match self {
            Self::Key => 0.9,
            _ => 0.5,
        }
    }
}
