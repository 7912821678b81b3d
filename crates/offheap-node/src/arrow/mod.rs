//! Buffers as structs that other native libraries take: Arrow's C Device interface, and DLPack.
//!
//! A struct is an External of JavaScript, so it is released by the collector when nobody took it.

mod arrays;
mod moments;
mod streams;
mod tensors;
