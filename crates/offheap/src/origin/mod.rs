//! Where a request for memory came from: thread, native frames, the frames of a language above, and
//! tags.

mod foreign;
mod place;
mod stacks;
mod tags;

pub use foreign::{
    Foreign, current_foreign, drop_pending, set_current_foreign, take_pending,
    this_thread_has_foreign_frames,
};
pub use place::{Origin, thread_number};
pub use stacks::{Frame, StackId};
pub use tags::with_tags;
