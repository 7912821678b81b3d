//! CUDA memory for offheap: found at run time, stream-ordered, pooled.

pub mod sub_allocator;
