//! Round trips: calls out of a seed between halves of `http2` and of h2, over a pipe that takes as many bytes at a time as
//! the seed says. What one side sends, the other must have, and each call must come to its end.

mod ours;
mod theirs;

use fastrand::Rng;
use http2::Config;

use ours::{OurClient, OurServer};
use theirs::{TheirClient, TheirServer};

/// Turns without any progress, after which the two wait for each other for ever.
const IDLE_MAX: usize = 50;

/// A field of a message: name and value.
type Header = (&'static str, Vec<u8>);

/// What is sent one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    fields: Vec<Header>,
    body: Vec<u8>,
    trailers: Option<Vec<Header>>,
}

#[derive(Clone, Debug)]
struct Call {
    request: Message,
    status: u16,
    answer: Message,
}

/// What h2's side is told to keep to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    window: u32,
    connection_window: u32,
    frame: u32,
    table: u32,
    streams: u32,
}

/// A side of a connection, with its application.
trait Side {
    /// Takes what the peer has written.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// Does what can be done now.
    fn work(&mut self) -> Result<(), String>;
    /// Writes so many bytes at the most.
    fn take(&mut self, most: usize, out: &mut Vec<u8>);
    /// Calls that have come to their end.
    fn done(&self) -> usize;
}

/// Makes the calls of a seed; the number of them.
///
/// # Errors
/// What did not arrive as it was sent, or that the two wait for each other.
pub fn trip(seed: u64) -> Result<usize, String> {
    let mut rng = Rng::with_seed(seed);
    let most = [1, 9, 100, 5000, 100_000][rng.usize(..5)];
    let calls: Vec<Call> = (0..rng.usize(1..5)).map(|_| any_call(&mut rng, most)).collect();
    let (config, limits) = (any_config(&mut rng), any_limits(&mut rng));
    let count = calls.len();
    match rng.u8(..3) {
        0 => {
            let client = OurClient::new(&config, calls.clone(), limits.window);
            run(&mut rng, most, client, TheirServer::new(limits, calls), count)?;
        }
        1 => {
            let server = OurServer::new(&config, calls.clone());
            run(&mut rng, most, TheirClient::new(limits, calls), server, count)?;
        }
        _ => {
            let client = OurClient::new(&config, calls.clone(), config.initial_window);
            let server = OurServer::new(&any_config(&mut rng), calls);
            run(&mut rng, most, client, server, count)?;
        }
    }
    Ok(count)
}

/// Moves `most` bytes at a time, until all calls are done.
fn run(
    rng: &mut Rng,
    most: usize,
    mut client: impl Side,
    mut server: impl Side,
    count: usize,
) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut idle = 0;
    while client.done() < count {
        client.work()?;
        let mut moved = 0;
        bytes.clear();
        client.take(rng.usize(1..=most), &mut bytes);
        moved += bytes.len();
        server.feed(&bytes)?;
        server.work()?;
        bytes.clear();
        server.take(rng.usize(1..=most), &mut bytes);
        moved += bytes.len();
        client.feed(&bytes)?;
        idle = if moved == 0 { idle + 1 } else { 0 };
        if idle > IDLE_MAX {
            return Err(format!("stuck with {} of {count} calls done", client.done()));
        }
    }
    if server.done() == count { Ok(()) } else { Err("answered, and not asked".to_owned()) }
}

fn any_call(rng: &mut Rng, most: usize) -> Call {
    let status = [200, 200, 200, 404, 500, 999][rng.usize(..6)];
    Call { request: any_message(rng, most), status, answer: any_message(rng, most) }
}

fn any_message(rng: &mut Rng, most: usize) -> Message {
    let length = match rng.u8(..32) {
        0..10 => 0,
        10..28 => rng.usize(1..200),
        28..31 => rng.usize(1..20_000),
        _ => rng.usize(1..150_000),
    };
    // A body of thousands of pieces tells no more than one of a hundred.
    let length = length.min(most * 100);
    let first = rng.usize(..251);
    let body: Vec<u8> = (first..first + length).map(|place| (place % 251) as u8).collect();
    let mut fields = any_fields(rng);
    if rng.u8(..4) == 0 {
        fields.push(("content-length", length.to_string().into_bytes()));
    }
    Message { fields, body, trailers: (rng.u8(..3) == 0).then(|| any_fields(rng)) }
}

fn any_fields(rng: &mut Rng) -> Vec<Header> {
    const NAMES: [&str; 7] =
        ["content-type", "x-a", "x-a", "x-b-bin", "cookie", "user-agent", "!#$%&'*+-.^_`|~"];
    let mut fields = Vec::new();
    for _ in 0..rng.usize(..5) {
        let length = if rng.u8(..40) == 0 { rng.usize(..5000) } else { rng.usize(..20) };
        let byte = |rng: &mut Rng| match rng.u8(..20) {
            0 => b'\t',
            1 => rng.u8(0x80..),
            _ => rng.u8(b' '..=b'~'),
        };
        let value = std::iter::repeat_with(|| byte(rng)).take(length).collect();
        fields.push((NAMES[rng.usize(..NAMES.len())], value));
    }
    // Those of one name come together.
    fields.sort_by_key(|(name, _)| *name);
    fields
}

fn any_window(rng: &mut Rng) -> u32 {
    match rng.u8(..4) {
        // A frame for each few bytes takes its time.
        0 => rng.u32(200..2000),
        1 => rng.u32(2000..65_535),
        2 => 65_535,
        _ => 1 << 20,
    }
}

fn any_config(rng: &mut Rng) -> Config {
    Config {
        initial_window: any_window(rng),
        connection_window: rng.u32(65_535..200_000),
        max_frame_size: rng.u32(16_384..40_000),
        header_table_size: rng.u32(..5000),
        output_mark: rng.usize(1..300_000),
        idle_frame_burst: u32::MAX,
        linger_ms: 0,
        ..Config::default()
    }
}

fn any_limits(rng: &mut Rng) -> Limits {
    Limits {
        window: any_window(rng),
        connection_window: rng.u32(65_535..200_000),
        frame: rng.u32(16_384..40_000),
        table: rng.u32(..5000),
        streams: rng.u32(1..5),
    }
}

/// The call that a path names.
fn number_of(path: &[u8]) -> Option<usize> {
    std::str::from_utf8(path.strip_prefix(b"/")?).ok()?.parse().ok()
}

/// The name of a field that the plan may have.
fn known(name: &str) -> Option<&'static str> {
    let names = ["content-type", "x-a", "x-b-bin", "cookie", "user-agent", "!#$%&'*+-.^_`|~"];
    names.into_iter().chain(["content-length"]).find(|known| *known == name)
}

/// Holds a message against what was sent.
fn check(what: &str, number: usize, got: &Message, want: &Message) -> Result<(), String> {
    // An empty list and none are the same to one who only reads it.
    let trailers = |message: &Message| message.trailers.clone().unwrap_or_default();
    let is_same =
        got.fields == want.fields && got.body == want.body && trailers(got) == trailers(want);
    if is_same {
        return Ok(());
    }
    let short = |message: &Message| {
        let Message { fields, body, trailers } = message;
        format!("{fields:?}, {} bytes, {trailers:?}", body.len())
    };
    Err(format!("{what} {number} is {}, not {}", short(got), short(want)))
}
