//! What a server sends to a client with open streams. The first byte says into what pieces the bytes are cut.

pub fn run(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let mut client = http2::Client::new(&http2::Config::default());
    let request = http2::Request {
        method: "POST",
        scheme: "http",
        authority: "a",
        path: "/b",
        fields: &[http2::Field::indexed("te", b"trailers")],
    };
    for (at, piece) in data.chunks(usize::from(size).max(1)).enumerate() {
        let _ = client.open(&request, at % 2 == 0);
        let mut input = piece;
        while let Ok(Some(_)) = client.receive(at as u64, &mut input) {}
        if client.wants_close() {
            return;
        }
    }
}
