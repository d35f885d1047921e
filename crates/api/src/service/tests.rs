//! The table against the list of methods etcd serves.

use super::{Kind, METHODS, Rpc, SERVICES, Unknown, lookup};

#[test]
fn services_and_methods() {
    let mut text = String::new();
    for service in SERVICES {
        text.push_str(&format!("{}:", service.name));
        for method in service.methods {
            let mark = match method.kind {
                Kind::Unary => "",
                Kind::ServerStream => "=>",
                Kind::ClientStream => "<=",
                Kind::Bidi => "<=>",
            };
            text.push_str(&format!(" {}{mark}", method.name));
        }
        text.push('\n');
    }
    let expected = "\
etcdserverpb.KV: Range RangeStream=> Put DeleteRange Txn Compact
etcdserverpb.Watch: Watch<=>
etcdserverpb.Lease: LeaseGrant LeaseRevoke LeaseKeepAlive<=> LeaseTimeToLive LeaseLeases
etcdserverpb.Cluster: MemberAdd MemberRemove MemberUpdate MemberList MemberPromote
etcdserverpb.Maintenance: Alarm Status Defragment Hash HashKV Snapshot=> MoveLeader Downgrade
etcdserverpb.Auth: AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete \
UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete \
RoleGrantPermission RoleRevokePermission
v3lockpb.Lock: Lock Unlock
v3electionpb.Election: Campaign Proclaim Leader Observe=> Resign
grpc.health.v1.Health: Check Watch=> List
grpc.reflection.v1.ServerReflection: ServerReflectionInfo<=>
";
    assert_eq!(text, expected);
    let (grpc, etcd): (Vec<_>, Vec<_>) =
        SERVICES.iter().partition(|service| service.name.starts_with("grpc."));
    assert_eq!(etcd.len(), 8);
    assert_eq!(etcd.iter().map(|service| service.methods.len()).sum::<usize>(), 49);
    assert_eq!(grpc.iter().map(|service| service.methods.len()).sum::<usize>(), 4);
}

#[test]
fn lookup_finds_every_method() {
    for (index, method) in METHODS.iter().enumerate() {
        assert_eq!(method.path, format!("/{}/{}", method.service, method.name));
        assert_eq!(lookup(method.path.as_bytes()), Ok(method.rpc));
        assert_eq!(method.rpc as usize, index);
        assert_eq!(method.rpc.method().path, method.path);
    }
    assert_eq!(lookup(b"/etcdserverpb.KV/Put"), Ok(Rpc::KvPut));
    assert_eq!(Rpc::KvPut.method().input, "etcdserverpb.PutRequest");
    assert_eq!(Rpc::KvPut.method().output, "etcdserverpb.PutResponse");
}

#[test]
fn lookup_says_what_is_unknown() {
    let malformed = |path: &'static str| Unknown::Malformed { path: path.as_bytes() };
    for path in ["", "/", "nope", "/nope", "etcdserverpb.KV/Put"] {
        assert_eq!(lookup(path.as_bytes()), Err(malformed(path)));
    }
    let service = |path: &'static [u8], service: &'static [u8]| {
        assert_eq!(lookup(path), Err(Unknown::Service { service }));
    };
    service(b"//", b"");
    service(b"/foo.Bar/Put", b"foo.Bar");
    service(b"/x/etcdserverpb.KV/Put", b"x/etcdserverpb.KV");
    service(b"/etcdserverpb.KV/Put/", b"etcdserverpb.KV/Put");
    let method = |path: &'static [u8], method: &'static [u8]| {
        assert_eq!(lookup(path), Err(Unknown::Method { service: "etcdserverpb.KV", method }));
    };
    method(b"/etcdserverpb.KV/Nope", b"Nope");
    method(b"/etcdserverpb.KV/put", b"put");
    method(b"/etcdserverpb.KV/", b"");
}
