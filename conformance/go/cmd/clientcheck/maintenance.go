package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"conformance/harness"
)

func maintenanceCases(e *env) {
	ctx := func() context.Context { return harness.Timeout(seconds(20)) }
	e.Case("status", func(t *harness.T) {
		e.put(t, "s", "1")
		status, err := e.client.Status(ctx(), e.server.Addr)
		t.OK(err)
		t.Equal("version", status.Version, "3.7.3")
		t.Equal("storage version", status.StorageVersion, "3.7.0")
		t.Equal("leader", status.Leader, status.Header.MemberId)
		t.Equal("revision", status.Header.Revision, 2)
		t.Equal("learner", status.IsLearner, false)
		t.Equal("quota", status.DbSizeQuota, int64(2<<30))
		t.Equal("applied", status.RaftAppliedIndex == status.RaftIndex && status.RaftIndex > 3, true)
		t.Equal("sizes", status.DbSize >= status.DbSizeInUse && status.DbSizeInUse > 0, true)
		t.Equal("downgrade info", status.DowngradeInfo != nil && !status.DowngradeInfo.Enabled, true)
		t.Equal("errors", len(status.Errors), 0)
	})
	e.Case("member list", func(t *harness.T) {
		for _, opts := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable()}} {
			members, err := e.client.MemberList(ctx(), opts...)
			t.OK(err)
			t.Equal("members", len(members.Members), 1)
			member := members.Members[0]
			t.Equal("name", member.Name, "n1")
			t.Equal("id", member.ID, members.Header.MemberId)
			t.Equal("client urls", member.ClientURLs, "["+"http://"+e.server.Addr+"]")
			t.Equal("revision in the header", members.Header.Revision, 0)
		}
	})
	e.Case("hash and hashkv", func(t *harness.T) {
		for i := range 20 {
			e.put(t, fmt.Sprintf("hk/%d", i%5), fmt.Sprint(i))
		}
		now := e.get(t, "x").Header.Revision
		current, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{})
		t.OK(err)
		t.Equal("hash revision", current.HashRevision, now)
		t.Equal("compact revision", current.CompactRevision, -1)
		old, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now - 3})
		t.OK(err)
		t.Equal("old differs", old.Hash != current.Hash, true)
		t.Equal("old revision", old.HashRevision, now-3)
		_, err = e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now + 1})
		t.Error("future", err, "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision is a future revision")
		_, err = e.client.Compact(ctx(), now-5, clientv3.WithCompactPhysical())
		t.OK(err)
		_, err = e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now - 6})
		t.Error("compacted", err, "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted")
		after, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now})
		t.OK(err)
		t.Equal("compact revision", after.CompactRevision, now-5)
		_, err = e.maint.Defragment(ctx(), &pb.DefragmentRequest{})
		t.OK(err)
		defragmented, err := e.maint.HashKV(ctx(), &pb.HashKVRequest{Revision: now})
		t.OK(err)
		t.Equal("hash after defragmentation", defragmented.Hash, after.Hash)
		hash, err := e.maint.Hash(ctx(), &pb.HashRequest{})
		t.OK(err)
		t.Equal("hash", hash.Hash != 0, true)
	})
	e.Case("defragment frees what was deleted", func(t *harness.T) {
		for i := range 40 {
			e.put(t, fmt.Sprintf("fat/%d", i), strings.Repeat("x", 200_000))
		}
		e.del(t, "fat/", clientv3.WithPrefix())
		now := e.put(t, "thin", "1")
		_, err := e.client.Compact(ctx(), now, clientv3.WithCompactPhysical())
		t.OK(err)
		before, err := e.client.Status(ctx(), e.server.Addr)
		t.OK(err)
		_, err = e.client.Defragment(ctx(), e.server.Addr)
		t.OK(err)
		after, err := e.client.Status(ctx(), e.server.Addr)
		t.OK(err)
		t.Equal("smaller", after.DbSize < before.DbSize/4, true)
		t.Equal("revision", e.get(t, "thin").Kvs[0].ModRevision, now)
	})
	e.Case("alarms: list, activate, deactivate", func(t *harness.T) {
		answer, err := e.maint.Alarm(ctx(), &pb.AlarmRequest{})
		t.OK(err)
		t.Equal("none", len(answer.Alarms), 0)
		member := answer.Header.MemberId
		raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE}
		answer, err = e.maint.Alarm(ctx(), raise)
		t.OK(err)
		t.Equal("raised", fmt.Sprint(len(answer.Alarms), answer.Alarms[0].Alarm), "1 NOSPACE")
		_, err = e.client.Put(ctx(), "full", "1")
		t.Error("put", err, "etcdserver: mvcc: database space exceeded")
		_, err = e.client.Grant(ctx(), 60)
		t.Error("grant", err, "etcdserver: mvcc: database space exceeded")
		t.Equal("get", e.get(t, "thin").Count, 1)
		t.Equal("delete", e.del(t, "thin").Deleted, 1)
		status, err := e.client.Status(ctx(), e.server.Addr)
		t.OK(err)
		// Go's text form of a message puts one blank or two between fields, depending on the build.
		text := strings.Join(strings.Fields(strings.Join(status.Errors, ", ")), " ")
		t.Equal("errors", text, fmt.Sprintf("memberID:%d alarm:NOSPACE", member))
		t.Equal("health", e.http(t, "/health"), `503 {"health":"false","reason":"ALARM NOSPACE"}`+"\n")
		t.Equal("health without it", e.http(t, "/health?exclude=NOSPACE"), `200 {"health":"true","reason":""}`)
		_, err = e.client.AlarmDisarm(ctx(), &clientv3.AlarmMember{})
		t.OK(err)
		e.put(t, "thin", "2")
	})
	e.Case("snapshot: checksum, version, a file that bbolt reads", func(t *harness.T) { snapshot(t, e) })
	e.Case("health service", func(t *harness.T) {
		health := healthpb.NewHealthClient(e.conn)
		answer, err := health.Check(ctx(), &healthpb.HealthCheckRequest{})
		t.OK(err)
		t.Equal("status", answer.Status, "SERVING")
		_, err = health.Check(ctx(), &healthpb.HealthCheckRequest{Service: "nope"})
		t.Error("unknown", err, "rpc error: code = NotFound desc = unknown service")
		watch, err := health.Watch(ctx(), &healthpb.HealthCheckRequest{})
		t.OK(err)
		first, err := watch.Recv()
		t.OK(err)
		t.Equal("watch", first.Status, "SERVING")
	})
	pages := []struct{ path, want string }{
		{"/version", `200 {"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`},
		{"/health", `200 {"health":"true","reason":""}`},
		{"/health?serializable=true", `200 {"health":"true","reason":""}`},
		{"/livez", "200 ok\n"},
		{"/readyz", "200 ok\n"},
		{"/readyz/linearizable_read", "200 ok\n"},
		{"/nowhere", "404 404 page not found\n"},
	}
	for _, page := range pages {
		e.Case("page "+page.path, func(t *harness.T) { t.Equal("answer", e.http(t, page.path), page.want) })
	}
	e.Case("page /metrics", func(t *harness.T) {
		text := e.http(t, "/metrics")
		for _, line := range []string{
			"etcd_server_has_leader 1\n", "etcd_server_is_leader 1\n", "# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n",
			"# TYPE etcd_mvcc_db_total_size_in_bytes gauge\n", "etcd_debugging_mvcc_current_revision ", "# TYPE etcd_server_proposals_committed_total gauge\n",
			`etcd_server_version{server_version="3.7.3"} 1` + "\n", `grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} `,
		} {
			if !strings.Contains(text, line) {
				t.Fatalf("missing: %s", line)
			}
		}
	})
}

func (e *env) http(t *harness.T, path string) string {
	answer, err := http.Get("http://" + e.server.Addr + path)
	t.OK(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	t.OK(err)
	return fmt.Sprintf("%d %s", answer.StatusCode, body)
}

func snapshot(t *harness.T, e *env) {
	e.put(t, "in the snapshot", "yes")
	stream, err := e.maint.Snapshot(harness.Timeout(seconds(20)), &pb.SnapshotRequest{})
	t.OK(err)
	var data bytes.Buffer
	var sum []byte
	for {
		part, err := stream.Recv()
		if err == io.EOF {
			break
		}
		t.OK(err)
		t.Equal("version", part.Version, "3.7.0")
		t.Equal("header", part.Header == nil, true)
		if len(part.Blob) == sha256.Size && part.RemainingBytes == 0 {
			sum = part.Blob
			continue
		}
		data.Write(part.Blob)
	}
	want := sha256.Sum256(data.Bytes())
	t.Equal("checksum", sum, want[:])
	path := filepath.Join(e.Work, "snapshot.db")
	t.OK(os.WriteFile(path, data.Bytes(), 0o600))
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	t.OK(err)
	defer db.Close()
	t.OK(db.View(func(tx *bolt.Tx) error {
		for problem := range tx.Check() {
			return problem
		}
		rows := tx.Bucket([]byte("key")).Stats().KeyN
		t.Equal("rows", rows > 0, true)
		var buckets []string
		err := tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			buckets = append(buckets, string(name))
			return nil
		})
		t.Equal("buckets", buckets, "[alarm auth authRoles authUsers cluster key lease members members_removed meta]")
		return err
	}))
}
