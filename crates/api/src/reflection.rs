//! What the server tells of itself: the files of its services as protobuf describes them.

include!(concat!(env!("OUT_DIR"), "/reflection_table.rs"));

/// A `.proto` file.
#[derive(Debug)]
pub struct File {
    /// The name under which others import it.
    pub name: &'static str,
    /// What it imports itself: places in [`FILES`].
    pub imports: &'static [usize],
    /// A serialized `google.protobuf.FileDescriptorProto`.
    pub descriptor: &'static [u8],
}

/// The file of this name: its place in [`FILES`].
#[must_use]
pub fn file(name: &str) -> Option<usize> {
    FILES.iter().position(|file| file.name == name)
}

/// The file that has a service, method, message, field, enum, value or extension of this full name.
#[must_use]
pub fn file_of_symbol(name: &str) -> Option<usize> {
    let found = SYMBOLS.binary_search_by_key(&name, |(symbol, _)| symbol).ok()?;
    SYMBOLS.get(found).map(|(_, file)| *file)
}

/// The file that has the extension of this number of a message.
#[must_use]
pub fn file_of_extension(message: &str, number: u32) -> Option<usize> {
    let found = EXTENSIONS.iter().find(|(of, its, _)| *of == message && *its == number);
    found.map(|(_, _, file)| *file)
}

/// The numbers of all extensions of a message, in order.
pub fn extensions(message: &str) -> impl Iterator<Item = u32> {
    EXTENSIONS.iter().filter(move |(of, _, _)| *of == message).map(|(_, number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_behind_what_they_import() {
        assert!(
            FILES.iter().enumerate().all(|(place, file)| file.imports.iter().all(|i| *i < place))
        );
        assert!(SYMBOLS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn names_are_found_where_they_are() {
        let name = |place: Option<usize>| place.map(|place| FILES[place].name);
        for symbol in [
            "etcdserverpb.KV",
            "etcdserverpb.KV.Put",
            "etcdserverpb.PutRequest",
            "etcdserverpb.PutRequest.key",
            "etcdserverpb.WatchRequest.request_union",
        ] {
            assert_eq!(name(file_of_symbol(symbol)), Some("rpc.proto"), "{symbol}");
        }
        assert_eq!(name(file_of_symbol("mvccpb.KeyValue")), Some("kv.proto"));
        // A value stands beside its enum.
        assert_eq!(name(file_of_symbol("mvccpb.Event.PUT")), Some("kv.proto"));
        assert_eq!(file_of_symbol("mvccpb.Event.EventType.PUT"), None);
        assert_eq!(file_of_symbol("etcdserverpb.KV.Nope"), None);
        // What only the log knows is nobody's business.
        assert_eq!(file_of_symbol("etcdserverpb.InternalRaftRequest"), None);
        let options = "google.protobuf.MethodOptions";
        let numbers: Vec<u32> = extensions(options).collect();
        assert_eq!(numbers, [72_295_728]);
        assert_eq!(
            name(file_of_extension(options, 72_295_728)),
            Some("google/api/annotations.proto")
        );
    }
}
