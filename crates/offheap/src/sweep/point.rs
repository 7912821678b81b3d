//! Where a run of a sweep fails.

use crate::adaptor::FailingOptions;
use std::fmt;

/// What happens at a [`FailurePoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureMode {
    /// Nothing fails: the first run, which counts.
    Undisturbed,
    /// One request fails, later ones do not.
    Once,
    /// That request and all after it fail.
    ForEver,
}

/// The request that fails in one run of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailurePoint {
    /// The number of the request, from 1; 0 in the undisturbed run.
    pub request: u64,
    /// What happens there.
    pub mode: FailureMode,
}

impl FailurePoint {
    pub(super) fn options(self) -> FailingOptions {
        let after = match self.mode {
            FailureMode::Undisturbed => u64::MAX,
            FailureMode::Once | FailureMode::ForEver => self.request.saturating_sub(1),
        };
        FailingOptions {
            after: Some(after),
            count: (self.mode == FailureMode::Once).then_some(1),
            ..Default::default()
        }
    }
}

impl fmt::Display for FailurePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            FailureMode::Undisturbed => f.write_str("nothing failing"),
            FailureMode::Once => write!(f, "allocation {} failing", self.request),
            FailureMode::ForEver => {
                write!(f, "allocation {} and all after it failing", self.request)
            }
        }
    }
}
