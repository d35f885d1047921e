use crate::Name;

/// The header list of a request, decoded and checked. One per connection, overwritten by the next request.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    bytes: Vec<u8>,
}

impl RequestHead {
    /// `:method`; never empty in [`crate::Event::Headers`].
    pub fn method(&self) -> &[u8] {
        &self.bytes
    }

    /// `:path`, as sent.
    pub fn path(&self) -> &[u8] {
        &self.bytes
    }

    /// `:scheme`.
    pub fn scheme(&self) -> &[u8] {
        &self.bytes
    }

    /// `:authority`, or else `host`; empty when neither was sent.
    pub fn authority(&self) -> &[u8] {
        &self.bytes
    }

    /// The first value of a known field.
    pub fn get(&self, _name: Name) -> Option<&[u8]> {
        None
    }

    /// The first value of the field with this (lowercase) name, known or not.
    pub fn find(&self, _name: &str) -> Option<&[u8]> {
        None
    }

    /// All fields but the pseudo-headers, in the order sent: name, its text, value.
    pub fn fields(&self) -> impl Iterator<Item = (Name, &str, &[u8])> {
        std::iter::empty()
    }
}
