//! Scripts of configuration changes: `simple`, `enter-joint`, `leave-joint`.

use super::Failure;
use super::directive::{Directive, parse_bool};
use crate::confchange::Changer;
use crate::describe::conf_changes_from_string;
use crate::tracker::ProgressTracker;

#[derive(Debug)]
pub(super) struct Changes {
    tracker: ProgressTracker,
    /// Counts the commands, so that new members start at different indexes.
    last_index: u64,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { tracker: ProgressTracker::new(10, 0), last_index: 0 }
    }

    pub(super) fn handle(&mut self, directive: &Directive) -> Result<String, Failure> {
        let changes = conf_changes_from_string(&directive.input);
        let last_index = self.last_index;
        self.last_index += 1;
        let changes = changes.map_err(Failure::Reported)?;
        let changer = Changer { tracker: &self.tracker, last_index };
        let changed = match directive.command.as_str() {
            "simple" => changer.simple(&changes),
            "enter-joint" => {
                let auto_leave = match directive.args.is_empty() {
                    true => false,
                    false => parse_bool(directive.value("autoleave")?)?,
                };
                changer.enter_joint(auto_leave, &changes)
            }
            "leave-joint" if !changes.is_empty() => {
                return Err(Failure::reported("this command takes no input"));
            }
            "leave-joint" => changer.leave_joint(),
            _ => return Err(Failure::reported("unknown command")),
        };
        let (config, progress) = changed.map_err(Failure::reported)?;
        self.tracker.config = config;
        self.tracker.progress = progress;
        Ok(format!("{}\n{}", self.tracker.config, self.tracker.progress))
    }
}
