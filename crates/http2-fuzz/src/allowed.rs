//! Where `http2` and `h2` may differ, all of it. Each rule says who is stricter and which sentence lets both be right;
//! what no rule allows is a finding. A difference ends the comparison of its input: the two have parted.

use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Uri};

use crate::block;
use crate::frame::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PRIORITIZED, PRIORITY,
    PUSH_PROMISE, SETTINGS, WINDOW_UPDATE,
};
use crate::plan::{Half, Plan, Policy};
use crate::step::{self, Step};

/// What is known where the two differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) plan: Plan,
    pub(crate) frame: Frame<'a>,
    /// Nothing came before it.
    pub(crate) is_first: bool,
    /// The header block that it is the end or a part of.
    pub(crate) block: &'a [u8],
    /// The block has come in more than one frame.
    pub(crate) is_continued: bool,
    /// A block was not complete before it.
    pub(crate) is_inside: bool,
    /// Streams that either side has given up.
    pub(crate) gone: &'a [u32],
    /// Streams whose messages are complete.
    pub(crate) ended: &'a [u32],
    /// Streams of a client that an interim answer has come on.
    pub(crate) interim: &'a [u32],
    /// The largest stream that was open before.
    pub(crate) opened: u32,
    /// GOAWAY has come.
    pub(crate) went_away: bool,
    /// Something was given back to the peer's windows.
    pub(crate) released: bool,
}

/// One allowed difference.
#[derive(Debug)]
pub struct Rule {
    /// What it is called in reports.
    pub name: &'static str,
    /// Who refuses more.
    pub stricter: &'static str,
    /// The sentence, and where it stands.
    pub sentence: &'static str,
    is_met: fn(&Context<'_>, &Step, &Step) -> bool,
}

/// The rule that allows what the two made of a frame, as its place in [`RULES`].
pub(crate) fn find(context: &Context<'_>, ours: &Step, theirs: &Step) -> Option<usize> {
    RULES.iter().position(|rule| (rule.is_met)(context, ours, theirs))
}

/// All that is allowed; the first that is met counts.
#[rustfmt::skip]
pub static RULES: &[Rule] = &[
    Rule {
        name: "first-frame",
        stricter: "http2",
        sentence: "RFC 9113 3.4: Clients and servers MUST treat an invalid connection preface as a connection error of type PROTOCOL_ERROR.",
        is_met: |at, ours, _| at.is_first && ours.dead.is_some() && (at.frame.kind != SETTINGS || at.frame.has(ACK)),
    },
    Rule {
        name: "push",
        stricter: "http2",
        sentence: "RFC 9113 8.4: A client cannot push. Thus, servers MUST treat the receipt of a PUSH_PROMISE frame as a connection error of type PROTOCOL_ERROR. (h2 looks at the block and at the streams before, and is not asked.)",
        is_met: |at, ours, _| at.frame.kind == PUSH_PROMISE && ours.dead.is_some(),
    },
    Rule {
        name: "push-setting",
        stricter: "http2",
        sentence: "RFC 9113 6.5.2: A client MUST treat receipt of a SETTINGS frame with SETTINGS_ENABLE_PUSH set to 1 as a connection error of type PROTOCOL_ERROR.",
        is_met: |at, ours, theirs| {
            at.plan.half == Half::Client && has_setting(at, 2, |value| value == 1) && ours.dead.is_some() && !theirs.is_error()
        },
    },
    Rule {
        name: "self-dependency",
        stricter: "h2",
        sentence: "RFC 9113 5.3.2: This update to HTTP/2 deprecates the priority signaling. (RFC 7540 5.3.1 had: A stream cannot depend on itself. h2 does not decode such a frame's block.)",
        is_met: |at, _, _| depends_on_itself(&at.frame),
    },
    Rule {
        name: "stream-error-ends-connection",
        stricter: "h2",
        sentence: "RFC 9113 5.4.1: In particular, an endpoint MAY choose to treat a stream error as a connection error.",
        is_met: |_, ours, theirs| ours.failed.is_some() && theirs.dead.is_some(),
    },
    Rule {
        name: "malformed-on-wrong-stream",
        stricter: "http2",
        sentence: "RFC 9113 5.1.1: An endpoint that receives an unexpected stream identifier MUST respond with a connection error of type PROTOCOL_ERROR. (h2 looks at the list before.)",
        is_met: |at, ours, theirs| {
            let is_wrong = at.frame.stream.is_multiple_of(2) || match at.plan.half {
                Half::Server => at.frame.stream <= at.opened,
                Half::Client => at.frame.stream > at.opened,
            };
            has_block(at) && is_wrong && ours.dead.is_some() && theirs.failed.is_some()
        },
    },
    Rule {
        name: "headers-after-the-end",
        stricter: "http2",
        sentence: "RFC 9113 5.1: An endpoint MAY treat receipt of any other type of frame on a closed stream as a connection error of type STREAM_CLOSED.",
        is_met: |at, ours, theirs| {
            has_block(at) && (at.ended.contains(&at.frame.stream) || at.gone.contains(&at.frame.stream))
                && ours.dead.is_some_and(|(code, _)| code == 5) && theirs.dead.is_none()
        },
    },
    Rule {
        name: "update-in-continuation",
        stricter: "http2",
        sentence: "RFC 7541 4.2: This dynamic table size update MUST occur at the beginning of the first header block following the change to the dynamic table size.",
        is_met: |at, ours, _| at.is_continued && ours.dead.is_some_and(|(_, why)| why == "table size update after the first field"),
    },
    Rule {
        name: "update-missing",
        stricter: "http2",
        sentence: "RFC 9113 4.3.1: An endpoint MUST treat a field block that follows an acknowledgment of the reduction to the maximum dynamic table size as a connection error of type COMPRESSION_ERROR if it does not start with a conformant Dynamic Table Size Update instruction.",
        is_met: |at, ours, _| at.plan.table.is_some() && ours.dead.is_some_and(|(_, why)| why == "table size update missing"),
    },
    Rule {
        name: "unasked-acknowledgement",
        stricter: "h2",
        sentence: "RFC 9113 6.5.3: Upon receiving a SETTINGS frame with the ACK flag set, the sender of the altered settings can rely on the values from the oldest unacknowledged SETTINGS frame having been applied. (Nothing is said of one too many.)",
        is_met: |at, ours, theirs| at.frame.kind == SETTINGS && at.frame.has(ACK) && !ours.is_error() && theirs.dead.is_some(),
    },
    Rule {
        name: "connect-protocol-setting",
        stricter: "h2",
        sentence: "RFC 9113 6.5.2: An endpoint that receives a SETTINGS frame with any unknown or unsupported identifier MUST ignore that setting.",
        is_met: |at, ours, theirs| has_setting(at, 8, |value| value > 1) && !ours.is_error() && theirs.dead.is_some(),
    },
    Rule {
        name: "long-integer",
        stricter: "h2",
        sentence: "RFC 7541 5.1: Integer encodings that exceed implementation limits -- in value or octet length -- MUST be treated as decoding errors.",
        is_met: |at, ours, theirs| block::may_have_long_integer(at.block) && ours.dead.is_none() && theirs.dead.is_some(),
    },
    Rule {
        name: "request-target",
        stricter: "h2",
        sentence: "RFC 9113 8.3.1: All HTTP/2 requests MUST include exactly one valid value for the \":method\", \":scheme\", and \":path\" pseudo-header fields. (etcd's gRPC server answers calls of methods and paths that nobody has, and so do we.)",
        is_met: |at, ours, theirs| at.plan.half == Half::Server && theirs.is_error() && is_no_uri(ours),
    },
    Rule {
        name: "path-fragment",
        stricter: "either",
        sentence: "RFC 9113 8.3.1: The \":path\" pseudo-header field includes the path and query parts of the target URI. (h2 cuts off what is behind a #, and does not look at it.)",
        is_met: |at, ours, theirs| {
            let is_unseen = ours.failed.is_some() && !head_texts(theirs).is_empty() && at.block.contains(&b'#');
            !theirs.is_error() && (is_unseen && at.plan.half == Half::Server || !ours.is_error() && is_cut_path(ours, theirs))
        },
    },
    Rule {
        name: "update-of-nothing-on-closed-stream",
        stricter: "h2",
        sentence: "RFC 9113 5.1: An endpoint can perform this minimal processing for all streams that are in the \"closed\" state. (h2 ends the connection.)",
        is_met: |at, ours, theirs| {
            at.frame.kind == WINDOW_UPDATE && at.frame.number(0) & 0x7fff_ffff == 0 && !ours.is_error() && theirs.dead.is_some()
        },
    },
    Rule {
        name: "go-away-raised",
        stricter: "h2",
        sentence: "RFC 9113 6.8: Endpoints MUST NOT increase the value they send in the last stream identifier. (What the receiver does is left open; we keep to the smallest.)",
        is_met: |at, ours, theirs| at.frame.kind == GOAWAY && at.went_away && !ours.is_error() && theirs.dead.is_some(),
    },
    Rule {
        name: "idle-after-go-away",
        stricter: "h2",
        sentence: "RFC 9113 6.8: The GOAWAY frame is used to initiate shutdown of a connection or to signal serious error conditions. (When both are done is left open.)",
        is_met: |at, ours, theirs| at.went_away && ours.closed != theirs.closed,
    },
    Rule {
        name: "block-on-given-up-stream",
        stricter: "h2",
        sentence: "RFC 9113 5.1: An endpoint MUST minimally process and then discard any frames it receives in this state. (h2 looks at the list, and forgets streams that it has refused.)",
        is_met: |at, ours, theirs| {
            let is_over = at.gone.contains(&at.frame.stream) || at.ended.contains(&at.frame.stream);
            has_block(at) && is_over && !ours.is_error() && theirs.is_error()
        },
    },
    Rule {
        name: "many-continuations",
        stricter: "h2",
        sentence: "RFC 9113 10.5.1: An endpoint can use the SETTINGS_MAX_HEADER_LIST_SIZE to advise peers of limits that might apply on the size of field blocks. (h2 counts CONTINUATION frames as well.)",
        is_met: |at, ours, theirs| {
            at.frame.kind == CONTINUATION && !at.frame.has(END_HEADERS) && !ours.is_error() && theirs.dead.is_some_and(|(code, _)| code == 11)
        },
    },
    Rule {
        name: "list-limit",
        stricter: "either",
        sentence: "RFC 9113 10.5.1: As this limit is only advisory, an endpoint MAY choose to send field blocks that exceed this limit and risk the request or response being treated as malformed. (h2 refuses a list of just the limit, and forgets what of trailers is above it.)",
        is_met: |at, _, _| at.plan.list.is_some() && has_block(at),
    },
    Rule {
        name: "long-content-length",
        stricter: "h2",
        sentence: "RFC 9110 8.6: a recipient MUST anticipate potentially large decimal numerals and prevent parsing errors due to integer conversion overflows. (h2 takes no more than 19 digits.)",
        is_met: |_, ours, theirs| theirs.failed.is_some() && has_field(ours, b"content-length", |value| value.len() > 19),
    },
    Rule {
        name: "empty-content-length",
        stricter: "http2",
        sentence: "RFC 9110 8.6: Content-Length = 1*DIGIT",
        is_met: |at, ours, theirs| {
            // Of an interim answer nothing is told.
            let is_interim = at.plan.half == Half::Client && has_block(at) && theirs.facts.is_empty() && !theirs.is_error();
            let is_empty = has_field(theirs, b"content-length", <[u8]>::is_empty);
            ours.failed.is_some() && (is_empty || is_interim && block::may_have_empty_length(at.block))
        },
    },
    Rule {
        name: "length-in-trailers",
        stricter: "http2",
        sentence: "RFC 9110 6.5.1: Many fields cannot be processed outside the header section because their evaluation is necessary prior to receiving the content.",
        is_met: |at, ours, theirs| {
            let has_length = has_field(theirs, b"content-length", |_| true) || is_unheard(at) && block::may_have_length(at.block);
            ours.failed.is_some() && is_trailers(at, theirs) && has_length
        },
    },
    Rule {
        name: "pseudo-header-in-trailers",
        stricter: "http2",
        sentence: "RFC 9113 8.3: Pseudo-header fields MUST NOT appear in a trailer section.",
        is_met: |at, ours, theirs| ours.failed.is_some() && is_trailers(at, theirs) && block::may_have_pseudo(at.block),
    },
    Rule {
        name: "connect-without-authority",
        stricter: "http2",
        sentence: "RFC 9113 8.5: The \":authority\" pseudo-header field contains the host and port to connect to. A CONNECT request that does not conform to these restrictions is malformed.",
        is_met: |at, ours, theirs| at.plan.half == Half::Server && ours.failed.is_some() && head_texts(theirs).first() == Some(&&b"CONNECT"[..]),
    },
    Rule {
        name: "request-field-in-answer",
        stricter: "http2",
        sentence: "RFC 9113 8.3: Pseudo-header fields defined for requests MUST NOT appear in responses.",
        is_met: |at, ours, theirs| {
            at.plan.half == Half::Client && ours.failed.is_some() && !theirs.is_error() && block::may_have_request_field(at.block)
        },
    },
    Rule {
        name: "switching-protocols",
        stricter: "http2",
        sentence: "RFC 9113 8.6: HTTP/2 does not support the 101 (Switching Protocols) informational status code.",
        is_met: |at, ours, theirs| {
            at.plan.half == Half::Client && ours.failed.is_some() && !theirs.is_error() && theirs.facts.is_empty()
                && has_block(at) && at.block.windows(3).any(|bytes| bytes == b"101")
        },
    },
    Rule {
        name: "fault-forgotten-in-continuation",
        stricter: "http2",
        sentence: "RFC 9113 8.1.1: Malformed requests or responses that are detected MUST be treated as a stream error of type PROTOCOL_ERROR. (h2 forgets what was wrong in a part of a block that ends within a field.)",
        is_met: |at, ours, theirs| {
            // A field without a name is even left out there.
            has_block(at) && at.is_continued && (ours.failed.is_some() || ours.dead.is_some() && is_nameless(at.block)) && !theirs.is_error()
        },
    },
    Rule {
        name: "block-interrupted",
        stricter: "http2",
        sentence: "RFC 9113 6.2: A receiver MUST treat the receipt of any other type of frame or the receipt of a frame on a different stream as a connection error of type PROTOCOL_ERROR. (h2 is no longer in a block once a part of it was malformed.)",
        is_met: |at, ours, _| at.is_inside && ours.dead.is_some_and(|(_, why)| why == "CONTINUATION missing or misplaced"),
    },
    Rule {
        name: "length-of-interim-answer",
        stricter: "h2",
        sentence: "RFC 9110 15.2: A 1xx response is terminated by the end of the header section; it cannot contain content or trailers. (h2 holds the answer's body against the interim answer's length.)",
        is_met: |at, ours, theirs| at.interim.contains(&at.frame.stream) && !ours.is_error() && theirs.failed.is_some(),
    },
    Rule {
        name: "path-missing",
        stricter: "http2",
        sentence: "RFC 9113 8.3.1: All HTTP/2 requests MUST include exactly one valid value for the \":method\", \":scheme\", and \":path\" pseudo-header fields, unless they are CONNECT requests.",
        is_met: |at, ours, theirs| {
            at.plan.half == Half::Server && ours.failed.is_some() && head_texts(theirs).get(2) == Some(&&b"/"[..]) && !block::has_path(at.block)
        },
    },
    Rule {
        name: "quote-in-name",
        stricter: "http2",
        sentence: "RFC 9110 5.6.2: tchar = \"!\" / \"#\" / \"$\" / \"%\" / \"&\" / \"'\" / \"*\" / \"+\" / \"-\" / \".\" / \"^\" / \"_\" / \"`\" / \"|\" / \"~\" / DIGIT / ALPHA",
        is_met: |at, ours, theirs| {
            let is_quoted = at.block.contains(&b'"') || has_text(theirs, |text| text.contains(&b'"'));
            has_block(at) && ours.failed.is_some() && !theirs.is_error() && is_quoted
        },
    },
    Rule {
        name: "empty-scheme",
        stricter: "http2",
        sentence: "RFC 9113 8.3.1: All HTTP/2 requests MUST include exactly one valid value for the \":method\", \":scheme\", and \":path\" pseudo-header fields.",
        is_met: |at, ours, theirs| {
            at.plan.half == Half::Server && ours.failed.is_some() && !head_texts(theirs).is_empty()
                && match theirs.scheme.as_deref() {
                    Some(scheme) => scheme.is_empty(),
                    // It is told beside an authority only.
                    None => at.block.windows(2).any(|bytes| matches!(bytes, [0x46 | 0x06 | 0x16 | b'e', 0])),
                }
        },
    },
    Rule {
        name: "window-nobody-needs",
        stricter: "http2",
        sentence: "RFC 9113 6.9.1: If a sender receives a WINDOW_UPDATE that causes a flow-control window to exceed this maximum, it MUST terminate either the stream or the connection, as appropriate. (h2 does not look where all is sent.)",
        is_met: |at, ours, theirs| {
            let is_flow = ours.failed.is_some_and(|(_, code)| code == 3) || ours.dead.is_some_and(|(code, _)| code == 3);
            let is_sent = match at.plan.half {
                Half::Client => at.frame.stream == 0 || at.plan.is_complete(at.frame.stream / 2),
                Half::Server => at.plan.policy == Policy::Early,
            };
            matches!(at.frame.kind, WINDOW_UPDATE | SETTINGS) && is_flow && is_sent && !theirs.is_error()
        },
    },
    Rule {
        name: "window-returned-later",
        stricter: "either",
        sentence: "RFC 9113 5.2.1: The receiver advertises how many octets it is prepared to receive on a stream and for the entire connection. (When it does is its own affair, so that what is too much for one is not for the other.)",
        is_met: |at, ours, theirs| {
            let is_flow = |step: &Step| step.failed.is_some_and(|(_, code)| code == 3) || step.dead.is_some_and(|(code, _)| code == 3);
            at.frame.kind == DATA && at.released && (is_flow(ours) || is_flow(theirs))
        },
    },
];

fn has_block(at: &Context<'_>) -> bool {
    matches!(at.frame.kind, HEADERS | CONTINUATION)
}

fn has_setting(at: &Context<'_>, key: u16, is_meant: impl Fn(u32) -> bool) -> bool {
    at.frame.kind == SETTINGS
        && at.frame.payload.chunks_exact(6).any(|setting| {
            let [k0, k1, value @ ..] = setting else { return false };
            let value = value.try_into().map_or(0, u32::from_be_bytes);
            u16::from_be_bytes([*k0, *k1]) == key && is_meant(value)
        })
}

/// h2 makes an error of it, and does not decode the block. Whatever the two have made of it, they part.
pub(crate) fn depends_on_itself(frame: &Frame<'_>) -> bool {
    let at = usize::from(frame.kind == HEADERS && frame.has(frame::PADDED));
    let has_priority = frame.kind == PRIORITY || frame.kind == HEADERS && frame.has(PRIORITIZED);
    has_priority && frame.stream != 0 && frame.number(at) & 0x7fff_ffff == frame.stream
}

/// Whether the block may have a field without a name. In a block of several parts h2 leaves it out, and its table is
/// another then, even where both have said the same.
pub(crate) fn is_nameless(block: &[u8]) -> bool {
    block.windows(2).any(|bytes| matches!(bytes, [0 | 0x10 | 0x40, 0]))
}

/// Nobody hears of trailers behind an early answer.
fn is_unheard(at: &Context<'_>) -> bool {
    at.plan.half == Half::Server && at.plan.policy == Policy::Early && at.frame.stream <= at.opened
}

fn is_trailers(at: &Context<'_>, theirs: &Step) -> bool {
    tells(theirs, step::TRAILERS) || has_block(at) && is_unheard(at) && !theirs.is_error()
}

fn tells(step: &Step, what: u8) -> bool {
    step.records().any(|record| record.0 == what)
}

/// The texts of the head that was told of: of a request method, authority, path, then the fields.
fn head_texts(step: &Step) -> Vec<&[u8]> {
    let head = step.records().find(|record| matches!(record.0, step::HEAD | step::HEAD_END));
    head.map_or(Vec::new(), |(_, _, bytes)| step::texts(bytes).collect())
}

fn has_field(step: &Step, name: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> bool {
    step.records().any(|(_, _, bytes)| {
        let texts: Vec<&[u8]> = step::texts(bytes).collect();
        texts.windows(2).any(|pair| pair[0] == name && is_meant(pair[1]))
    })
}

fn has_text(step: &Step, is_meant: impl Fn(&[u8]) -> bool) -> bool {
    step.records().any(|(_, _, bytes)| step::texts(bytes).any(&is_meant))
}

/// Whether the `http` crate would make no URI of our request.
fn is_no_uri(ours: &Step) -> bool {
    let texts = head_texts(ours);
    let [method, authority, path, ..] = texts[..] else { return false };
    // What is behind a # is cut off, but must be text.
    if std::str::from_utf8(path).is_err() {
        return true;
    }
    let scheme = ours.scheme.as_deref().unwrap_or_default();
    let Ok(method) = Method::from_bytes(method) else { return true };
    let mut parts = Parts::default();
    if !authority.is_empty() {
        let Ok(authority) = Authority::try_from(authority) else { return true };
        parts.authority = Some(authority);
    }
    if method != Method::CONNECT {
        let (Ok(scheme), Ok(path)) = (Scheme::try_from(scheme), PathAndQuery::try_from(path))
        else {
            return true;
        };
        parts.scheme = parts.authority.is_some().then_some(scheme);
        parts.path_and_query = Some(path);
    }
    // An empty `:authority` is one that is there, and is none.
    authority.is_empty() || Uri::from_parts(parts).is_err()
}

/// Whether the two heads differ in what is behind a `#` alone.
fn is_cut_path(ours: &Step, theirs: &Step) -> bool {
    let (mut ours, theirs) = (head_texts(ours), head_texts(theirs));
    let Some(path) = ours.get_mut(2) else { return false };
    let Some(at) = path.iter().position(|byte| *byte == b'#') else { return false };
    *path = &path[..at];
    if path.is_empty() {
        *path = b"/";
    }
    ours == theirs
}
