use std::time::Duration;

use api::etcdserverpb::{ResponseHeader, StatusResponse};
use tokio::time::Instant;

use super::{Look, Picture, duration, json, short, text};
use crate::metrics::Metrics;
use crate::terminal::Paint;

fn status(id: u64, index: u64) -> StatusResponse {
    StatusResponse {
        header: Some(ResponseHeader { member_id: id, ..ResponseHeader::default() }),
        version: "3.7.3".to_owned(),
        leader: 1,
        raft_term: 4,
        raft_index: index,
        raft_applied_index: index - 1,
        db_size: 25_000_000,
        db_size_in_use: 9_000_000,
        db_size_quota: 100_000_000,
        ..StatusResponse::default()
    }
}

fn page(puts: u32, fast: u32) -> Metrics {
    Metrics::parse(&format!(
        "etcd_mvcc_put_total {puts}\netcd_debugging_mvcc_slow_watcher_total 2\n\
         etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.001\"}} {fast}\n\
         etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"+Inf\"}} {fast}\n"
    ))
}

/// A leader, a follower that has no page, and one that does not answer.
fn picture() -> Picture {
    let begun = Instant::now();
    let look = |endpoint: &str, at, status, metrics| Look {
        endpoint: endpoint.to_owned(),
        at,
        status,
        metrics,
    };
    let later = begun + Duration::from_secs(2);
    let down = || Err("context deadline exceeded".to_owned());
    let full =
        StatusResponse { errors: vec!["memberID:2 alarm:NOSPACE ".to_owned()], ..status(2, 90) };
    Picture {
        before: vec![look("a:1", begun, Ok(status(1, 90)), Some(page(10, 0)))],
        now: vec![
            look("a:1", later, Ok(status(1, 100)), Some(page(15, 8))),
            look("b:1", later, Ok(full), None),
            look("c:1", later, down(), None),
        ],
        names: [(1, "one".to_owned())].into(),
    }
}

#[test]
fn members_are_shown_in_tables() {
    let expected = "\
leader one, term 4, 2 of 3 members answer, interval 2s
b:1: memberID:2 alarm:NOSPACE
c:1: context deadline exceeded

MEMBER  ENDPOINT  VERSION  ROLE      TERM  INDEX  BEHIND  DB SIZE  IN USE  QUOTA
one     a:1       3.7.3    leader       4    100       1    25 MB  9.0 MB    25%
2       b:1       3.7.3    follower     4     90       1    25 MB  9.0 MB    25%
-       c:1       -        down         -      -       -        -       -      -

MEMBER  PROPOSALS/S  PUTS/S  DELETES/S  TXNS/S  RANGES/S  PENDING  WATCHERS  SLOW
one               -     2.5          -       -         -        -         -     2
2                 -       -          -       -         -        -         -     -
-                 -       -          -       -         -        -         -     -

MEMBER  REQUEST P50  P99  FSYNC P50    P99  COMMIT P50  P99
one               -    -      500µs  990µs           -    -
2                 -    -          -      -           -    -
-                 -    -          -      -           -    -
";
    let found = text(&picture(), Duration::from_secs(2), Paint::NONE);
    assert_eq!(found, expected, "{found}");
}

#[test]
fn programs_get_objects() {
    let found = json(&picture());
    for part in [
        "[{\"endpoint\":\"a:1\",\"name\":\"one\",\"member_id\":1,",
        "\"role\":\"leader\"",
        "\"puts_per_second\":2.5,",
        "\"proposals_per_second\":null,",
        "\"wal_fsync_p99_seconds\":0.00099",
        "\"errors\":[\"memberID:2 alarm:NOSPACE\"]",
        "{\"endpoint\":\"c:1\",\"error\":\"context deadline exceeded\",",
    ] {
        assert!(found.contains(part), "{part} is not in {found}");
    }
}

#[test]
fn numbers_are_short() {
    let durations =
        [(0.00042, "420µs"), (0.0012, "1.2ms"), (0.25, "250ms"), (1.5, "1.5s"), (12.0, "12s")];
    for (seconds, expected) in durations {
        assert_eq!(duration(seconds), expected);
    }
    assert_eq!([short(0.0), short(2.25), short(1234.5)], ["0", "2.2", "1234"]);
}
