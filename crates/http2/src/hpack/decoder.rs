use super::{
    DecodeError, decode_integer, huffman,
    table::{self, About, DynamicTable, NewName},
};
use crate::{Name, field};

/// A decoded field, borrowed from a table or the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldRef<'a> {
    pub(crate) name: Name,
    pub(crate) text: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Whether a regular field may have this name. A pseudo-header's is not allowed; `name` tells it.
    pub(crate) name_allowed: bool,
    pub(crate) value_allowed: bool,
}

impl FieldRef<'static> {
    pub(super) const EMPTY: Self = Self {
        name: Name::Other,
        text: b"",
        value: b"",
        name_allowed: false,
        value_allowed: false,
    };
}

/// Decodes the header blocks of one direction of a connection, in order.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
    /// What our SETTINGS allow the peer's size updates to set, once it has acknowledged them.
    size_limit: usize,
    /// The peer has to lower its table's size at the start of the next block (RFC 7541 4.2).
    update_owed: bool,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where a string literal's bytes are.
enum Text<'a> {
    Block(&'a [u8]),
    Scratch,
}

impl<'a> Text<'a> {
    fn get(&self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Block(bytes) => bytes,
            Text::Scratch => scratch,
        }
    }
}

impl Decoder {
    pub(crate) fn new(size_limit: u32) -> Self {
        let size_limit = size_limit as usize;
        Self {
            table: DynamicTable::new((super::TABLE_SIZE_DEFAULT as usize).min(size_limit)),
            size_limit,
            update_owed: false,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The peer acknowledged SETTINGS_HEADER_TABLE_SIZE.
    pub(crate) fn set_size_limit(&mut self, size_limit: u32) {
        self.size_limit = size_limit as usize;
        self.update_owed = self.table.size_max() > self.size_limit;
    }

    /// Equal generations mean that the tables are equal, so that equal blocks have equal meanings.
    pub(crate) fn generation(&self) -> u64 {
        self.table.generation()
    }

    pub(crate) fn memory(&self) -> usize {
        self.table.memory() + self.name.capacity() + self.value.capacity()
    }

    /// Decodes a whole block, giving each field to `sink`. The work is linear in the block's length and the sizes
    /// of the fields given out.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        mut sink: impl FnMut(FieldRef<'_>),
    ) -> Result<(), DecodeError> {
        let mut rest = block;
        self.decode_size_updates(&mut rest)?;
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => sink(self.entry(decode_integer(&mut rest, 7)?)?),
                0x40.. => self.decode_literal(&mut rest, 6, true, &mut sink)?,
                0x20.. => return Err(DecodeError("table size update after the first field")),
                _ => self.decode_literal(&mut rest, 4, false, &mut sink)?,
            }
        }
        Ok(())
    }

    fn decode_size_updates(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        while rest.first().is_some_and(|first| first & 0xe0 == 0x20) {
            let size = decode_integer(rest, 5)?;
            if size > self.size_limit {
                return Err(DecodeError("table size update above the limit"));
            }
            self.table.set_size_max(size);
            self.update_owed = false;
        }
        if self.update_owed {
            return Err(DecodeError("table size update missing"));
        }
        Ok(())
    }

    /// The field at `index` of the static and then the dynamic table (RFC 7541 2.3.3).
    fn entry(&self, index: usize) -> Result<FieldRef<'_>, DecodeError> {
        match index.checked_sub(table::STATIC.len() + 1) {
            None => table::static_entry(index),
            Some(index) => self.table.get(index),
        }
        .ok_or(DecodeError("index outside the tables"))
    }

    fn decode_literal(
        &mut self,
        rest: &mut &[u8],
        prefix_bits: u32,
        insert: bool,
        sink: &mut impl FnMut(FieldRef<'_>),
    ) -> Result<(), DecodeError> {
        let index = decode_integer(rest, prefix_bits)?;
        let name = if index == 0 { Some(decode_string(rest, &mut self.name)?) } else { None };
        let value = decode_string(rest, &mut self.value)?;
        let value = value.get(&self.value);
        let value_allowed = field::is_value_allowed(value);
        let field = match &name {
            None => FieldRef { value, value_allowed, ..self.entry(index)? },
            Some(text) => {
                let text = text.get(&self.name);
                let name = Name::of(text);
                FieldRef { name, text, value, name_allowed: is_allowed(name, text), value_allowed }
            }
        };
        sink(field);
        if insert {
            let about = About { name: field.name, name_allowed: field.name_allowed, value_allowed };
            let new = match (&name, index.checked_sub(table::STATIC.len() + 1)) {
                (Some(text), _) => NewName::Text(text.get(&self.name)),
                (None, None) => {
                    NewName::Text(table::static_entry(index).map_or(b"", |entry| entry.text))
                }
                (None, Some(index)) => NewName::Entry(index),
            };
            self.table.insert(new, value, about).ok_or(DecodeError("index outside the tables"))?;
        }
        Ok(())
    }
}

/// Known names are fields' or pseudo-headers'; only others have to be looked at.
fn is_allowed(name: Name, text: &[u8]) -> bool {
    match name {
        Name::Other => field::is_name_allowed(text),
        _ => text.first() != Some(&b':'),
    }
}

/// Decodes a string literal (RFC 7541 5.2), into `scratch` if it is Huffman-coded.
fn decode_string<'a>(rest: &mut &'a [u8], scratch: &mut Vec<u8>) -> Result<Text<'a>, DecodeError> {
    let huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = decode_integer(rest, 7)?;
    let (bytes, after) =
        rest.split_at_checked(length).ok_or(DecodeError("string beyond the header block"))?;
    *rest = after;
    if !huffman {
        return Ok(Text::Block(bytes));
    }
    scratch.clear();
    huffman::decode(bytes, scratch)?;
    Ok(Text::Scratch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| {
                u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex")
            })
            .collect()
    }

    /// Decodes and renders: one `name: value` a line, then the dynamic table's size and entries.
    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<String, DecodeError> {
        let mut out = String::new();
        decoder.decode(block, |field| {
            let (name, value) =
                (String::from_utf8_lossy(field.text), String::from_utf8_lossy(field.value));
            out.push_str(&format!("{name}: {value}\n"));
        })?;
        let entries: Vec<String> = (0..)
            .map_while(|index| decoder.table.get(index))
            .map(|e| {
                format!("{}={}", String::from_utf8_lossy(e.text), String::from_utf8_lossy(e.value))
            })
            .collect();
        let size: usize = (0..)
            .map_while(|i| decoder.table.get(i))
            .map(|e| e.text.len() + e.value.len() + 32)
            .sum();
        out.push_str(&format!("[{size}] {}", entries.join(" | ")));
        Ok(out)
    }

    fn check(size: u32, steps: &[(&str, &str)]) {
        let mut decoder = Decoder::new(size);
        for (block, want) in steps {
            assert_eq!(decode(&mut decoder, &hex(block)).as_deref(), Ok(*want), "{block}");
        }
    }

    #[test]
    fn literals_as_in_rfc_7541_c_2() {
        check(
            4096,
            &[(
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header\n[55] custom-key=custom-header",
            )],
        );
        check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n[0] ")]);
        check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n[0] ")]);
        check(4096, &[("82", ":method: GET\n[0] ")]);
    }

    const REQUESTS: [&str; 3] = [
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n\
         [57] :authority=www.example.com",
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n\
         [110] cache-control=no-cache | :authority=www.example.com",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
         custom-key: custom-value\n\
         [164] custom-key=custom-value | cache-control=no-cache | :authority=www.example.com",
    ];

    #[test]
    fn requests_as_in_rfc_7541_c_3_and_c_4() {
        check(
            4096,
            &[
                ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
                ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
                (
                    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                    REQUESTS[2],
                ),
            ],
        );
        check(
            4096,
            &[
                ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
                ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
                ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
            ],
        );
    }

    const RESPONSES: [&str; 3] = [
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n\
         [222] location=https://www.example.com | date=Mon, 21 Oct 2013 20:13:21 GMT | \
         cache-control=private | :status=302",
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n\
         [222] :status=307 | location=https://www.example.com | date=Mon, 21 Oct 2013 20:13:21 GMT | \
         cache-control=private",
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
         location: https://www.example.com\ncontent-encoding: gzip\n\
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n\
         [215] set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1 | \
         content-encoding=gzip | date=Mon, 21 Oct 2013 20:13:22 GMT",
    ];

    #[test]
    fn responses_with_eviction_as_in_rfc_7541_c_5_and_c_6() {
        check(
            256,
            &[
                (
                    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                     2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                     6c65 2e63 6f6d",
                    RESPONSES[0],
                ),
                ("4803 3330 37c1 c0bf", RESPONSES[1]),
                (
                    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                     54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                     5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
                     3d31",
                    RESPONSES[2],
                ),
            ],
        );
        check(
            256,
            &[
                (
                    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                     2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                    RESPONSES[0],
                ),
                ("4883 640e ffc1 c0bf", RESPONSES[1]),
                (
                    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                     77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                     9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                    RESPONSES[2],
                ),
            ],
        );
    }

    #[test]
    fn bad_blocks_are_refused() {
        for (block, why) in [
            ("80", "index outside the tables"),
            ("be", "index outside the tables"),
            ("7f 80 80 80 80 80 80 00", "integer too long"),
            ("40 05 6162", "string beyond the header block"),
            ("40", "truncated header block"),
            ("7e 0161", "index outside the tables"),
            ("82 20", "table size update after the first field"),
            ("3f e2 1f", "table size update above the limit"),
            ("00 81 00 00", "bad Huffman code"),
        ] {
            assert_eq!(
                decode(&mut Decoder::new(4096), &hex(block)),
                Err(DecodeError(why)),
                "{block}"
            );
        }
    }

    #[test]
    fn a_lower_limit_asks_for_an_update() {
        let mut decoder = Decoder::new(4096);
        decode(&mut decoder, &hex("4001 6101 62")).expect("insert");
        decoder.set_size_limit(64);
        assert_eq!(decode(&mut decoder, &hex("82")), Err(DecodeError("table size update missing")));
        assert_eq!(
            decode(&mut decoder, &hex("3f21 82")).as_deref(),
            Ok(":method: GET\n[34] a=b"),
            "64 keeps the entry of 34"
        );
        assert_eq!(decode(&mut decoder, &hex("20 82")).as_deref(), Ok(":method: GET\n[0] "));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        check(
            40,
            &[
                ("4001 6101 62", "a: b\n[34] a=b"),
                ("4001 6109 626262626262626262", "a: bbbbbbbbb\n[0] "),
            ],
        );
    }

    #[test]
    fn a_table_may_be_filled_to_the_last_byte() {
        check(
            68,
            &[
                ("4001 6101 62", "a: b\n[34] a=b"),
                ("4001 6301 64", "c: d\n[68] c=d | a=b"),
                ("4001 6500", "e: \n[67] e= | c=d"),
            ],
        );
    }

    #[test]
    fn memory_does_not_grow_with_insertions() {
        let mut decoder = Decoder::new(4096);
        let block = [&[0x40, 1, b'a', 100][..], &[b'x'; 100]].concat();
        for _ in 0..10_000 {
            decoder.decode(&block, |_| {}).expect("a good block");
        }
        assert!(decoder.memory() < 32 << 10, "{}", decoder.memory());
    }

    #[test]
    fn a_name_may_come_from_the_entry_it_evicts() {
        check(40, &[("4001 6101 62", "a: b\n[34] a=b"), ("7e 0163", "a: c\n[34] a=c")]);
    }

    proptest! {
        #[test]
        fn any_block_stays_within_the_limits(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
        ) {
            let mut decoder = Decoder::new(256);
            for block in blocks {
                let _ = decode(&mut decoder, &block);
                let size: usize = (0..)
                    .map_while(|i| decoder.table.get(i))
                    .map(|e| e.text.len() + e.value.len() + 32)
                    .sum();
                prop_assert!(size <= 256);
                prop_assert!(decoder.memory() < 4096);
            }
        }
    }
}
