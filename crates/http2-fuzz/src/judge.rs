//! One input for both sides, frame by frame.

use std::fmt;

use crate::allowed::{self, Context, RULES};
use crate::frame::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PADDED, PREFACE,
    PRIORITIZED, PUSH_PROMISE, SETTINGS,
};
use crate::ours::Ours;
use crate::plan::{Half, Plan, Policy, REQUESTS};
use crate::step::{self, Step, render_frame};
use crate::theirs::{TheirClient, TheirServer};

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Inputs that were judged.
    pub executions: u64,
    /// Frames that both sides read.
    pub frames: u64,
    /// Heads, pieces of bodies, trailers and resets that both told of.
    pub facts: u64,
    /// Streams that both gave up for the same fault.
    pub stream_errors: u64,
    /// Connections that both ended with an error at the same frame.
    pub connection_errors: u64,
    /// Inputs whose end both reached.
    pub agreed: u64,
    /// By the place of a rule in [`RULES`].
    pub allowed: Vec<u64>,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.executions += other.executions;
        self.frames += other.frames;
        self.facts += other.facts;
        self.stream_errors += other.stream_errors;
        self.connection_errors += other.connection_errors;
        self.agreed += other.agreed;
        self.allowed.resize(RULES.len(), 0);
        for (sum, count) in self.allowed.iter_mut().zip(&other.allowed) {
            *sum += count;
        }
    }

    fn allow(&mut self, rule: usize) {
        self.allowed.resize(RULES.len(), 0);
        if let Some(count) = self.allowed.get_mut(rule) {
            *count += 1;
        }
    }
}

/// Where the two sides differ, and no rule allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Which frame it was, the first being 1.
    pub frame_number: usize,
    /// The frame.
    pub frame: String,
    /// What `http2` made of it.
    pub ours: String,
    /// What h2 made of it.
    pub theirs: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame_number, frame, ours, theirs } = self;
        write!(f, "frame {frame_number}: {frame}\n  http2: {ours}\n  h2:    {theirs}")
    }
}

enum Theirs {
    Server(TheirServer),
    Client(Box<TheirClient>),
}

impl Theirs {
    fn read(&mut self, frame: &Frame<'_>, gone: &[u32], step: &mut Step) {
        match self {
            Self::Server(server) => server.read(frame, gone, step),
            Self::Client(client) => client.read(frame, gone, step),
        }
    }
}

/// What of a block has come, and who has said something before its end: h2 decodes as it reads, and we look at the stream
/// first.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    is_open: bool,
    /// It was before this frame.
    was_open: bool,
    is_continued: bool,
    /// One side's error. The other's must come with the rest of the block.
    early: Option<(Side, Step)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

/// One comparison.
struct Judge<'t> {
    plan: Plan,
    ours: Ours,
    theirs: Theirs,
    block: Block,
    gone: Vec<u32>,
    ended: Vec<u32>,
    interim: Vec<u32>,
    opened: u32,
    went_away: bool,
    released: bool,
    frames: usize,
    our_step: Step,
    their_step: Step,
    tally: &'t mut Tally,
}

enum Verdict {
    GoOn,
    Over,
}

/// Gives `input` to both sides. Its first two bytes say which side of a connection reads, and how; the rest is what it
/// reads.
///
/// # Errors
/// Where they differ, if no rule allows that.
pub fn judge(input: &[u8], tally: &mut Tally) -> Result<(), Disagreement> {
    tally.executions += 1;
    let [mode, limits, wire @ ..] = input else { return Ok(()) };
    let plan = Plan::new(*mode, *limits);
    let theirs = match plan.half {
        Half::Server => Theirs::Server(TheirServer::new(plan)),
        Half::Client => Theirs::Client(Box::new(TheirClient::new(plan))),
    };
    let mut judge = Judge {
        plan,
        ours: Ours::new(plan),
        theirs,
        block: Block::default(),
        gone: Vec::new(),
        ended: Vec::new(),
        interim: Vec::new(),
        opened: if plan.half == Half::Client { REQUESTS * 2 - 1 } else { 0 },
        went_away: false,
        released: false,
        frames: 0,
        our_step: Step::default(),
        their_step: Step::default(),
        tally,
    };
    judge.run(wire)
}

impl Judge<'_> {
    fn run(&mut self, wire: &[u8]) -> Result<(), Disagreement> {
        let mut rest = wire;
        if self.plan.half == Half::Server {
            let preface = if self.plan.shaken {
                &PREFACE[..]
            } else {
                let (preface, after) = rest.split_at(rest.len().min(PREFACE.len()));
                rest = after;
                preface
            };
            if !self.take_preface(preface)? {
                return Ok(());
            }
        }
        if self.plan.shaken {
            let acknowledged = self.plan.acked.then_some(ACK);
            for flags in [Some(0), acknowledged].into_iter().flatten() {
                let mut bytes = Vec::with_capacity(frame::HEADER_LEN);
                frame::put(&mut bytes, SETTINGS, flags, 0, &[]);
                if let Some(frame) = frame::next(&mut &bytes[..]) {
                    self.take(&frame)?;
                }
            }
        }
        while let Some(frame) = frame::next(&mut rest) {
            if !frame.whole {
                // What is missing may be what matters: only that nothing breaks is looked at.
                self.our_step.clear();
                self.ours.read(frame.bytes, &self.gone, &mut self.our_step);
                self.their_step.clear();
                self.theirs.read(&frame, &self.gone, &mut self.their_step);
                break;
            }
            if let Verdict::Over = self.take(&frame)? {
                return Ok(());
            }
        }
        self.tally.agreed += 1;
        Ok(())
    }

    /// Whether there is a connection.
    fn take_preface(&mut self, bytes: &[u8]) -> Result<bool, Disagreement> {
        self.our_step.clear();
        self.their_step.clear();
        self.ours.read(bytes, &[], &mut self.our_step);
        if let Theirs::Server(server) = &mut self.theirs {
            server.feed(bytes, &mut self.their_step);
        }
        if self.our_step.dead.is_some() == self.their_step.dead.is_some() {
            if self.our_step.dead.is_some() {
                self.tally.connection_errors += 1;
            }
            return Ok(self.our_step.dead.is_none());
        }
        Err(self.disagreement("the preface".to_owned()))
    }

    /// One frame for both.
    fn take(&mut self, frame: &Frame<'_>) -> Result<Verdict, Disagreement> {
        self.frames += 1;
        self.tally.frames += 1;
        let completes = self.note_block(frame);
        let early = self.block.early.take();
        let spoke = early.as_ref().map(|(side, _)| *side);
        self.our_step.clear();
        self.their_step.clear();
        match early {
            Some((Side::Ours, step)) => self.our_step = step,
            Some((Side::Theirs, step)) => self.their_step = step,
            None => {}
        }
        if spoke != Some(Side::Ours) {
            self.ours.read(frame.bytes, &self.gone, &mut self.our_step);
            if frame.kind == GOAWAY && self.plan.half == Half::Client {
                // What is refused is no longer there.
                let refused = self.our_step.records().map(|(_, stream, _)| stream);
                self.gone.extend(refused);
            }
        }
        // What h2 makes of a push depends on much, and some of it breaks its own assertions. It has to be an error.
        let is_push = frame.kind == PUSH_PROMISE && self.our_step.dead.is_some();
        if spoke != Some(Side::Theirs) && !is_push {
            self.theirs.read(frame, &self.gone, &mut self.their_step);
        }
        let (we_err, they_err) = (self.our_step.is_error(), self.their_step.is_error());
        if we_err && they_err && spoke.is_some() {
            self.tally.connection_errors += 1;
            return Ok(Verdict::Over);
        }
        if self.block.is_open && we_err != they_err && self.rule(frame).is_none() {
            let (side, step) = if we_err {
                (Side::Ours, &mut self.our_step)
            } else {
                (Side::Theirs, &mut self.their_step)
            };
            self.block.early = Some((side, std::mem::take(step)));
            return Ok(Verdict::GoOn);
        }
        let verdict = self.compare(frame)?;
        self.learn(frame);
        if completes {
            self.block.bytes.clear();
        }
        Ok(verdict)
    }

    /// Keeps the block; whether it is complete.
    fn note_block(&mut self, frame: &Frame<'_>) -> bool {
        let block = &mut self.block;
        block.was_open = block.is_open;
        match frame.kind {
            HEADERS | PUSH_PROMISE => {
                block.bytes.clear();
                block.bytes.extend_from_slice(fragment(frame));
                block.is_continued = false;
            }
            CONTINUATION => {
                block.bytes.extend_from_slice(frame.payload);
                block.is_continued = true;
            }
            _ => {
                block.bytes.clear();
                block.is_open = false;
                return true;
            }
        }
        let completes = frame.has(END_HEADERS);
        block.is_open = !completes;
        completes
    }

    fn rule(&self, frame: &Frame<'_>) -> Option<usize> {
        let context = Context {
            plan: self.plan,
            frame: *frame,
            is_first: self.frames == 1,
            block: &self.block.bytes,
            is_continued: self.block.is_continued,
            is_inside: self.block.was_open,
            gone: &self.gone,
            ended: &self.ended,
            interim: &self.interim,
            opened: self.opened,
            went_away: self.went_away || frame.kind == GOAWAY,
            released: self.released,
        };
        allowed::find(&context, &self.our_step, &self.their_step)
    }

    fn compare(&mut self, frame: &Frame<'_>) -> Result<Verdict, Disagreement> {
        let parts = allowed::depends_on_itself(frame)
            && (frame.kind == HEADERS || self.their_step.is_error());
        if self.our_step.is_same(&self.their_step) && !parts {
            if self.our_step.dead.is_some() {
                self.tally.connection_errors += 1;
                return Ok(Verdict::Over);
            }
            self.tally.stream_errors += u64::from(self.our_step.failed.is_some());
            self.tally.facts += self.our_step.records().count() as u64;
            let parts = self.block.is_continued && allowed::is_nameless(&self.block.bytes);
            return Ok(if self.our_step.closed || parts { Verdict::Over } else { Verdict::GoOn });
        }
        let Some(rule) = self.rule(frame) else {
            return Err(self.disagreement(render_frame(frame)));
        };
        self.tally.allow(rule);
        Ok(Verdict::Over)
    }

    /// What the frame changes for those that follow, and what the application does.
    fn learn(&mut self, frame: &Frame<'_>) {
        self.went_away |= frame.kind == GOAWAY;
        self.released |= frame.kind == DATA
            && (!self.plan.holds || frame.has(PADDED) || self.our_step.facts.is_empty());
        if frame.kind == HEADERS && self.plan.half == Half::Server {
            self.opened = self.opened.max(frame.stream);
        }
        if self.plan.half == Half::Client && matches!(frame.kind, HEADERS | CONTINUATION) {
            self.interim.extend(self.our_step.facts.is_empty().then_some(frame.stream));
        }
        if let Some((stream, _)) = self.our_step.failed {
            self.gone.push(stream);
        }
        let mut act = None;
        for (what, stream, _) in self.our_step.records() {
            match what {
                step::RESET => self.gone.push(stream),
                step::HEAD_END | step::END | step::TRAILERS => self.ended.push(stream),
                _ => {}
            }
            let is_due = match self.plan.policy {
                Policy::Nothing => false,
                Policy::Answer => matches!(what, step::HEAD_END | step::END | step::TRAILERS),
                Policy::Early | Policy::Reset => matches!(what, step::HEAD | step::HEAD_END),
            };
            if is_due {
                act = Some(stream);
            }
        }
        if let Some(stream) = act
            && let Theirs::Server(theirs) = &mut self.theirs
        {
            self.ours.act(stream);
            theirs.act(stream);
            if self.plan.policy == Policy::Reset {
                self.gone.push(stream);
            }
        }
    }

    fn disagreement(&self, frame: String) -> Disagreement {
        Disagreement {
            frame_number: self.frames,
            frame,
            ours: self.our_step.render(),
            theirs: self.their_step.render(),
        }
    }
}

/// The part of a block that is in the frame.
fn fragment<'a>(frame: &Frame<'a>) -> &'a [u8] {
    let mut rest = frame.payload;
    let mut padding = 0;
    if frame.has(PADDED)
        && let Some((length, after)) = rest.split_first()
    {
        padding = usize::from(*length);
        rest = after;
    }
    let fixed = match frame.kind {
        PUSH_PROMISE => 4,
        _ if frame.has(PRIORITIZED) => 5,
        _ => 0,
    };
    let rest = rest.get(fixed..).unwrap_or_default();
    rest.get(..rest.len().saturating_sub(padding)).unwrap_or_default()
}
