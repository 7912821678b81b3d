//! Debug hooks without a change of code.

use super::options::{DebugOptions, OnError};
use super::setup::debugged_once;
use super::source::DebugPool;
use crate::domain::{Domain, object_memory_pool};
use crate::pool::{Backend, Pool, PoolCore, plain_backend_pool, system_memory_pool};
use std::io::Write;
use std::sync::LazyLock;

/// The first one that is set and not empty counts: ours, Apache Arrow's.
const VARIABLES: [&str; 2] = ["OFFHEAP_DEBUG_MEMORY_POOL", "ARROW_DEBUG_MEMORY_POOL"];

static OPTIONS: LazyLock<Option<DebugOptions>> = LazyLock::new(|| {
    let (variable, value) = VARIABLES.iter().find_map(|variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| (variable, value))
    })?;
    let value = value.to_string_lossy();
    if value == "none" {
        return None;
    }
    let on_error = OnError::named(&value);
    if on_error.is_none() {
        // Arrow's words.
        drop(writeln!(
            std::io::stderr(),
            "offheap: Invalid value for {variable}: '{value}'. Valid values are 'abort', 'trap', 'warn', 'throw', 'none'."
        ));
    }
    on_error.map(|on_error| DebugOptions {
        on_error,
        ..DebugOptions::default()
    })
});

/// What the environment asks for, read once.
pub(super) fn environment_options() -> Option<&'static DebugOptions> {
    OPTIONS.as_ref()
}

/// Debug hooks as the environment asks for them.
pub(crate) struct EnvironmentDebug(&'static DebugOptions);

/// Debug hooks for the backends' pools, where the environment asks for them; the object domain then
/// has them, too. Called once, before any pool is handed out.
pub(crate) fn environment_debug() -> Option<EnvironmentDebug> {
    let options = environment_options()?;
    let small = object_memory_pool();
    let debugged = debugged_once(&small, options, Domain::Object);
    // Whoever replaced the allocator before that has been given debug hooks by `set_allocator`.
    if let Err(error) = Domain::Object.replace(&debugged, Some(&small)) {
        drop(writeln!(
            std::io::stderr(),
            "offheap: the object domain stays without debug hooks: {error}"
        ));
    }
    Some(EnvironmentDebug(options))
}

impl EnvironmentDebug {
    /// A backend's pool, under the backend's own name.
    pub(crate) fn core_over(&self, pool: Pool, name: &'static str) -> PoolCore {
        let source = DebugPool::new(pool, self.0.clone(), Domain::Mem.letter(), name);
        PoolCore::of_named_source(source, name.into(), name.into())
    }
}

/// The `raw` domain's allocator where nobody replaced it: the system's pool; under the environment's
/// debug hooks, one with the domain's own letter, which counts into it.
pub(crate) fn initial_raw_pool() -> Pool {
    static DEBUGGED: LazyLock<Option<Pool>> = LazyLock::new(|| {
        let options = environment_options()?;
        let system = system_memory_pool();
        Some(system.child_named_over("system", |name| {
            let plain = plain_backend_pool(Backend::System);
            DebugPool::new(plain, options.clone(), Domain::Raw.letter(), name)
        }))
    });
    match &*DEBUGGED {
        Some(pool) => pool.clone(),
        None => system_memory_pool(),
    }
}
