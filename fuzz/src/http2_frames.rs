//! A connection, with its header blocks. The first byte says into what pieces the bytes are cut.

pub fn run(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let mut server = http2::Server::new(&http2::Config::default());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let bytes = [&preface[..], data].concat();
    for (at, piece) in bytes.chunks(usize::from(size).max(1)).enumerate() {
        let mut input = piece;
        while let Ok(Some(_)) = server.receive(at as u64, &mut input) {}
        if server.wants_close() {
            return;
        }
    }
}
