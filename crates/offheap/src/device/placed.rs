//! What every buffer says of where it lies.

/// The accessors of a struct with `block`, `offset`, `len` and `manager`, in its `impl`.
macro_rules! placed {
    () => {
        /// The address of the first byte: the device's, which the CPU may only use where
        /// [`is_cpu`](Self::is_cpu).
        pub fn address(&self) -> usize {
            self.block.as_ptr().addr().get() + self.offset
        }

        /// How many bytes there are.
        pub fn len(&self) -> usize {
            self.len
        }

        /// Whether there are none.
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// The block underneath.
        pub fn block(&self) -> &Block {
            &self.block
        }

        /// Where the first byte lies in the block.
        pub fn offset(&self) -> usize {
            self.offset
        }

        /// Where the memory lies: of a view, where it is viewed.
        pub fn location(&self) -> Location {
            self.manager.device().location()
        }

        /// Whether the CPU may use the memory.
        pub fn is_cpu(&self) -> bool {
            self.manager.is_cpu() && self.block.is_cpu()
        }

        /// The device.
        pub fn device(&self) -> Arc<dyn Device> {
            self.manager.device()
        }

        /// Its manager.
        pub fn memory_manager(&self) -> &Arc<dyn MemoryManager> {
            &self.manager
        }
    };
}

pub(super) use placed;
