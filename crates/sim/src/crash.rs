//! Power failures, one by one: for a history, what a disk may hold after each operation, and whether the
//! member comes back from it.
//!
//! ```text
//! history, seed -> Scene plays it on a recorded disk -> Life: moments, promises
//!     moment x Kept -> image -> Reference::judge: start, compare, go on -> the same again for its recovery
//! ```

pub mod check;
pub mod history;
pub mod image;
pub mod scene;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use env::{MemDisk, Moment};

use self::check::{LeaderLog, Reference};
use self::history::{HISTORIES, History, Target, settings};
use self::image::Kept;
use self::scene::{Life, Promise, Scene, TARGET};
use crate::rng::Rng;

/// Every so many images the power fails again when the member has come back.
const SECOND_FAILURE_EVERY: u64 = 4;
/// Every so many images the power fails during recovery, at each operation.
const RECOVERY_EVERY: u64 = 150;

/// A history with all that a seed decides.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The history.
    pub history: &'static History,
    /// The seed.
    pub seed: u64,
}

/// How a case is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// At one in so many images.
    pub stride: u64,
    /// As if members promised everything so many operations too early: then images must fail.
    pub foresight: u64,
}

impl Default for Look {
    fn default() -> Self {
        Self { stride: 1, foresight: 0 }
    }
}

/// Which image it is: the case, and then for each power failure how many operations were done, in
/// which life, and which way of keeping things it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageId {
    /// The history's name.
    pub history: String,
    /// The seed.
    pub seed: u64,
    /// The failures.
    pub failures: Vec<(usize, usize, usize)>,
}

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Images that the member has come back from.
    pub passed: u64,
    /// Images that differ from all others, of which one is wrong, and what.
    pub failed: Vec<(ImageId, String)>,
    /// Images of a recovery.
    pub recoveries: u64,
    /// Operations at which the power failed.
    pub moments: u64,
    /// Images that are the same as another.
    pub repeated: u64,
}

impl Tally {
    /// Adds what came of another case.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.recoveries += other.recoveries;
        self.moments += other.moments;
        self.repeated += other.repeated;
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.history, self.seed)?;
        for (life, moment, way) in &self.failures {
            write!(f, ":{life}.{moment}.{way}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text} names no image");
        let mut parts = text.split(':');
        let history = parts.next().ok_or_else(bad)?.to_owned();
        let seed = parts.next().and_then(|seed| seed.parse().ok()).ok_or_else(bad)?;
        let failures = parts.map(|part| {
            let numbers: Result<Vec<usize>, _> = part.split('.').map(str::parse).collect();
            match numbers.as_deref() {
                Ok([life, moment, way]) => Ok((*life, *moment, *way)),
                _ => Err(bad()),
            }
        });
        Ok(Self { history, seed, failures: failures.collect::<Result<_, _>>()? })
    }
}

/// The cases, without an end: all histories with one seed, then with the next.
pub fn cases() -> impl Iterator<Item = Case> {
    (1..).flat_map(|seed| HISTORIES.iter().map(move |history| Case { history, seed }))
}

/// A history that was played.
#[derive(Debug)]
struct Played {
    reference: Reference,
    lives: Vec<Life>,
}

impl Case {
    fn play(&self) -> Played {
        let mut rng = Rng::new(self.seed);
        let settings = settings(self.history, &mut rng);
        let mut scene = Scene::new(self.history, settings.clone(), rng);
        if let Err(death) = scene.play(self.history) {
            panic!("{} with seed {} ends: {death:?}", self.history.name, self.seed);
        }
        let violations = &scene.observer.violations;
        assert!(
            violations.is_empty(),
            "{} with seed {}: {violations:?}",
            self.history.name,
            self.seed
        );
        let target = self.history.target;
        let log = (target != Target::Alone).then(|| LeaderLog::of(&scene.seats[1]));
        let log = log.map(|log| log.unwrap_or_else(|why| panic!("{why}")));
        let identity = scene.seats[TARGET].identity.clone();
        let observer = std::mem::take(&mut scene.observer);
        let reference = Reference { identity, target, settings, observer, log };
        Played { reference, lives: scene.lives }
    }

    fn id(&self, failures: Vec<(usize, usize, usize)>) -> ImageId {
        ImageId { history: self.history.name.to_owned(), seed: self.seed, failures }
    }

    /// Lets the power fail at every operation of the case, in every way.
    #[must_use]
    pub fn run(&self, look: Look) -> Tally {
        let mut run = Run { case: *self, tally: Tally::default(), look, images: 0 };
        let played = match catch_unwind(AssertUnwindSafe(|| self.play())) {
            Ok(played) => played,
            Err(panic) => {
                run.tally.failed.push((self.id(Vec::new()), told(&*panic)));
                return run.tally;
            }
        };
        for (number, life) in played.lives.iter().enumerate() {
            run.life(&played.reference, life, &[], number);
        }
        run.tally
    }
}

/// A case under way.
struct Run {
    case: Case,
    tally: Tally,
    look: Look,
    images: u64,
}

impl Run {
    fn life(
        &mut self,
        reference: &Reference,
        life: &Life,
        before: &[(usize, usize, usize)],
        number: usize,
    ) {
        let mut seen = BTreeSet::new();
        for (at, moment) in life.moments.iter().enumerate() {
            let promise = life.promise_at(moment.operations() + self.look.foresight);
            self.tally.moments += 1;
            for (way, kept) in ways(moment).into_iter().enumerate() {
                self.images += 1;
                if !self.images.is_multiple_of(self.look.stride) {
                    continue;
                }
                let disk = kept.image(moment);
                if !seen.insert((disk.fingerprint(), promise.applied, promise.logged, promise.term))
                {
                    self.tally.repeated += 1;
                    continue;
                }
                let mut failures = before.to_vec();
                failures.push((number, at, way));
                self.image(reference, &disk, &promise, failures);
            }
        }
    }

    fn image(
        &mut self,
        reference: &Reference,
        disk: &MemDisk,
        promise: &Promise,
        failures: Vec<(usize, usize, usize)>,
    ) {
        let number = number_of(&failures);
        let is_first = failures.len() == 1;
        let recorded = is_first && number.is_multiple_of(RECOVERY_EVERY);
        self.tally.recoveries += u64::from(!is_first);
        match judge(reference, disk, promise, number, recorded) {
            Err(why) => self.tally.failed.push((self.case.id(failures), why)),
            Ok(scene) => {
                self.tally.passed += 1;
                if recorded {
                    let (reference, life) = recovery(reference, scene, promise);
                    self.life(&reference, &life, &failures, 0);
                }
            }
        }
    }
}

/// A number that stands for the last failure: what else is drawn follows from it.
fn number_of(failures: &[(usize, usize, usize)]) -> u64 {
    let (life, at, way) = failures.last().copied().unwrap_or_default();
    Rng::new((life as u64) << 48 | (at as u64) << 16 | way as u64).draw() >> 24
}

/// Judges an image; a panic is a finding.
fn judge(
    reference: &Reference,
    disk: &MemDisk,
    promise: &Promise,
    number: u64,
    record: bool,
) -> Result<Scene, String> {
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let scene = reference.judge(disk, promise, number, record)?;
        if !record && number.is_multiple_of(SECOND_FAILURE_EVERY) {
            again(reference, scene, promise, number)
                .map_err(|why| format!("the second time: {why}"))
        } else {
            Ok(scene)
        }
    }));
    judged.unwrap_or_else(|panic| Err(format!("it panics: {}", told(&*panic))))
}

/// The power fails once more, and nothing survives but what was synced.
fn again(
    reference: &Reference,
    scene: Scene,
    promise: &Promise,
    number: u64,
) -> Result<Scene, String> {
    let disk = scene.seats[TARGET].disk.crashed();
    let (reference, promise) = resumed(reference, scene, promise);
    reference.judge(&disk, &promise, number, false)
}

/// The life of a member that came back, until it is looked at.
fn recovery(reference: &Reference, scene: Scene, promise: &Promise) -> (Reference, Life) {
    let moments = scene.seats[TARGET].disk.recorded();
    let first = Promise { operations: 0, ..*promise };
    let promises = std::iter::once(first).chain(scene.promises.iter().copied()).collect();
    let (reference, _) = resumed(reference, scene, promise);
    (reference, Life { moments, promises })
}

/// What is known after a member came back, and what it has promised.
fn resumed(reference: &Reference, mut scene: Scene, promise: &Promise) -> (Reference, Promise) {
    let promise = scene.promises.iter().copied().fold(*promise, Promise::and);
    let Reference { identity, target, settings, log, .. } = reference;
    let reference = Reference {
        identity: identity.clone(),
        target: *target,
        settings: settings.clone(),
        observer: std::mem::take(&mut scene.observer),
        log: log.clone(),
    };
    (reference, promise)
}

/// The ways to lose what was not synced at a moment.
fn ways(moment: &Moment) -> Vec<Kept> {
    Kept::ways(&moment.unsynced(), moment.operations())
}

impl Life {
    /// What the member had promised when its disk had done so many operations.
    fn promise_at(&self, until: u64) -> Promise {
        let made = self.promises.iter().filter(|promise| promise.operations <= until);
        made.copied().reduce(Promise::and).unwrap_or_default()
    }
}

/// Judges one image by its name, and tells what it is.
///
/// # Errors
/// If there is no such image.
pub fn repeat(id: &ImageId) -> Result<(String, Result<(), String>), String> {
    let history = HISTORIES.iter().find(|history| history.name == id.history);
    let history = history.ok_or(format!("no history {}", id.history))?;
    let case = Case { history, seed: id.seed };
    let Played { mut reference, mut lives } = case.play();
    let mut told = format!("{id}: {:#?}", reference.settings);
    let mut outcome = Ok(());
    for (depth, (life, at, way)) in id.failures.iter().enumerate() {
        let missing = || format!("{id} has no failure {life}.{at}.{way}");
        let life = lives.get(*life).ok_or_else(missing)?;
        let moment = life.moments.get(*at).ok_or_else(missing)?;
        let kept = *ways(moment).get(*way).ok_or_else(missing)?;
        let promise = life.promise_at(moment.operations());
        let operation = moment.operations();
        told.push_str(&format!("\nafter operation {operation}, kept {kept:?}, {promise:?}\n"));
        for one in moment.unsynced() {
            told.push_str(&format!("  not synced: {one:?}\n"));
        }
        let record = depth + 1 < id.failures.len();
        let disk = kept.image(moment);
        told.push_str(&disk.describe());
        let number = number_of(&id.failures[..=depth]);
        match judge(&reference, &disk, &promise, number, record) {
            Err(why) => outcome = Err(why),
            Ok(scene) if record => {
                let (next, life) = recovery(&reference, scene, &promise);
                (reference, lives) = (next, vec![life]);
            }
            Ok(_) => {}
        }
    }
    Ok((told, outcome))
}

fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
