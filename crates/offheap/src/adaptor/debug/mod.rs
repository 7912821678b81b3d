//! Debug hooks.
use crate::domain::Domain;
use crate::pool::{Pool, PoolCore};

pub(crate) struct EnvironmentDebug;
impl EnvironmentDebug {
    pub(crate) fn core_over(&self, _pool: Pool, _name: &'static str) -> PoolCore {
        unreachable!()
    }
}
pub(crate) fn environment_debug() -> Option<EnvironmentDebug> {
    None
}
pub(crate) fn debug_as_environment_says(pool: &Pool, _domain: Domain) -> Pool {
    pool.clone()
}
pub(crate) fn report_misuse(report: &str) {
    eprintln!("offheap: {report}");
}
