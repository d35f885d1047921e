//! Ids, and `--initial-cluster`.

use cluster::{Cluster, InitialCluster, Member, Names, cluster_id, member_id, parse_urls};

use crate::initial;

fn urls(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Ids that etcd 3.7 gives.
#[test]
fn known_ids() {
    let ids = |text: &str| {
        let cluster = Cluster::bootstrap(&initial(text), "etcd-cluster").expect("a cluster");
        let members: Vec<String> =
            cluster.members().map(|member| format!("{} {:x}", member.name, member.id)).collect();
        format!("{}; {:x}", members.join(", "), cluster.id())
    };
    assert_eq!(ids("default=http://localhost:2380"), "default 8e9e05c52164694d; cdf818194e3a8c32");
    assert_eq!(
        ids("a=http://127.0.0.1:15380,b=http://127.0.0.1:15480"),
        "a 55209a07e772ae46, b b4e4926e85f23147; 99782527067d45f8"
    );
    // A member that is added later: its URLs and the time.
    let added = member_id(&urls(&["http://127.0.0.1:15580"]), "1795256073");
    assert_eq!(added, 0x0202_d779_107d_f615);
    assert_eq!(Member { id: added, ..Member::default() }.id_text(), "202d779107df615");
}

#[test]
fn ids_do_not_depend_on_order() {
    let (a, b) = (urls(&["http://a:1", "http://b:1"]), urls(&["http://b:1", "http://a:1"]));
    assert_eq!(member_id(&a, "token"), member_id(&b, "token"));
    assert_ne!(member_id(&a, "token"), member_id(&a, "other"));
    assert_eq!(cluster_id([1, 2, 3]), cluster_id([3, 1, 2]));
}

#[test]
fn parse_and_show() {
    let cases = [
        ("", ""),
        (",,", ""),
        ("b=http://b:1,a=http://a:1", "a=http://a:1,b=http://b:1"),
        // One name twice, a space around a URL.
        ("a=http://b:2,a= http://a:1", "a=http://a:1,a=http://b:2"),
        ("a=HTTPS://x:1?q=1", "a=https://x:1?q=1"),
        ("a=unix:///tmp/s", "a=unix:///tmp/s"),
        ("a=unixs://localhost:123", "a=unixs://localhost:123"),
        ("a=http://[::1]:2380", "a=http://[::1]:2380"),
    ];
    for (text, expected) in cases {
        assert_eq!(initial(text).to_string(), expected, "{text}");
    }
}

#[test]
fn unacceptable_urls() {
    let cases = [
        ("a", "URL scheme must be http, https, unix, or unixs: "),
        ("a=localhost:1", "URL scheme must be http, https, unix, or unixs: localhost:1"),
        ("a=ftp://x:1", "URL scheme must be http, https, unix, or unixs: ftp://x:1"),
        ("a=http://x", "URL address does not have the form \"host:port\": http://x"),
        ("a=http://::1:2380", "URL address does not have the form \"host:port\": http://::1:2380"),
        ("a=http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"),
        ("a=http:x:1", "URL address does not have the form \"host:port\": http:x:1"),
        ("a=http://x:1/", "URL must not contain a path: http://x:1/"),
        ("a=http://x:1/path", "URL must not contain a path: http://x:1/path"),
        ("a=http://x y:1", "parse \"http://x y:1\": invalid URL"),
    ];
    for (text, expected) in cases {
        let err = InitialCluster::parse(text).expect_err(text);
        assert_eq!(err.to_string(), expected, "{text}");
    }
    assert_eq!(parse_urls::<&str>(&[]).expect_err("none").to_string(), "no valid URLs given");
}

#[test]
fn bootstrap_texts() {
    let check = |name: &str, text: &str, advertised: &[&str]| {
        let result =
            initial(text).verify_bootstrap(name, &urls(advertised), false, &Names::default());
        result.map_or_else(|err| err.to_string(), |()| "ok".to_owned())
    };
    let cases: [(&str, &str, &[&str], &str); 7] = [
        ("a", "a=http://x:1,b=http://y:1", &["http://x:1"], "ok"),
        ("a", "a=http://x:1,a=http://y:1", &["http://y:1", "http://x:1"], "ok"),
        (
            "q",
            "default=http://localhost:2380",
            &["http://localhost:2380"],
            "couldn't find local name \"q\" in the initial cluster configuration",
        ),
        ("q", "", &[], "couldn't find local name \"q\" in the initial cluster configuration"),
        (
            "default",
            "default=http://x:1,b=http://x:1",
            &["http://x:1"],
            "initial cluster b=http://x:1,default=http://x:1 has duplicate url",
        ),
        (
            "default",
            "default=http://x:1",
            &["http://y:1"],
            "--initial-cluster has default=http://x:1 but missing from \
             --initial-advertise-peer-urls=http://y:1 (resolved urls: \"http://y:1\" != \"http://x:1\")",
        ),
        (
            "a",
            "a=http://x:1",
            &["http://x:1", "http://y:1"],
            "--initial-advertise-peer-urls has http://y:1 but missing from \
             --initial-cluster=a=http://x:1,a=http://y:1",
        ),
    ];
    for (name, text, advertised, expected) in cases {
        assert_eq!(check(name, text, advertised), expected);
    }
    assert_eq!(
        check("a", "a=http://x:1,a=http://y:1", &["http://x:1"]),
        "--initial-cluster has a=http://y:1 but missing from \
         --initial-advertise-peer-urls=http://x:1 \
         (len([\"http://x:1\"]) != len([\"http://x:1\" \"http://y:1\"]))"
    );
    assert!(initial("a=http://x:1").verify_join("a").is_ok());
    assert!(initial("a=http://x:1,b=http://x:1").verify_join("a").is_err());
}

#[test]
fn a_running_cluster_gives_its_ids() {
    let existing = Cluster::bootstrap(&initial("a=http://x:1,b=http://y:1"), "one").expect("ids");
    let join = |text: &str| {
        let mut local = Cluster::bootstrap(&initial(text), "two").expect("ids");
        local.assign_ids(&existing, &Names::default()).map(|()| {
            let ids: Vec<(u64, String)> =
                local.members().map(|member| (member.id, member.name.clone())).collect();
            ids
        })
    };
    let expected: Vec<(u64, String)> =
        existing.members().map(|member| (member.id, member.name.clone())).collect();
    assert_eq!(join("b=http://y:1,a=http://x:1").expect("the same"), expected);
    assert_eq!(join("a=http://x:1").expect_err("one less").to_string(), "member count is unequal");
    let err = join("a=http://x:1,b=http://z:1").expect_err("another URL").to_string();
    let id = existing.member_by_name("b").expect("there").id;
    assert_eq!(
        err,
        format!(
            "PeerURLs: no match found for existing member ({id:x}, [http://y:1]), last resolver \
             error (resolved urls: \"http://y:1\" != \"http://z:1\")"
        )
    );
}
