//! Who holds what: live blocks with the places that they came from.

mod allocation;
mod forgotten;
mod options;
mod site;
mod table;
mod tracker;

pub use allocation::Allocation;
pub use options::TrackOptions;
pub use site::Site;
pub use tracker::Tracker;
