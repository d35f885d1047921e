//! Members of both kinds that speak TLS to each other, by certificates of an authority that is made for the story.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use transport::{Call, PeerUrl, Tls, TlsFiles, TlsVersion};

use super::{Cluster, Kind};

/// For an answer of a member that runs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Who signs: its own certificate is in `ca.crt` of a folder, one for all members in `peer.crt` and `peer.key`.
pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let made = || -> Result<[(&str, String); 3], rcgen::Error> {
            let key = KeyPair::generate()?;
            let mut params = named("authority", Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let own = params.self_signed(&key)?.pem();
            let issuer = Issuer::new(params, key);
            let key = KeyPair::generate()?;
            let peer = named("peer", vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
            Ok([("ca.crt", own), ("peer.crt", peer.pem()), ("peer.key", key.serialize_pem())])
        };
        for (name, pem) in made().map_err(|e| format!("no certificate: {e}"))? {
            let path = folder.join(name);
            fs::write(&path, pem).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(Self { folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What members are started with.
    pub(super) fn flags(&self) -> Vec<String> {
        let files = [("cert", "peer.crt"), ("key", "peer.key"), ("trusted-ca", "ca.crt")]
            .map(|(flag, name)| format!("--peer-{flag}-file={}", self.file(name).display()));
        files.into_iter().chain(["--peer-client-cert-auth".to_owned()]).collect()
    }

    /// Somebody who shows a certificate of this authority, and trusts who has one of `theirs`.
    fn client(&self, theirs: &Self) -> Result<Tls, String> {
        let files = TlsFiles {
            cert: self.file("peer.crt"),
            key: self.file("peer.key"),
            trusted_ca: theirs.file("ca.crt"),
            min: TlsVersion::V12,
            max: TlsVersion::V13,
        };
        Tls::load(&files).map_err(|e| e.to_string())
    }
}

fn named(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Asks a member for its version over the peer port.
fn ask(url: &str, tls: Option<&Tls>) -> Result<u16, String> {
    let url = PeerUrl::parse_all(&[url.to_owned()]).map_err(|e| e.to_string())?;
    let url = url.into_iter().next().ok_or("no URL")?;
    let call = Call::get(url, "/version", ANSWER_LIMIT).with_tls(tls);
    call.send_blocking().map(|answer| answer.status).map_err(|e| e.to_string())
}

impl Cluster<'_> {
    /// Each kind leads, sends a snapshot to the other, and refuses who is a stranger.
    pub(super) fn live_secured(&mut self, kinds: [Kind; 3]) -> Result<(), String> {
        let authority = Authority::new(self.folder.join("authority"))?;
        let stranger = Authority::new(self.folder.join("stranger"))?;
        let clients = [authority.client(&authority)?, stranger.client(&authority)?];
        self.authority = Some(authority);
        self.found(&kinds)?;
        let (etcd, ours) = (0, 2);
        for number in [etcd, ours] {
            let kind = self.nodes[number].kind.name();
            self.lead(number)?;
            let result = self.write_and_read(&format!("led-by-{kind}"));
            self.case(&format!("{kind} leads, each reads what each wrote"), result);
            let url = self.nodes[number].member.peer_url();
            self.case(&format!("{kind} refuses strangers"), refuses_strangers(&url, &clients));
        }
        self.come_and_go(etcd, Kind::Ours)?;
        self.catch_up(etcd, ours)?;
        self.catch_up(ours, etcd)?;
        self.lose_leader(ours)
    }
}

/// Whether a member answers who belongs to it and nobody else.
fn refuses_strangers(url: &str, [member, stranger]: &[Tls; 2]) -> Result<(), String> {
    match ask(url, Some(member))? {
        200 => {}
        status => return Err(format!("a member is answered {status}")),
    }
    if let Ok(status) = ask(url, Some(stranger)) {
        return Err(format!("a certificate of somebody else is answered {status}"));
    }
    match ask(&url.replace("https://", "http://"), None) {
        // etcd says so in plain words to who speaks none.
        Ok(400) | Err(_) => Ok(()),
        Ok(status) => Err(format!("without TLS the answer is {status}")),
    }
}
