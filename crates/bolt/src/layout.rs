//! The bytes of meta, branch, leaf and free-list pages. All numbers are little-endian.
//!
//! ```text
//! page    id u64 | flags u16 | count u16 | overflow u32 | rows, then their data
//! meta    page | magic u32 | version u32 | page size u32 | flags u32 | root bucket | free list u64
//!              | high water u64 | txid u64 | FNV-1a of what lies between page and here u64
//! bucket  root page u64, 0 if the bucket's only page follows inline | sequence u64
//! branch  position u32 | key size u32 | page id u64
//! leaf    flags u32 | position u32 | key size u32 | value size u32
//! ```
//!
//! A position counts from the row's own first byte to its key; a leaf's value follows its key.
#![deny(clippy::indexing_slicing)]

use crate::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

pub(crate) const PAGE_HEADER_BYTES: usize = 16;
pub(crate) const ROW_HEADER_BYTES: usize = 16;
pub(crate) const BUCKET_HEADER_BYTES: usize = 16;
/// The bytes of a meta page that mean something.
pub(crate) const META_BYTES: usize = PAGE_HEADER_BYTES + 64;

pub(crate) const PAGE_BYTES_MIN: u32 = 1024;
/// On a larger page there could be more rows than its header can count.
pub(crate) const PAGE_BYTES_MAX: u32 = 1 << 20;

pub(crate) const FLAG_BRANCH: u16 = 0x01;
pub(crate) const FLAG_LEAF: u16 = 0x02;
pub(crate) const FLAG_META: u16 = 0x04;
pub(crate) const FLAG_FREELIST: u16 = 0x10;
/// The flag of a leaf row that holds a bucket.
pub(crate) const ROW_BUCKET: u32 = 0x01;

/// The page id that says that the list of free pages is not in the file.
pub(crate) const FREELIST_NONE: u64 = u64::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    pub(crate) root: BucketHeader,
    /// The page of the list of free pages, or [`FREELIST_NONE`].
    pub(crate) freelist: u64,
    /// One more than the highest page in use.
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
}

/// Where a bucket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketHeader {
    /// The root page; 0 if the bucket lies inline.
    pub(crate) root: u64,
    pub(crate) sequence: u64,
}

/// The first bytes of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageHeader {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

/// A branch or leaf page with its overflow pages. Every access checks its bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    /// The page's id; of an inline bucket, that of the page around it.
    pub(crate) id: u64,
    bytes: &'a [u8],
    count: u16,
    leaf: bool,
}

/// A row of a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafRow<'a> {
    pub(crate) bucket: bool,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

impl Meta {
    /// The start of the meta page for this state: its place is given by the transaction's id.
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_BYTES);
        PageHeader { id, flags: FLAG_META, count: 0, overflow: 0 }.encode(&mut out);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.page_size.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&self.root.encode());
        out.extend_from_slice(&self.freelist.to_le_bytes());
        out.extend_from_slice(&self.high_water.to_le_bytes());
        out.extend_from_slice(&self.txid.to_le_bytes());
        let checksum = fnv1a(out.get(PAGE_HEADER_BYTES..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the start of a meta page; the error says what is wrong with it.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, &'static str> {
        let body = page.get(PAGE_HEADER_BYTES..META_BYTES).ok_or("meta page is cut short")?;
        Self::decode_body(body).ok_or("meta page is cut short")?
    }

    fn decode_body(body: &[u8]) -> Option<Result<Self, &'static str>> {
        if u32_at(body, 0)? != MAGIC {
            return Some(Err("not a meta page of a bolt database"));
        }
        if u32_at(body, 4)? != VERSION {
            return Some(Err("unknown version of the file format"));
        }
        if fnv1a(body.get(..56)?) != u64_at(body, 56)? {
            return Some(Err("checksum of the meta page is wrong"));
        }
        let meta = Self {
            page_size: u32_at(body, 8)?,
            root: BucketHeader { root: u64_at(body, 16)?, sequence: u64_at(body, 24)? },
            freelist: u64_at(body, 32)?,
            high_water: u64_at(body, 40)?,
            txid: u64_at(body, 48)?,
        };
        Some(meta.validated())
    }

    fn validated(self) -> Result<Self, &'static str> {
        let sizes = PAGE_BYTES_MIN..=PAGE_BYTES_MAX;
        if !self.page_size.is_power_of_two() || !sizes.contains(&self.page_size) {
            return Err("impossible page size");
        }
        if self.high_water.checked_mul(u64::from(self.page_size)).is_none() {
            return Err("impossible high-water mark");
        }
        let pages = 2..self.high_water;
        if !pages.contains(&self.root.root) {
            return Err("root page out of range");
        }
        if self.freelist != FREELIST_NONE && !pages.contains(&self.freelist) {
            return Err("page of the free list out of range");
        }
        Ok(self)
    }

    /// The bytes up to the high-water mark.
    pub(crate) fn size(&self) -> u64 {
        self.high_water * u64::from(self.page_size)
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl BucketHeader {
    pub(crate) fn encode(&self) -> [u8; BUCKET_HEADER_BYTES] {
        (u128::from(self.root) | (u128::from(self.sequence) << 64)).to_le_bytes()
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        Some(Self { root: u64_at(value, 0)?, sequence: u64_at(value, 8)? })
    }
}

impl PageHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// A leaf with no more rows than this is searched from the left: its keys lie far apart between
/// values, and the processor fetches several of them ahead where it would wait for each step of a
/// binary search.
const SCAN_ROWS_MAX: usize = 32;

/// The first eight bytes as a number: if those of two keys differ, they stand as the keys do.
fn first_word(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => key.iter().rev().fold(0, |word, byte| (word >> 8) | (u64::from(*byte) << 56)),
    }
}

impl<'a> Page<'a> {
    /// Takes a branch or leaf page with all its overflow pages.
    pub(crate) fn new(id: u64, bytes: &'a [u8]) -> Result<Self, &'static str> {
        let header = PageHeader::decode(bytes).ok_or("page is cut short")?;
        let leaf = match header.flags {
            FLAG_LEAF => true,
            FLAG_BRANCH => false,
            _ => return Err("neither a branch nor a leaf"),
        };
        if !leaf && header.count == 0 {
            return Err("branch without rows");
        }
        let rows_end = PAGE_HEADER_BYTES + usize::from(header.count) * ROW_HEADER_BYTES;
        if rows_end > bytes.len() {
            return Err("more rows than fit on the page");
        }
        Ok(Self { id, bytes, count: header.count, leaf })
    }

    /// The only page of a bucket that lies inside a leaf row, behind the bucket's header.
    pub(crate) fn inline(id: u64, value: &'a [u8]) -> Result<Self, &'static str> {
        let bytes = value.get(BUCKET_HEADER_BYTES..).ok_or("bucket is cut short")?;
        let page = Self::new(id, bytes)?;
        if page.leaf { Ok(page) } else { Err("inline bucket is not a leaf") }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.leaf
    }

    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The `index`-th row of a leaf.
    pub(crate) fn leaf_row(&self, index: usize) -> Option<LeafRow<'a>> {
        let at = PAGE_HEADER_BYTES + index * ROW_HEADER_BYTES;
        let row = self.bytes.get(at..)?;
        let start = u32_at(row, 4)? as usize;
        let (key_len, value_len) = (u32_at(row, 8)? as usize, u32_at(row, 12)? as usize);
        if key_len > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
            return None;
        }
        let (key, rest) = row.get(start..)?.split_at_checked(key_len)?;
        let bucket = u32_at(row, 0)? & ROW_BUCKET != 0;
        Some(LeafRow { bucket, key, value: rest.get(..value_len)? })
    }

    /// Key and page id of the `index`-th row of a branch.
    pub(crate) fn branch_row(&self, index: usize) -> Option<(&'a [u8], u64)> {
        let at = PAGE_HEADER_BYTES + index * ROW_HEADER_BYTES;
        let row = self.bytes.get(at..)?;
        let (start, key_len) = (u32_at(row, 0)? as usize, u32_at(row, 4)? as usize);
        Some((row.get(start..)?.get(..key_len)?, u64_at(row, 8)?))
    }

    /// The key of the `index`-th row.
    pub(crate) fn key(&self, index: usize) -> Option<&'a [u8]> {
        if self.leaf {
            self.leaf_row(index).map(|row| row.key)
        } else {
            self.branch_row(index).map(|(key, _)| key)
        }
    }

    /// Where `key` is among the rows, or where it would have to be; `None` if a row makes no sense.
    pub(crate) fn search(&self, key: &[u8]) -> Option<Result<usize, usize>> {
        let (mut low, mut high) = (0, self.count());
        let word = first_word(key);
        if high <= SCAN_ROWS_MAX && self.leaf {
            while low < high && first_word(self.key(low)?) < word {
                low += 1;
            }
            // The rest, from the first key that may not be less, is short as a rule.
        }
        while low < high {
            let middle = low.midpoint(high);
            let probe = self.key(middle)?;
            match first_word(probe).cmp(&word).then_with(|| probe.cmp(key)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(Ok(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Some(Err(low))
    }

    /// The row of a branch under which `key` is, if it is anywhere.
    pub(crate) fn search_branch(&self, key: &[u8]) -> Option<usize> {
        Some(match self.search(key)? {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    const META: Meta = Meta {
        page_size: 4096,
        root: BucketHeader { root: 4, sequence: 7 },
        freelist: FREELIST_NONE,
        high_water: 9,
        txid: 3,
    };

    #[test]
    fn a_meta_page_reads_back_and_every_flipped_bit_shows() {
        let mut page = META.encode(1);
        assert_eq!(page.len(), META_BYTES);
        assert_eq!(Meta::decode(&page), Ok(META));
        for bit in PAGE_HEADER_BYTES * 8..META_BYTES * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            Meta::decode(&page).expect_err("a flipped bit");
            page[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..META_BYTES {
            Meta::decode(&page[..len]).expect_err("cut short");
        }
    }

    #[test]
    fn impossible_meta_pages_are_refused_despite_their_checksum() {
        let refuse = |change: fn(&mut Meta)| {
            let mut meta = META;
            change(&mut meta);
            Meta::decode(&meta.encode(0)).expect_err("impossible");
        };
        refuse(|meta| meta.page_size = 0);
        refuse(|meta| meta.page_size = 4095);
        refuse(|meta| meta.page_size = 512);
        refuse(|meta| meta.root.root = 1);
        refuse(|meta| meta.root.root = 9);
        refuse(|meta| meta.freelist = 9);
        refuse(|meta| meta.high_water = u64::MAX);
    }

    #[test]
    fn fnv1a_has_its_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
