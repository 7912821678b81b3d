//! The tests of exports and imports, in one program.

mod arrays;
#[cfg(target_os = "linux")]
mod c_programs;
mod devices;
mod foreign;
mod hostile;
mod streams;
mod tensors;
