//! Streams as etcd 3.7.3 and 3.5.1 have written them to a member of ours (`cargo xtask peers`).

use raft::{Message, MessageType, Snapshot};
use transport::codec::{AppendDecoder, AppendEncoder, MessageDecoder, MessageEncoder};

const OURS_37: u64 = 0xa55f_98b2_b459_f2a9;
const ETCD_37: u64 = 0xdb12_e543_35a4_3328;
const OURS_35: u64 = 0x2977_ed3d_362d_878f;
const ETCD_35: u64 = 0x6598_87a3_073a_ed13;

const APPENDS_37: &[&str] = &[
    "020000000000000095080310a9e5e7a2ab96e6afa50118a8e690adb3a8b989db012002280230183a73080110 \
     021819226b0898aaa690eebfa89433100318a9e5e7a2ab96e6afa50122527b226964223a3131393136343131 \
     3033323334333031363130352c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a32 \
     31303032225d2c2269734c6561726e6572223a747275657d4019",
    "0100000000000000000000000000000019",
    "010000000000000001000000000000002a1002181a222422150a056166746572120c74686520736e61707368 \
     6f74a2060a0899aaa690eebfa894330000000000000019",
    "010000000000000000000000000000001a",
    "010000000000000001000000000000005d08011002181b2255089aaaa690eebfa89433100018a9e5e7a2ab96 \
     e6afa501223c7b226964223a31313931363431313033323334333031363130352c227065657255524c73223a \
     6e756c6c2c22697350726f6d6f7465223a747275657d000000000000001a",
    "010000000000000000000000000000001b",
    "01000000000000000100000000000000241002181c221e220f0a05766f746564120662792074776fa2060a08 \
     9baaa690eebfa89433000000000000001b",
    "010000000000000000000000000000001c",
];

const MESSAGES_37: &[&str] = &[
    "000000000000001c080810a9e5e7a2ab96e6afa50118a8e690adb3a8b989db0120024000",
    "000000000000001a080e10a9e5e7a2ab96e6afa50118a8e690adb3a8b989db012002",
    "000000000000001a080610a9e5e7a2ab96e6afa50118a8e690adb3a8b989db012003",
    "000000000000001c080410a9e5e7a2ab96e6afa50118a8e690adb3a8b989db012003301d",
    "000000000000001a080910a9e5e7a2ab96e6afa50118a8e690adb3a8b989db012003",
    "0000000000000039080210a9e5e7a2ab96e6afa50118a8e690adb3a8b989db013a1f221d220e0a036c656412 \
     076279206f757273a2060a089caaa690eebfa89433",
    "0000000000000024080f10a9e5e7a2ab96e6afa50118a8e690adb3a8b989db013a0a22083328a1fee209951d",
    "0000000000000024080910a9e5e7a2ab96e6afa50118a8e690adb3a8b989db01200362080100000000000000",
    "0000000000000076080210a9e5e7a2ab96e6afa50118a8e690adb3a8b989db013a5c08012258089eaaa690ee \
     bfa89433100018dae6a3c09ae0a49c6022407b226964223a363933333435333236313636303238373833342c \
     227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3231303034225d7d",
    "0000000000000046080210a9e5e7a2ab96e6afa50118a8e690adb3a8b989db013a2c222a221b0a046c617374 \
     12136265666f72652074686520736e617073686f74a2060a089faaa690eebfa89433",
];

const APPENDS_35: &[&str] = &[
    "0200000000000000a50803108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc65200228023084283a7308011002 \
     188528226a088690ca90eebfe889ed011003188f8fb6b1d3a7fbbb2922517b226964223a3239383831313737 \
     32343934313335343839352c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3231 \
     303037225d2c2269734c6561726e6572223a747275657d4085284a0a12080a0228001000180050005800",
    "0100000000000000000000000000001405",
    "010000000000000001000000000000002e08001002188628222522150a056166746572120c74686520736e61 \
     7073686f74a2060b088790ca90eebfe889ed010000000000001406",
    "010000000000000001000000000000005d080110021887282254088890ca90eebfe889ed011000188f8fb6b1 \
     d3a7fbbb29223b7b226964223a323938383131373732343934313335343839352c227065657255524c73223a \
     6e756c6c2c22697350726f6d6f7465223a747275657d0000000000001407",
    "010000000000000001000000000000002808001002188828221f220f0a05766f746564120662792074776fa2 \
     060b088990ca90eebfe889ed010000000000001407",
    "0100000000000000000000000000001408",
];

const MESSAGES_35: &[&str] = &[
    "000000000000002e0808108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520022800300040004a0a12080a02 \
     28001000180050005800",
    "000000000000002f0808108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652002280030004086284a0a12080a \
     0228001000180050005800",
    "000000000000002e080e108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520022800300040004a0a12080a02 \
     28001000180050005800",
    "000000000000002e0806108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520032800300040004a0a12080a02 \
     28001000180050005800",
    "000000000000002f0804108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652003280030892840004a0a12080a \
     0228001000180050005800",
    "000000000000002e0809108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520032800300040004a0a12080a02 \
     28001000180050005800",
    "00000000000000560802108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652000280030003a26080010001800 \
     221e220e0a036c656412076279206f757273a2060b088b90ca90eebfe889ed0140004a0a12080a0228001000 \
     180050005800",
    "0000000000000040080f108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652000280030003a10080010001800 \
     2208ed13a1fee212880a40004a0a12080a0228001000180050005800",
    "00000000000000380809108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520032800300040004a0a12080a02 \
     2800100018005000580062080100000000000000",
    "00000000000000930802108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652000280030003a63080110001800 \
     225b088d90ca90eebfe889ed0110001894edbfb7f3e29cc2fe0122417b226964223a31383333393931303132 \
     363130323634303237362c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a323130 \
     3039225d7d40004a0a12080a0228001000180050005800",
    "00000000000000630802108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc652000280030003a33080010001800 \
     222b221b0a046c61737412136265666f72652074686520736e617073686f74a2060b088e90ca90eebfe889ed \
     0140004a0a12080a0228001000180050005800",
    "00000000000000410805108f8fb6b1d3a7fbbb291893daebb9b0f4a1cc6520042803308d2840004a0a12080a \
     0228001000180050005800621043616d706169676e5472616e73666572",
];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn appends(captured: &[&str], ours: u64, etcd: u64) -> Vec<Message> {
    let mut decoder = AppendDecoder::new(ours, etcd);
    let mut messages = Vec::new();
    for part in captured {
        decoder.push(&unhex(part));
        messages.push(decoder.next_message().expect("a message").expect("a whole one"));
        assert_eq!(decoder.next_message(), Ok(None));
    }
    messages
}

fn message(captured: &str) -> Message {
    let mut decoder = MessageDecoder::stream();
    decoder.push(&unhex(captured));
    decoder.next_message().expect("a message").expect("a whole one")
}

/// Each follows from the one before, and what is committed never exceeds what was sent.
fn check_appends(messages: &[Message], ours: u64, etcd: u64) {
    let mut last = messages[0].index;
    for message in messages {
        assert_eq!(message.msg_type, MessageType::App);
        assert_eq!((message.from, message.to), (etcd, ours));
        assert_eq!((message.term, message.log_term, message.index), (2, 2, last));
        for entry in &message.entries {
            last += 1;
            assert_eq!((entry.term, entry.index), (2, last));
        }
        assert!(message.commit <= last);
    }
}

#[test]
fn appends_of_3_7_are_read_and_written_back() {
    let messages = appends(APPENDS_37, OURS_37, ETCD_37);
    check_appends(&messages, OURS_37, ETCD_37);
    let mut encoder = AppendEncoder::default();
    for (message, captured) in messages.iter().zip(APPENDS_37) {
        let mut bytes = Vec::new();
        encoder.encode(message, &mut bytes);
        assert_eq!(bytes, unhex(captured), "{message:?}");
    }
}

#[test]
fn appends_of_3_5_are_read() {
    let messages = appends(APPENDS_35, OURS_35, ETCD_35);
    check_appends(&messages, OURS_35, ETCD_35);
    // They have written their zeros, and so have their entries.
    let commits: Vec<u64> = messages.iter().map(|message| message.commit).collect();
    assert_eq!(commits, [5125, 5125, 5126, 5127, 5127, 5128]);
}

#[test]
fn messages_of_3_7_are_read_and_written_back() {
    let mut types = Vec::new();
    for captured in MESSAGES_37 {
        let message = message(captured);
        assert_eq!((message.from, message.to), (ETCD_37, OURS_37));
        let mut bytes = Vec::new();
        MessageEncoder::encode(&message, &mut bytes);
        assert_eq!(bytes, unhex(captured), "{message:?}");
        types.push(message.msg_type);
    }
    for expected in [
        MessageType::Heartbeat,
        MessageType::HeartbeatResp,
        MessageType::TimeoutNow,
        MessageType::VoteResp,
        MessageType::AppResp,
        MessageType::Prop,
        MessageType::ReadIndex,
    ] {
        assert!(types.contains(&expected), "{expected} is missing");
    }
}

#[test]
fn messages_of_3_5_are_those_of_3_7_with_zeros() {
    for captured in MESSAGES_35 {
        let old = message(captured);
        assert_eq!((old.from, old.to), (ETCD_35, OURS_35));
        // Each has a snapshot, an empty one.
        assert!(old.snapshot.as_deref().is_some_and(Snapshot::is_empty));
        let mut bytes = Vec::new();
        let new = Message { snapshot: None, ..old.clone() };
        MessageEncoder::encode(&new, &mut bytes);
        assert!(bytes.len() < unhex(captured).len());
        let mut decoder = MessageDecoder::stream();
        decoder.push(&bytes);
        assert_eq!(decoder.next_message(), Ok(Some(new)));
    }
}
