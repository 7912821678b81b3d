//! Arrow C Data and C Device interfaces and DLPack for offheap.
