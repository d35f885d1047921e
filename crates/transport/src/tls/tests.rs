//! Handshakes over the loopback address, with certificates made for the occasion.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("transport-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Somebody who signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for these names.
    fn sign(&self, names: &[SanType]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The files of a member whose certificate this one has signed, and who believes `trusted`.
    fn files(&self, folder: &Folder, name: &str, names: &[SanType], trusted: &Self) -> TlsFiles {
        let (cert, key) = self.sign(names);
        TlsFiles {
            cert: folder.write(&format!("{name}.crt"), &cert),
            key: folder.write(&format!("{name}.key"), &key),
            trusted_ca: folder.write(&format!("{name}-ca.crt"), &trusted.pem),
            min: TlsVersion::V12,
            max: TlsVersion::V13,
        }
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

fn address(address: [u8; 4]) -> SanType {
    SanType::IpAddress(Ipv4Addr::from(address).into())
}

/// A name for the loopback address.
fn here() -> Vec<SanType> {
    vec![dns("localhost"), address([127, 0, 0, 1])]
}

/// Connects `client` to `server` at `host`, and lets a few bytes go each way; what went wrong on the server's side and
/// on the client's.
fn exchange(server: &Tls, client: &Tls, host: &str) -> (io::Result<()>, io::Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = async {
            let (stream, _) = listener.accept().await?;
            let mut stream = server.accept(stream).await?;
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await?;
            assert_eq!(&bytes, b"ping");
            stream.write_all(b"pong").await?;
            stream.flush().await
        };
        let calling = async {
            let stream = TcpStream::connect(address).await?;
            let mut stream = client.connect(host, stream).await?;
            stream.write_all(b"ping").await?;
            stream.flush().await?;
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await?;
            assert_eq!(&bytes, b"pong");
            Ok(())
        };
        tokio::join!(serving, calling)
    })
}

#[test]
fn members_of_one_authority_speak() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let [one, two] = ["one", "two"].map(|name| authority.files(&folder, name, &here(), &authority));
    let cases = [
        (TlsVersion::V12, TlsVersion::V12),
        (TlsVersion::V12, TlsVersion::V13),
        (TlsVersion::V13, TlsVersion::V13),
    ];
    for (min, max) in cases {
        let server = Tls::load(&TlsFiles { min, max, ..one.clone() }).expect("a server");
        let client = Tls::load(&two).expect("a client");
        for host in ["localhost", "127.0.0.1"] {
            let (served, called) = exchange(&server, &client, host);
            served.expect("served");
            called.expect("called");
        }
    }
    let new = Tls::load(&TlsFiles { min: TlsVersion::V13, ..one.clone() }).expect("a server");
    let old = Tls::load(&TlsFiles { max: TlsVersion::V12, ..two }).expect("a client");
    let (served, called) = exchange(&new, &old, "localhost");
    assert!(served.is_err() && called.is_err(), "versions that do not meet");
}

#[test]
fn strangers_are_refused_on_both_sides() {
    let (folder, ours, theirs) = (Folder::new(), Authority::new(), Authority::new());
    let load = |files: &TlsFiles| Tls::load(files).expect("files that fit");
    let member = load(&ours.files(&folder, "member", &here(), &ours));
    let stranger = load(&theirs.files(&folder, "stranger", &here(), &ours));
    let (served, called) = exchange(&member, &stranger, "localhost");
    assert!(served.is_err() && called.is_err(), "a client of another authority");
    let (served, called) = exchange(&stranger, &member, "localhost");
    assert!(served.is_err() && called.is_err(), "a server of another authority");
    let elsewhere = [dns("elsewhere.invalid"), address([192, 0, 2, 1])];
    let elsewhere = load(&ours.files(&folder, "elsewhere", &elsewhere, &ours));
    let (_, called) = exchange(&elsewhere, &member, "localhost");
    assert!(called.is_err(), "a server that is not who was called");
}

#[test]
fn who_connects_does_so_from_where_its_certificate_is_for() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let load = |name: &str, names: &[SanType]| {
        Tls::load(&authority.files(&folder, name, names, &authority)).expect("files that fit")
    };
    let server = load("server", &here());
    let cases = [
        (vec![address([127, 0, 0, 1])], true),
        (vec![dns("localhost")], true),
        (vec![address([192, 0, 2, 1]), dns("localhost")], true),
        (vec![], true),
        (vec![address([192, 0, 2, 1])], false),
        (vec![dns("elsewhere.invalid")], false),
        (vec![dns("*.invalid")], false),
    ];
    for (names, is_good) in cases {
        let client = load("client", &names);
        let (served, _) = exchange(&server, &client, "localhost");
        assert_eq!(served.is_ok(), is_good, "{names:?}: {served:?}");
    }
}

#[test]
fn a_certificate_is_replaced_while_the_member_runs() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let elsewhere = authority.files(&folder, "server", &[dns("elsewhere.invalid")], &authority);
    let server = Tls::load(&elsewhere).expect("a server");
    let client = authority.files(&folder, "client", &here(), &authority);
    let client = Tls::load(&client).expect("a client");
    assert!(exchange(&server, &client, "localhost").1.is_err());
    authority.files(&folder, "server", &here(), &authority);
    exchange(&server, &client, "localhost").1.expect("the new certificate");
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let good = authority.files(&folder, "good", &here(), &authority);
    let other = authority.files(&folder, "other", &here(), &authority);
    let empty = folder.write("empty", "");
    let broken = folder.write("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let missing = folder.0.join("missing");
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    let cases = [
        (with(&|files| files.cert.clone_from(&missing)), "missing: "),
        (with(&|files| files.cert.clone_from(&empty)), "empty: no certificate in it"),
        (with(&|files| files.cert.clone_from(&broken)), "broken: "),
        (with(&|files| files.key.clone_from(&missing)), "missing: "),
        (with(&|files| files.key.clone_from(&empty)), "empty: "),
        (with(&|files| files.key.clone_from(&other.key)), "good.crt: "),
        (with(&|files| files.trusted_ca.clone_from(&missing)), "missing: "),
        (with(&|files| files.trusted_ca.clone_from(&empty)), "empty: no certificate in it"),
    ];
    for (files, expected) in cases {
        let text = Tls::load(&files).expect_err(expected).to_string();
        assert!(text.contains(expected), "{text} instead of {expected}");
    }
}

#[test]
fn bytes_that_are_no_handshake_are_refused() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let server = Tls::load(&authority.files(&folder, "server", &here(), &authority));
    let server = server.expect("a server");
    let hello = [0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff];
    for bytes in [b"GET /members HTTP/1.1\r\n\r\n".as_slice(), &hello, &[0; 64], b""] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let mut client = TcpStream::connect(address).await.expect("connect");
            let (stream, _) = listener.accept().await.expect("accept");
            client.write_all(bytes).await.expect("write");
            client.shutdown().await.expect("shutdown");
            server.accept(stream).await.map(drop)
        });
        assert!(served.is_err(), "{bytes:?}");
    }
}
