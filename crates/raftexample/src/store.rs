//! The state machine: keys and values, as the log has set them.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::gob::{Malformed, Pair};

/// The store. Requests read it while the thread of raft writes.
#[derive(Debug, Default)]
pub(crate) struct Store(RwLock<BTreeMap<Vec<u8>, Bytes>>);

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.read().get(key).cloned()
    }

    /// Applies a proposal.
    pub(crate) fn apply(&self, proposal: &[u8]) -> Result<(), Malformed> {
        let Pair { key, value } = Pair::decode(proposal)?;
        self.0.write().insert(key, value.into());
        Ok(())
    }

    /// All of it as a JSON object. As with Go, what is no text loses the bytes that make it none.
    pub(crate) fn snapshot(&self) -> Bytes {
        let rows = self.0.read();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let object: BTreeMap<String, String> =
            rows.iter().map(|(key, value)| (text(key), text(value))).collect();
        serde_json::to_vec(&object).expect("text can be written as JSON").into()
    }

    /// Replaces all of it by a snapshot.
    pub(crate) fn recover(&self, snapshot: &[u8]) -> Result<(), serde_json::Error> {
        let object: BTreeMap<String, String> = serde_json::from_slice(snapshot)?;
        let rows = object.into_iter().map(|(key, value)| (key.into_bytes(), value.into()));
        *self.0.write() = rows.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_gos_json() {
        let store = Store::default();
        for (key, value) in [("/b", "2"), ("/a", "\"1\"\n"), ("/b", "3")] {
            let pair = Pair { key: key.into(), value: value.into() };
            store.apply(&pair.encode()).expect("a pair");
        }
        assert!(store.apply(b"junk").is_err());
        let snapshot = store.snapshot();
        assert_eq!(snapshot, r#"{"/a":"\"1\"\n","/b":"3"}"#);

        let other = Store::default();
        other.recover(&snapshot).expect("JSON");
        assert_eq!(other.get(b"/a").as_deref(), Some(&b"\"1\"\n"[..]));
        assert_eq!(other.get(b"/c"), None);
        assert!(other.recover(b"{").is_err());
        assert_eq!(other.get(b"/b").as_deref(), Some(&b"3"[..]));
    }
}
