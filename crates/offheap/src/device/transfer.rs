//! Between devices: who is asked, in which order.

use super::buffer::DeviceBuffer;
use super::cpu::default_cpu_memory_manager;
use super::manager::MemoryManager;
use crate::buffer::Block;
use crate::error::{Error, Result};
use crate::location::Location;
use std::sync::Arc;

#[cold]
pub(super) fn unsupported(what: &str, from: Location, to: &Arc<dyn MemoryManager>) -> Error {
    Error::not_supported(format!(
        "{what} memory of {from} on {} is not supported",
        to.device().location()
    ))
}

/// A block that a manager made for a copy of `source`.
fn copied(source: &DeviceBuffer, block: Block, to: &Arc<dyn MemoryManager>) -> DeviceBuffer {
    // SAFETY: a manager's new block has the source's bytes, nobody else holds it, and it is the manager's.
    unsafe { DeviceBuffer::from_block(block, 0, source.len(), Arc::clone(to)) }
}

fn copy_directly(
    source: &DeviceBuffer,
    to: &Arc<dyn MemoryManager>,
) -> Result<Option<DeviceBuffer>> {
    if let Some(block) = to.copy_from(source)? {
        return Ok(Some(copied(source, block, to)));
    }
    let block = source.memory_manager().copy_to(source, to)?;
    Ok(block.map(|block| copied(source, block, to)))
}

/// Arrow's `MemoryManager::CopyBuffer`.
pub(super) fn copy(source: &DeviceBuffer, to: &Arc<dyn MemoryManager>) -> Result<DeviceBuffer> {
    if let Some(copy) = copy_directly(source, to)? {
        return Ok(copy);
    }
    let cpu = default_cpu_memory_manager();
    if !source.is_cpu() && !to.is_cpu() {
        // A view of the source saves the copy between.
        let between = match view(source, &cpu)? {
            Some(view) => Some(view),
            None => copy_directly(source, &cpu)?,
        };
        if let Some(between) = between
            && let Some(copy) = copy_directly(&between, to)?
        {
            return Ok(copy);
        }
    }
    Err(unsupported("copying", source.location(), to))
}

/// Arrow's `MemoryManager::ViewBuffer`; `None` where neither side can.
pub(super) fn view(
    source: &DeviceBuffer,
    to: &Arc<dyn MemoryManager>,
) -> Result<Option<DeviceBuffer>> {
    let from = source.memory_manager();
    if from.equals(&**to) {
        return Ok(Some(source.clone()));
    }
    let view = match to.view_from(source)? {
        Some(view) => Some(view),
        None => from.view_to(source, to)?,
    };
    Ok(view.map(|(block, offset)| {
        // SAFETY: a manager's view has the source's bytes and keeps them, and is the target's memory.
        unsafe { DeviceBuffer::from_block(block, offset, source.len(), Arc::clone(to)) }
    }))
}
