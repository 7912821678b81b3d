//! GPU memory: `offheap/cuda`. Nothing here looks for a driver before a function of it is called.

mod status;
