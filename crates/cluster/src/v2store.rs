//! The membership in the form of etcd's v2 store, a tree of paths with a history of events.
//!
//! Releases from 3.7 on write it into `.snap` files and never look at it; 3.6 and before read the
//! members from it when they start. It is what the v2 store would hold if the members had just been
//! written into an empty one, by ascending id.

use std::collections::BTreeMap;

use crate::Cluster;
use crate::json::put_string;

/// How many events the history has room for.
const HISTORY_CAPACITY: usize = 1000;
/// Go's zero time: the node never expires.
const PERMANENT: &str = "0001-01-01T00:00:00Z";

/// A node of the tree.
struct Node {
    path: String,
    index: u64,
    value: String,
    /// `None` for a value.
    children: Option<BTreeMap<String, Self>>,
}

/// The store while it is filled.
struct Store {
    root: Node,
    index: u64,
    events: Vec<String>,
    sets: u64,
    creates: u64,
}

pub(crate) fn encode(cluster: &Cluster) -> String {
    let mut store = Store::new();
    for member in cluster.members() {
        let dir = format!("/0/members/{:x}", member.id);
        store.create(&format!("{dir}/raftAttributes"), &member.raft_attributes_json());
        if !member.client_urls.is_empty() {
            store.set(&format!("{dir}/attributes"), &member.attributes_json());
        }
    }
    for id in cluster.removed() {
        store.create(&format!("/0/removed_members/{id:x}"), "");
    }
    if let Some(version) = cluster.version() {
        store.set("/0/version", &version.to_string());
    }
    store.to_json()
}

impl Store {
    fn new() -> Self {
        let mut root = Node::dir("/".to_owned(), 0);
        for name in ["0", "1"] {
            root.child(name, || Node::dir(format!("/{name}"), 0));
        }
        Self { root, index: 0, events: Vec::new(), sets: 0, creates: 0 }
    }

    fn create(&mut self, path: &str, value: &str) {
        self.creates += 1;
        self.add("create", path, value);
    }

    fn set(&mut self, path: &str, value: &str) {
        self.sets += 1;
        self.add("set", path, value);
    }

    fn add(&mut self, action: &str, path: &str, value: &str) {
        self.index += 1;
        let index = self.index;
        let mut node = &mut self.root;
        let mut walked = String::new();
        for name in path.split('/').skip(1) {
            walked.push('/');
            walked.push_str(name);
            node = node.child(name, || Node::dir(walked.clone(), index));
        }
        // The leaf was not there before, so it is the new empty directory.
        value.clone_into(&mut node.value);
        node.children = None;

        let mut event = format!("{{\"action\":\"{action}\",\"node\":{{\"key\":");
        put_string(&mut event, path);
        event.push_str(",\"value\":");
        put_string(&mut event, value);
        event.push_str(&format!(",\"modifiedIndex\":{index},\"createdIndex\":{index}}}}}"));
        self.events.push(event);
    }

    fn to_json(&self) -> String {
        let mut out = String::from("{\"Root\":");
        self.root.put_json(&mut out);
        out.push_str(",\"WatcherHub\":{\"EventHistory\":{\"Queue\":{\"Events\":[");
        // A ring: once it is full, the next event takes the oldest one's place.
        let count = self.events.len();
        let back = count % HISTORY_CAPACITY;
        let front = if count > HISTORY_CAPACITY { back } else { 0 };
        let laps = count - back;
        for slot in 0..HISTORY_CAPACITY {
            if slot > 0 {
                out.push(',');
            }
            let newest = if slot < back {
                Some(laps + slot)
            } else {
                laps.checked_sub(HISTORY_CAPACITY).map(|lap| lap + slot)
            };
            let event = newest.and_then(|position| self.events.get(position));
            out.push_str(event.map_or("null", String::as_str));
        }
        let size = count.min(HISTORY_CAPACITY);
        // The event at position p has index p + 1.
        let start_index = if count == 0 { 0 } else { count - size + 1 };
        out.push_str(&format!(
            "],\"Size\":{size},\"Front\":{front},\"Back\":{back},\"Capacity\":{HISTORY_CAPACITY}}},\
             \"StartIndex\":{start_index},\"LastIndex\":{count}}}}},\"CurrentIndex\":{},",
            self.index
        ));
        // The one failed get is etcd's own look whether the store is empty.
        out.push_str(&format!(
            "\"Stats\":{{\"getsSuccess\":0,\"getsFail\":1,\"setsSuccess\":{},\"setsFail\":0,\
             \"deleteSuccess\":0,\"deleteFail\":0,\"updateSuccess\":0,\"updateFail\":0,\
             \"createSuccess\":{},\"createFail\":0,\"compareAndSwapSuccess\":0,\
             \"compareAndSwapFail\":0,\"compareAndDeleteSuccess\":0,\"compareAndDeleteFail\":0,\
             \"expireCount\":0,\"watchers\":0}},\"CurrentVersion\":2}}",
            self.sets, self.creates
        ));
        out
    }
}

impl Node {
    fn dir(path: String, index: u64) -> Self {
        Self { path, index, value: String::new(), children: Some(BTreeMap::new()) }
    }

    fn child(&mut self, name: &str, make: impl FnOnce() -> Self) -> &mut Self {
        let children = self.children.get_or_insert_default();
        children.entry(name.to_owned()).or_insert_with(make)
    }

    fn put_json(&self, out: &mut String) {
        out.push_str("{\"Path\":");
        put_string(out, &self.path);
        out.push_str(&format!(
            ",\"CreatedIndex\":{0},\"ModifiedIndex\":{0},\"ExpireTime\":\"{PERMANENT}\",\"Value\":",
            self.index
        ));
        put_string(out, &self.value);
        out.push_str(",\"Children\":");
        match &self.children {
            None => out.push_str("null"),
            Some(children) => {
                out.push('{');
                for (i, (name, child)) in children.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    put_string(out, name);
                    out.push(':');
                    child.put_json(out);
                }
                out.push('}');
            }
        }
        out.push('}');
    }
}
