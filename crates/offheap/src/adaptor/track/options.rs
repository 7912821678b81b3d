//! What a tracker keeps.

/// How [`Pool::track`](crate::Pool::track) tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackOptions {
    /// Native frames kept of each allocation, at most 64; 0 for none, which saves most of the cost.
    pub stack_depth: usize,
    /// Frames of the language above that its binding takes of each allocation.
    pub foreign_stack_depth: usize,
    /// Whether a report of what is alive goes to stderr when the process exits.
    pub report_at_exit: bool,
}

impl Default for TrackOptions {
    /// 16 frames of each kind, no report at exit.
    fn default() -> Self {
        Self {
            stack_depth: 16,
            foreign_stack_depth: 16,
            report_at_exit: false,
        }
    }
}

impl TrackOptions {
    /// With this many native frames of each allocation.
    #[must_use]
    pub fn stack_depth(self, stack_depth: usize) -> Self {
        Self {
            stack_depth,
            ..self
        }
    }

    /// With this many frames of the language above of each allocation.
    #[must_use]
    pub fn foreign_stack_depth(self, foreign_stack_depth: usize) -> Self {
        Self {
            foreign_stack_depth,
            ..self
        }
    }

    /// With or without a report when the process exits.
    #[must_use]
    pub fn report_at_exit(self, report_at_exit: bool) -> Self {
        Self {
            report_at_exit,
            ..self
        }
    }
}
