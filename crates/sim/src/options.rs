//! The command line.

use std::time::Duration;

use sim::mask::Numbers;
use sim::run;

pub(crate) const USAGE: &str =
    "usage: sim [--seed S] [--seeds N] [--first-seed F] [--minutes M] [--threads T]
           [--traces] [--first-failure] [--story] [--shrink] [--faults LIST] [--calls LIST] [--no-rest]
           [--mutant NAME] [--quiet-hour]
  --seed S         run one seed, and print its checksum
  --seeds N        run N seeds (100), from the first on
  --first-seed F   begin there (1)
  --minutes M      begin no further seed after that time
  --threads T      run so many seeds at a time (one for each processor)
  --traces         print the checksum of each seed
  --first-failure  end at the first seed that fails
  --story          with --seed: tell what happens
  --shrink         with --seed: leave out faults and calls while it fails, and print how to repeat
                   what is left
  --faults LIST    with --seed: only these faults take place, such as 3,7-12 or none
  --calls LIST     with --seed: only these calls
  --no-rest        end when the members agree, without the long rest
  --quiet-hour     tell what an hour of three members costs to whom nothing happens
  --mutant NAME    put a bug back; only in a build with `--cfg mutant`";

/// What to run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) limit: Option<Duration>,
    pub(crate) threads: usize,
    pub(crate) traces: bool,
    /// At the first seed that fails.
    pub(crate) stops: bool,
    pub(crate) shrinks: bool,
    pub(crate) is_quiet: bool,
    /// The bug that was put back.
    pub(crate) mutant: Option<String>,
    pub(crate) run: run::Options,
}

pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        first: 1,
        seeds: 100,
        limit: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        traces: false,
        stops: false,
        shrinks: false,
        is_quiet: false,
        mutant: None,
        run: run::Options::default(),
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => {
                (options.first, options.seeds) = (number(value()?)?, 1);
                options.traces = true;
            }
            "--seeds" => options.seeds = number(value()?)?,
            "--first-seed" => options.first = number(value()?)?,
            "--minutes" => {
                options.limit = Some(Duration::from_secs(number(value()?)? * 60));
                options.seeds = u64::MAX / 2;
            }
            "--threads" => options.threads = number(value()?)?.clamp(1, 64) as usize,
            "--traces" => options.traces = true,
            "--first-failure" => options.stops = true,
            "--story" => options.run.tell = true,
            "--quiet-hour" => options.is_quiet = true,
            "--shrink" => options.shrinks = true,
            "--faults" => options.run.mask.faults = Some(list(value()?)?),
            "--calls" => options.run.mask.calls = Some(list(value()?)?),
            "--no-rest" => options.run.has_rest = false,
            "--mutant" => {
                let name = value()?;
                if !mutant::put_back(name) {
                    return Err("this build has no bugs to put back".to_owned());
                }
                options.mutant = Some(name.clone());
            }
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

fn list(text: &str) -> Result<Numbers, String> {
    Numbers::parse(text).ok_or(format!("{text} is no list of numbers"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
