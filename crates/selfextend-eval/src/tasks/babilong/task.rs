//! The tasks of bAbI that there are prompts for.

use crate::error::{EvalError, Result};
use std::str::FromStr;

/// A task of bAbI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BabiTask {
    /// Where somebody is: one supporting fact.
    Qa1,
    /// Where something is: two supporting facts.
    Qa2,
    /// Where something was: three supporting facts.
    Qa3,
}

impl BabiTask {
    /// Every task, with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("qa1", Self::Qa1), ("qa2", Self::Qa2), ("qa3", Self::Qa3)];

    /// Its name, as BABILong writes it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, task)| *task == self);
        found.map_or("", |(name, _)| name)
    }
}

impl FromStr for BabiTask {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, task)| *task).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            EvalError::settings(format!(
                "there is no task {text:?} of BABILong here; tasks: {names}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, task) in BabiTask::ALL {
            assert_eq!(
                (name.parse::<BabiTask>().unwrap(), task.name()),
                (task, name)
            );
        }
        let error = "qa4".parse::<BabiTask>().unwrap_err().to_string();
        assert!(error.contains("qa1, qa2, qa3"), "{error}");
    }
}
