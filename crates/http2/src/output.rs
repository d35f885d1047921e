use bytes::Buf;

/// The bytes to be written to the socket, in order: small frames in one buffer, large bodies as shared chunks between.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
}
